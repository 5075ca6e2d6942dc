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
    """The photo's head on white as a crop of its camera sees it: (H, W, 3) and the head matte (H, W), float32.

    Bilinear samples, at least one a photo pixel, averaged over each pixel of the crop. Outside the photo the matte is zero.
    """
    scale = reference.camera.K[0, 0] / camera.K[0, 0]  # photo pixels a crop pixel
    samples = max(1, int(np.ceil(scale)))
    shift = reference.camera.K[:2, 2] - camera.K[:2, 2] * scale
    offsets = (np.arange(camera.width * samples) + 0.5) / samples
    column, row = offsets * scale + shift[0] - 0.5, offsets[: camera.height * samples] * scale + shift[1] - 0.5
    layers = np.concatenate([reference.image, reference.head_matte[..., None]], axis=-1).astype(np.float32)
    padded = np.pad(layers, ((1, 1), (1, 1), (0, 0)))
    padded[..., :3][padded[..., 3] == 0] = 1
    tensor = torch.as_tensor(padded).permute(2, 0, 1)[None]
    height, width = padded.shape[:2]
    grid_x = torch.as_tensor((column + 1.5) / width * 2 - 1, dtype=torch.float32)
    grid_y = torch.as_tensor((row + 1.5) / height * 2 - 1, dtype=torch.float32)
    grid = torch.stack([grid_x[None, :].expand(len(row), -1), grid_y[:, None].expand(-1, len(column))], dim=-1)[None]
    sampled = torch.nn.functional.grid_sample(tensor, grid, mode="bilinear", padding_mode="border", align_corners=False)
    pooled = torch.nn.functional.avg_pool2d(sampled, samples)[0].permute(1, 2, 0).numpy()
    matte = np.clip(pooled[..., 3], 0, 1)
    return pooled[..., :3] * matte[..., None] + 1 - matte[..., None], matte
