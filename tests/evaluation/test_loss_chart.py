# SPDX-License-Identifier: Apache-2.0
"""The picture of a falling loss."""

import numpy as np
import pytest

from mvp4d_core.evaluation.loss_chart import _COLOURS, HEIGHT, WIDTH, draw_losses


def rows_of(picture: np.ndarray, colour: tuple[int, int, int], column: int) -> np.ndarray:
    """The rows of a column in which a colour is seen."""
    return np.flatnonzero(np.abs(picture[:, column] * 255 - np.array(colour)).max(axis=1) < 12)


def test_curves_fall_where_values_fall():
    steps = np.arange(1, 301)
    picture = draw_losses(steps, {"l1": 0.5 * np.exp(-steps / 60), "alpha": np.full(300, 0.02), "dust": np.full(300, 1e-9)})
    assert picture.shape == (HEIGHT, WIDTH, 3) and picture.dtype == np.float32 and picture.min() >= 0 and picture.max() <= 1
    early, late = (rows_of(picture, _COLOURS[0], column).mean() for column in (150, 350))
    assert late > early + 40, "down is less"
    level = [rows_of(picture, _COLOURS[1], column).mean() for column in (150, 350)]
    assert abs(level[1] - level[0]) <= 2
    assert not (np.abs(picture * 255 - np.array(_COLOURS[2])).max(axis=2) < 12).any(), "what is nearly nothing has no curve"


@pytest.mark.parametrize(
    ("done", "terms"),
    [([1], {"l1": [0.3]}), ([7], {"l1": [0.0]}), ([1, 2], {"a": [1e9, 1e-9]}), (range(150, 160), {"a": [0.1] * 10}), ([1], {}), ([], {})],
)
def test_short_and_strange_fits_have_a_picture_too(done, terms):
    assert np.isfinite(draw_losses(done, terms)).all()
