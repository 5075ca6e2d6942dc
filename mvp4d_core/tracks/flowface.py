# SPDX-License-Identifier: Apache-2.0
"""FlowFace's `fit.npz`, which CAP4D reads and writes, and its camera orbits.

`fit.npz`: `expr` (T, 65), of which the last closes both eyes and FLAME's 64 come before it; `rot`, `tra`, `eye_rot` (T, 3), where `tra` is
metres; `neck_rot`, `jaw_rot` (T, 3) or nothing; `shape` (150,); for C cameras `fx`, `fy`, `cx`, `cy` (C, 1) pixels, `extr` (C, 4, 4),
`resolutions` (C, 2) height and width, `camera_order` (C,) texts; `fps`, -1 for stills in no order. An orbit has `extr` (T, 4, 4), `fx`,
`fy`, `cx`, `cy` (T, 1), `resolution` (2,) and perhaps `fps`.

The world has FLAME's axes, y up and z towards the camera. `extr` takes the OpenCV world, turned by half a turn about x, to the camera.

That method turns and moves the finished head, v = R v_head + tra, about the world's origin, and turns each joint on its own. Its neck
rotation N moves what hangs on the root, the shoulders, and not the head. The same motion in a chain of joints: the root turns by R N, the
neck by N^-1, and the translation keeps the head where it was. The head is then the same to rounding; the shoulders are off by the constant
(N - I)(J_neck - J_root), and the neck's correctives differ. A constant that the method adds to every head, because it subtracts the
identity twice in its correctives, comes as `offsets`.
"""

from pathlib import Path

import numpy as np

from ..cameras import OPENGL_FROM_OPENCV, Camera
from ..errors import FormatError, InputError
from ..io.limits import DEFAULT, Limits
from ..io.npz import read_npz, write_npz
from ..rig import HeadModel, Performance
from .imported_track import (
    BLINKS,
    FPS,
    JOINTS,
    ImportedTrack,
    axis_angles,
    coefficients,
    flame_performance,
    matrices,
    named_rotations,
    named_weights,
    rest_joints,
    turned,
)
from .tables import fitted, rows, same_frames

KIND = "FlowFace"
COEFFICIENTS, SHAPES = 64, 150
REQUIRED = ("expr", "rot", "tra", "eye_rot", "shape")
_CAMERA = ("fx", "fy", "cx", "cy", "extr")
_OPTIONAL = ("neck_rot", "jaw_rot", "fps", "resolutions", "resolution", *_CAMERA)
_FLIP = np.diag([*np.diag(OPENGL_FROM_OPENCV), 1.0])
_MOST_PIXELS = 65_536  # a side


def read_fit(path: Path, head_model: HeadModel, *, fps: float | None = None, limits: Limits = DEFAULT) -> ImportedTrack:
    """Reads `fit.npz`.

    Args:
        head_model: the FLAME head, for where its joints are: the file turns heads about the origin.
        fps: frames a second, instead of the file's.

    Raises:
        FormatError: damaged, or not of this layout.
        InputError: beyond the limits, or a head without FLAME's joints.
        StorageError: the file is missing or cannot be read.
    """
    require_joints(head_model)
    found = read_npz(path, (*REQUIRED, *_OPTIONAL), limits, texts=("camera_order",))
    tables = [found]
    arrays = {name: rows(tables, name, (3,), path) for name in ("rot", "tra", "eye_rot")}
    arrays["expr"] = rows(tables, "expr", (COEFFICIENTS + 1,), path)
    arrays |= {name: rows(tables, name, (3,), path) for name in ("neck_rot", "jaw_rot") if name in found}
    frames = same_frames(path, arrays)
    shape = rows(tables, "shape", (None,), path)
    if len(shape) != 1:
        raise FormatError(f"`shape` of {path} must be of one person, got {shape.shape}. Export the track again.")
    rest = np.zeros((frames, 3), np.float32)
    performance = chained(
        arrays["expr"], arrays["rot"], arrays["tra"], arrays.get("neck_rot", rest), arrays.get("jaw_rot", rest), arrays["eye_rot"],
        head_model, shape[0], _rate(found, fps),
    )  # fmt: skip
    cameras = _cameras(path, found) if "extr" in found else ()
    notes = ["The shoulders are placed to a constant, as FlowFace's neck turns them alone."] if np.any(arrays.get("neck_rot", 0)) else []
    if float(_number(found, "fps")) <= 0 and fps is None and frames > 1:
        notes.append("The file says that its frames are stills in no order; they play at 25 a second.")
    return ImportedTrack(
        KIND, performance, shape[0], cameras, offsets=rest_offset(head_model), views=_views(path, found, len(cameras)), notes=tuple(notes)
    )


def write_fit(
    path: Path, performance: Performance, head_model: HeadModel, shape: np.ndarray, cameras: tuple[Camera, ...] = ()
) -> tuple[str, ...]:
    """Writes `fit.npz`, atomically.

    Args:
        performance: of the FLAME head `head_model`, its coefficients named `expr000` and so on.
        shape: (S,) identity coefficients.
        cameras: one a view; one in front of the head, of 512 x 512 px, where there is none.

    Returns:
        What the file cannot hold, a line each.

    Raises:
        InputError: a head without FLAME's joints.
        StorageError: the file cannot be written.
    """
    require_joints(head_model)
    notes = []
    if np.any(coefficients(performance, 300)[:, COEFFICIENTS:]):
        notes.append(f"Expression coefficients beyond FLAME's first {COEFFICIENTS} are left out.")
    if np.any(np.asarray(shape)[SHAPES:]):
        notes.append(f"Shape coefficients beyond FLAME's first {SHAPES} are left out.")
    left, right = named_rotations(performance, "left_eye"), named_rotations(performance, "right_eye")
    if not np.allclose(left, right, atol=1e-6):
        notes.append("Both eyes share one rotation in this file: the mean of theirs.")
    root, neck = matrices(named_rotations(performance, "root")), matrices(named_rotations(performance, "neck"))
    joints = rest_joints(head_model, shape, performance)
    turn = root @ neck
    moved = performance.translation - turned(turn, joints[:, 1]) + turned(root, joints[:, 1] - joints[:, 0]) + joints[:, 0]
    blink = named_weights(performance, BLINKS).mean(axis=1, keepdims=True)
    views = cameras or (_portrait_camera(moved.mean(axis=0)),)
    arrays = {
        "expr": np.concatenate([coefficients(performance, COEFFICIENTS), blink], axis=1),
        "rot": axis_angles(turn), "tra": moved.astype(np.float32), "eye_rot": (left + right) / 2,
        "neck_rot": axis_angles(neck.transpose(0, 2, 1)), "jaw_rot": named_rotations(performance, "jaw"),
        "shape": fitted(np.asarray(shape), SHAPES), "fps": np.array(performance.fps),
        "resolutions": np.array([[camera.height, camera.width] for camera in views]),
        "n_timesteps": np.array(len(performance)), "n_views": np.array(len(views)),
        "camera_order": np.array([f"cam{index}" for index in range(len(views))]), **_camera_arrays(views),
    }  # fmt: skip
    write_npz(path, arrays)
    return tuple(notes)


def read_orbit(path: Path, limits: Limits = DEFAULT) -> tuple[tuple[Camera, ...], float]:
    """Cameras, one a frame, and frames a second (25 where the file does not say) of a camera orbit; raises as `read_fit`."""
    found = read_npz(path, (*_CAMERA, "resolution", "fps"), limits)
    return _cameras(path, found), _rate(found, None)


def write_orbit(path: Path, cameras: tuple[Camera, ...], fps: float) -> None:
    """Writes cameras of one size, one a frame, atomically; InputError for none or several sizes."""
    sizes = {(camera.height, camera.width) for camera in cameras}
    if len(sizes) != 1:
        raise InputError(f"An orbit must have cameras, all of one size, got {len(cameras)} of {len(sizes)} sizes.")
    write_npz(path, {**_camera_arrays(cameras), "resolution": np.array(sizes.pop()), "fps": np.array(fps)})


def chained(
    expression: np.ndarray, rotation: np.ndarray, translation: np.ndarray, neck: np.ndarray, jaw: np.ndarray, eyes: np.ndarray,
    head_model: HeadModel, shape: np.ndarray, fps: float,
) -> Performance:  # fmt: skip
    """FlowFace's parameters (T, 65), (T, 3) each and (S,) as a performance in which joints carry one another; see the module."""
    blink = np.repeat(np.clip(expression[:, -1:], 0, 1), 2, axis=1)
    turn, shoulders = matrices(rotation), matrices(neck)
    joints = {"root": axis_angles(turn @ shoulders), "neck": axis_angles(shoulders.transpose(0, 2, 1)), "jaw": jaw}
    joints |= {"left_eye": eyes, "right_eye": eyes}
    unmoved = flame_performance(expression[:, :-1], joints, None, fps, blink)
    places = rest_joints(head_model, shape, unmoved)
    carried = turned(turn @ shoulders, places[:, 1] - places[:, 0])
    moved = translation + turned(turn, places[:, 1]) - carried - places[:, 0]
    return flame_performance(expression[:, :-1], joints, moved.astype(np.float32), fps, blink)


def rest_offset(head_model: HeadModel) -> np.ndarray:
    """(V, 3) float32 metres: what that method adds to every head by subtracting the identity twice, posedirs vec(-I) of the four joints."""
    return (head_model.posedirs @ -np.tile(np.eye(3).ravel(), 4)).astype(np.float32)


def require_joints(head_model: HeadModel) -> None:
    """Raises InputError unless the head has FLAME's joints."""
    if head_model.joint_names != JOINTS or head_model.posedirs.shape[2] != 36:
        raise InputError(
            f"This needs a head with FLAME's joints ({', '.join(JOINTS)}), "
            f"`{head_model.name}` has {', '.join(head_model.joint_names)[:80]}.\nGive your converted FLAME head with --rig."
        )


def _number(found: dict[str, np.ndarray], name: str) -> float:
    array = found.get(name, np.zeros(()))
    return float(array.reshape(-1)[0]) if array.size == 1 else 0.0


def _rate(found: dict[str, np.ndarray], fps: float | None) -> float:
    rate = _number(found, "fps")
    return fps or (rate if 0 < rate <= 1000 else FPS)


def _cameras(path: Path, found: dict[str, np.ndarray]) -> tuple[Camera, ...]:
    tables = [found]
    arrays = {name: rows(tables, name, (1,), path)[:, 0].astype(np.float64) for name in _CAMERA[:4]}
    extr = rows(tables, "extr", (4, 4), path).astype(np.float64)
    count = same_frames(path, {**arrays, "extr": extr})
    sizes = rows(tables, "resolutions" if "resolutions" in found else "resolution", (2,), path)
    if len(sizes) not in (1, count):
        raise FormatError(f"{path} has {count} cameras and {len(sizes)} sizes of pictures. Export the track again.")
    sizes = np.broadcast_to(sizes, (count, 2))
    if not ((sizes >= 1) & (sizes <= _MOST_PIXELS)).all() or np.any(sizes != np.rint(sizes)) or np.any(arrays["fx"] * arrays["fy"] <= 0):
        raise FormatError(f"{path} has cameras without a size in pixels or a focal length. Export the track again.")
    square = np.abs(extr[:, :3, :3] @ extr[:, :3, :3].transpose(0, 2, 1) - np.eye(3)).max(initial=0)
    if square > 1e-3:
        raise FormatError(f"`extr` of {path} must be rotations and translations, off by {square:.2g}. Export the track again.")
    return tuple(
        Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), matrix @ _FLIP, int(width), int(height))
        for fx, fy, cx, cy, matrix, (height, width) in zip(*(arrays[key] for key in _CAMERA[:4]), extr, sizes, strict=True)
    )


def _camera_arrays(cameras: tuple[Camera, ...]) -> dict[str, np.ndarray]:
    Ks = np.stack([camera.K for camera in cameras])
    entries = {"fx": (0, 0), "fy": (1, 1), "cx": (0, 2), "cy": (1, 2)}
    arrays = {name: Ks[:, row, column, None] for name, (row, column) in entries.items()}
    return arrays | {"extr": np.stack([camera.camera_from_world @ _FLIP for camera in cameras])}


def _views(path: Path, found: dict[str, np.ndarray], count: int) -> tuple[str, ...]:
    """The names of the cameras' folders, none of which leads out of the track's."""
    order = found.get("camera_order")
    names = tuple(f"cam{index}" for index in range(count)) if order is None else tuple(str(name) for name in order.reshape(-1))
    if len(names) != count or any(not name or name in (".", "..") or set(name) & set("/\\:\0") for name in names):
        raise FormatError(f"`camera_order` of {path} must name {count} folders, got {str(names)[:80]}. Export the track again.")
    return names


def _portrait_camera(head: np.ndarray) -> Camera:
    """A camera before the head: at the origin where the head is far from it, as in the method's own files, else a metre away."""
    matrix = _FLIP.copy()
    matrix[2, 3] = 0.0 if head[2] < -0.5 else 1.1 + head[2]
    return Camera(np.array([[1024.0, 0, 256], [0, 1024, 256], [0, 0, 1]]), matrix, 512, 512)
