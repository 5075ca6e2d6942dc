# SPDX-License-Identifier: Apache-2.0
"""Splats as exchange files store them: logarithms of scales, logits of opacities, and numbers in bytes."""

from typing import NamedTuple

import numpy as np

from ..errors import InputError

BANDS = (0, 3, 8, 15)  # coefficients beyond the first, by degree


class StoredSplats(NamedTuple):
    """N splats as files store them, all float32; K is 0, 3, 8 or 15 for spherical harmonics of degree 0 to 3."""

    means: np.ndarray  # (N, 3)
    quats: np.ndarray  # (N, 4) wxyz, not normalised
    log_scales: np.ndarray  # (N, 3)
    opacity_logits: np.ndarray  # (N,)
    sh0: np.ndarray  # (N, 3)
    shN: np.ndarray  # (N, K, 3)


def checked(splats: StoredSplats) -> StoredSplats:
    """The columns as float32; InputError that names the one of another shape or with a value that is not finite."""
    count = len(splats.means)
    bands = np.shape(splats.shN)[1] if np.ndim(splats.shN) == 3 else None
    shapes = [(count, 3), (count, 4), (count, 3), (count,), (count, 3), (count, bands, 3)]
    for name, array, shape in zip(splats._fields, splats, shapes, strict=True):
        if np.shape(array) != shape:
            raise InputError(f"`{name}` must be {shape} for {count} splats, got {np.shape(array)}.")
        if not np.isfinite(array).all():
            raise InputError(f"`{name}` must be finite, splat {first_bad(array)} is not. Remove such splats first.")
    if bands not in BANDS:
        raise InputError(f"`shN` must have 0, 3, 8 or 15 coefficients, got {bands}. Use spherical harmonics of degree 0 to 3.")
    return StoredSplats(*(np.asarray(array, np.float32) for array in splats))


def first_bad(array: np.ndarray) -> int:
    """Index of the first splat with a value that is not finite."""
    return int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Opacities in 0..1, without overflow."""
    return (0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def byte_logits(opacities: np.ndarray) -> np.ndarray:
    """Logits of opacities that are bytes; 0 and 255 stand for a quarter step inside, so that they stay finite and round to themselves."""
    part = np.clip(opacities.astype(np.float64), 0.25, 254.75) / 255
    return np.log(part / (1 - part)).astype(np.float32)


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Numbers in 0..255 as uint8, rounded; others become the nearest of these."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
