# SPDX-License-Identifier: Apache-2.0
"""Kernels that blend splats into tiles, and their exact backward.

A splat adds `w = alpha T` of its colour, `alpha = min(0.99, opacity exp(-sigma))`, `sigma = (A dx^2 + C dy^2)/2 + B dx dy`, and leaves
`T (1 - alpha)` for those behind. alpha below 1/255 counts as 0; a splat that would bring T to 1e-4 or less is left out and ends the pixel.

A tile is 16 blocks of 4 x 4 px, one block a vector loop of 16 lanes; only the blocks inside a splat's bounding box run. All state of a
tile lies in one array, state[block, field, lane]: with several, LLVM has to assume that they overlap and does not vectorise. Field 0 is T,
made negative when the pixel has ended.
"""

import math

import numpy as np
from numba import float32 as F

from .jit import inlined, kernel
from .kernels_project import MIN_ALPHA, TILE, USED_FIELDS

MAX_ALPHA = F(0.99)
MIN_TRANSMITTANCE = F(1e-4)
EXPONENT_LIMIT = F(6)
SIDE = 4  # of a block
BLOCKS = TILE // SIDE
LANES = SIDE * SIDE
BATCH = 32  # splats fetched together; between batches a tile is checked for being finished


@inlined
def _exp_negative(s):
    """exp(-s) for s in 0..6 within 1e-6: a polynomial of degree 7 in 3/8 - s/8, squared three times. Vectorises, unlike a call."""
    u = F(0.375) - s * F(0.125)
    tail = F(0.041666668) + u * (F(0.008333334) + u * (F(0.0013888889) + u * F(0.0001984127)))
    p = F(1) + u * (F(1) + u * (F(0.5) + u * (F(0.16666667) + u * tail)))
    p *= F(0.68728928)  # exp(-3/8)
    p *= p
    p *= p
    return p * p


@inlined
def _block_range(center, half):
    """First and one past the last block, along one axis, with a pixel centre within `half` of `center` (px from the first pixel centre)."""
    first = int(max(F(0), math.ceil(center - half)))
    last = int(min(F(TILE - 1), math.floor(center + half)))
    return first // SIDE, (last + SIDE) // SIDE


@inlined
def _fetch(records, tile_items, start, stop, left, top, batch):
    """Copies the records of a piece of a list side by side, centres relative to the tile's first pixel centre.

    The loads do not wait for one another, so their cache misses overlap.
    """
    for k in range(stop - start):
        item = tile_items[start + k]
        for field in range(USED_FIELDS):
            batch[k, field] = records[item, field]
        batch[k, 0] -= F(left) + F(0.5)
        batch[k, 1] -= F(top) + F(0.5)


@inlined
def _unfinished(state):
    for block in range(BLOCKS * BLOCKS):
        alive = 0
        for lane in range(LANES):
            alive += state[block, 0, lane] > F(0)
        if alive > 0:
            return True
    return False


@inlined
def _blend_splat(state, splat, channels):
    """Adds one splat to all blocks of the tile that it may touch."""
    x, y = splat[0], splat[1]
    x_first, x_end = _block_range(x, splat[2])
    y_first, y_end = _block_range(y, splat[3])
    half_a, b, half_c, opacity = splat[4], splat[5], splat[6], splat[7]
    red, green, blue, extra = splat[8], splat[9], splat[10], splat[11]
    for block_y in range(y_first, y_end):
        for block_x in range(x_first, x_end):
            block = block_y * BLOCKS + block_x
            block_dx, block_dy = x - F(SIDE * block_x), y - F(SIDE * block_y)
            for lane in range(LANES):
                dx, dy = block_dx - F(lane & 3), block_dy - F(lane >> 2)
                sigma = min(EXPONENT_LIMIT, max(F(0), (half_a * dx + b * dy) * dx + half_c * dy * dy))
                alpha = min(MAX_ALPHA, opacity * _exp_negative(sigma))
                alpha = alpha if alpha >= MIN_ALPHA else F(0)
                before = state[block, 0, lane]
                weight = alpha * before
                after = before - weight
                ends = after <= MIN_TRANSMITTANCE
                weight = F(0) if ends else weight
                state[block, 0, lane] = -abs(before) if ends else after
                state[block, 1, lane] += weight * red
                state[block, 2, lane] += weight * green
                state[block, 3, lane] += weight * blue
                if len(channels) == 4:
                    state[block, 4, lane] += weight * extra


@kernel
def blend_tiles(first, last, offsets, tile_items, records, backgrounds, width, height, channels, images, transmittances):
    """Renders tiles [first, last), numbered view after view, row after row.

    offsets (tiles + 1,) cuts tile_items (M,) into lists. `channels` is a tuple of 3 or 4 zeros: its length, known when compiling, is the
    number of colour channels. Writes images (C, H, W, D) and transmittances (C, H, W).
    """
    columns = (width + TILE - 1) // TILE
    tiles_per_view = columns * ((height + TILE - 1) // TILE)
    state = np.zeros((BLOCKS * BLOCKS, 1 + len(channels), LANES), np.float32)
    batch = np.zeros((BATCH, USED_FIELDS), np.float32)
    for tile in range(first, last):
        view, index = tile // tiles_per_view, tile % tiles_per_view
        left, top = index % columns * TILE, index // columns * TILE
        state[:] = F(0)
        state[:, 0, :] = F(1)
        start, end = offsets[tile], offsets[tile + 1]
        while start < end and _unfinished(state):
            stop = min(start + BATCH, end)
            _fetch(records, tile_items, start, stop, left, top, batch)
            for k in range(stop - start):
                _blend_splat(state, batch[k], channels)
            start = stop
        for row in range(min(TILE, height - top)):
            for column in range(min(TILE, width - left)):
                block, lane = row // SIDE * BLOCKS + column // SIDE, row % SIDE * SIDE + column % SIDE
                remaining = abs(state[block, 0, lane])
                transmittances[view, top + row, left + column] = remaining
                for k in range(len(channels)):
                    images[view, top + row, left + column, k] = state[block, 1 + k, lane] + remaining * backgrounds[view, k]


@inlined
def _blend_splat_backward(state, splat, channels, absolute, sums):
    """Walks one splat through the tile again; sums (6 + D, lanes): gradient moments g dx, g dy, g dx^2, g dx dy, g dy^2, g, then colour.

    With `absolute` two more: the absolute values of the pixels' gradients of the splat's position, in x and in y.

    `g` is d loss / d log alpha = w (c.v) - rest alpha / (1 - alpha), where v is the gradient of the pixel and `rest` is what the splats
    behind and the background still contribute to the loss. So nothing is divided by T.
    """
    x, y = splat[0], splat[1]
    x_first, x_end = _block_range(x, splat[2])
    y_first, y_end = _block_range(y, splat[3])
    half_a, b, half_c, opacity = splat[4], splat[5], splat[6], splat[7]
    red, green, blue, extra = splat[8], splat[9], splat[10], splat[11]
    for block_y in range(y_first, y_end):
        for block_x in range(x_first, x_end):
            block = block_y * BLOCKS + block_x
            block_dx, block_dy = x - F(SIDE * block_x), y - F(SIDE * block_y)
            for lane in range(LANES):
                dx, dy = block_dx - F(lane & 3), block_dy - F(lane >> 2)
                sigma = min(EXPONENT_LIMIT, max(F(0), (half_a * dx + b * dy) * dx + half_c * dy * dy))
                uncapped = opacity * _exp_negative(sigma)
                alpha = min(MAX_ALPHA, uncapped)
                alpha = alpha if alpha >= MIN_ALPHA else F(0)
                before = state[block, 0, lane]
                weight = alpha * before
                after = before - weight
                ends = after <= MIN_TRANSMITTANCE
                weight = F(0) if ends else weight
                state[block, 0, lane] = -abs(before) if ends else after
                v_red, v_green, v_blue = state[block, 2, lane], state[block, 3, lane], state[block, 4, lane]
                toward = red * v_red + green * v_green + blue * v_blue
                sums[6, lane] += weight * v_red
                sums[7, lane] += weight * v_green
                sums[8, lane] += weight * v_blue
                if len(channels) == 4:
                    v_extra = state[block, 5, lane]
                    toward += extra * v_extra
                    sums[9, lane] += weight * v_extra
                toward *= weight
                rest = state[block, 1, lane] - toward
                state[block, 1, lane] = rest
                g = toward - rest * alpha / (F(1) - alpha)
                g = F(0) if ends or uncapped > MAX_ALPHA else g
                gx, gy = g * dx, g * dy
                sums[0, lane] += gx
                sums[1, lane] += gy
                sums[2, lane] += gx * dx
                sums[3, lane] += gx * dy
                sums[4, lane] += gy * dy
                sums[5, lane] += g
                if len(absolute) == 2:
                    sums[6 + len(channels), lane] += abs(F(2) * half_a * gx + b * gy)
                    sums[7 + len(channels), lane] += abs(b * gx + F(2) * half_c * gy)


@inlined
def _store_row(sums, splat, row):
    """Adds up the lanes and turns moments into gradients: pixel position (2), conic (3), opacity; the others stay as they are."""
    for k in range(sums.shape[0]):
        total = F(0)
        for lane in range(LANES):
            total += sums[k, lane]
        row[k] = total
    gx, gy = row[0], row[1]
    row[0] = -(F(2) * splat[4] * gx + splat[5] * gy)
    row[1] = -(splat[5] * gx + F(2) * splat[6] * gy)
    row[2] *= F(-0.5)
    row[3] = -row[3]
    row[4] *= F(-0.5)
    row[5] /= splat[7]


@kernel
def blend_tiles_backward(
    first, last, offsets, tile_items, records, width, height, channels, absolute, images, transmittances, image_gradients, alpha_gradients,
    rows,
):  # fmt: skip
    """Gradients of tiles [first, last): one row (6 + D) for each list entry; rows (M, 6 + D) comes in zeroed.

    `absolute` is a tuple of two zeros, which adds two columns (see `_blend_splat_backward`), or an empty one. Walks front to back like the
    forward. State: T, rest, pixel gradients.
    """
    columns = (width + TILE - 1) // TILE
    tiles_per_view = columns * ((height + TILE - 1) // TILE)
    state = np.zeros((BLOCKS * BLOCKS, 2 + len(channels), LANES), np.float32)
    batch = np.zeros((BATCH, USED_FIELDS), np.float32)
    sums = np.zeros((6 + len(channels) + len(absolute), LANES), np.float32)
    for tile in range(first, last):
        start, end = offsets[tile], offsets[tile + 1]
        if start == end:
            continue
        view, index = tile // tiles_per_view, tile % tiles_per_view
        left, top = index % columns * TILE, index // columns * TILE
        state[:] = F(0)
        state[:, 0, :] = F(-1)  # stays so in lanes outside the image
        for row in range(min(TILE, height - top)):
            for column in range(min(TILE, width - left)):
                block, lane = row // SIDE * BLOCKS + column // SIDE, row % SIDE * SIDE + column % SIDE
                rest = -alpha_gradients[view, top + row, left + column] * transmittances[view, top + row, left + column]
                for k in range(len(channels)):
                    gradient = image_gradients[view, top + row, left + column, k]
                    state[block, 2 + k, lane] = gradient
                    rest += gradient * images[view, top + row, left + column, k]
                state[block, 0, lane] = F(1)
                state[block, 1, lane] = rest
        while start < end and _unfinished(state):
            stop = min(start + BATCH, end)
            _fetch(records, tile_items, start, stop, left, top, batch)
            for k in range(stop - start):
                sums[:] = F(0)
                _blend_splat_backward(state, batch[k], channels, absolute, sums)
                _store_row(sums, batch[k], rows[start + k])
            start = stop
