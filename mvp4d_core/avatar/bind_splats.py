# SPDX-License-Identifier: Apache-2.0
"""Splats that nobody rigged, made to ride on a head: each on the triangle whose centre is nearest at rest."""

import numpy as np

from ..errors import InputError
from ..rig import HeadModel, personalize, triangle_frames, world_to_bound
from .file_space import turned
from .gaussian_avatar import GaussianAvatar
from .stored_splats import StoredSplats, sigmoid

_NEAR = 0.03  # metres; the median splat of a head that is in place lies closer to the surface than this
_CHUNK = 4096


def bind_splats(
    splats: StoredSplats, head_model: HeadModel, metadata: dict[str, str], *, fit: bool = False, upright: bool = False
) -> GaussianAvatar:
    """An avatar from posed splats of a neutral face.

    Args:
        upright: the splats are in head axes, y up and z out of the face; else in file axes.
        fit: move and scale the splats so that the box around most of their opacity is as high, and lies, as that around most of the
            head's surface; else they must be in place already.

    Raises:
        InputError: no splats, or splats that are not where the head is.
    """
    if not len(splats.means):
        raise InputError("The file has no splats, there is nothing to bind.")
    splats = splats if upright else turned(splats)
    rig = personalize(head_model, np.zeros(head_model.shapedirs.shape[2]), np.zeros_like(head_model.v_template))
    vertices = (rig.v_template + rig.static_offsets).astype(np.float64)
    means, log_scales = splats.means.astype(np.float64), splats.log_scales.astype(np.float64)
    if fit:
        low, high = _box(means, sigmoid(splats.opacity_logits))
        frames = triangle_frames(vertices, rig.faces)
        head_low, head_high = _box(frames.centres, frames.sizes**2)
        size = (head_high[1] - head_low[1]) / max(high[1] - low[1], 1e-9)
        means = (means - (low + high) / 2) * size + (head_low + head_high) / 2
        log_scales = log_scales + np.log(size)
    frames = triangle_frames(vertices, rig.faces)
    binding, distances = _nearest(means, frames.centres)
    if not np.median(distances) <= _NEAR:
        raise InputError(
            f"The splats do not lie on the head `{head_model.name}`: the median one is {np.median(distances):.2g} m away.\n"
            "Give --fit to move and scale them onto it."
        )
    quats, scales = splats.quats.astype(np.float64), np.exp(log_scales)
    local, local_quats, local_scales = world_to_bound(means, quats, scales, binding, frames)
    return GaussianAvatar(
        means=local.astype(np.float32),
        quats=local_quats.astype(np.float32),
        log_scales=np.log(np.maximum(local_scales, 1e-30)).astype(np.float32),
        opacity_logits=splats.opacity_logits,
        sh0=splats.sh0,
        shN=splats.shN,
        binding=binding,
        rig=rig,
        metadata=metadata,
    )


def _box(means: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the box that holds all but 1 % of the weight at either end of each axis."""
    corners = []
    for axis in range(3):
        order = np.argsort(means[:, axis])
        part = np.cumsum(weights[order], dtype=np.float64)
        corners.append([means[order[np.searchsorted(part, part[-1] * share)], axis] for share in (0.01, 0.99)])
    low, high = np.array(corners).T
    return low, high


def _nearest(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each point the number (int32) of the nearest centre and the distance to it."""
    nearest = np.zeros(len(points), np.int32)
    squares = (centres**2).sum(axis=1)
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        nearest[part] = np.argmin(squares - 2 * points[part] @ centres.T, axis=1)
    return nearest, np.linalg.norm(points - centres[nearest], axis=1)
