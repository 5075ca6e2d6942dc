# SPDX-License-Identifier: Apache-2.0
"""Pictures inside files, by Pillow; and colours for what is empty."""

import io

import numpy as np
import pytest
from PIL import Image

from mvp4d_core.io.fill import fill_holes, stretch
from mvp4d_core.io.images import straight_alpha
from mvp4d_core.io.png import png_bytes
from tests.support.asserts import assert_arrays_close


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (64, 48)])
def test_pillow_reads_the_pictures(shape):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    with Image.open(io.BytesIO(png_bytes(picture))) as image:
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), picture)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (17, 5), (32, 32), (33, 46)])
def test_painted_places_keep_their_colour_and_empty_ones_take_a_neighbours(shape):
    rng = np.random.default_rng(1)
    colours, weights = rng.uniform(0.2, 0.8, (*shape, 3)), rng.choice([0.0, 1.0], shape, p=[0.6, 0.4])
    weights[0, 0] = 1
    filled = fill_holes(colours * weights[..., None], weights, 1e-5)
    assert_arrays_close(filled[weights > 0], colours[weights > 0], atol=1e-4)
    assert filled.min() > 0.19 and filled.max() < 0.81


def test_the_nearest_colour_goes_on():
    weights = np.zeros((32, 64))
    weights[8:24, 4:8] = weights[8:24, 56:60] = 1
    colours = np.zeros((32, 64, 3))
    colours[:, :32, 0] = colours[:, 32:, 2] = 1
    filled = fill_holes(colours * weights[..., None], weights, 1e-5)
    assert (filled[:, :12, 0] > 0.8).all() and (filled[:, 52:, 2] > 0.8).all()


def test_stretch_is_linear_and_keeps_the_mean():
    ramp = np.arange(8.0)[None, :, None] * np.ones((3, 1, 2))
    wide = stretch(ramp)
    assert wide.shape == (6, 16, 2)
    assert_arrays_close(wide[2, 1:-1, 0], np.arange(1, 15) / 2 - 0.25)
    picture = np.random.default_rng(2).uniform(size=(5, 4, 1))
    assert stretch(picture).mean() == pytest.approx(picture.mean())


def test_straight_alpha_shows_what_was_rendered():
    rng = np.random.default_rng(3)
    alpha = np.clip(rng.normal(0.5, 0.7, (20, 30)), 0, 1).astype(np.float32)
    colours = rng.uniform(size=(20, 30, 3)).astype(np.float32)
    straight = straight_alpha(colours * alpha[..., None], alpha)
    np.testing.assert_array_equal(straight[..., 3], alpha)
    assert_arrays_close(straight[..., :3] * alpha[..., None], colours * alpha[..., None], atol=2e-4)
    nothing = straight_alpha(np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.float32))
    assert not nothing.any()
