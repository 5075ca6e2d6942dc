# SPDX-License-Identifier: Apache-2.0
"""Where the upper teeth end: a smile shows it, and the head's own teeth are moved there.

Lips are found to a fraction of a millimetre, but how far the teeth reach below them differs by several millimetres from person to person
and is in no identity direction.
"""

import numpy as np
from scipy.ndimage import map_coordinates

from ..cameras import project
from ..rig import HeadModel
from .fit import Fit, eye_distance
from .landmark_sets import OUTER_LIPS
from .regions import mask_of

# points of the inner upper lip and those below them on the lower lip, the middle first
_COLUMNS = ((13, 14), (82, 87), (312, 317), (81, 178), (311, 402))
_LEAST_OPENING = 0.06  # of the distance between the eyes
_LEAST_CONTRAST = 0.12  # of the darkest channel, between teeth and lips
_SAMPLES = 40
_MIDDLE = 0.008  # metres beside the midline: the incisors
_FURTHEST_UP, _FURTHEST_DOWN = 0.002, 0.006  # metres


def teeth_offsets(model: HeadModel, fit: Fit, vertices: np.ndarray, points: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """(V, 3) metres that move the upper teeth and their gums; zero where the photo does not show them.

    Args:
        vertices: (V, 3) the head as fitted.
        points: (478, 2 or 3) px as detected.
        rgb: (H, W, 3) the photo.
    """
    offsets = np.zeros_like(vertices)
    upper = mask_of(model, "teeth", "gum")
    if "jaw" in model.joint_names:
        upper &= model.lbs_weights[:, model.joint_names.index("jaw")] < 0.5
    incisors = upper & mask_of(model, "teeth") & (np.abs(vertices[:, 0]) < _MIDDLE)
    edge = _upper_edge(points[:, :2], rgb)
    if edge is None or not incisors.any():
        return offsets
    lip, down = points[_COLUMNS[0][0], :2], points[_COLUMNS[0][1], :2] - points[_COLUMNS[0][0], :2]
    length = np.linalg.norm(down)
    pixels, _ = project(vertices[incisors], fit.camera)
    lowest = np.quantile((pixels - lip) @ down / length, 0.95)
    moved, _ = project(vertices[incisors] - [0, 0.001, 0], fit.camera)
    pixels_a_metre = ((moved - pixels) @ down / length).mean() / 0.001
    offsets[upper, 1] = -np.clip((edge * length - lowest) / pixels_a_metre, -_FURTHEST_UP, _FURTHEST_DOWN)
    return offsets


def _upper_edge(points: np.ndarray, rgb: np.ndarray) -> float | None:
    """How far down the opening between the lips, from 0 to 1, the upper teeth reach; None where no upper teeth are seen.

    Teeth are what is bright in its darkest channel; lips, gums and tongue are not.
    """
    opening = np.linalg.norm(points[_COLUMNS[0][1]] - points[_COLUMNS[0][0]])
    if opening < max(3.0, _LEAST_OPENING * eye_distance(points)):
        return None
    pale = rgb.min(axis=2)
    lips = float(np.median(_sample(pale, points[list(OUTER_LIPS)])))
    edges = []
    for above, below in _COLUMNS:
        line = points[above] + np.linspace(0, 1, _SAMPLES)[:, None] * (points[below] - points[above])
        profile = _sample(pale, line)
        bright = profile > (lips + np.quantile(profile, 0.9)) / 2
        if np.quantile(profile, 0.9) - lips < _LEAST_CONTRAST or not bright[: _SAMPLES // 2].any():
            continue
        start = int(np.argmax(bright))
        dark_after = np.flatnonzero(~bright[start:])
        edges.append((start + dark_after[0] if len(dark_after) else _SAMPLES) / _SAMPLES)
    return float(np.median(edges)) if len(edges) >= 3 else None


def _sample(layer: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear lookups of (H, W) at pixels (n, 2)."""
    return map_coordinates(layer, [points[:, 1] - 0.5, points[:, 0] - 0.5], order=1, mode="nearest")
