# SPDX-License-Identifier: Apache-2.0
"""Finding every face of a photo, at any size and in any quarter turn, and its 478 points as exactly as the models give them."""

from dataclasses import dataclass

import numpy as np

from .crops import crop_square
from .face_models import SAME_FACE, FaceModels, overlap
from .landmark_sets import FACE_OVAL, LEFT_IRIS, RIGHT_IRIS

_CROP_SIDE = 512
_CROP_SCALES = (1.5, 1.75, 2.0)  # the points are averaged over crops of these sizes, in units of the face
_FINEST_TILE = 256
_TURNS = (0, 2, 1, 3)
_SURE, _DOUBTFUL = 0.01, 0.04  # how far crops of one face may disagree, in face widths: surely upright, possibly a face


@dataclass(frozen=True)
class Face:
    """`points` (478, 3) pixels and relative depth; `box` (4,) x0, y0, x1, y1 around the face oval; `spread` in face widths tells how far
    the points from different crops lie apart, which is small for an upright face alone.
    """

    points: np.ndarray
    box: np.ndarray
    spread: float

    @property
    def size(self) -> float:
        """Pixels between the sides of the face; a face in profile counts as wide as its height tells."""
        return float(max(self.box[2] - self.box[0], 0.75 * (self.box[3] - self.box[1])))

    @property
    def roll(self) -> float:
        """Radians, positive where the head leans clockwise in the picture."""
        across = self.points[LEFT_IRIS[0], :2] - self.points[RIGHT_IRIS[0], :2]
        return float(np.arctan2(across[1], across[0]))


def find_faces(models: FaceModels, picture: np.ndarray) -> tuple[list[Face], int]:
    """All faces of a picture (H, W, 3) uint8, largest first, and by how many quarter turns counter-clockwise (`np.rot90`) the picture
    had to be turned for its largest face to stand upright; the faces are in the turned picture.
    """
    best: tuple[list[Face], int] = ([], 0)
    for turns in _TURNS:
        faces = _upright_search(models, np.ascontiguousarray(np.rot90(picture, turns)))
        lean = round(faces[0].roll / (np.pi / 2)) % 4 if faces else 0
        if lean:
            turns = (turns + lean) % 4
            faces = _upright_search(models, np.ascontiguousarray(np.rot90(picture, turns))) or faces
        if faces and faces[0].spread < _SURE:
            return faces, turns
        if faces and (not best[0] or faces[0].spread < best[0][0].spread):
            best = faces, turns
    return best


def _upright_search(models: FaceModels, picture: np.ndarray) -> list[Face]:
    """The whole picture, then tiles of a half, and finer ones for as long as there is no face."""
    faces: list[Face] = []
    side = max(picture.shape[:2])
    boxes = models.boxes(picture)
    level = 1
    while True:
        faces = _add_new(models, picture, boxes, faces)
        tile = side // 2**level
        if tile < _FINEST_TILE or (level > 1 and faces):
            return sorted(faces, key=lambda face: -face.size)
        boxes = _tiled_boxes(models, picture, tile)
        level += 1


def _tiled_boxes(models: FaceModels, picture: np.ndarray, tile: int) -> np.ndarray:
    height, width = picture.shape[:2]
    found = []
    for y in _tile_starts(height, tile):
        for x in _tile_starts(width, tile):
            piece = np.ascontiguousarray(picture[y : y + tile, x : x + tile])
            found.append(models.boxes(piece) + np.array([x, y, x, y]))
    return np.concatenate(found)


def _tile_starts(length: int, tile: int) -> list[int]:
    """Starts of tiles that overlap by a half and end at the border."""
    if length <= tile:
        return [0]
    count = int(np.ceil((length - tile) / (tile / 2))) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def _add_new(models: FaceModels, picture: np.ndarray, boxes: np.ndarray, faces: list[Face]) -> list[Face]:
    """`faces` and those of `boxes` that the face mesh confirms and that are not among them."""
    faces = list(faces)
    for box in boxes:
        if any(overlap(box, face.box) > SAME_FACE for face in faces):
            continue
        face = measure_face(models, picture, box)
        if face is not None and not any(overlap(face.box, other.box) > SAME_FACE for other in faces):
            faces.append(face)
    return faces


def measure_face(models: FaceModels, picture: np.ndarray, box: np.ndarray) -> Face | None:
    """The points of the face in `box` (4,) x0, y0, x1, y1, averaged over crops of several sizes around it; None where they disagree."""
    rough = _mesh_in_crop(models, picture, box, _CROP_SCALES[1])
    if rough is None:
        return None
    box = oval_box(rough)
    found = (_mesh_in_crop(models, picture, box, scale) for scale in _CROP_SCALES)
    tries = [points for points in found if points is not None]
    if len(tries) < len(_CROP_SCALES):
        return None
    mean = np.mean(tries, axis=0)
    box = oval_box(mean)
    spread = float(np.linalg.norm((tries - mean)[..., :2], axis=-1).mean() / max(box[2] - box[0], 1e-6))
    return Face(mean, box, spread) if spread < _DOUBTFUL else None


def _mesh_in_crop(models: FaceModels, picture: np.ndarray, box: np.ndarray, scale: float) -> np.ndarray | None:
    """The points nearest the middle of a square crop of `scale` times the box."""
    centre, side = (box[:2] + box[2:]) / 2, scale * float(max(box[2:] - box[:2]))
    crop = crop_square(picture, centre, side, _CROP_SIDE)
    found = models.landmarks(crop)
    if not len(found):
        return None
    middles = found[:, :, :2].mean(axis=1)
    distance = np.linalg.norm(middles - _CROP_SIDE / 2, axis=1)
    best = int(np.argmin(distance))
    if distance[best] > 0.3 * _CROP_SIDE:
        return None
    points = found[best] * (side / _CROP_SIDE)
    points[:, :2] += centre - side / 2
    return points


def oval_box(points: np.ndarray) -> np.ndarray:
    """(4,) x0, y0, x1, y1 around the face oval of points (478, 2 or 3)."""
    oval = points[list(FACE_OVAL), :2]
    return np.concatenate([oval.min(axis=0), oval.max(axis=0)])
