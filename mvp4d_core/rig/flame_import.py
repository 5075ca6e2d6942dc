# SPDX-License-Identifier: Apache-2.0
"""FLAME's files as heads: the model of any year, masks, landmark embeddings and texture coordinates, each read where the user has it.

What is missing is made: landmarks and regions are carried over from the open head, the atlas is our own, and so is the mouth's inside.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import FormatError, InputError
from ..io.limits import MIB, Limits
from ..io.npz import read_npz
from ..io.reading import file_sha256, open_input
from .atlas import own_atlas
from .flame_landmarks import Embedding, embed, read_embedding
from .flame_pickle import read_pickled_tables
from .flame_regions import complete_regions, read_masks
from .head_model import HeadModel
from .mouth import with_mouth

SHAPES = 300
JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
LICENSED = "LicenseRef-FLAME"
_TABLES = ("v_template", "f", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "vt", "ft")
_OBJ = Limits(file_bytes=16 * MIB)


@dataclass(frozen=True)
class Variant:
    """One of FLAME's models: the `name` of heads made of it, the `published` name of its file, and the licence it comes under."""

    name: str
    published: str
    licence: str


VARIANTS = {
    "2020": Variant("flame-2020", "generic_model.pkl", LICENSED),
    "2023": Variant("flame-2023", "flame2023.pkl", LICENSED),
    "2023-no-jaw": Variant("flame-2023-no-jaw", "flame2023_no_jaw.pkl", LICENSED),
    "2023-open": Variant("flame-2023-open", "flame2023_Open.pkl", "CC-BY-4.0"),
}
_ATTRIBUTION = (
    "FLAME, Max Planck Institute for Intelligent Systems; Li et al., Learning a model of facial shape and expression from 4D scans, 2017"
)


def import_flame(
    path: str | Path,
    *,
    variant: str | None = None,
    uv: str | Path | None = None,
    masks: str | Path | None = None,
    landmarks: str | Path | None = None,
) -> HeadModel:
    """A head of a FLAME pickle, which is read without running anything in it.

    Args:
        variant: of `VARIANTS`; told by the file's published name if not given.
        uv: an .obj with texture coordinates, or an .npz with `vt` and `ft`.
        masks: FLAME_masks.pkl.
        landmarks: MediaPipe's embedding (.npz) or the 51 static points of landmark_embedding*.npy. Without it the head has no landmarks
            and no mouth; `with_landmarks` gives it both.

    Raises:
        FormatError: a file that is not what it should be.
        InputError: a model whose licence cannot be told, or tables that are not FLAME's.
    """
    path = Path(path)
    known = variant_of(path, variant)
    sources = {"model": path, "uv": uv, "masks": masks, "landmarks": landmarks}
    provenance = {"source": path.name, "variant": known.name, "attribution": _ATTRIBUTION, "tool": "mvp4d import-flame"}
    provenance |= {f"{role}_sha256": file_sha256(file) for role, file in sources.items() if file is not None}
    tables = read_pickled_tables(path, _TABLES)
    head = replace(head_of_tables(tables, path.name, known), provenance=provenance)
    if uv is not None:
        uvs, uv_faces = read_uv(Path(uv), len(head.faces))
        head = replace(head, uvs=uvs, uv_faces=uv_faces)
    elif "vt" not in tables:
        uvs, uv_faces = own_atlas(head.v_template.astype(np.float64), head.faces)
        head = replace(head, uvs=uvs, uv_faces=uv_faces)
    if masks is not None:
        head = replace(head, regions=read_masks(Path(masks), head))
    return head if landmarks is None else with_landmarks(head, read_embedding(Path(landmarks), len(head.faces)))


def with_landmarks(head: HeadModel, embedding: Embedding) -> HeadModel:
    """The head with all 478 landmarks, the regions that its masks did not name, and a mouth."""
    faces, barycentrics = embed(head, embedding)
    head = replace(head, landmark_faces=faces, landmark_barycentrics=barycentrics)
    return with_mouth(replace(head, regions=complete_regions(head)))


def variant_of(path: Path, variant: str | None) -> Variant:
    """The variant that is named, else that whose published file name `path` has; InputError where neither tells it."""
    if variant is not None:
        if variant not in VARIANTS:
            raise InputError(f"The variant must be one of {', '.join(VARIANTS)}, got `{variant}`.")
        return VARIANTS[variant]
    for known in VARIANTS.values():
        if path.name.lower() == known.published.lower():
            return known
    raise InputError(
        f"{path.name} does not tell which FLAME it is, and the licence hangs on that. Say which: --variant {' | '.join(VARIANTS)}."
    )


def head_of_tables(tables: dict[str, np.ndarray], name: str, variant: Variant) -> HeadModel:
    """A head of FLAME's arrays, with FLAME's own texture coordinates or one for all; InputError names the table that does not fit."""
    missing = [key for key in _TABLES[:7] if key not in tables]
    if missing:
        raise InputError(f"{name} is no FLAME model: it lacks {', '.join(missing)}. Give the .pkl that FLAME's site offers as the model.")
    vertices, joints = len(tables["v_template"]) if tables["v_template"].ndim else 0, len(JOINTS)
    directions = tables["shapedirs"].shape[-1] if tables["shapedirs"].ndim == 3 else 0
    shapes = {
        "v_template": (vertices, 3), "f": (len(tables["f"]) if tables["f"].ndim else 0, 3), "shapedirs": (vertices, 3, directions),
        "posedirs": (vertices, 3, 9 * (joints - 1)), "J_regressor": (joints, vertices), "kintree_table": (2, joints),
        "weights": (vertices, joints),
    }  # fmt: skip
    for key, shape in shapes.items():
        if tables[key].shape != shape or 0 in shape:
            raise InputError(f"`{key}` of {name} must be {shape}, as FLAME's is, got {tables[key].shape}. It is another model's file.")
    if directions <= SHAPES:
        raise InputError(f"`shapedirs` of {name} must hold {SHAPES} identities and expressions behind them, got {directions} directions.")
    parents = tables["kintree_table"][0].astype(np.int64).astype(np.int32)
    parents[0] = -1  # the file says 2^32 - 1
    has_uv = {"vt", "ft"} <= set(tables)
    shapedirs = tables["shapedirs"]
    try:
        return HeadModel(
            v_template=_f32(tables["v_template"]),
            faces=_ids(tables["f"]),
            uvs=_f32(tables["vt"]) if has_uv else np.zeros((1, 2), np.float32),
            uv_faces=_ids(tables["ft"]) if has_uv else np.zeros(tables["f"].shape, np.int32),
            shapedirs=_f32(shapedirs[:, :, :SHAPES]),
            exprdirs=_f32(shapedirs[:, :, SHAPES:]),
            posedirs=_f32(tables["posedirs"]),
            J_regressor=_f32(tables["J_regressor"]),
            parents=parents,
            lbs_weights=_f32(tables["weights"]),
            landmark_faces=np.zeros(0, np.int32),
            landmark_barycentrics=np.zeros((0, 3), np.float32),
            static_offsets=np.zeros((vertices, 3), np.float32),
            joint_names=JOINTS,
            shape_names=tuple(f"shape{k:03d}" for k in range(SHAPES)),
            expression_names=tuple(f"expr{k:03d}" for k in range(directions - SHAPES)),
            name=variant.name,
            licence=variant.licence,
        )
    except FormatError as error:
        raise FormatError(f"{name} is a damaged FLAME model: {error}") from None


def read_uv(path: Path, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """uvs (T, 2) and uv_faces (F, 3) of an .obj, or of an .npz with `vt` and `ft`; they must be of as many triangles as the head's."""
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path, ("vt", "ft"))
        if len(arrays) != 2:
            raise FormatError(f"{path.name} must hold `vt` and `ft`, texture coordinates and triangles, as FLAME's texture file does.")
        uvs, uv_faces = arrays["vt"], arrays["ft"]
    else:
        uvs, uv_faces = _read_obj(path)
    if uvs.ndim != 2 or uvs.shape[1] < 2 or uv_faces.shape != (faces, 3) or uv_faces.min() < 0 or uv_faces.max() >= len(uvs):
        raise FormatError(f"{path.name} must lay out the {faces:,} triangles of the head, got {uvs.shape} points and {uv_faces.shape}.")
    if not np.isfinite(uvs).all():
        raise FormatError(f"The texture coordinates of {path.name} must be finite. Take a fresh copy.")
    return _f32(uvs[:, :2]), _ids(uv_faces)


def _read_obj(path: Path) -> tuple[np.ndarray, np.ndarray]:
    uvs, corners = [], []
    with open_input(path, _OBJ) as (stream, _):
        try:
            for line in stream.read().splitlines():
                words = line.split()
                if words[:1] == [b"vt"]:
                    uvs.append([float(words[1]), float(words[2])])
                elif words[:1] == [b"f"]:
                    corners.append([int(word.split(b"/")[1]) - 1 for word in words[1:]])
            return np.array(uvs, np.float64).reshape(-1, 2), np.array(corners, np.int64).reshape(-1, 3)
        except (ValueError, IndexError, OverflowError):
            raise FormatError(f"{path.name} is no .obj of triangles with texture coordinates. Give FLAME's head_template.obj.") from None


def _f32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):  # a number too large becomes infinite, which a head refuses
        return np.ascontiguousarray(array, np.float32)


def _ids(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iu":
        raise FormatError(f"Triangles must be whole numbers, got {array.dtype}. The file is damaged or of another model.")
    return np.ascontiguousarray(np.clip(array.astype(np.int64), -1, 2**31 - 1), np.int32)
