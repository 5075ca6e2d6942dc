# SPDX-License-Identifier: Apache-2.0
"""GaussianAvatars' `flame_param.npz` and VHAP's tracks, which have the same names: FLAME's own chain of joints.

`shape` (300,), `expr` (T, 100), `rotation`, `neck_pose`, `jaw_pose`, `translation` (T, 3), `eyes_pose` (T, 6) left then right,
`static_offset` (1, V, 3) and `dynamic_offset` (T, V, 3) or nothing. VHAP's `tracked_flame_params_*.npz` adds `timestep_id`,
`n_processed_frames` and, where the camera was not calibrated, `focal_length` in units of the picture's longer side: its camera stands at
(0, 0, 1) and looks along -z. A folder is VHAP's export for GaussianAvatars, one `flame_param/00000.npz` a frame.
"""

from pathlib import Path

import numpy as np

from ..avatar.gaussian_avatars import FLAME_VERTICES, TEETH_VERTICES
from ..cameras import OPENGL_FROM_OPENCV, Camera
from ..errors import FormatError, InputError
from ..io.npz import write_npz
from ..rig import Performance
from .imported_track import ImportedTrack, coefficients, flame_performance, named_rotations
from .tables import Arrays, fitted, rows, same_frames

GAUSSIAN_AVATARS, VHAP = "GaussianAvatars", "VHAP"
SHAPES, COEFFICIENTS = 300, 100
_JOINTS = {"root": "rotation", "neck": "neck_pose", "jaw": "jaw_pose"}
REQUIRED = ("shape", "expr", *_JOINTS.values(), "eyes_pose", "translation")
VHAP_ONLY = ("timestep_id", "n_processed_frames", "focal_length")
WANTED = (*REQUIRED, *VHAP_ONLY, "static_offset", "dynamic_offset")
_VERTICES = (FLAME_VERTICES, FLAME_VERTICES + TEETH_VERTICES)


def flame_track(path: Path, tables: list[Arrays], fps: float, size: tuple[int, int] | None = None) -> ImportedTrack:
    """The track of arrays that were read from `path`.

    Args:
        size: width and height of the pictures; without it VHAP's camera, which the file gives in shares of it, is left out.

    Raises:
        FormatError: not of this layout, or not finite.
    """
    arrays = {name: rows(tables, name, (3,), path) for name in (*_JOINTS.values(), "translation")}
    arrays |= {"expr": rows(tables, "expr", (None,), path), "eyes_pose": rows(tables, "eyes_pose", (6,), path)}
    same_frames(path, arrays)
    eyes = arrays["eyes_pose"]
    joints = {joint: arrays[name] for joint, name in _JOINTS.items()} | {"left_eye": eyes[:, :3], "right_eye": eyes[:, 3:]}
    performance = flame_performance(arrays["expr"], joints, arrays["translation"], fps)
    kind = VHAP if any(name in tables[0] for name in VHAP_ONLY) else GAUSSIAN_AVATARS
    notes, cameras = [], ()
    offsets = rows(tables, "static_offset", (None, 3), path)[0] if "static_offset" in tables[0] else None
    if offsets is not None and len(offsets) not in _VERTICES:
        raise FormatError(f"`static_offset` of {path} is of {len(offsets)} vertices, FLAME has {FLAME_VERTICES}. Export the track again.")
    if any(np.any(table.get("dynamic_offset", 0)) for table in tables):
        notes.append("The movement of single vertices (dynamic_offset) is left out.")
    if "focal_length" in tables[0]:
        if size:
            cameras = (_camera(rows(tables, "focal_length", (), path), size, path),)
        else:
            notes.append("The camera is left out, because the file gives it in shares of the picture: say its size with --picture-size.")
    shape = rows(tables, "shape", (None,), path)[0]
    kept = None if offsets is None or not offsets.any() else offsets[:FLAME_VERTICES]
    return ImportedTrack(kind, performance, shape, cameras, offsets=kept, notes=tuple(notes))


def write_flame_param(path: Path, performance: Performance, shape: np.ndarray, offsets: np.ndarray | None = None) -> tuple[str, ...]:
    """Writes `flame_param.npz`, atomically.

    Args:
        performance: of a FLAME head, its coefficients named `expr000` and so on.
        shape: (S,) identity coefficients.
        offsets: (V, 3) metres of the person's own shape on FLAME's vertices, or None.

    Returns:
        What the file cannot hold, a line each.

    Raises:
        InputError: offsets of another head.
        StorageError: the file cannot be written.
    """
    if offsets is not None and offsets.shape != (FLAME_VERTICES, 3):
        raise InputError(f"`offsets` must be of FLAME's {FLAME_VERTICES} vertices, got {offsets.shape}.")
    frames, vertices = len(performance), sum((FLAME_VERTICES, TEETH_VERTICES))
    static = np.zeros((1, vertices, 3), np.float32)
    if offsets is not None:
        static[0, :FLAME_VERTICES] = offsets
    known = {f"expr{index:03d}" for index in range(COEFFICIENTS)}
    moving = [name for name, column in zip(performance.expression_names, performance.expression.T, strict=True) if np.any(column)]
    lost = [name for name in moving if name not in known]
    write_npz(
        path,
        {
            "shape": fitted(np.asarray(shape), SHAPES),
            "expr": coefficients(performance, COEFFICIENTS),
            **{name: named_rotations(performance, joint) for joint, name in _JOINTS.items()},
            "eyes_pose": np.concatenate([named_rotations(performance, "left_eye"), named_rotations(performance, "right_eye")], axis=1),
            "translation": performance.translation,
            "static_offset": static,
            "dynamic_offset": np.zeros((frames, vertices, 3), np.float32),
        },
    )
    return (f"FLAME has no {', '.join(lost[:6])}{', ...' if len(lost) > 6 else ''}; left out.",) if lost else ()


def _camera(focal: np.ndarray, size: tuple[int, int], path: Path) -> Camera:
    width, height = size
    if not (focal > 0).all():
        raise FormatError(f"`focal_length` of {path} must be positive, got {focal.min():g}. Export the track again.")
    length = float(focal.reshape(-1)[0]) * max(width, height)
    matrix = np.eye(4)
    matrix[:3, :3] = OPENGL_FROM_OPENCV
    matrix[2, 3] = 1.0
    return Camera(np.array([[length, 0, width / 2], [0, length, height / 2], [0, 0, 1]]), matrix, width, height)
