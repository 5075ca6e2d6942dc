# SPDX-License-Identifier: Apache-2.0
"""Tracks: what the head does in a recording, made by a tracker beforehand and kept in one file a recording.

Tracks are in the recording's own world, in metres: root rotation and translation of the performance put the head where the calibrated
cameras see it. A recording of one uncalibrated camera has that camera's K in its track, and the world is the camera's own axes.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...cameras import Camera
from ...errors import FormatError, InputError
from ...io import safetensors_numpy
from ...io.schema import read_as
from ...rig import HeadModel, Performance, performance_from_tensors, performance_to_tensors, personalize
from ...rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_axis_angle

SCHEMA = "mvp4d-track/1"


@dataclass(frozen=True)
class Track:
    """T tracked frames of a recording.

    Attributes:
        performance: T frames.
        shape: (S,) float32.
        frames: (T,) int64, their numbers in the recording, rising.
        K: (3, 3) of the only camera, or None where the recording is calibrated.
    """

    performance: Performance
    shape: np.ndarray
    frames: np.ndarray
    K: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.frames.shape != (len(self.performance),) or (np.diff(self.frames) <= 0).any() or self.frames.min() < 0:
            raise InputError(f"A track must have a rising frame number for each of its {len(self.performance)} poses.")
        if self.shape.ndim != 1 or not np.isfinite(self.shape).all() or (self.K is not None and self.K.shape != (3, 3)):
            raise InputError("A track must have a finite shape (S,) and, where it has a K, one of (3, 3).")

    def piece(self, start: int, stop: int) -> "Track":
        """The poses from `start` to before `stop`."""
        return Track(self.performance.select(slice(start, stop)), self.shape, self.frames[start:stop], self.K)


def save_track(track: Track, path: str | Path) -> None:
    """Writes one safetensors file, atomically."""
    tensors, texts = performance_to_tensors(track.performance)
    tensors |= {"shape": track.shape.astype(np.float32), "frames": track.frames.astype(np.int64)}
    if track.K is not None:
        tensors["K"] = track.K
    safetensors_numpy.write(path, tensors, {"schema": SCHEMA, **texts})


def load_track(path: str | Path) -> Track:
    """Reads what `save_track` wrote; raises FormatError for anything else."""
    tensors, metadata = read_as(path, SCHEMA, "a track")
    try:
        return Track(performance_from_tensors(tensors, metadata), tensors["shape"], tensors["frames"], tensors.get("K"))
    except (KeyError, ValueError, TypeError, InputError, FormatError) as error:
        raise FormatError(f"{Path(path).name} is a damaged track: {error}") from None


def face_the_front(track: Track, cameras: tuple[Camera, ...], head_model: HeadModel) -> tuple[Performance, tuple[Camera, ...]]:
    """Performance and cameras in head space: the world in which the head of the middle frame is upright at the origin and looks along +z.

    The pictures stay the same: every posed point projects to the same pixels.
    """
    performance, middle = track.performance, len(track.performance) // 2
    rig = personalize(head_model, track.shape, np.zeros_like(head_model.v_template))
    # the root turns about its joint, which moves a little with the expression
    regressor = rig.J_regressor[0].astype(np.float64)
    joints = regressor @ rig.v_template + performance.expression @ np.einsum("v,vae->ea", regressor, rig.exprdirs)
    turns = axis_angle_to_matrix(performance.rotations[:, 0].astype(np.float64))
    turn = turns[middle]
    old_from_new = np.eye(4)
    old_from_new[:3, :3] = turn
    old_from_new[:3, 3] = joints[middle] + performance.translation[middle] - turn @ joints[middle]
    rotations = performance.rotations.copy()
    rotations[:, 0] = quaternion_to_axis_angle(matrix_to_quaternion(turn.T @ turns))
    translation = (joints + performance.translation - old_from_new[:3, 3]) @ turn - joints
    moved = tuple(Camera(c.K, c.camera_from_world @ old_from_new, c.width, c.height) for c in cameras)
    aligned = Performance(
        performance.expression, rotations, translation, performance.fps, performance.expression_names, performance.joint_names
    )
    return aligned, moved
