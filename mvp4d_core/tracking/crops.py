# SPDX-License-Identifier: Apache-2.0
"""Cutting squares out of pictures and putting what was found in them back."""

import numpy as np
from PIL import Image


def crop_square(picture: np.ndarray, centre: np.ndarray, side: float, size: int) -> np.ndarray:
    """The square of `side` pixels around `centre` (x, y) as `size` x `size` pixels, antialiased; edge pixels continue beyond the border.

    `picture` is (H, W, 3) uint8 or (H, W) float32; the result has the same kind.
    """
    box = np.array([centre[0] - side / 2, centre[1] - side / 2, centre[0] + side / 2, centre[1] + side / 2])
    height, width = picture.shape[:2]
    low = np.floor(box[:2]).astype(int) - 1
    high = np.ceil(box[2:]).astype(int) + 1
    rows = np.clip(np.arange(low[1], high[1]), 0, height - 1)
    columns = np.clip(np.arange(low[0], high[0]), 0, width - 1)
    piece = np.ascontiguousarray(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    piece = piece[(rows - rows[0])[:, None], columns - columns[0]]
    x0, y0, x1, y1 = (float(v) for v in box - np.tile(low, 2))
    return _resize(piece, size, size, (x0, y0, x1, y1))


def spread_square(patch: np.ndarray, centre: np.ndarray, side: float, shape: tuple[int, int]) -> tuple[slice, slice, np.ndarray]:
    """The inverse of `crop_square` for a `patch` (n, n) float32: the rows and columns of a picture of `shape` (H, W) that it covers
    whole pixels of, and its values there.
    """
    x0, y0 = centre[0] - side / 2, centre[1] - side / 2
    rows = slice(max(0, int(np.ceil(y0))), min(shape[0], int(np.floor(y0 + side))))
    columns = slice(max(0, int(np.ceil(x0))), min(shape[1], int(np.floor(x0 + side))))
    if rows.stop <= rows.start or columns.stop <= columns.start:
        return slice(0, 0), slice(0, 0), np.zeros((0, 0), np.float32)
    scale = patch.shape[0] / side
    box = ((columns.start - x0) * scale, (rows.start - y0) * scale, (columns.stop - x0) * scale, (rows.stop - y0) * scale)
    left, top, right, bottom = (float(np.clip(v, 0, patch.shape[0])) for v in box)
    return rows, columns, _resize(patch, columns.stop - columns.start, rows.stop - rows.start, (left, top, right, bottom))


def _resize(picture: np.ndarray, width: int, height: int, box: tuple[float, float, float, float]) -> np.ndarray:
    """Antialiased where it shrinks, bilinear where it grows; `box` (x0, y0, x1, y1) is the part of the picture that is taken."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, box=box))
