# SPDX-License-Identifier: Apache-2.0
"""Alphas of heads that a model painted on white.

Alpha is the larger of a white key and the mesh's silhouette, the latter drawn in by a margin so that the key alone decides the edge. The
key is how far a pixel's darkest channel falls below white, eased between two levels that clear the background's noise; in a band along the
edge it is the share of that in the darkest colour nearby, because a pixel half covered by dark hair is as grey as one covered by light
skin. The silhouette fills what is white within the head: eye whites, teeth, shine on light skin. White holes in the hair around it are
filled where they are small; specks of colour in the background that do not touch the head are cleared.
"""

import numpy as np
from scipy import ndimage

KEY_LOW, KEY_HIGH = 0.05, 0.22  # below white: an autoencoder's noise on white stays under the first
BAND = 0.016  # of the picture's side: how wide a painted edge is
MARGIN = 0.02  # of the picture's side: how far the silhouette is drawn in; fitted heads miss the painted edge by about this
HOLE = 0.002  # of the picture's area: larger white gaps within the key are seen through
SPECK = 0.01  # of the picture's area: what does not touch the head and is smaller is cleared


def cut_out(image: np.ndarray, silhouette: np.ndarray) -> np.ndarray:
    """Alpha (H, W) float32 in 0..1 of a picture (H, W, 3) in 0..1 on white.

    Args:
        silhouette: (H, W) bool, where the head's mesh is.
    """
    key = _white_key(1 - image.min(axis=-1))
    inner = _drawn_in(silhouette, MARGIN * max(silhouette.shape))
    key = np.where(_specks(key > 0, inner > 0), 0, key)
    alpha = np.maximum(key, inner)
    return np.where(_small_holes(alpha > 0.95), 1, alpha).astype(np.float32)


def _white_key(darkness: np.ndarray) -> np.ndarray:
    """0 on white, 1 where `darkness` (H, W) is well above noise, in between along edges."""
    above = np.maximum(darkness - KEY_LOW, 0)
    part = np.minimum(above / (KEY_HIGH - KEY_LOW), 1)
    key = part * part * (3 - 2 * part)
    if not (above == 0).any():
        return key
    band = BAND * max(darkness.shape)
    nearby = ndimage.maximum_filter(ndimage.gaussian_filter(above, band / 3), 2 * int(np.ceil(band)) + 1)
    coverage = above / np.maximum(nearby, KEY_LOW)
    return np.where(_depth(above > 0) <= band, np.minimum(key, coverage), key)


def _drawn_in(silhouette: np.ndarray, margin: float) -> np.ndarray:
    """1 deeper than `margin` pixels within the silhouette, falling to 0 at half that depth. The picture's border is no edge."""
    if silhouette.all() or not silhouette.any():
        return silhouette.astype(np.float64)
    depth = _depth(np.pad(silhouette, 1, mode="edge"))[1:-1, 1:-1]
    return np.clip(2 * depth / margin - 1, 0, 1)


def _specks(keyed: np.ndarray, head: np.ndarray) -> np.ndarray:
    """Connected parts of `keyed` that are small and touch no pixel of `head`."""
    labels, sizes = _parts(keyed, diagonals=True)
    cleared = sizes < SPECK * keyed.size
    cleared[labels[head]] = False
    cleared[0] = False
    return cleared[labels]


def _small_holes(solid: np.ndarray) -> np.ndarray:
    """Connected parts of what is not `solid` that are small and do not reach the picture's border."""
    labels, sizes = _parts(~solid, diagonals=False)
    filled = sizes < HOLE * solid.size
    for border in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        filled[border] = False
    filled[0] = False
    return filled[labels]


def _depth(mask: np.ndarray) -> np.ndarray:
    """Pixels from each pixel of `mask` to the nearest outside it; 0 there."""
    distances = np.zeros(mask.shape)
    ndimage.distance_transform_edt(mask, distances=distances)
    return distances


def _parts(mask: np.ndarray, *, diagonals: bool) -> tuple[np.ndarray, np.ndarray]:
    """The connected part of `mask` that each pixel is of, 0 outside, and the pixels of each."""
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, ndimage.generate_binary_structure(2, 1 + diagonals), output=labels)
    return labels, np.bincount(labels.ravel())
