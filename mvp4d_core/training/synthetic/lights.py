# SPDX-License-Identifier: Apache-2.0
"""Random lights that stand still in the world, and random backgrounds."""

from dataclasses import dataclass

import numpy as np

from .noise import cloud


@dataclass(frozen=True)
class Lights:
    """`sky` and `ground` (3,) linear radiance from above and below; `directions` (L, 3) unit, towards the lights, the key light first;
    `colors` (L, 3) linear radiance."""

    sky: np.ndarray
    ground: np.ndarray
    directions: np.ndarray
    colors: np.ndarray

    def packed(self) -> np.ndarray:
        """(2 + L, 6) float64 as the shading kernel takes them."""
        table = np.zeros((2 + len(self.directions), 6))
        table[0, :3], table[1, :3] = self.sky, self.ground
        table[2:, :3], table[2:, 3:] = self.directions, self.colors
        return table


def random_lights(rng: np.random.Generator, skin: np.ndarray) -> Lights:
    """One to three lights, from a soft studio to hard coloured sides, exposed for `skin` (3,) as a photographer would, more or less."""
    count = rng.choice([1, 2, 3], p=[0.25, 0.4, 0.35])
    softness = rng.uniform(0.2, 0.85)  # share of the light that comes from everywhere
    azimuth = np.concatenate([rng.normal(0, 0.8, 1), rng.uniform(-np.pi, np.pi, count - 1)])
    height = np.concatenate([rng.uniform(-0.1, 1.1, 1), rng.uniform(-0.3, 0.9, count - 1)])
    directions = np.stack([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)], axis=1)
    strength = np.concatenate([[1.0], rng.uniform(0.15, 0.9, count - 1)])
    tints = _tint(rng, count, vivid=rng.choice([0.4, 1.0, 2.6], p=[0.5, 0.35, 0.15]))
    around = _tint(rng, 2, vivid=0.5)
    exposure = rng.uniform(0.75, 1.25) * (0.60 / skin.mean()) ** 0.75
    key = exposure * (1 - softness) * 1.3
    return Lights(
        sky=exposure * softness * 1.15 * around[0],
        ground=exposure * softness * rng.uniform(0.35, 0.9) * around[1],
        directions=directions,
        colors=key * strength[:, None] * tints,
    )


def _tint(rng: np.random.Generator, count: int, vivid: float) -> np.ndarray:
    """(count, 3) colours of unit mean between candle and sky, now and then green or magenta."""
    warmth, green = rng.normal(0.05, 0.13, count) * vivid, rng.normal(0, 0.05, count) * vivid
    colors = np.exp(np.stack([warmth, green, -warmth], axis=1))
    return colors / colors.mean(axis=1, keepdims=True)


def random_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) float32 in 0..1: a plain wall, a gradient, or blurred blotches."""
    row, column = (np.mgrid[:size, :size] + 0.5) / size
    first, second = rng.uniform(0.03, 0.97, (2, 3))
    kind = rng.integers(3)
    if kind == 0:
        part = np.full((size, size), 0.5)
    else:
        angle = rng.uniform(0, 2 * np.pi)
        part = 0.5 + (column - 0.5) * np.cos(angle) + (row - 0.5) * np.sin(angle)
    if kind == 2:
        points = np.stack([column, row, np.zeros_like(row)], axis=-1).reshape(-1, 3)
        part = part + 0.6 * cloud(points, rng.uniform(0.1, 0.5), int(rng.integers(2**31)), 3).reshape(size, size)
    return np.clip(first + (second - first) * np.clip(part, 0, 1)[..., None], 0, 1).astype(np.float32)
