# SPDX-License-Identifier: Apache-2.0
"""CAP4D's animation PLY: splats in triangle space, the triangles, and how the mesh moves, frame by frame, without a rig.

Elements: `faces` (`index_0..2`), `base_vertex` (x y z, the mesh of the first frame), `vertex` (3DGS columns in triangle space and
`binding`), and for each frame `meta_delta_min_00000`, `meta_delta_max_00000` (one row x y z each) and `delta_vertex_00000`: the offset
of each vertex from the base as a part of the way from that minimum to that maximum, in 0..1, or in bytes. What a byte stands for is
written nowhere: 0 is the minimum and the largest one the maximum, so a frame with a 255 is read in steps of 1/255, others in steps of
1/254, as they are written here and as the viewer Brush reads them. Written vertices are in head axes; how other writers turn theirs is
for the caller to say.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..cameras import FILE_FROM_HEAD
from ..io.limits import DEFAULT, Limits, check_limit
from ..progress import Progress, silent, steps
from ..rig import Performance, skin
from . import ply_tables
from .baked_rig import bake_rig
from .file_space import turned
from .gaussian_avatar import GaussianAvatar
from .gaussian_avatars import binding_of
from .imported import ImportedAvatar, provenance
from .ply import check_columns, splat_table, splats_of
from .ply_tables import Damage, PlyFile
from .stored_splats import StoredSplats

_XYZ = ("x", "y", "z")
_INDICES = ("index_0", "index_1", "index_2")
_MIN, _MAX, _DELTA = "meta_delta_min_", "meta_delta_max_", "delta_vertex_"
_STEPS = 254
_FAR = 1e4  # metres


class Animation(NamedTuple):
    """What the file holds."""

    splats: StoredSplats  # in triangle space
    binding: np.ndarray  # (N,) int32
    faces: np.ndarray  # (F, 3) int32
    vertices: np.ndarray  # (T, V, 3) float32 metres


def write_cap4d(path: Path, avatar: GaussianAvatar, performance: Performance, *, small: bool = False, progress: Progress = silent) -> None:
    """Writes an avatar's performance, atomically; `small` stores movement in bytes, to 1/508 of a frame's span of it, else in floats."""
    splats = StoredSplats(avatar.means, avatar.quats, avatar.log_scales, avatar.opacity_logits, avatar.sh0, avatar.shN)
    frames = (performance[index] for index in range(len(performance)))
    posed = (skin(avatar.rig, None, frame.expression, frame.rotations, frame.translation) for frame in frames)
    base = skin(avatar.rig, None, *(getattr(performance[0], name) for name in ("expression", "rotations", "translation")))
    tables = {
        "faces": ply_tables.rows(_INDICES, avatar.rig.faces, "u4"),
        "base_vertex": ply_tables.rows(_XYZ, base),
        "vertex": splat_table(splats, normals=False, more={"binding": avatar.binding.astype(np.float32)}),
    }
    for index, vertices in enumerate(steps(posed, "export", len(performance), progress)):
        offsets = (vertices - base).astype(np.float32)
        low, high = offsets.min(axis=0), offsets.max(axis=0)
        part = (offsets - low) / np.where(high > low, high - low, 1)
        tables[f"{_MIN}{index:05d}"] = ply_tables.rows(_XYZ, low[None])
        tables[f"{_MAX}{index:05d}"] = ply_tables.rows(_XYZ, high[None])
        tables[f"{_DELTA}{index:05d}"] = ply_tables.rows(_XYZ, np.rint(part * _STEPS) if small else part, "u1" if small else "f4")
    ply_tables.write_tables(path, tables)


def read_cap4d(path: Path, limits: Limits = DEFAULT) -> Animation:
    """Reads the file as it is.

    Raises:
        FormatError: truncated, corrupt or hostile data, something missing, or a value that is not finite.
        InputError: more splats or more vertices in all frames than `limits.elements`.
        StorageError: the file is missing or cannot be read.
    """
    with ply_tables.opened(path, "CAP4D animation PLY file", limits) as file:
        frames = _checked_frames(file)
        ply_tables.check_promise(file, len(file.elements) - 1)
        counts = {element.name: element.count for element in file.elements}
        cure = "Export fewer splats or frames, or pass wider limits."
        check_limit(path, "splats", counts["vertex"], limits.elements, cure)
        check_limit(path, "vertices in all frames", counts["base_vertex"] * max(1, len(frames)), limits.elements, cure)
        return _animation({element.name: ply_tables.read_table(file, index, index) for index, element in enumerate(file.elements)}, frames)


def import_cap4d(path: Path, *, upright: bool = True, fps: float = 25.0, limits: Limits = DEFAULT) -> ImportedAvatar:
    """The animation as an avatar on a head of its own, and the performance that plays it; see `bake_rig`.

    Args:
        upright: the file's y points up, as head space's does; else down, as in splat viewers, and everything is turned about x.
        fps: frames a second, which the file does not say.
    """
    splats, binding, faces, vertices = read_cap4d(path, limits)
    if not upright:
        vertices = vertices @ FILE_FROM_HEAD.astype(np.float32)
        splats = splats._replace(shN=turned(splats).shN)  # colours are in the world's axes, the rest in the triangles'
    rig, performance = bake_rig(vertices, faces, fps=fps, name="cap4d-animation")
    avatar = GaussianAvatar(**splats._asdict(), binding=binding, rig=rig, metadata=provenance(path, "CAP4D animation PLY"))
    return ImportedAvatar(avatar, performance)


def _checked_frames(file: PlyFile) -> list[str]:
    """The frames' numbers, in order, once every element that is needed is there with its columns, in the sizes that agree."""
    elements = {element.name: element for element in file.elements}
    for name, columns in (("faces", _INDICES), ("base_vertex", _XYZ), ("vertex", ("binding",))):
        if (element := file.elements[file.index(name)]).count < 1 or not element.properties.keys() >= set(columns):
            raise Damage(f"its element `{name}` must have rows with {', '.join(columns)}")
    check_columns(elements["vertex"])
    if len(elements) < len(file.elements) or any(element.has_list for element in file.elements):
        raise Damage("it has an element twice, or one with a list property")
    frames = sorted(name.removeprefix(_DELTA) for name in elements if name.startswith(_DELTA))
    for frame in frames:
        for name, count in ((_MIN + frame, 1), (_MAX + frame, 1), (_DELTA + frame, elements["base_vertex"].count)):
            element = elements.get(name)
            if element is None or element.count != count or not element.properties.keys() >= set(_XYZ):
                raise Damage(f"its frame {frame[:20]} must have {count} rows x y z in `{name[:60]}`")
    return frames


def _animation(tables: dict[str, np.ndarray], frames: list[str]) -> Animation:
    base = ply_tables.columns(tables["base_vertex"], _XYZ)
    faces = np.stack([binding_of(tables["faces"], column) for column in _INDICES], axis=1)
    splats, binding = splats_of(tables["vertex"]), binding_of(tables["vertex"], "binding")
    for name, array, count in (("faces", faces, len(base)), ("binding", binding, len(faces))):
        if array.max() >= count:
            raise Damage(f"its {name} name number {array.max()}, there are {count}")
    vertices = np.zeros((max(1, len(frames)), *base.shape), np.float32)
    vertices[:] = base
    for index, frame in enumerate(frames):
        vertices[index] += _offsets(tables, frame)
    if not (np.abs(vertices) < _FAR).all():
        raise Damage(f"a vertex is not finite, or further than {_FAR:g} m away")
    return Animation(splats, binding, faces, vertices)


def _offsets(tables: dict[str, np.ndarray], frame: str) -> np.ndarray:
    """(V, 3) metres; an axis along which a frame does not move is the minimum, whatever its parts say."""
    low, high = (ply_tables.columns(tables[name + frame], _XYZ)[0] for name in (_MIN, _MAX))
    table = tables[_DELTA + frame]
    part = ply_tables.columns(table, _XYZ)
    if table.dtype[_XYZ[0]].kind in "iu":
        part /= max(_STEPS, float(part.max()))
    return low + np.where(high > low, part, 0) * (high - low)
