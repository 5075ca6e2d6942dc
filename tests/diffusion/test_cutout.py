# SPDX-License-Identifier: Apache-2.0
"""Alphas of painted heads whose coverage is known."""

import numpy as np
import pytest
from scipy import ndimage

from mvp4d_core.diffusion.cutout import cut_out
from tests.support.asserts import assert_arrays_close

SIZE = 128
ROW, COLUMN = np.mgrid[:SIZE, :SIZE] + 0.5


def disc(x: float, y: float, radius: float) -> np.ndarray:
    """(H, W) coverage 0..1 with a soft edge two pixels wide."""
    return np.clip((radius - np.hypot(COLUMN - x, ROW - y)) / 2 + 0.5, 0, 1)


def painted(*layers: tuple[np.ndarray, tuple[float, float, float]]) -> np.ndarray:
    """Colours over white, one after the other, with an autoencoder's noise."""
    image = np.ones((SIZE, SIZE, 3))
    for coverage, color in layers:
        image = image + (np.array(color) - image) * coverage[..., None]
    return np.clip(image + np.random.default_rng(0).normal(0, 0.008, image.shape), 0, 1)


HEAD, HAIR = disc(64, 70, 34), disc(64, 60, 44)
SKIN, BROWN, WHITE = (0.93, 0.8, 0.72), (0.3, 0.2, 0.12), (0.99, 0.99, 0.98)
SILHOUETTE = HEAD > 0.5


@pytest.mark.parametrize("hair", [BROWN, (0.75, 0.65, 0.5), (0.05, 0.05, 0.05)])
def test_hair_beyond_the_mesh_is_solid_with_the_painted_edge(hair):
    alpha = cut_out(painted((HAIR, hair), (HEAD, SKIN)), SILHOUETTE)
    assert alpha.dtype == np.float32 and alpha.min() >= 0 and alpha.max() <= 1
    deep = np.maximum(HAIR, HEAD) == 1
    assert alpha[ndimage.binary_erosion(deep, iterations=4)].min() > 0.99
    assert alpha[np.maximum(HAIR, HEAD) == 0].max() < 0.02
    assert np.abs(alpha - np.maximum(HAIR, HEAD)).mean() < 0.01


def test_a_half_covered_pixel_of_dark_hair_is_half_clear():
    alpha = cut_out(painted((HAIR, BROWN)), SILHOUETTE)
    edge = (HAIR > 0.3) & (HAIR < 0.7)
    assert abs(float(np.mean(alpha[edge] - HAIR[edge]))) < 0.1


def test_white_within_the_head_is_no_hole():
    eyes, teeth = np.maximum(disc(52, 62, 5), disc(76, 62, 5)), disc(64, 84, 7)
    shine = disc(64, 50, 6)
    alpha = cut_out(painted((HEAD, SKIN), (eyes, WHITE), (teeth, WHITE), (shine, WHITE)), SILHOUETTE)
    assert alpha[ndimage.binary_erosion(SILHOUETTE, iterations=4)].min() > 0.99


def test_small_white_holes_in_hair_are_filled_and_large_ones_seen_through():
    glint, loop = disc(64, 24, 2.0), disc(38, 36, 6)
    alpha = cut_out(painted((HAIR, BROWN), (glint, WHITE), (loop * (disc(64, 70, 30) == 0), WHITE)), disc(64, 70, 20) > 0.5)
    assert alpha[22:26, 62:66].min() > 0.99
    assert alpha[36, 38] < 0.05


def test_specks_in_the_background_go_and_what_touches_the_head_stays():
    speck, strand = disc(12, 12, 3), disc(64, 20, 8)
    alpha = cut_out(painted((HAIR, BROWN), (strand, BROWN), (speck, (0.2, 0.5, 0.2))), SILHOUETTE)
    assert alpha[:24, :24].max() == 0
    assert alpha[14, 64] > 0.9


def test_a_head_that_the_border_cuts_stays_whole_there():
    neck = np.where(ROW > 100, np.clip((22 - np.abs(COLUMN - 64)) / 2 + 0.5, 0, 1), 0)
    silhouette = SILHOUETTE | (neck > 0.5)
    alpha = cut_out(painted((np.maximum(HEAD, neck), WHITE)), silhouette)
    assert alpha[-1, 50:78].min() > 0.99


def test_extremes():
    blank, whole = np.zeros((16, 16), bool), np.ones((16, 16), bool)
    white, black = np.ones((16, 16, 3)), np.zeros((16, 16, 3))
    assert_arrays_close(cut_out(white, blank), np.zeros((16, 16)))
    assert_arrays_close(cut_out(white, whole), np.ones((16, 16)))
    assert_arrays_close(cut_out(black, blank), np.ones((16, 16)))
    assert_arrays_close(cut_out(black, whole), np.ones((16, 16)))
