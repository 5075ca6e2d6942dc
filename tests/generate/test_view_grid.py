# SPDX-License-Identifier: Apache-2.0
"""All views of a multi-view video in one picture a frame."""

import numpy as np
import pytest

from mvp4d_core.generate.multiview import view_grid


@pytest.mark.parametrize(("views", "columns", "rows_and_columns"), [(5, 0, (2, 3)), (5, 2, (3, 2)), (4, 9, (1, 4)), (1, 0, (1, 1))])
def test_each_view_is_in_its_cell(views, columns, rows_and_columns):
    frames = np.random.default_rng(0).integers(0, 255, (views, 3, 4, 5, 3), dtype=np.uint8)
    grid = view_grid(frames, columns)
    rows, across = rows_and_columns
    assert grid.shape == (3, rows * 4, across * 5, 3)
    for cell in range(rows * across):
        row, column = divmod(cell, across)
        shown = grid[:, row * 4 : row * 4 + 4, column * 5 : column * 5 + 5]
        assert np.array_equal(shown, frames[cell]) if cell < views else (shown == 255).all()


def test_empty_cells_are_clear():
    alphas = np.full((3, 2, 4, 4), 200, np.uint8)
    grid = view_grid(alphas, 2)
    assert (grid[:, 4:, 4:] == 0).all() and (grid[:, :4] == 200).all()
