# SPDX-License-Identifier: Apache-2.0
"""Faces, their 478 points and the person's matte, found by MediaPipe's networks in torch (`face_networks`).

Everything around the networks follows MediaPipe 0.10.21's graphs, so that the results are those of its package: how pictures are cut out
and sampled, how boxes are decoded and merged, when a face is one, and which network says where a point lies.

Pictures go in as (H, W, 3) uint8 RGB, points come back in pixels of that picture (pixel centres at +0.5).
"""

import importlib.util
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MissingAssetError
from .landmark_sets import LANDMARKS, LEFT_EYE, LEFT_IRIS, REFINED_LEFT_EYE, REFINED_LIPS, REFINED_RIGHT_EYE, RIGHT_EYE, RIGHT_IRIS

if TYPE_CHECKING:
    from .face_networks import Network

_NETWORKS = ("short_range", "full_range", "mesh", "matte")  # the first looks at faces within two metres, the second within five
_LEAST_PRESENCE = 0.5
SAME_FACE = 0.3  # intersection over union of boxes from which they are one face's
_SAME_SQUARE = 0.5  # the same for the squares that the mesh looks at
_MARGIN = 1.5  # of those squares, in units of the face's box
_MAX_FACES = 16
_STEPS = 32  # pictures are sampled at these fractions of a pixel, as OpenCV does


@dataclass(frozen=True)
class Detector:
    """`strides` of its grids in its pixels, how many candidates a cell of each has, and the score from which one counts."""

    strides: tuple[int, ...]
    per_cell: int
    least_score: float


DETECTORS = {"short_range": Detector((8, 16, 16, 16), 2, 0.5), "full_range": Detector((4,), 1, 0.6)}


@dataclass(frozen=True)
class Candidate:
    """A face that a detector found: `box` (4,) x0, y0, x1, y1 and `eyes` (2, 2), the picture's left one first, in pixels."""

    box: np.ndarray
    eyes: np.ndarray
    score: float


@dataclass(frozen=True)
class Square:
    """A turned square of a picture: `centre` (2,) and `side` in pixels, `angle` in radians, positive clockwise."""

    centre: np.ndarray
    side: float
    angle: float = 0.0

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) in units of the square, 0..1 from its own upper left corner, as pixels of the picture."""
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return (points - 0.5) @ np.array([[cosine, sine], [-sine, cosine]]) * self.side + self.centre


class FaceModels:
    """The networks, loaded for as long as the `with` block lasts.

    Raises:
        MissingAssetError: torch is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("torch") is None:
            raise MissingAssetError("Tracking a portrait needs torch, which is not installed: run `pip install 'mvp4d[track]'`.")
        self._networks: dict[str, Network] = {}

    def __enter__(self) -> "FaceModels":
        from .face_networks import load_network

        self._networks = {name: load_network(name) for name in _NETWORKS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._networks = {}

    def boxes(self, picture: np.ndarray) -> np.ndarray:
        """(n, 4) x0, y0, x1, y1 of what may be faces."""
        found = [candidate.box for detector in DETECTORS for candidate in self._detect(detector, picture)]
        return np.array(found, np.float64).reshape(-1, 4)

    def landmarks(self, picture: np.ndarray) -> np.ndarray:
        """(n, 478, 3): the face points of each face; the third is depth in the same unit, smaller is nearer, relative to the face."""
        squares: list[Square] = []
        for candidate in self._detect("short_range", picture)[:_MAX_FACES]:
            square = _square_around(candidate.box, candidate.eyes)
            squares = [*(other for other in squares if overlap(_upright(square), _upright(other)) <= _SAME_SQUARE), square]
        found = [points for square in squares if (points := self._mesh(picture, square)) is not None]
        return np.array(found, np.float64).reshape(-1, LANDMARKS, 3)

    def follow(self, picture: np.ndarray, points: np.ndarray) -> np.ndarray | None:
        """(478, 3): the points of the face whose points (478, 2 or 3) were those in the picture before, or nearly; None where it is gone.

        No detector is asked, which makes it several times as fast as `landmarks`.
        """
        flat = points[:, :2].astype(np.float64)
        box = np.concatenate([flat.min(axis=0), flat.max(axis=0)])
        return self._mesh(picture, _square_around(box, flat[[RIGHT_EYE[0], LEFT_EYE[0]]]))

    def matte(self, picture: np.ndarray) -> np.ndarray:
        """(256, 256) float32 in 0..1: how much of each cell of the picture is a person."""
        from PIL import Image

        network = self._networks["matte"]
        height, width = network.size
        small = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
        (mask,) = network.run(small[None].astype(np.float32) / np.float32(255))
        return np.clip(mask[0, ..., 0], 0, 1)

    def _detect(self, name: str, picture: np.ndarray) -> list[Candidate]:
        """Faces by falling score."""
        network = self._networks[name]
        square = Square(np.array(picture.shape[1::-1]) / 2, float(max(picture.shape[:2])))
        pixels = sample_square(picture, square, network.size[0], edges=False).astype(np.float32)
        boxes, scores = network.run(pixels[None] * np.float32(2 / 255) - np.float32(1))
        found = decode_candidates(boxes[0], scores[0, :, 0], network.size[0], DETECTORS[name])
        return [_placed(candidate, square) for candidate in merge_candidates(found)]

    def _mesh(self, picture: np.ndarray, square: Square) -> np.ndarray | None:
        """(478, 3) the points of the face in a square; None where there is none."""
        network = self._networks["mesh"]
        size = network.size[0]
        pixels = sample_square(picture, square, size, edges=True).astype(np.float32) / np.float32(255)
        *parts, presence = network.run(pixels[None])
        if _sigmoid(presence.ravel())[0] <= _LEAST_PRESENCE:
            return None
        points = assemble_points([part.ravel() for part in parts]).astype(np.float64) / size
        points[:, 2] *= square.side
        points[:, :2] = square.to_picture(points[:, :2])
        return points


def sample_square(picture: np.ndarray, square: Square, size: int, *, edges: bool) -> np.ndarray:
    """(size, size, 3) uint8: the square of a picture (H, W, 3) uint8; beyond the border `edges` continue, or else it is black.

    As OpenCV's warpPerspective in MediaPipe's hands: corner to corner, a pixel's number standing for its place, between four pixels by two
    linear steps of 1/32, without antialiasing.
    """
    corners = square.to_picture(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    along, down = (corners[1] - corners[0]) / size, (corners[2] - corners[0]) / size
    rows, columns = np.arange(size)[:, None], np.arange(size)
    x, y = (np.rint(_STEPS * (corners[0][i] + along[i] * columns + down[i] * rows)).astype(np.int32) for i in (0, 1))
    height, width = picture.shape[:2]
    flat = np.ascontiguousarray(picture).reshape(-1, 3)
    across, downwards = _taps(x, width, edges), _taps(y, height, edges)
    total = sum(flat.take(row * width + column, axis=0) * (v * h)[..., None] for column, h in across for row, v in downwards)
    return ((np.asarray(total) + _STEPS**2 // 2) // _STEPS**2).astype(np.uint8)


def _taps(places: np.ndarray, length: int, edges: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two pixels of an axis of `length` between which `places` (in steps) lie, and their weights in steps."""
    first, share = places // _STEPS, places % _STEPS
    taps = [(first, _STEPS - share), (first + 1, share)]
    if not edges:
        taps = [(pixel, weight * ((pixel >= 0) & (pixel < length))) for pixel, weight in taps]
    return [(np.clip(pixel, 0, length - 1), weight) for pixel, weight in taps]


def decode_candidates(boxes: np.ndarray, scores: np.ndarray, size: int, detector: Detector) -> list[Candidate]:
    """What a detector's outputs (A, 16) and (A,) say, in units of its picture: centre and size of a box, then points from the eyes on, each
    in pixels from the middle of a cell. Cells of equal strides follow each other cell by cell.
    """
    grids = []
    for stride in sorted(set(detector.strides)):
        count = detector.per_cell * detector.strides.count(stride)
        y, x = np.mgrid[: size // stride, : size // stride] + 0.5
        grids.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2) * (stride / size), count, axis=0))
    anchors = np.concatenate(grids)
    sure = _sigmoid(np.clip(scores, -100, 100))
    found = []
    for index in np.flatnonzero(sure >= detector.least_score):
        centre, extent, *points = (boxes[index].astype(np.float64) / size).reshape(-1, 2)
        if (extent < 0).any():
            continue
        box = np.concatenate([centre - extent / 2, centre + extent / 2]) + np.tile(anchors[index], 2)
        found.append(Candidate(box, np.array(points[:2]) + anchors[index], float(sure[index])))
    return found


def merge_candidates(candidates: list[Candidate]) -> list[Candidate]:
    """One candidate for each face, by falling score: those that overlap the best one, averaged by their scores."""
    left = sorted(candidates, key=lambda candidate: -candidate.score)
    merged = []
    while left:
        best = left[0]
        group = [other for other in left if overlap(other.box, best.box) > SAME_FACE]
        if not group:
            return [*merged, best]
        weights = np.array([other.score for other in group]) / sum(other.score for other in group)
        box = np.tensordot(weights, np.stack([other.box for other in group]), 1)
        eyes = np.tensordot(weights, np.stack([other.eyes for other in group]), 1)
        merged.append(Candidate(box, eyes, best.score))
        left = [other for other in left if overlap(other.box, best.box) <= SAME_FACE]
    return merged


def assemble_points(parts: list[np.ndarray]) -> np.ndarray:
    """(478, 3) from the mesh's outputs: 468 points, then lips, eyes and irises, whose places in the picture are better and whose depth is
    that of the mesh, for an iris the mean of its eye's lids. "left" is the subject's left; the network has the right side first.
    """
    mesh, *refined = parts
    points = np.zeros((LANDMARKS, 3), np.float32)
    points[: mesh.size // 3] = mesh.reshape(-1, 3)
    numbers = (REFINED_LIPS, REFINED_RIGHT_EYE, REFINED_LEFT_EYE, RIGHT_IRIS, LEFT_IRIS)
    for own, flat in zip(numbers, refined, strict=True):
        points[list(own), :2] = flat.reshape(-1, 2)
    for iris, lids in ((RIGHT_IRIS, RIGHT_EYE), (LEFT_IRIS, LEFT_EYE)):
        points[list(iris), 2] = points[list(lids), 2].mean(dtype=np.float64)
    return points


def _square_around(box: np.ndarray, eyes: np.ndarray) -> Square:
    """Where the mesh looks: around the box, level with the eyes (2, 2)."""
    across = eyes[1] - eyes[0]
    side = _MARGIN * float(max(box[2:] - box[:2]))
    return Square((box[:2] + box[2:]) / 2, side, float(np.arctan2(across[1], across[0])))


def _placed(candidate: Candidate, square: Square) -> Candidate:
    """A candidate in units of an upright square as one in pixels."""
    return Candidate(square.to_picture(candidate.box.reshape(2, 2)).ravel(), square.to_picture(candidate.eyes), candidate.score)


def _upright(square: Square) -> np.ndarray:
    """(4,) the square's box, had it not been turned."""
    return np.concatenate([square.centre - square.side / 2, square.centre + square.side / 2])


def overlap(box: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of boxes (4,) x0, y0, x1, y1."""
    shared = float(np.prod(np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None)))
    union = float(np.prod(box[2:] - box[:2]) + np.prod(other[2:] - other[:2])) - shared
    return shared / union if union > 0 else 0.0


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values.astype(np.float64)))
