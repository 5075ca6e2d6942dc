# SPDX-License-Identifier: Apache-2.0
"""Kernels that list, for each tile of 16 x 16 px, the splats that touch it from near to far.

Splats are sorted by depth once a view, then dealt to the tiles in that order, so no tile sorts anything. Dealing runs on fixed chunks of
the sorted order: each chunk counts, the counts become positions, each chunk writes. The lists do not depend on who does which chunk.
"""

import numpy as np

from .jit import kernel
from .kernels_project import MASK_TILES

CHUNK = 4096
RADIX_BITS = 11


@kernel
def sort_by_depth(first, last, depth_bits, tile_counts, order, visible):
    """Stable radix sort of each view in [first, last).

    depth_bits (C, N): float32 depths read as uint32, which sort alike because drawn depths are positive. tile_counts (C, N).
    order (C, N): splat ids of the view, near to far, culled ones left out; visible (C,): how many there are.
    """
    buckets = 1 << RADIX_BITS
    splats = depth_bits.shape[1]
    spare = np.zeros(splats, np.int32)
    counts = np.zeros((3, buckets), np.int64)
    for v in range(first, last):
        counts[:] = 0
        count = 0
        for i in range(splats):
            if tile_counts[v, i] > 0:
                order[v, count] = i
                count += 1
                bits = depth_bits[v, i]
                for digit in range(3):
                    counts[digit, (bits >> (RADIX_BITS * digit)) & (buckets - 1)] += 1
        visible[v] = count
        for digit in range(3):
            position = 0
            for bucket in range(buckets):
                position, counts[digit, bucket] = position + counts[digit, bucket], position
        for digit in range(3):
            source = order[v] if digit % 2 == 0 else spare
            target = spare if digit % 2 == 0 else order[v]
            for k in range(count):
                i = source[k]
                bucket = (depth_bits[v, i] >> (RADIX_BITS * digit)) & (buckets - 1)
                target[counts[digit, bucket]] = i
                counts[digit, bucket] += 1
        order[v, :count] = spare[:count]  # three passes end in the spare array


@kernel
def count_tiles(first, last, order, visible, tile_boxes, tile_masks, tile_counts, columns, counts):
    """counts (C, chunks, tiles): how many splats of each chunk touch each tile. Work items are view * chunks + chunk."""
    chunks = counts.shape[1]
    splats = order.shape[1]
    for work in range(first, last):
        v, chunk = work // chunks, work % chunks
        for k in range(chunk * CHUNK, min(visible[v], (chunk + 1) * CHUNK)):
            item = v * splats + order[v, k]
            first_column, last_column, first_row, last_row = tile_boxes[item]
            full = (last_column - first_column + 1) * (last_row - first_row + 1) > MASK_TILES
            mask = tile_masks[item]
            for row in range(first_row, last_row + 1):
                for column in range(first_column, last_column + 1):
                    if full or mask & np.uint64(1):
                        counts[v, chunk, row * columns + column] += 1
                    mask >>= np.uint64(1)


@kernel
def fill_tiles(first, last, order, visible, tile_boxes, tile_masks, tile_counts, columns, cursors, first_slots, tile_items, slots):
    """Writes the lists. Work items as in `count_tiles`.

    cursors (C, chunks, tiles): where each chunk starts in each list; used up. tile_items (M,): the items, list after list.
    slots (M,): where each item stands in tile_items, from first_slots[item] on, so that its gradients can be found again.
    """
    chunks = cursors.shape[1]
    splats = order.shape[1]
    for work in range(first, last):
        v, chunk = work // chunks, work % chunks
        for k in range(chunk * CHUNK, min(visible[v], (chunk + 1) * CHUNK)):
            item = v * splats + order[v, k]
            first_column, last_column, first_row, last_row = tile_boxes[item]
            full = (last_column - first_column + 1) * (last_row - first_row + 1) > MASK_TILES
            mask = tile_masks[item]
            found = first_slots[item]
            for row in range(first_row, last_row + 1):
                for column in range(first_column, last_column + 1):
                    if full or mask & np.uint64(1):
                        slot = cursors[v, chunk, row * columns + column]
                        cursors[v, chunk, row * columns + column] = slot + 1
                        tile_items[slot] = item
                        slots[found] = slot
                        found += 1
                    mask >>= np.uint64(1)


@kernel
def sum_rows(first, last, rows, slots, first_slots, tile_counts, fields, sums):
    """sums (C*N, G): the sum of each item's gradient rows (M, G), in the order of its tiles. `fields` is a tuple of G zeros."""
    for item in range(first, last):
        start = first_slots[item]
        for k in range(start, start + tile_counts[item]):
            slot = slots[k]
            for field in range(len(fields)):
                sums[item, field] += rows[slot, field]
