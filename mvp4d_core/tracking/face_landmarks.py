# SPDX-License-Identifier: Apache-2.0
"""Face points and slider curves that ComfyUI's own face landmarker found (its type FACE_LANDMARKS), in this suite's arrays.

What comes in is `{"frames": [[face, ...], ...], "image_size": (height, width)}`; a face has `landmarks_xy` (478, 2) in pixels of the
picture, `landmarks_3d` (478, 3) in units of the square it was looked at in, and `blendshapes`, MediaPipe's coefficients by name.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InputError
from ..rig import ARKIT_NAMES
from .landmark_sets import LANDMARKS

_WHERE = "Connect the output of MediaPipe Face Landmarker."


def points_of_frame(face_landmarks: Mapping[str, Any], height: int, width: int, frame: int = 0) -> np.ndarray:
    """(n, 478, 3) float64: the points of each face of a frame in pixels, as `FaceModels.landmarks` gives them, depth in the same unit.

    Args:
        height, width: of the picture that the points are meant for.

    Raises:
        InputError: not such a value, points of another picture, or a frame it does not have.
    """
    frames = _frames(face_landmarks)
    size = tuple(int(length) for length in face_landmarks.get("image_size", ()))
    if size != (height, width):
        raise InputError(
            f"The face landmarks are of a picture of (height, width) {size}, not {(height, width)}.\nFind them in this very picture."
        )
    if not 0 <= frame < len(frames):
        raise InputError(f"`frame` of the face landmarks must be from 0 to {len(frames) - 1}, got {frame}.")
    return np.array([_points(face) for face in frames[frame]], np.float64).reshape(-1, LANDMARKS, 3)


def sliders_of_frames(face_landmarks: Mapping[str, Any], face: int = 0) -> np.ndarray:
    """(T, 52) float32 in 0..1: the coefficients of one face in the order of `ARKIT_NAMES`; NaN in frames without it.

    MediaPipe knows no `tongueOut`; it is nought.

    Raises:
        InputError: not such a value.
    """
    frames = _frames(face_landmarks)
    curves = np.full((len(frames), len(ARKIT_NAMES)), np.nan, np.float32)
    for row, faces in zip(curves, frames, strict=True):
        if face < len(faces):
            given = faces[face].get("blendshapes")
            if not isinstance(given, Mapping):
                raise InputError(f"A face of the face landmarks has no `blendshapes`. {_WHERE}")
            row[:] = np.clip([float(given.get(name, 0.0)) for name in ARKIT_NAMES], 0, 1)
    return curves


def _frames(face_landmarks: Mapping[str, Any]) -> list:
    frames = face_landmarks.get("frames") if isinstance(face_landmarks, Mapping) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(faces, list) for faces in frames):
        raise InputError(f"Face landmarks must have `frames`, a list of faces for each picture. {_WHERE}")
    return frames


def _points(face: Mapping[str, Any]) -> np.ndarray:
    """(478, 3): pixels, and the depth of the square scaled as its other two directions were."""
    flat, solid = (np.asarray(face.get(name, ()), np.float64) for name in ("landmarks_xy", "landmarks_3d"))
    if flat.shape != (LANDMARKS, 2) or solid.shape != (LANDMARKS, 3) or not (np.isfinite(flat).all() and np.isfinite(solid).all()):
        raise InputError(
            f"Faces must have finite `landmarks_xy` ({LANDMARKS}, 2) and `landmarks_3d` ({LANDMARKS}, 3), got {flat.shape}, {solid.shape}."
        )
    scale = np.linalg.norm(flat - flat.mean(axis=0)) / max(float(np.linalg.norm(solid[:, :2] - solid[:, :2].mean(axis=0))), 1e-9)
    return np.concatenate([flat, scale * solid[:, 2:]], axis=1)
