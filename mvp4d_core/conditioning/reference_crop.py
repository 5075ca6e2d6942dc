# SPDX-License-Identifier: Apache-2.0
"""The photo as the crop of a head: which camera sees it, and what that camera sees."""

import numpy as np
import torch

from ..cameras import Camera
from ..rig import HeadModel, skin
from ..tracking.reference import Reference
from .view_plan import frame_camera


def reference_camera(reference: Reference, rig: HeadModel, size: int) -> Camera:
    """The photo's own camera, cropped to a square of `size` pixels around the head."""
    p = reference.parameters
    return frame_camera(reference.camera, skin(rig, None, p.expression, p.rotations, p.translation), size)


def resample_photo(reference: Reference, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The photo's head on white as a crop of its camera sees it: (H, W, 3) and the head matte (H, W), float32; zero outside the photo."""
    colors = np.where(reference.head_matte[..., None] > 0, reference.image, 1)
    sampled = _resample(np.concatenate([colors, reference.head_matte[..., None]], axis=-1), reference.camera, camera)
    matte = np.clip(sampled[..., 3], 0, 1)
    return sampled[..., :3] * matte[..., None] + 1 - matte[..., None], matte


def judged_pixels(reference: Reference, camera: Camera) -> np.ndarray:
    """(H, W) bool: where the photo says what an avatar should look like: on the head and on the background, not where clothes hide the neck
    and not outside the photo."""
    clothes = np.clip(reference.matte - reference.head_matte, 0, 1)
    sampled = _resample(np.stack([clothes, np.ones_like(clothes)], axis=-1), reference.camera, camera)
    return (sampled[..., 0] < 0.05) & (sampled[..., 1] > 0.95)


def _resample(layers: np.ndarray, source: Camera, camera: Camera) -> np.ndarray:
    """Layers (H, W, D) of a picture as a crop of its camera sees them, zero outside.

    Bilinear samples, at least one a source pixel, averaged over each pixel of the crop.
    """
    scale = source.K[0, 0] / camera.K[0, 0]  # source pixels a crop pixel
    samples = max(1, int(np.ceil(scale)))
    shift = source.K[:2, 2] - camera.K[:2, 2] * scale
    offsets = (np.arange(max(camera.width, camera.height) * samples) + 0.5) / samples
    column, row = offsets[: camera.width * samples] * scale + shift[0], offsets[: camera.height * samples] * scale + shift[1]
    height, width = layers.shape[:2]
    grid_x = torch.as_tensor(column / width * 2 - 1, dtype=torch.float32)
    grid_y = torch.as_tensor(row / height * 2 - 1, dtype=torch.float32)
    grid = torch.stack([grid_x[None, :].expand(len(row), -1), grid_y[:, None].expand(-1, len(column))], dim=-1)[None]
    tensor = torch.as_tensor(layers.astype(np.float32)).permute(2, 0, 1)[None]
    sampled = torch.nn.functional.grid_sample(tensor, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return torch.nn.functional.avg_pool2d(sampled, samples)[0].permute(1, 2, 0).numpy()
