# SPDX-License-Identifier: Apache-2.0
"""A texture for the rig's own atlas, painted with the colours of the splats, for programs that show meshes."""

import numpy as np

from ..io.fill import fill_holes, stretch
from ..rig import rest_parameters, triangle_frames
from .gaussian_avatar import GaussianAvatar
from .harmonics import sh_colors

_OUTSIDE = 0.25  # how far, as a part of a triangle, a splat may lie beside the triangle that it rides on and still paint it
_FAINT = 0.02  # opacity of the paint that fills holes


def bake_texture(avatar: GaussianAvatar, size: int = 1024) -> np.ndarray:
    """The splats at rest, each seen along its triangle's normal, averaged by opacity: (size, size, 3) uint8 sRGB, v up.

    A splat paints into that level of an image pyramid whose texels are as large as it is; the levels are then added up. Texels without
    paint take the colours around them, so that charts continue past their borders. `size` is a power of two.
    """
    uvs, texels_per_metre = _places(avatar, size)
    rest = avatar.pose(rest_parameters(avatar.rig))
    vertices = avatar.rig.v_template + avatar.rig.static_offsets
    frames = triangle_frames(vertices.astype(np.float64), avatar.rig.faces)
    colors = np.clip(sh_colors(rest.sh.astype(np.float64), -frames.rotations[avatar.binding][:, :, 1]), 0, 1)
    radii = np.sort(rest.scales, axis=1)[:, 1:].mean(axis=1) * texels_per_metre[avatar.binding]
    depth = int(np.log2(size))
    levels = np.clip(np.rint(np.log2(np.maximum(radii, 1e-9))), 0, depth - 3).astype(int)
    painted = [
        _scatter(uvs[chosen], colors[chosen], rest.opacities[chosen], size >> level)
        for level in range(depth)
        for chosen in [levels == level]
    ]
    picture = painted[-1]
    for finer in reversed(painted[:-1]):
        picture = finer + stretch(picture)
    filled = fill_holes(picture[..., :3], picture[..., 3], _FAINT)
    return np.rint(np.clip(filled[::-1], 0, 1) * 255).astype(np.uint8)


def _places(avatar: GaussianAvatar, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where splats lie in the atlas, (N, 2) in 0..1, and the texels a metre of each triangle, (F,)."""
    rig = avatar.rig
    corners = (rig.v_template + rig.static_offsets).astype(np.float64)[rig.faces]
    flat = rig.uvs.astype(np.float64)[rig.uv_faces]
    frames = triangle_frames(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))
    axes = frames.rotations[:, :, [0, 2]] * frames.sizes[:, None, None]
    plane = np.einsum("fka,fkp->fap", np.swapaxes(corners - frames.centres[:, None], 1, 2), axes) / (frames.sizes**2)[:, None, None]
    edges = plane[:, 1:] - plane[:, :1]  # (F, 2, 2), rows, in units of the triangle's size
    local = avatar.means[:, [0, 2]] - plane[avatar.binding, 0]
    determinant = np.linalg.det(edges)
    safe = np.where(np.abs(determinant) > 1e-12, determinant, 1)
    (ax, ay), (bx, by) = edges[avatar.binding].transpose(1, 2, 0)
    second = (local[:, 0] * by - local[:, 1] * bx) / safe[avatar.binding]
    third = (ax * local[:, 1] - ay * local[:, 0]) / safe[avatar.binding]
    weights = np.clip(np.stack([1 - second - third, second, third], axis=1), -_OUTSIDE, 1 + 2 * _OUTSIDE)
    weights /= weights.sum(axis=1, keepdims=True)
    uvs = np.einsum("nk,nkd->nd", weights, flat[avatar.binding])
    areas = np.abs(determinant) * frames.sizes**2
    uv_areas = np.abs(np.linalg.det(flat[:, 1:] - flat[:, :1]))
    return np.clip(uvs, 0, 1 - 1e-9), size * np.sqrt(uv_areas / np.maximum(areas, 1e-18))


def _scatter(uvs: np.ndarray, colors: np.ndarray, weights: np.ndarray, side: int) -> np.ndarray:
    """(side, side, 4) sums of weight times colour, and of weight, each splat shared out among the four texels around it; row 0 is v = 0."""
    at = uvs * side - 0.5
    low = np.floor(at).astype(int)
    part = at - low
    values = np.concatenate([colors, np.ones((len(colors), 1))], axis=1)
    picture = np.zeros((side * side, 4))
    for column in (0, 1):
        for row in (0, 1):
            share = weights * np.abs(1 - column - part[:, 0]) * np.abs(1 - row - part[:, 1])
            texel = np.clip(low + [column, row], 0, side - 1)
            index = texel[:, 1] * side + texel[:, 0]
            for channel in range(4):
                picture[:, channel] += np.bincount(index, share * values[:, channel], side * side)
    return picture.reshape(side, side, 4)
