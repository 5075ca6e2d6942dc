# SPDX-License-Identifier: Apache-2.0
"""Mattes: the person in the photo, refined to the photo's own edges, and the part of it that is head and hair.

The refinement is the guided filter with a colour guide (He, Sun and Tang 2013). The head matte is the person's matte

- on the projected head above the neck, and near it above the eyes (hair, whatever its colour, or a hat);
- further off, below the eyes, and on the neck, where the colour is nearer to this person's hair or skin than to the clothes, judged by
  histograms taken from this photo: hair from above the brows and outside the face, skin from the face, clothes from below the neck;
- joined to the face.
"""

import numpy as np
from scipy import ndimage

from .zones import Zones

_BINS = 20  # of the colour histograms, along each axis
_HAIR_REACH = 0.5  # face widths from the skull within which everything above the eyes is taken for hair
_EDGE_LOW, _EDGE_HIGH = 0.08, 0.92  # refined mattes are stretched so that these become 0 and 1


def guided_filter(guide: np.ndarray, target: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """`target` (H, W) as a locally linear function of the colours of `guide` (H, W, 3) in boxes of 2 radius + 1 pixels; float32."""

    def mean(array: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(array, 2 * radius + 1, mode="nearest")

    guide, target = guide.astype(np.float64), target.astype(np.float64)
    means = np.stack([mean(guide[..., c]) for c in range(3)], axis=-1)
    target_mean = mean(target)
    covariance = np.zeros((*target.shape, 3, 3))
    cross = np.zeros((*target.shape, 3))
    for i in range(3):
        cross[..., i] = mean(guide[..., i] * target) - means[..., i] * target_mean
        for j in range(i, 3):
            covariance[..., i, j] = covariance[..., j, i] = mean(guide[..., i] * guide[..., j]) - means[..., i] * means[..., j]
    covariance += epsilon * np.eye(3)
    slope = np.linalg.solve(covariance, cross[..., None])[..., 0]
    offset = target_mean - (slope * means).sum(axis=-1)
    slope = np.stack([mean(slope[..., c]) for c in range(3)], axis=-1)
    return np.clip((slope * guide).sum(axis=-1) + mean(offset), 0, 1).astype(np.float32)


def refine_matte(picture: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """A soft matte (H, W) of a square crop (H, W, 3) in 0..1 with the picture's edges: holes closed, islands dropped, hair kept."""
    radius = max(2, round(0.012 * picture.shape[0]))
    refined = guided_filter(picture, matte, radius, 2e-4)
    refined = np.clip((refined - _EDGE_LOW) / (_EDGE_HIGH - _EDGE_LOW), 0, 1)
    solid = ndimage.binary_fill_holes(refined > 0.5)
    core = ndimage.binary_erosion(solid, iterations=2 * radius)
    refined = np.where(core, 1.0, refined)
    return refined.astype(np.float32)


def joined(matte: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """`matte` (H, W) without the islands that no pixel of `seed` (H, W) bool touches."""
    labels, _ = ndimage.label(matte > 0.5)  # pyright: ignore[reportGeneralTypeIssues]
    wanted = np.unique(labels[seed & (labels > 0)])
    keep = ndimage.binary_dilation(np.isin(labels, wanted[wanted > 0]), iterations=3)
    return np.where(keep, matte, 0).astype(np.float32)


def head_matte(picture: np.ndarray, person: np.ndarray, zones: Zones) -> np.ndarray:
    """The head's and hair's share (H, W) float32 of the person's matte.

    Args:
        picture: (H, W, 3) in 0..1, a square crop.
        person: (H, W) refined matte.
        zones: of the fitted head in the crop.
    """
    body = person > 0.9
    head, below_eyes = zones.head, zones.below_eyes
    odds = _head_odds(picture, body, zones)
    # far from the skull hair must look like hair much more than like clothes; above the chin, clothes are rare
    distance = ndimage.distance_transform_edt(~(head | zones.neck)) / max(zones.face.any(axis=0).sum(), 1)  # in face widths
    odds = odds - 3 * distance - 1.5 * np.clip(below_eyes - 0.9, 0, None) + 2 * np.clip((0.85 - below_eyes) / 0.3, 0, 1)
    odds = ndimage.gaussian_filter(odds, 0.006 * picture.shape[0])
    belongs = 1 / (1 + np.exp(-2 * odds))
    sure = head | ((below_eyes < 0) & (distance < _HAIR_REACH))
    belongs = np.where(sure, 1.0, np.where(zones.below_neck, 0.0, belongs))
    belongs = guided_filter(picture, belongs.astype(np.float32), max(2, round(0.008 * picture.shape[0])), 1e-3)
    belongs = np.where(ndimage.binary_erosion(sure, iterations=3), 1.0, np.clip((belongs - 0.25) / 0.5, 0, 1))
    return joined(person * belongs.astype(np.float32), zones.face)


def looks_like_hair(picture: np.ndarray, person: np.ndarray, zones: Zones) -> np.ndarray:
    """(H, W) bool: the colour is likelier on this person's hair than on the face. Everywhere False where there is hardly any hair."""
    body = person > 0.9
    hair = _hair_seed(body, zones)
    if hair.sum() < 0.1 * zones.face.sum():
        return np.zeros(person.shape, bool)
    return _log_ratio(_colour_bins(picture), hair, body & zones.face & (zones.below_eyes > 0.1)) > 0


def _hair_seed(body: np.ndarray, zones: Zones) -> np.ndarray:
    """(H, W) bool: surely hair, or a bald scalp: above the eyes beside the head, or on the scalp."""
    beside = ~zones.head & (zones.below_eyes < -0.1)
    scalp = zones.head & ~zones.face & (zones.below_eyes < -0.25)
    return body & (beside | scalp)


def _head_odds(picture: np.ndarray, body: np.ndarray, zones: Zones) -> np.ndarray:
    """(H, W) log of how much likelier each colour is on the head than on the clothes, limited to +-3; 2 where no clothes are seen.

    On the neck the head is skin, with hair at a disadvantage, for a collar may well be as white or as black as the hair. Beside the neck it
    is hair alone, for a hand is skin as well. Higher up it is either.
    """
    clothes = body & zones.below_neck & ~zones.head
    if clothes.sum() < 50:
        return np.full(picture.shape[:2], 2.0)
    code = _colour_bins(picture)
    hair = np.clip(_log_ratio(code, _hair_seed(body, zones), clothes), -3, 3)
    skin = np.clip(_log_ratio(code, body & zones.face, clothes), -3, 3)
    low = np.where(zones.neck, np.maximum(skin, hair - 3.5), hair)
    return np.where(zones.below_eyes > 0.8, low, np.maximum(skin, hair))


def _log_ratio(code: np.ndarray, of: np.ndarray, over: np.ndarray) -> np.ndarray:
    """(H, W) log likelihood ratio of the colours under two masks."""
    ratio = (_histogram(code, of) + 1e-6) / (_histogram(code, over) + 1e-6)
    return np.log(ratio)[tuple(np.moveaxis(code, -1, 0))]


def chroma(picture: np.ndarray) -> np.ndarray:
    """(..., 2) of colours (..., 3): red against green, yellow against blue, each around 0."""
    red, green, blue = np.moveaxis(np.asarray(picture, np.float64), -1, 0)
    return np.stack([red - green, (red + green) / 2 - blue], axis=-1)


def _colour_bins(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) int: lightness, red against green, yellow against blue."""
    axes = np.concatenate([picture.mean(axis=-1, keepdims=True), 1.5 * chroma(picture) + 0.5], axis=-1)
    return np.clip((axes * _BINS).astype(int), 0, _BINS - 1)


def _histogram(code: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Smoothed frequencies (_BINS, _BINS, _BINS) of the colours under the mask."""
    counts = np.zeros((_BINS,) * 3)
    np.add.at(counts, tuple(code[mask].T), 1.0)
    return ndimage.gaussian_filter(counts, 0.8, mode="nearest") / max(mask.sum(), 1)
