# SPDX-License-Identifier: Apache-2.0
"""Pixel3DMM's tracks: the folder `checkpoint` of `00000.frame` files that torch saved, one a frame.

Each holds `flame`: `exp` (1, 100), `shape` (1, 300), `eyelids` (1, 2) left then right, `jaw` and `neck` and `eyes`, as axis-angle or as the
first two rows of the matrix (Zhou et al. 2019), `R_rotation_matrix` (1, 3, 3) and `t` (1, 3), which turn and move the finished head about
the origin, v = R v_head + t; and `camera`: `R_base_0`, `t_base_0`, `fl` in units of a 256 px crop and `pp` in -1..1 of it. Whether that
camera has OpenGL's or OpenCV's axes is written nowhere: it is taken to have those in which it sees the head before it.
"""

from pathlib import Path

import numpy as np

from ..cameras import OPENGL_FROM_OPENCV, Camera
from ..errors import FormatError
from ..rig import HeadModel
from .flowface import require_joints
from .imported_track import ImportedTrack, axis_angles, flame_performance, rest_joints, turned
from .tables import Arrays, rows, same_frames

KIND = "Pixel3DMM"
CROP = 256  # px
_TURNING = {"jaw": ("jaw",), "neck": ("neck",), "eyes": ("left_eye", "right_eye")}
REQUIRED = ("flame/exp", "flame/shape", "flame/R_rotation_matrix", "flame/t")
_CAMERA = {"R_base_0": (3, 3), "t_base_0": (3,), "fl": (), "pp": (2,)}
WANTED = (*REQUIRED, "flame/eyelids", *(f"flame/{name}" for name in _TURNING), *(f"camera/{name}" for name in _CAMERA))


def pixel3dmm_track(path: Path, tables: list[Arrays], head_model: HeadModel, fps: float) -> ImportedTrack:
    """The track of arrays that were read from `path`.

    Args:
        head_model: the FLAME head, for where its joints are: the files turn heads about the origin.

    Raises:
        FormatError: not of this layout.
        InputError: a head without FLAME's joints.
    """
    require_joints(head_model)
    turn = rows(tables, "flame/R_rotation_matrix", (3, 3), path).astype(np.float64)
    arrays = {"exp": rows(tables, "flame/exp", (None,), path), "t": rows(tables, "flame/t", (3,), path), "R_rotation_matrix": turn}
    if "flame/eyelids" in tables[0]:
        arrays["eyelids"] = rows(tables, "flame/eyelids", (2,), path)
    joints = {"root": axis_angles(turn)}
    for name, members in _TURNING.items():
        if f"flame/{name}" in tables[0]:
            arrays[name] = rows(tables, f"flame/{name}", (None,), path)
            parts = np.split(arrays[name], len(members), axis=1) if arrays[name].shape[1] % len(members) == 0 else [arrays[name]]
            joints |= {member: _axis_angle(part, name, path) for member, part in zip(members, parts, strict=False)}
    same_frames(path, arrays)
    shape = rows(tables, "flame/shape", (None,), path)[0]
    lids = np.clip(arrays["eyelids"], 0, 1) if "eyelids" in arrays else None
    unmoved = flame_performance(arrays["exp"], joints, None, fps, lids)
    root = rest_joints(head_model, shape, unmoved)[:, 0]
    moved = (arrays["t"] + turned(turn, root) - root).astype(np.float32)
    performance = flame_performance(arrays["exp"], joints, moved, fps, lids)
    cameras = _cameras(path, tables, arrays["t"]) if all(f"camera/{name}" in tables[0] for name in _CAMERA) else ()
    notes = ("The cameras are of the 256 px crop.",) if cameras else ()
    return ImportedTrack(KIND, performance, shape, cameras, cameras_move=True, notes=notes)


def _axis_angle(values: np.ndarray, name: str, path: Path) -> np.ndarray:
    """Axis-angles (T, 3) of such, or of the first two rows of matrices (T, 6), made square (Gram-Schmidt)."""
    if values.shape[1] == 3:
        return values
    if values.shape[1] != 6:
        raise FormatError(f"`flame/{name}` of {path} must have 3 or 6 numbers a joint, got {values.shape}. Export the track again.")
    first, second = values[:, :3].astype(np.float64), values[:, 3:].astype(np.float64)
    first = first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-12)
    second = second - (first * second).sum(axis=1, keepdims=True) * first
    second = second / np.maximum(np.linalg.norm(second, axis=1, keepdims=True), 1e-12)
    return axis_angles(np.stack([first, second, np.cross(first, second)], axis=1))


def _cameras(path: Path, tables: list[Arrays], heads: np.ndarray) -> tuple[Camera, ...]:
    arrays = {name: rows(tables, f"camera/{name}", shape, path).astype(np.float64) for name, shape in _CAMERA.items()}
    same_frames(path, {"t": heads, **arrays})
    depth = turned(arrays["R_base_0"], heads)[:, 2] + arrays["t_base_0"][:, 2]
    axes = OPENGL_FROM_OPENCV if np.median(depth) < 0 else np.eye(3)
    cameras = []
    for turn, place, focal, middle in zip(*arrays.values(), strict=True):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = axes @ turn, axes @ place
        x, y = (1 + middle) * CROP / 2
        cameras.append(Camera(np.array([[focal * CROP, 0, x], [0, focal * CROP, y], [0, 0, 1]]), matrix, CROP, CROP))
    return tuple(cameras)
