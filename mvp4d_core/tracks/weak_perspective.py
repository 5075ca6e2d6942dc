# SPDX-License-Identifier: Apache-2.0
"""What DECA, EMOCA and SMIRK share: a face in a square crop of 224 px, seen by a camera (s, tx, ty) without depth.

A point (x, y) in head axes lies at s (x + tx) and s (y + ty) in a square from -1 to 1 whose y points up.
"""

import numpy as np

from ..cameras import OPENGL_FROM_OPENCV, Camera

CROP = 224  # px
_DISTANCE = 10.0  # metres: so far away that 10 cm of depth change the size by 1 %


def far_camera(scale: float, x: float, y: float) -> Camera:
    """The pinhole camera, 10 m away, that sees the crop as the camera without depth does; exact in the plane z = 0."""
    focal = scale * _DISTANCE * CROP / 2
    matrix = np.eye(4)
    matrix[:3, :3] = OPENGL_FROM_OPENCV
    matrix[:3, 3] = x, -y, _DISTANCE
    return Camera(np.array([[focal, 0, CROP / 2], [0, focal, CROP / 2], [0, 0, 1]]), matrix, CROP, CROP)


def crop_cameras(cam: np.ndarray) -> tuple[Camera, ...]:
    """The cameras of (T, 3) rows of s, tx and ty."""
    return tuple(far_camera(*(float(value) for value in row)) for row in cam)
