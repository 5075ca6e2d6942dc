# SPDX-License-Identifier: Apache-2.0
"""RE@LG: whether pictures of one moment from several cameras show one solid thing, without any truth.

DISK (Tyszkiewicz et al. 2020, weights "depth", 2048 features) and LightGlue (Lindenberger et al. 2023) match points between neighbouring
cameras; each match is triangulated with the known cameras, and its mean distance to its two points, in percent of the picture's longer
side, is averaged over matches and pairs. Pairs come from the bipartite matching of least total distance between cameras; a pair with fewer
than five matches doesn't count. The networks are kornia's; the weights are the user's.
"""

import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from ..cameras import Camera, project
from ..errors import FormatError, MissingAssetError
from .weights import file_digest, read_weights, renamed

FEATURES, LEAST_MATCHES = 2048, 5

# matched places (n, 2) and (n, 2), pixel centres at +0.5, of two pictures (H, W, 3) uint8
Matcher = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def camera_pairs(cameras: Sequence[Camera]) -> list[tuple[int, int]]:
    """Each camera with a near one, such that the distances add up to the least, every camera once on either side; no pair twice."""
    if len(cameras) < 2:
        return []
    positions = np.stack([camera.position for camera in cameras])
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    np.fill_diagonal(distances, 1e6)  # none with itself; finite, as the solver wants
    return sorted({(min(i, j), max(i, j)) for i, j in zip(*map(np.ndarray.tolist, linear_sum_assignment(distances)), strict=True)})


def triangulate(first: np.ndarray, second: np.ndarray, cameras: tuple[Camera, Camera]) -> np.ndarray:
    """World points (n, 3) seen at pixels (n, 2) of two cameras: the direct linear transform, each equation in focal lengths' units."""
    rows = []
    for places, camera in zip((first, second), cameras, strict=True):
        focal = camera.K[0, 0]
        matrix = np.diag([1 / focal, 1 / focal, 1]) @ camera.K @ camera.camera_from_world[:3]
        rows += [places[:, i, None] / focal * matrix[2] - matrix[i] for i in (0, 1)]
    homogeneous = np.linalg.svd(np.stack(rows, axis=1))[2][:, -1]
    depth = np.where(np.abs(homogeneous[:, 3]) > 1e-12, homogeneous[:, 3], 1e-12)
    return homogeneous[:, :3] / depth[:, None]


def reprojection_error(first: np.ndarray, second: np.ndarray, cameras: tuple[Camera, Camera]) -> float:
    """Mean distance of the triangulated points from the matched ones over both pictures, in percent of the longer side."""
    points = triangulate(first, second, cameras)
    distances = [
        np.linalg.norm(project(points, camera)[0] - places, axis=1) for places, camera in zip((first, second), cameras, strict=True)
    ]
    return 100 * float(np.mean(distances)) / max(cameras[0].width, cameras[0].height)


def consistency(pictures: np.ndarray, cameras: Sequence[Camera], matcher: Matcher) -> np.ndarray:
    """RE@LG of V pictures (V, H, W, 3) uint8 of one moment, pair by pair of `camera_pairs`; NaN where too few matches are found."""
    errors = []
    for i, j in camera_pairs(cameras):
        first, second = matcher(pictures[i], pictures[j])
        errors.append(reprojection_error(first, second, (cameras[i], cameras[j])) if len(first) >= LEAST_MATCHES else np.nan)
    return np.array(errors)


class DiskLightGlue:
    """The matcher by name, with weights from files: `depth-save.pth` of DISK and `disk_lightglue.pth` of LightGlue, or safetensors of them.

    Raises:
        MissingAssetError: kornia is not installed.
        FormatError: damaged files, or a tensor that is missing or of another shape.
        InputError, StorageError: as `read_weights`.
    """

    def __init__(self, paths: Iterable[str | Path], device: torch.device | str = "cpu") -> None:
        paths = [Path(path) for path in paths]
        if importlib.util.find_spec("kornia") is None:
            raise MissingAssetError("the package kornia is not installed: pip install kornia")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from kornia.feature import DISK, LightGlue  # pyright: ignore[reportMissingImports]

            # without a name of features it downloads nothing
            self._disk, self._glue = DISK(), LightGlue(None, input_dim=128)  # pyright: ignore[reportArgumentType]
        tensors = read_weights(paths)
        names = ", ".join(path.name for path in paths)
        _fill(self._disk, renamed(tensors, r"^unet\.", "unet."), "DISK", names)
        _fill(self._glue, _glue_names(tensors), "LightGlue", names)
        self._device = torch.device(device)
        self._disk.to(self._device).eval()
        self._glue.to(self._device).eval()
        files = ", ".join(f"{path.name} {file_digest(path)}" for path in paths)
        self.name = f"DISK and LightGlue of kornia {importlib.metadata.version('kornia')} ({files})"

    def __call__(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Matched places of two pictures (H, W, 3) uint8."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            described = [self._describe(picture) for picture in (first, second)]
            found = self._glue(dict(zip(("image0", "image1"), described, strict=True)))["matches"][0].cpu().numpy()
        places = [features["keypoints"][0].cpu().numpy().astype(np.float64) + 0.5 for features in described]
        return places[0][found[:, 0]], places[1][found[:, 1]]

    def _describe(self, picture: np.ndarray) -> dict[str, torch.Tensor]:
        image = torch.as_tensor(picture, device=self._device).permute(2, 0, 1)[None].float() / 255
        (features,) = self._disk(image, n=FEATURES, pad_if_not_divisible=True)
        size = torch.tensor([[picture.shape[1], picture.shape[0]]], device=self._device)
        return {"keypoints": features.keypoints[None], "descriptors": features.descriptors[None], "image_size": size}


def _glue_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """LightGlue's tensors as kornia names them; the published file counts its attention layers otherwise."""
    published = renamed(tensors, r"^(?:matcher\.)?(self_attn|cross_attn)\.(\d+)\.", r"transformers.\2.\1.")
    kept = renamed(tensors, r"^(?:matcher\.)?(input_proj|posenc|transformers|log_assignment|token_confidence)\.", r"\1.")
    return {**kept, **published}


def _fill(network: torch.nn.Module, tensors: dict[str, torch.Tensor], title: str, names: str) -> None:
    """Gives a network all its parameters."""
    for name, parameter in network.named_parameters():
        found = tensors.get(name)
        if found is None or found.shape != parameter.shape:
            got = "none" if found is None else tuple(found.shape)
            raise FormatError(f"{title} wants the tensor `{name}` of {tuple(parameter.shape)}, got {got} in {names}. Give both files.")
        parameter.data.copy_(found)
