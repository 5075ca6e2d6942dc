# SPDX-License-Identifier: Apache-2.0
"""Tables of named arrays, as trackers leave them, one for all frames or one for each: read frame by frame and checked."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import FormatError

Arrays = dict[str, np.ndarray]


def rows(tables: list[Arrays], name: str, shape: tuple[int | None, ...], path: Path) -> np.ndarray:
    """The array `name` of all tables with a row for each frame: float32 (T, *shape), finite.

    A table may hold one frame or many, with axes of length one before them or not; None in `shape` is any length.

    Raises:
        FormatError: it is missing, of another shape, or not finite.
    """
    parts = []
    for table in tables:
        if name not in table:
            raise FormatError(f"{path} lacks `{name}`. Export the track again.")
        array = table[name]
        tail = array.shape[array.ndim - len(shape) :] if array.ndim >= len(shape) else ()
        if len(tail) != len(shape) or not all(want in (None, got) for want, got in zip(shape, tail, strict=True)):
            raise FormatError(f"`{name}` of {path} must end in the axes {_shown(shape)}, got {array.shape}. Export the track again.")
        with np.errstate(over="ignore", invalid="ignore"):
            parts.append(array.reshape(-1, *tail).astype(np.float32))
    if len({part.shape[1:] for part in parts}) > 1:
        raise FormatError(f"`{name}` of {path} changes its shape from frame to frame. Keep the files of one track in a folder.")
    result = np.concatenate(parts)
    if not len(result) or not np.isfinite(result).all():
        raise FormatError(f"`{name}` of {path} must hold finite numbers and a frame, got {result.shape}. Export the track again.")
    return result


def fitted(values: np.ndarray, count: int) -> np.ndarray:
    """The last axis cut or filled with zeros to `count`, float32."""
    result = np.zeros((*values.shape[:-1], count), np.float32)
    kept = min(count, values.shape[-1])
    result[..., :kept] = values[..., :kept]
    return result


def same_frames(path: Path, arrays: Mapping[str, np.ndarray]) -> int:
    """How many rows all arrays have; FormatError where they differ."""
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise FormatError(f"{path} has not as many frames in each array: {listed}. Export the track again.")
    return next(iter(counts.values()))


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if side is None else str(side) for side in shape) + ")"
