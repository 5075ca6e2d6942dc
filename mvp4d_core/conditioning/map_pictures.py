# SPDX-License-Identifier: Apache-2.0
"""Conditioning maps as a picture for people."""

import numpy as np
import torch

from ..errors import InputError
from .maps import MAP_COUNT, MAP_SLICES

BANDS = (0, 2, 4)  # of the positions, each a picture: the sines of x, y, z in red, green, blue
EXPRESSION_RANGE, MOTION_RANGE = 2.0, 3.0  # what is shown at full strength, in the maps' units
GAP = 2  # px
COLUMNS = (*(f"position x{2**band}" for band in BANDS), "expression", "rays", "masks", "motion 1", "motion 2", "motion 3")


def picture_maps(maps: torch.Tensor, *, zoom: int = 1) -> np.ndarray:
    """A sheet with one row a map: three bands of the positions, expression, rays, masks, and the motion of three frames.

    Args:
        maps: (..., 59, h, w).
        zoom: pixels a latent pixel.

    Returns:
        (H, W, 3) float32 in 0..1. Zero is mid-grey, x, y, z are red, green, blue; the masks are red (reference) and green (outcrop).
    """
    if maps.ndim < 3 or maps.shape[-3] != MAP_COUNT or zoom < 1:
        raise InputError(f"`maps` must be (..., {MAP_COUNT}, h, w) and `zoom` at least 1, got {tuple(maps.shape)} and {zoom}.")
    stack = maps.detach().float().cpu().reshape(-1, *maps.shape[-3:]).numpy().transpose(0, 2, 3, 1)
    positions, motion = stack[..., MAP_SLICES["positions"]], stack[..., MAP_SLICES["motion"]] / MOTION_RANGE
    masks = np.concatenate([stack[..., MAP_SLICES["reference_mask"]], stack[..., MAP_SLICES["outcrop"]]], axis=-1)
    signed = [positions[..., [band, 14 + band, 28 + band]] for band in BANDS]
    signed += [stack[..., MAP_SLICES["expression"]] / EXPRESSION_RANGE, stack[..., MAP_SLICES["rays"]]]
    tiles = [tile / 2 + 0.5 for tile in signed]
    tiles.append(np.concatenate([masks, np.zeros_like(masks[..., :1])], axis=-1))
    tiles += [motion[..., first : first + 3] / 2 + 0.5 for first in (0, 3, 6)]
    border = ((0, 0), (0, GAP), (0, GAP), (0, 0))
    tiles = [np.pad(tile.repeat(zoom, axis=1).repeat(zoom, axis=2), border, constant_values=1) for tile in tiles]
    sheet = np.concatenate(tiles, axis=2)
    return np.clip(sheet.reshape(-1, *sheet.shape[2:]), 0, 1).astype(np.float32)
