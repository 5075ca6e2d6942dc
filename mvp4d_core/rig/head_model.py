# SPDX-License-Identifier: Apache-2.0
"""A FLAME-shaped head: the arrays, their file, and the open head that is built in.

The arrays and names are FLAME's (Li et al., "Learning a model of facial shape and expression from 4D scans", 2017), so a licensed FLAME
file and the open head are the same thing to all code above this one.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..errors import FormatError, InputError, MissingAssetError
from ..io import safetensors_numpy
from ..io.schema import read_as

SCHEMA = "mvp4d-head/1"
OPEN_HEAD = "open-head"
OPEN_HEAD_FILE = Path(__file__).parent / "assets" / "open_head.safetensors"

# name -> (dtype, shape); letters are sizes that must agree
_TENSORS: dict[str, tuple[type, tuple[str | int, ...]]] = {
    "v_template": (np.float32, ("V", 3)),
    "faces": (np.int32, ("F", 3)),
    "uvs": (np.float32, ("T", 2)),
    "uv_faces": (np.int32, ("F", 3)),
    "shapedirs": (np.float32, ("V", 3, "S")),
    "exprdirs": (np.float32, ("V", 3, "E")),
    "posedirs": (np.float32, ("V", 3, "P")),
    "J_regressor": (np.float32, ("J", "V")),
    "parents": (np.int32, ("J",)),
    "lbs_weights": (np.float32, ("V", "J")),
    "landmark_faces": (np.int32, ("L",)),
    "landmark_barycentrics": (np.float32, ("L", 3)),
    "static_offsets": (np.float32, ("V", 3)),
}
_TEXTS = ("name", "licence", "joint_names", "expression_names", "shape_names", "provenance")
_REGION = "region."


@dataclass(frozen=True)
class HeadModel:
    """A head of V vertices, F triangles, S identity and E expression directions, J joints, L landmarks.

    Attributes:
        v_template: (V, 3) float32, metres, head space.
        faces: (F, 3) int32, counter-clockwise seen from outside.
        uvs: (T, 2) float32 in 0..1, v up; `uv_faces` (F, 3) int32 indexes them, no overlaps.
        shapedirs: (V, 3, S) float32, metres per standard deviation.
        exprdirs: (V, 3, E) float32, metres at weight 1.
        posedirs: (V, 3, 9 (J-1)) float32, metres per unit of the row-major entries of R_j - I for joints 1..J-1.
        J_regressor: (J, V) float32, joints from the shaped vertices.
        parents: (J,) int32, the root's is -1 and parents come before children.
        lbs_weights: (V, J) float32, rows sum to 1.
        landmark_faces, landmark_barycentrics: (L,) int32 and (L, 3) float32, MediaPipe's 478 points on the surface.
        static_offsets: (V, 3) float32, metres; a person's own shape (hair, what no direction reaches), added after the joints are found.
        regions: name -> (n,) int32 vertex ids.
    """

    v_template: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    uv_faces: np.ndarray
    shapedirs: np.ndarray
    exprdirs: np.ndarray
    posedirs: np.ndarray
    J_regressor: np.ndarray
    parents: np.ndarray
    lbs_weights: np.ndarray
    landmark_faces: np.ndarray
    landmark_barycentrics: np.ndarray
    static_offsets: np.ndarray
    joint_names: tuple[str, ...]
    expression_names: tuple[str, ...]
    shape_names: tuple[str, ...]
    name: str
    licence: str
    regions: dict[str, np.ndarray] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validate_head_model(self)

    def landmarks(self, values: np.ndarray) -> np.ndarray:
        """What any numbers of the vertices (V, ...) are at the L landmarks (L, ...): of vertices (V, 3), the points."""
        return np.einsum("lk,lk...->l...", self.landmark_barycentrics, values[self.faces[self.landmark_faces]])

    def region_mask(self, *names: str) -> np.ndarray:
        """(V,) bool: the vertices of any of the named regions."""
        mask = np.zeros(len(self.v_template), dtype=bool)
        for name in names:
            if name not in self.regions:
                raise InputError(f"Region `{name}` is not in the head `{self.name}`; it has {', '.join(sorted(self.regions))}.")
            mask[self.regions[name]] = True
        return mask


def validate_head_model(model: HeadModel) -> None:
    """Raises FormatError unless shapes, dtypes, indices and numbers are those of a head."""
    sizes: dict[str, int] = {}
    for name, (dtype, shape) in _TENSORS.items():
        array = getattr(model, name)
        if array.dtype != dtype or array.ndim != len(shape):
            raise FormatError(f"`{name}` of a head must be {np.dtype(dtype).name} with {len(shape)} axes, got {array.dtype} {array.shape}.")
        for want, got in zip(shape, array.shape, strict=True):
            if got != (sizes.setdefault(want, got) if isinstance(want, str) else want):
                raise FormatError(f"`{name}` of a head must be {shape} with {sizes}, got {array.shape}.")
        if dtype is np.float32 and not np.isfinite(array).all():
            raise FormatError(f"`{name}` of a head must be finite, got NaN or infinity.")
    joints, vertices = sizes["J"], sizes["V"]
    if sizes["P"] != 9 * (joints - 1):
        raise FormatError(f"`posedirs` of a head with {joints} joints must have {9 * (joints - 1)} columns, got {sizes['P']}.")
    bounds = [("faces", vertices), ("uv_faces", sizes["T"]), ("landmark_faces", sizes["F"])]
    for name, limit in bounds:
        array = getattr(model, name)
        if array.size and (array.min() < 0 or array.max() >= limit):
            raise FormatError(f"`{name}` of a head must index below {limit}, got {array.min()}..{array.max()}.")
    for name, ids in model.regions.items():
        if ids.dtype != np.int32 or ids.ndim != 1 or (ids.size and (ids.min() < 0 or ids.max() >= vertices)):
            raise FormatError(f"Region `{name}` of a head must hold int32 vertex ids below {vertices}, got {ids.dtype} {ids.shape}.")
    if joints < 1 or model.parents[0] != -1 or any(not 0 <= p < j for j, p in enumerate(model.parents[1:], start=1)):
        raise FormatError(f"`parents` of a head must start with -1 and name earlier joints, got {model.parents.tolist()}.")
    if np.abs(model.lbs_weights.sum(axis=1) - 1).max(initial=0) > 1e-3:
        raise FormatError("`lbs_weights` of a head must sum to 1 at each vertex; the file is damaged or of another layout.")
    for name, size in (("joint_names", joints), ("expression_names", sizes["E"]), ("shape_names", sizes["S"])):
        names = getattr(model, name)
        if len(names) != size or len(set(names)) != size or not all(isinstance(n, str) for n in names):
            raise FormatError(f"`{name}` of a head must be {size} different names, got {len(names)}.")


def personalize(model: HeadModel, shape: np.ndarray, offsets: np.ndarray) -> HeadModel:
    """The head of one person: `shape` (S,) standard deviations baked into the template, `offsets` (V, 3) metres into `static_offsets`.

    It has no identity directions left. Joints come from the shape alone: hair that grows outward does not move them.
    """
    return replace(
        model,
        v_template=(model.v_template + model.shapedirs @ np.asarray(shape, np.float32)).astype(np.float32),
        static_offsets=(model.static_offsets + offsets).astype(np.float32),
        shapedirs=np.zeros((*model.v_template.shape, 0), np.float32),
        shape_names=(),
    )


def head_model_digest(model: HeadModel) -> str:
    """SHA-256 of a head's arrays, the name under which an avatar asks for a head it may not carry."""
    digest = hashlib.sha256()
    for name in sorted(_TENSORS):
        array = np.ascontiguousarray(getattr(model, name))
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def head_model_to_tensors(model: HeadModel) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the texts of a head's file."""
    tensors = {name: getattr(model, name) for name in _TENSORS}
    tensors |= {_REGION + name: ids for name, ids in model.regions.items()}
    return tensors, {name: json.dumps(getattr(model, name)) for name in _TEXTS}


def head_model_from_tensors(tensors: dict[str, np.ndarray], texts: dict[str, str]) -> HeadModel:
    """The inverse of `head_model_to_tensors`; raises FormatError for anything missing or malformed."""
    vertices = tensors["v_template"].shape[0] if tensors.get("v_template", np.zeros(())).ndim == 2 else 0
    tensors = {"static_offsets": np.zeros((vertices, 3), np.float32), **tensors}
    missing = sorted((set(_TENSORS) - set(tensors)) | (set(_TEXTS) - set(texts)))
    if missing:
        raise FormatError(f"A head's file must hold {', '.join(missing)}; this one does not.")
    try:
        parsed = {name: json.loads(texts[name]) for name in _TEXTS}
    except (ValueError, RecursionError) as error:
        raise FormatError(f"The metadata of a head must be JSON, got: {error}.") from None
    for name in ("joint_names", "expression_names", "shape_names"):
        if not isinstance(parsed[name], list):
            raise FormatError(f"`{name}` of a head must be a list of names, got {type(parsed[name]).__name__}.")
        parsed[name] = tuple(parsed[name])
    if not isinstance(parsed["provenance"], dict) or not all(isinstance(parsed[name], str) for name in ("name", "licence")):
        raise FormatError("A head's `name` and `licence` must be texts and its `provenance` a table; the metadata is damaged.")
    regions = {name.removeprefix(_REGION): array for name, array in tensors.items() if name.startswith(_REGION)}
    return HeadModel(**{name: tensors[name] for name in _TENSORS}, regions=regions, **parsed)


def save_head_model(model: HeadModel, path: str | Path) -> None:
    """Writes a head as one safetensors file, atomically."""
    tensors, texts = head_model_to_tensors(model)
    safetensors_numpy.write(path, tensors, {"schema": SCHEMA, **texts})


def load_head_model(source: str | Path = OPEN_HEAD) -> HeadModel:
    """The built-in open head, or a head from a `.safetensors` file.

    Raises:
        MissingAssetError: the file is not there.
        FormatError: it is not a head.
    """
    path = OPEN_HEAD_FILE if str(source) == OPEN_HEAD else Path(source)
    if not path.is_file():
        raise MissingAssetError(f"No head `{source}`: give `{OPEN_HEAD}` or the .safetensors file of a head (schema `{SCHEMA}`).")
    tensors, metadata = read_as(path, SCHEMA, "a head")
    try:
        return head_model_from_tensors(tensors, metadata)
    except FormatError as error:
        raise FormatError(f"{path.name} is a damaged head: {error}") from None
