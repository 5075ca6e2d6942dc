# SPDX-License-Identifier: Apache-2.0
"""Beards that stand off the skin: tufts rooted where the skin is painted as bearded."""

import numpy as np

from ...rig import HeadModel
from .identity import Identity
from .noise import named_rng, smoothstep
from .stage import vertex_normals
from .worn import BEARD, Worn, ribbons, unit

STATIONS = 4
FULL = 0.55  # density from which a beard has length


def grow_beard(person: Identity, model: HeadModel, vertices: np.ndarray, zone: np.ndarray) -> Worn | None:
    """The tufts of a full beard on the rest-pose `vertices` (V, 3), where `zone` (V,) is high; None for the shaven and stubbled."""
    rng = named_rng("beard", person.key)
    if person.beard_density < FULL:
        return None
    corners = vertices[model.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    likely = area * smoothstep(zone[model.faces].mean(axis=1), 0.35, 0.7)
    if likely.sum() < 1e-5:  # square metres
        return None
    count = 520
    face = rng.choice(len(likely), count, p=likely / likely.sum())
    barycentrics = rng.dirichlet([1, 1, 1], count)
    anchor = model.faces[face, barycentrics.argmax(axis=1)]
    normals = unit(np.einsum("nk,nkd->nd", barycentrics, vertex_normals(vertices, model.faces)[model.faces[face]]))
    roots = np.einsum("nk,nkd->nd", barycentrics, corners[face])
    length = (0.004 + 0.022 * ((person.beard_density - FULL) / (1 - FULL)) ** 2) * rng.uniform(0.6, 1.3, count)
    chin = smoothstep(-roots[:, 1], 0.05, 0.075)
    sideways = np.stack([np.sign(roots[:, 0]) * 0.5, np.zeros(count), np.zeros(count)], axis=1) * (1 - chin)[:, None]
    downward = unit(np.array([0, -1.0, 0.1]) + sideways + rng.normal(0, 0.22, (count, 3)))
    downward = unit(downward - normals * np.clip((downward * normals).sum(axis=1, keepdims=True) + 0.05, None, 0))  # never into the skin
    along = np.linspace(0, 1, STATIONS)
    lift = 0.0006 + 0.10 * length[:, None] * along + 0.002 * np.sin(np.pi * along)
    length = length * (0.45 + 0.55 * chin)
    middle = roots[:, None] + downward[:, None] * (length[:, None] * along)[..., None] + normals[:, None] * lift[..., None]
    across = unit(np.cross(downward, normals))[:, None] * (0.0022 * np.sqrt(1 - 0.95 * along))[:, None]
    points = np.stack([middle - across, middle + across], axis=1)
    low, high = BEARD
    v = np.broadcast_to(high + (low - high) * along, (count, 2, STATIONS))
    u = np.broadcast_to(rng.uniform(0, 0.95, (count, 1, 1)) + np.array([0, 0.04])[None, :, None], v.shape)
    outward = np.repeat(np.repeat(normals[:, None, None], 2, 1), STATIONS, 2)
    points, outward, tangents, uvs, faces = ribbons(points, outward, np.stack([u, v], axis=-1))
    anchors = np.repeat(anchor, 2 * STATIONS).astype(np.int32)
    points, outward, tangents, uvs = (array.astype(np.float32) for array in (points, outward, tangents, uvs))
    return Worn(points, outward, tangents, faces.astype(np.int32), uvs, model.lbs_weights[anchors], anchors)
