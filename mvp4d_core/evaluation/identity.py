# SPDX-License-Identifier: Apache-2.0
"""CSIM: the cosine between two faces' embeddings, by an ArcFace network (Deng et al. 2019) that the user has as an ONNX file.

The file is one of InsightFace's recognition models, such as `w600k_r50.onnx` or `glintr100.onnx`: 112 x 112 RGB in -1..1 to one vector. The
face is laid on the template that those were trained with.
"""

import importlib.metadata
import importlib.util
import warnings
from pathlib import Path

import numpy as np

from ..errors import FormatError, MissingAssetError
from ..io.limits import GIB, Limits
from ..io.reading import open_input
from ..tracking import landmark_sets as sets
from .correspondence import sample_picture
from .weights import file_digest

SIDE = 112
# ArcFace's places, with pixel centres at +0.5, of the eye on the picture's left, the other, the nose, and the mouth's corners likewise
TEMPLATE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]) + 0.5
POINTS = (sets.RIGHT_IRIS[0], sets.LEFT_IRIS[0], 4, sets.OUTER_LIPS[0], sets.OUTER_LIPS[10])
_LIMITS = Limits(file_bytes=GIB)


def align_face(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The face of a picture (H, W, 3) uint8 with landmarks (478, 2 or 3) px, laid on the template: (112, 112, 3) float32 in 0..255.

    Turned, scaled and moved by the least-squares similarity, and sampled bilinearly, as those networks' own preparation does.
    """
    source, target = (pairs[:, 0] + 1j * pairs[:, 1] for pairs in (points[list(POINTS), :2], TEMPLATE))
    centred = source - source.mean()
    turn = np.vdot(centred, target - target.mean()) / np.vdot(centred, centred)
    row, column = np.mgrid[:SIDE, :SIDE] + 0.5
    places = (column + 1j * row - target.mean()) / turn + source.mean()
    sampled = sample_picture(picture.astype(np.float32), np.stack([places.real.ravel(), places.imag.ravel()], axis=1))
    return sampled.reshape(SIDE, SIDE, 3).astype(np.float32)


class FaceEmbedder:
    """The network of an ONNX file.

    Raises:
        MissingAssetError: onnxruntime is not installed.
        FormatError: not an ONNX network from (N, 3, 112, 112) to (N, D).
        InputError, StorageError: as `open_input`.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingAssetError("the package onnxruntime is not installed: pip install onnxruntime")
        with open_input(path, _LIMITS) as (stream, _):
            network = stream.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import onnxruntime  # pyright: ignore[reportMissingImports]

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            try:
                self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
                (entry,) = self._session.get_inputs()
                self._entry = entry.name
                size = self(np.zeros((SIDE, SIDE, 3), np.float32)).shape
            except Exception as error:  # of onnxruntime, which has its own for every kind of damage
                reason = " ".join(str(error).split())[:100] or type(error).__name__
                raise FormatError(f"{path} is no network of ArcFace's form ({reason}). Give InsightFace's recognition model.") from None
        if len(size) != 1 or size[0] < 2:
            raise FormatError(f"{path} must give one vector a face, got {size}. Give InsightFace's recognition model.")
        self.name = f"{path.name} {file_digest(path)}, onnxruntime {importlib.metadata.version('onnxruntime')}"

    def __call__(self, face: np.ndarray) -> np.ndarray:
        """The unit vector (D,) of an aligned face (112, 112, 3) in 0..255."""
        tensor = ((face - 127.5) / 127.5).astype(np.float32).transpose(2, 0, 1)[None]
        vector = np.asarray(self._session.run(None, {self._entry: tensor})[0], np.float64)[0]
        return vector / max(float(np.linalg.norm(vector)), 1e-12)
