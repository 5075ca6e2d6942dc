# SPDX-License-Identifier: Apache-2.0
"""MediaPipe itself, to judge `tracking.face_models` by; the only file that imports mediapipe, which tracking does without.

Pictures go in as (H, W, 3) uint8 RGB, points come back in pixels of that picture (pixel centres at +0.5).
"""

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from types import TracebackType

import numpy as np

from ..errors import MissingAssetError
from ..tracking.landmark_sets import LANDMARKS

_MATTE_SIDE = 256  # what the matte model works at; larger pictures only cost time
_MAX_FACES = 16


class MediaPipe:
    """Its models with the methods of `FaceModels`, open for as long as the `with` block lasts.

    Raises:
        MissingAssetError: mediapipe is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("mediapipe") is None:
            raise MissingAssetError("Judging the face networks needs mediapipe, which is not installed: run `pip install 'mvp4d[dev]'`.")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "MediaPipe":
        with _quiet():
            from mediapipe.python.solutions import face_detection, face_mesh, selfie_segmentation

            enter = self._stack.enter_context
            # 0 looks at faces within two metres, 1 within five
            self._detectors = [enter(face_detection.FaceDetection(min_detection_confidence=0.5, model_selection=k)) for k in (0, 1)]
            self._mesh = enter(
                face_mesh.FaceMesh(static_image_mode=True, max_num_faces=_MAX_FACES, refine_landmarks=True, min_detection_confidence=0.5)
            )
            self._matte = enter(selfie_segmentation.SelfieSegmentation(model_selection=0))
            self._warm_up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with _quiet():
            self._stack.close()

    def _warm_up(self) -> None:
        """A first run of each model, for it is then that they log from threads of their own."""
        blank = np.zeros((_MATTE_SIDE, _MATTE_SIDE, 3), np.uint8)
        for model in (*self._detectors, self._mesh, self._matte):
            model.process(blank)

    def boxes(self, picture: np.ndarray) -> np.ndarray:
        """(n, 4) x0, y0, x1, y1 of what may be faces."""
        height, width = picture.shape[:2]
        found = []
        with _quiet():
            for detector in self._detectors:
                for detection in detector.process(picture).detections or ():  # pyright: ignore[reportAttributeAccessIssue]
                    box = detection.location_data.relative_bounding_box
                    found.append([box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height])
        return np.array(found, np.float64).reshape(-1, 4) * [width, height, width, height]

    def landmarks(self, picture: np.ndarray) -> np.ndarray:
        """(n, 478, 3): the face points of each face; the third is depth in the same unit, smaller is nearer, relative to the face."""
        height, width = picture.shape[:2]
        with _quiet():
            faces = self._mesh.process(picture).multi_face_landmarks or ()  # pyright: ignore[reportAttributeAccessIssue]
        points = [[(p.x, p.y, p.z) for p in face.landmark] for face in faces]
        return np.array(points, np.float64).reshape(-1, LANDMARKS, 3) * [width, height, width]

    def matte(self, picture: np.ndarray) -> np.ndarray:
        """(256, 256) float32 in 0..1: how much of each cell of the picture is a person."""
        from PIL import Image

        small = Image.fromarray(picture).resize((_MATTE_SIDE, _MATTE_SIDE), Image.Resampling.BOX)
        with _quiet():
            mask = self._matte.process(np.asarray(small)).segmentation_mask  # pyright: ignore[reportAttributeAccessIssue]
        return np.clip(np.asarray(mask, np.float32), 0, 1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps mediapipe's C++ logging off the terminal, and its Python warnings out of the caller's."""
    os.environ.setdefault("GLOG_minloglevel", "2")
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        try:
            kept = os.dup(2)
        except OSError:  # no stderr, as under pythonw: nothing to silence
            yield
            return
        stack.callback(os.close, kept)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
