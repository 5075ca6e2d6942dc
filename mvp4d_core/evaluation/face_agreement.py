# SPDX-License-Identifier: Apache-2.0
"""How far the face networks in torch lie from MediaPipe's own package, and how fast they are."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..tracking.face_models import FaceModels
from .mediapipe_oracle import MediaPipe

SIDE = 256  # px: the picture's larger side in which distances are told


@dataclass(frozen=True)
class FaceAgreement:
    """Differences from MediaPipe over several pictures.

    Attributes:
        faces: that both found.
        strays: that only one of them found.
        landmark_error_px: the largest distance of any point, in px of a picture of 256 px.
        box_error_px: the same of a box's sides.
        matte_error: the largest mean difference of any picture's matte, in 0..1.
    """

    faces: int
    strays: int
    landmark_error_px: float
    box_error_px: float
    matte_error: float


def compare_with_mediapipe(pictures: Iterable[np.ndarray]) -> FaceAgreement:
    """The agreement on pictures (H, W, 3) uint8.

    Raises:
        MissingAssetError: mediapipe is not installed.
    """
    faces, strays, points_off, boxes_off, mattes_off = 0, 0, [0.0], [0.0], [0.0]
    with FaceModels() as ours, MediaPipe() as theirs:
        for picture in pictures:
            unit = SIDE / max(picture.shape[:2])
            points, known = ours.landmarks(picture), theirs.landmarks(picture)
            boxes, known_boxes = ours.boxes(picture), theirs.boxes(picture)
            mattes_off.append(float(np.abs(ours.matte(picture) - theirs.matte(picture)).mean()))
            strays += abs(len(points) - len(known)) + abs(len(boxes) - len(known_boxes))
            if len(points) == len(known) and len(points):
                faces += len(points)
                points_off.append(unit * float(np.linalg.norm((points - known)[..., :2], axis=-1).max()))
            if len(boxes) == len(known_boxes) and len(boxes):
                boxes_off.append(unit * float(np.abs(boxes - known_boxes).max()))
    return FaceAgreement(faces, strays, max(points_off), max(boxes_off), max(mattes_off))


def faces_per_second(picture: np.ndarray, rounds: int = 30) -> float:
    """Pictures (H, W, 3) uint8 of one face that are looked at in a second of the clock: detector, crop and 478 points each time.

    Raises:
        InputError: no face in the picture.
    """
    with FaceModels() as models:
        if not len(models.landmarks(picture)):
            raise InputError(f"The speed of the face networks is measured on a face; the picture of {picture.shape[:2]} px has none.")
        start = time.perf_counter()
        for _ in range(rounds):
            models.landmarks(picture)
        return rounds / (time.perf_counter() - start)
