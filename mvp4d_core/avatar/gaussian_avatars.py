# SPDX-License-Identifier: Apache-2.0
"""The files of GaussianAvatars (Qian et al. 2024): a PLY of splats in triangle space with the column `binding_0`, and `flame_param.npz`.

The archive holds FLAME's parameters of T frames: `shape` (300,), `expr` (T, 100), `rotation`, `neck_pose`, `jaw_pose` and `translation`
(T, 3), `eyes_pose` (T, 6), `static_offset` (1, N, 3) and `dynamic_offset` (T, N, 3). N is 5143: FLAME's 5023 vertices and then 120 of
teeth, which that method adds and no FLAME file has. Both ways need the FLAME head, converted, as `head_model`.
"""

from pathlib import Path

import numpy as np

from ..errors import FormatError, InputError
from ..io.limits import DEFAULT, Limits, check_limit
from ..io.npz import read_npz, write_npz
from ..rig import HeadModel, Performance, personalize
from . import ply_tables
from .gaussian_avatar import GaussianAvatar
from .identity import recover_shape
from .imported import ImportedAvatar, provenance
from .ply import check_columns, splat_table, splats_of
from .ply_tables import Damage
from .stored_splats import StoredSplats

PARAMETERS = "flame_param.npz"
BINDING = "binding_0"
FLAME_VERTICES, TEETH_VERTICES = 5023, 120
_SHAPES, _EXPRESSIONS, _SH_COEFFICIENTS = 300, 100, 15
_JOINTS = ("rotation", "neck_pose", "jaw_pose")  # joints 0 to 2; the eyes are 3 and 4
_WANTED = ("shape", "expr", *_JOINTS, "eyes_pose", "translation", "static_offset", "dynamic_offset")


def read_gaussian_avatars(path: Path, head_model: HeadModel, *, fps: float = 25.0, limits: Limits = DEFAULT) -> ImportedAvatar:
    """Reads the PLY and the `flame_param.npz` beside it; `fps` because the archive does not say.

    Splats on the added teeth, `dynamic_offset` and coefficients beyond those of `head_model` are left out, and a note says so.

    Raises:
        FormatError: a file that is damaged or lacks what it needs.
        InputError: `head_model` is not FLAME's, or a file is beyond the limits.
        StorageError: a file is missing or cannot be read.
    """
    _require_flame(head_model)
    splats, binding = _read_splats(path, limits)
    arrays = _read_parameters(path.with_name(PARAMETERS), limits)
    on_head = binding < len(head_model.faces)
    notes = []
    if not on_head.all():
        notes.append(f"{(~on_head).sum():,} of {len(binding):,} splats lie on the teeth that GaussianAvatars adds to FLAME; left out.")
    splats, binding = StoredSplats(*(column[on_head] for column in splats)), binding[on_head]
    if not len(binding):
        raise FormatError(f"{path} has no splat on a triangle of FLAME, only above number {len(head_model.faces)}. Export it again.")
    if np.any(arrays["dynamic_offset"]):
        notes.append("The movement of single vertices (dynamic_offset) is left out.")
    shape, beyond = _fitted(arrays["shape"], head_model.shapedirs.shape[2])
    expression, beyond_too = _fitted(arrays["expr"], head_model.exprdirs.shape[2])
    if beyond or beyond_too:
        notes.append("Coefficients of shape or expression beyond those that the head has are left out.")
    rig = personalize(head_model, shape, arrays["static_offset"].reshape(-1, 3)[:FLAME_VERTICES])
    avatar = GaussianAvatar(**splats._asdict(), binding=binding, rig=rig, metadata=provenance(path, "GaussianAvatars"))
    joints = [arrays[name] for name in _JOINTS]
    rotations = np.stack([*joints, arrays["eyes_pose"][:, :3], arrays["eyes_pose"][:, 3:]], axis=1)
    performance = Performance(expression, rotations, arrays["translation"], fps, rig.expression_names, rig.joint_names)
    return ImportedAvatar(avatar, performance, head_model, tuple(notes))


def write_gaussian_avatars(path: Path, avatar: GaussianAvatar, head_model: HeadModel, performance: Performance) -> None:
    """Writes the PLY at `path` and `flame_param.npz` beside it, each atomically.

    Where the avatar's expressions are finer than FLAME's, `dynamic_offset` holds the difference; only as many frames as are given have it.

    Args:
        head_model: the FLAME head that the avatar's rig was personalised from.
        performance: of the avatar's rig.

    Raises:
        InputError: `head_model` is not FLAME's, or not what the avatar was personalised from.
        StorageError: a file cannot be written.
    """
    _require_flame(head_model)
    shape = recover_shape(head_model, avatar.rig)
    frames, vertices = len(performance), FLAME_VERTICES + TEETH_VERTICES
    static, dynamic = np.zeros((1, vertices, 3), np.float32), np.zeros((frames, vertices, 3), np.float32)
    static[0, :FLAME_VERTICES] = avatar.rig.static_offsets - head_model.static_offsets
    dynamic[:, :FLAME_VERTICES] = np.tensordot(performance.expression, avatar.rig.exprdirs - head_model.exprdirs, axes=(1, 2))
    poses = performance.rotations
    arrays = {
        "shape": _fitted(shape, _SHAPES)[0],
        "expr": _fitted(performance.expression, _EXPRESSIONS)[0],
        **{name: poses[:, joint] for joint, name in enumerate(_JOINTS)},
        "eyes_pose": poses[:, 3:].reshape(frames, 6),
        "translation": performance.translation,
        "static_offset": static,
        "dynamic_offset": dynamic,
    }
    harmonics = np.zeros((len(avatar), _SH_COEFFICIENTS, 3), np.float32)
    harmonics[:, : avatar.shN.shape[1]] = avatar.shN
    splats = StoredSplats(avatar.means, avatar.quats, avatar.log_scales, avatar.opacity_logits, avatar.sh0, harmonics)
    ply_tables.write_tables(path, {"vertex": splat_table(splats, more={BINDING: avatar.binding.astype(np.float32)})})
    write_npz(path.with_name(PARAMETERS), arrays)


def _require_flame(head_model: HeadModel) -> None:
    if len(head_model.v_template) != FLAME_VERTICES or head_model.parents.tolist() != [-1, 0, 1, 1, 1]:
        raise InputError(
            f"GaussianAvatars' files are of FLAME heads ({FLAME_VERTICES} vertices, 5 joints), `{head_model.name}` has "
            f"{len(head_model.v_template)} and {len(head_model.parents)}.\nName your converted FLAME head (--rig)."
        )


def _read_splats(path: Path, limits: Limits) -> tuple[StoredSplats, np.ndarray]:
    with ply_tables.opened(path, "GaussianAvatars PLY file", limits) as file:
        index = file.index("vertex")
        vertex = file.elements[index]
        check_columns(vertex)
        if BINDING not in vertex.properties:
            raise Damage(f"it has no column {BINDING}, which says on which triangle a splat rides")
        ply_tables.check_promise(file, index)
        check_limit(path, "splats", vertex.count, limits.elements, "Reduce the splats or pass wider limits.")
        table = ply_tables.read_table(file, 0, index)
        return splats_of(table), binding_of(table, BINDING)


def binding_of(table: np.ndarray, column: str) -> np.ndarray:
    """Triangle numbers (N,) int32 in a column of any type; `Damage` where one is negative, no whole number, or beyond int32."""
    values = table[column].astype(np.float64)
    sound = np.isfinite(values) & (values >= 0) & (values < 2**31)
    sound[sound] &= values[sound] == np.rint(values[sound])
    if not sound.all():
        raise Damage(f"splat {int(np.argmin(sound))} rides on the triangle {values[np.argmin(sound)]:g}")
    return values.astype(np.int32)


def _read_parameters(path: Path, limits: Limits) -> dict[str, np.ndarray]:
    """The arrays by name, float32, finite, of shapes that agree; offsets that are missing are zero."""
    found = read_npz(path, _WANTED, limits)
    frames = len(found["expr"]) if found.get("expr", np.zeros(())).ndim == 2 else 0
    optional = {"static_offset": (1, FLAME_VERTICES, 3), "dynamic_offset": (frames, 1, 3)}
    shapes: dict[str, tuple[int | None, ...]] = {
        "expr": (frames, None), "shape": (None,), **dict.fromkeys((*_JOINTS, "translation"), (frames, 3)), "eyes_pose": (frames, 6),
        "static_offset": (1, None, 3), "dynamic_offset": (frames, None, 3),
    }  # fmt: skip
    arrays = {}
    for name, shape in shapes.items():
        if name not in found and name not in optional:
            raise FormatError(f"{path} lacks `{name}`; it is no flame_param.npz of GaussianAvatars. Export it again.")
        array = found.get(name, np.zeros(optional.get(name, ()), np.float32))
        fits = array.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
        with np.errstate(over="ignore"):
            arrays[name] = array.astype(np.float32)
        if not (fits and frames and np.isfinite(arrays[name]).all()):
            raise FormatError(f"`{name}` of {path} must be finite numbers {shape}, got {array.dtype} {array.shape}. Export it again.")
    if arrays["static_offset"].shape[1] not in (FLAME_VERTICES, FLAME_VERTICES + TEETH_VERTICES):
        raise FormatError(f"`static_offset` of {path} is of {arrays['static_offset'].shape[1]} vertices, FLAME has {FLAME_VERTICES}.")
    return arrays


def _fitted(values: np.ndarray, count: int) -> tuple[np.ndarray, bool]:
    """The last axis cut or filled with zeros to `count`, and whether something other than zero was cut off."""
    result = np.zeros((*values.shape[:-1], count), np.float32)
    kept = min(count, values.shape[-1])
    result[..., :kept] = values[..., :kept]
    return result, bool(np.any(values[..., kept:]))
