# SPDX-License-Identifier: Apache-2.0
"""Random numbers that a name and a seed decide, and smooth noise in space and time."""

import hashlib

import numpy as np
from scipy import ndimage

from .kernels import lattice_noise


def named_rng(*names: object) -> np.random.Generator:
    """A generator of its own for each list of names and numbers, the same on every machine."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def noise(points: np.ndarray, cell: float | tuple[float, float, float], seed: int) -> np.ndarray:
    """(M,) float32 in -1..1 at points (M, 3) metres: smooth between lattice points `cell` metres apart."""
    out = np.zeros(len(points), np.float32)
    frequencies = 1.0 / np.broadcast_to(np.asarray(cell, np.float64), 3)
    lattice_noise(np.ascontiguousarray(points, np.float32), np.ascontiguousarray(frequencies), int(seed) & 0xFFFFFFFF, out)
    return out


def cloud(points: np.ndarray, cell: float, seed: int, octaves: int = 3) -> np.ndarray:
    """(M,) noise of several octaves, each half as large and half as strong as the one before, about -1..1."""
    total = sum(0.5**k * noise(points, cell * 0.5**k, seed + 7919 * k) for k in range(octaves))
    return np.asarray(total, np.float32) / np.float32(2 - 0.5 ** (octaves - 1)) * np.float32(1.5)


def wander(rng: np.random.Generator, frames: int, fps: float, seconds: float, columns: int) -> np.ndarray:
    """(frames, columns) smooth noise in time of unit variance, changing over about `seconds`."""
    width = max(seconds * fps / 2.5, 0.3)
    pad = int(4 * width) + 1
    white = rng.normal(size=(frames + 2 * pad, columns))
    smooth = ndimage.gaussian_filter1d(white, width, axis=0, mode="wrap")
    return smooth[pad : pad + frames] * np.sqrt(2 * np.sqrt(np.pi) * width)


def smoothstep(value: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    part = np.clip((value - low) / (np.asarray(high) - low), 0, 1)
    return part * part * (3 - 2 * part)
