# SPDX-License-Identifier: Apache-2.0
"""What the tracker sees in pictures: landmarks, expressions and identities of faces, and how far those of two pictures lie apart.

`akd` is the mean distance of the 478 landmarks between two pictures, in px and in percent of the distance between the eyes as it would be
from the front. `expression_distance` is the Euclidean distance of the expression weights that `tracking.fit` finds on the avatar's rig;
gaze and tongue, which the fit leaves at rest, don't count. `csim` is the cosine of the faces' embeddings.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..cameras import Camera, project
from ..errors import MissingAssetError
from ..progress import Progress, silent, steps
from ..rig import HeadModel, Performance, skin
from ..tracking import landmark_sets as sets
from ..tracking.detect import measure_face, oval_box
from ..tracking.face_models import FaceModels
from ..tracking.fit import face_scale, fit_head
from .identity import align_face

FACING = 50.0  # degrees between the line of sight and where the face looks, beyond which the tracker is not asked
_FOREHEAD, _CHIN = 10, 152
_UNFITTED = ("eyeLook", "tongueOut")
FIGURES = ("akd_px", "akd_percent", "expression_distance", "csim")

Cell = tuple[int, int]  # a view and a frame
Embedder = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SeenFace:
    """`points` (478, 3) px and relative depth, `expression` (E,), and `embedding` (D,) or None."""

    points: np.ndarray
    expression: np.ndarray
    embedding: np.ndarray | None


class FaceTracker:
    """MediaPipe's models as this suite tracks with them, and the embedding of identities where there is one.

    Raises:
        MissingAssetError: torch is not installed.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        FaceModels()  # raises
        self._embedder = embedder
        self.name = "mediapipe 0.10.21's networks, in torch"

    def look(
        self, pictures: np.ndarray, rig: HeadModel, shown: dict[Cell, np.ndarray], stage: str = "faces", progress: Progress = silent
    ) -> dict[Cell, SeenFace]:
        """The faces found in the `shown` of pictures (V, F, H, W, 3) uint8, with expressions of `rig`."""
        found = {}
        with FaceModels() as models:
            for (view, frame), expected in steps(shown.items(), stage, len(shown), progress):
                picture = np.ascontiguousarray(pictures[view, frame])
                face = measure_face(models, picture, oval_box(expected))
                if face is not None:
                    fit = fit_head(rig, face.points, picture.shape[1], picture.shape[0])
                    embedding = self._embedder(align_face(picture, face.points)) if self._embedder else None
                    found[view, frame] = SeenFace(face.points, fit.parameters.expression, embedding)
        return found


def shown_faces(rig: HeadModel, performance: Performance, cameras: Sequence[Camera]) -> dict[Cell, np.ndarray]:
    """Where a rig's face looks at the camera with its oval inside the picture, and its landmarks (478, 2) px there.

    Raises:
        MissingAssetError: the rig has no landmarks of the tracker's kind.
    """
    if len(rig.landmark_faces) != sets.LANDMARKS:
        raise MissingAssetError(f"the head `{rig.name}` has {len(rig.landmark_faces)} landmarks, not the tracker's {sets.LANDMARKS}")
    shown = {}
    for frame in range(len(performance)):
        points = _landmarks(rig, performance, frame)
        across, up = points[sets.LEFT_IRIS[0]] - points[sets.RIGHT_IRIS[0]], points[_FOREHEAD] - points[_CHIN]
        ahead = np.cross(across, up)
        for view, camera in enumerate(cameras):
            sight = camera.position - points.mean(axis=0)
            cosine = ahead @ sight / (np.linalg.norm(ahead) * np.linalg.norm(sight))
            pixels, _ = project(points, camera)
            box = oval_box(pixels)
            inside = (box[:2] >= 0).all() and box[2] <= camera.width and box[3] <= camera.height
            if inside and cosine > np.cos(np.radians(FACING)):
                shown[view, frame] = pixels
    return shown


def known_landmarks(rig: HeadModel, performance: Performance, cameras: Sequence[Camera], cells: Iterable[Cell]) -> dict[Cell, np.ndarray]:
    """The landmarks (L, 2) px that a person of a known head has in some pictures."""
    return {(view, frame): project(_landmarks(rig, performance, frame), cameras[view])[0] for view, frame in cells}


def _landmarks(rig: HeadModel, performance: Performance, frame: int) -> np.ndarray:
    """(L, 3) metres."""
    parameters = performance[frame]
    return rig.landmarks(skin(rig, None, parameters.expression, parameters.rotations, parameters.translation))


def compare_faces(made: dict[Cell, SeenFace], truth: dict[Cell, SeenFace], shape: tuple[int, int], rig: HeadModel) -> dict[str, np.ndarray]:
    """`FIGURES`, each (V, F), NaN where one of the two faces was not found; `csim` all NaN without embeddings."""
    figures = {name: np.full(shape, np.nan) for name in FIGURES}
    fitted = fitted_expressions(rig)
    for cell in made.keys() & truth.keys():
        a, b = made[cell], truth[cell]
        pixels = float(np.linalg.norm(a.points[:, :2] - b.points[:, :2], axis=1).mean())
        figures["akd_px"][cell] = pixels
        figures["akd_percent"][cell] = 100 * pixels / max(face_scale(b.points), 1e-6)
        figures["expression_distance"][cell] = np.linalg.norm((a.expression - b.expression)[fitted])
        if a.embedding is not None and b.embedding is not None:
            figures["csim"][cell] = a.embedding @ b.embedding
    return figures


def tracker_error(seen: dict[Cell, SeenFace], known: dict[Cell, np.ndarray], rig: HeadModel, performance: Performance) -> dict[str, float]:
    """What the tracker says of pictures whose landmarks `known` (478, 2) px and expressions are known: the means of the distances to those.

    Empty where it found no face.
    """
    fitted = fitted_expressions(rig)
    rows = []
    for cell, face in seen.items():
        pixels = float(np.linalg.norm(face.points[:, :2] - known[cell], axis=1).mean())
        expression = float(np.linalg.norm((face.expression - performance[cell[1]].expression)[fitted]))
        rows.append((pixels, 100 * pixels / max(face_scale(face.points), 1e-6), expression))
    return dict(zip(FIGURES, map(float, np.mean(rows, axis=0)), strict=False)) if rows else {}


def fitted_expressions(rig: HeadModel) -> np.ndarray:
    """(E,) bool: the expressions that a fit can find."""
    return np.array([not name.startswith(_UNFITTED) for name in rig.expression_names], bool)
