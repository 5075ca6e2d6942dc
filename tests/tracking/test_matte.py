# SPDX-License-Identifier: Apache-2.0
"""Mattes on pictures whose truth is known."""

import numpy as np

from mvp4d_core.tracking.matte import guided_filter, head_matte, joined, looks_like_hair, refine_matte
from mvp4d_core.tracking.zones import Zones

SIZE = 160


def direct_guided_filter(guide: np.ndarray, target: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """He, Sun and Tang's equations 19 to 21, window by window, with the border replicated."""
    height, width = target.shape
    pad = ((radius, radius), (radius, radius))
    guide_wide, target_wide = np.pad(guide, (*pad, (0, 0)), mode="edge"), np.pad(target, pad, mode="edge")
    slopes, offsets = np.zeros(guide.shape), np.zeros(target.shape)
    for row in range(height):
        for column in range(width):
            window = guide_wide[row : row + 2 * radius + 1, column : column + 2 * radius + 1].reshape(-1, 3)
            values = target_wide[row : row + 2 * radius + 1, column : column + 2 * radius + 1].ravel()
            centred = window - window.mean(axis=0)
            covariance = centred.T @ centred / len(window) + epsilon * np.eye(3)
            slopes[row, column] = np.linalg.solve(covariance, centred.T @ (values - values.mean()) / len(window))
            offsets[row, column] = values.mean() - slopes[row, column] @ window.mean(axis=0)
    slopes, offsets = np.pad(slopes, (*pad, (0, 0)), mode="edge"), np.pad(offsets, pad, mode="edge")
    out = np.zeros(target.shape)
    for row in range(height):
        for column in range(width):
            rows, columns = slice(row, row + 2 * radius + 1), slice(column, column + 2 * radius + 1)
            out[row, column] = slopes[rows, columns].mean(axis=(0, 1)) @ guide[row, column] + offsets[rows, columns].mean()
    return np.clip(out, 0, 1)


def test_the_guided_filter_is_the_papers():
    generator = np.random.default_rng(0)
    guide, target = generator.random((14, 17, 3)), generator.random((14, 17))
    np.testing.assert_allclose(guided_filter(guide, target, 3, 1e-2), direct_guided_filter(guide, target, 3, 1e-2), atol=1e-5)


def test_a_blurred_matte_gets_the_pictures_edge():
    size = 480
    y, x = np.mgrid[:size, :size] + 0.5
    truth = (np.hypot(x - 240, y - 240) < 135).astype(np.float32)
    noise = 0.01 * np.random.default_rng(1).normal(size=(size, size, 3))
    picture = np.where(truth[..., None] > 0, [0.55, 0.4, 0.3], [0.2, 0.3, 0.6]) + noise
    soft = np.clip((136 - np.hypot(x - 241, y - 239)) / 8 + 0.5, 0, 1).astype(np.float32)  # too large, shifted and blurred
    holed = soft.copy()
    holed[220:260, 220:260] = 0.2
    refined = refine_matte(picture.astype(np.float32), holed)
    assert np.abs(refined - truth).mean() < 0.5 * np.abs(soft - truth).mean()
    assert refined[200:280, 200:280].min() == 1


def test_islands_go():
    matte = np.zeros((40, 40), np.float32)
    matte[5:15, 5:15], matte[25:35, 25:35] = 1, 1
    seed = np.zeros((40, 40), bool)
    seed[8, 8] = True
    kept = joined(matte, seed)
    assert kept[5:15, 5:15].min() == 1 and not kept[25:35, 25:35].any()
    assert not joined(matte, np.zeros((40, 40), bool)).any()


def portrait(hair=(0.45, 0.3, 0.15), clothes=(0.8, 0.3, 0.05), hair_width=46):
    """A painted bust: picture, person's matte, zones, and where hair, skin of head and neck, and clothes truly are."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    skull = ((x - 80) / 26) ** 2 + ((y - 62) / 34) ** 2 < 1
    face = ((x - 80) / 22) ** 2 + ((y - 68) / 27) ** 2 < 1
    neck = (np.abs(x - 80) < 14) & (y > 85) & (y < 120) & ~skull
    bust = (y > 112) & (np.abs(x - 80) < 10 + 1.2 * (y - 105))
    mane = (((x - 80) / hair_width) ** 2 + ((y - 55) / 44) ** 2 < 1) & (y < 85)
    clothed = bust & (y > 115)
    picture = np.full((SIZE, SIZE, 3), [0.75, 0.75, 0.8])
    for where, colour in ((mane, hair), (skull | neck | bust, (0.85, 0.65, 0.55)), (mane & ~face, hair), (clothed & ~skull, clothes)):
        picture[where] = colour
    picture = np.clip(picture + 0.012 * np.random.default_rng(2).normal(size=picture.shape), 0, 1).astype(np.float32)
    person = (skull | neck | bust | mane).astype(np.float32)
    below_eyes = ((y - 60) / 35).astype(np.float32)
    none = np.zeros((SIZE, SIZE), bool)
    mesh_neck = (neck | ((y > 105) & (y < 125) & (np.abs(x - 80) < 30))) & ~skull
    zones = Zones(head=skull, face=face, neck=mesh_neck, eyes=none, ears=(none, none), below_eyes=below_eyes, below_neck=y > 125)
    return picture, person, zones, mane | skull, neck & ~clothed & ~skull, clothed & ~mane & ~skull


def test_the_head_matte_is_hair_face_and_bare_neck_without_the_clothes():
    picture, person, zones, head, neck, clothes = portrait()
    matte = head_matte(picture, person, zones)
    assert matte[head].mean() > 0.97
    assert matte[neck].mean() > 0.85
    assert matte[clothes].mean() < 0.06
    assert not matte[person == 0].any()


def test_hair_beside_the_cheeks_stays_where_clothes_have_another_colour():
    picture, person, zones, head, _, clothes = portrait(hair_width=52)
    beside = head & ~zones.head & (zones.below_eyes > 0.2)
    matte = head_matte(picture, person, zones)
    assert beside.sum() > 200 and matte[beside].mean() > 0.9 and matte[clothes].mean() < 0.06


def test_without_clothes_in_sight_everything_above_the_rim_is_head():
    picture, person, zones, head, neck, _ = portrait()
    person = np.where(zones.below_neck, 0, person).astype(np.float32)
    matte = head_matte(picture, person, zones)
    assert matte[head].mean() > 0.97 and matte[neck].mean() > 0.7


def test_an_empty_matte_gives_an_empty_head():
    picture, person, zones, *_ = portrait()
    assert not head_matte(picture, np.zeros_like(person), zones).any()


def test_hair_is_told_from_skin():
    picture, person, zones, head, *_ = portrait()
    hair = looks_like_hair(picture, person, zones)
    assert hair[head & ~zones.head].mean() > 0.95
    assert hair[zones.face].mean() < 0.05
    bald = np.where(zones.head | zones.neck, person, 0).astype(np.float32)
    empty = zones.head & ~zones.face
    assert not looks_like_hair(picture, np.where(empty, 0, bald).astype(np.float32), zones).any()
