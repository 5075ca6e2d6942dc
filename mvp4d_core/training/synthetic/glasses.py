# SPDX-License-Identifier: Apache-2.0
"""Spectacle frames: two rims, a bridge, and temples that reach the ears."""

import numpy as np

from ...rig import HeadModel
from .identity import Identity
from .noise import named_rng
from .worn import FRAME, Worn, joined, on_joint, strip_faces, unit

SIDES = 6  # of a tube


def put_on_glasses(person: Identity, model: HeadModel, vertices: np.ndarray) -> Worn | None:
    """The frame on the rest-pose `vertices` (V, 3); None for who wears none."""
    if person.glasses is None:
        return None
    rng = named_rng("glasses", person.key)
    joints = model.J_regressor @ vertices
    eyes = {side: joints[model.joint_names.index(f"{side}_eye")] for side in ("left", "right")}
    front = max(vertices[model.region_mask("left_lids", "right_lids")][:, 2]) + 0.008
    wide, high = rng.uniform(0.023, 0.028), rng.uniform(0.016, 0.024)
    corner = rng.choice([2.0, 2.6, 4.0])  # exponent of a superellipse: round to square
    thick = rng.choice([0.0009, rng.uniform(0.0012, 0.0024)])
    angle = np.linspace(0, 2 * np.pi, 33)
    ring = np.stack([np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / corner) * wide,
                     np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / corner) * high, np.zeros_like(angle)], axis=1)  # fmt: skip
    lines = []
    for side, sign in (("left", 1.0), ("right", -1.0)):
        centre = np.array([eyes[side][0] * 1.04, eyes[side][1] - 0.003, front])
        curve = centre + ring
        curve[:, 2] -= 1.8 * np.abs(curve[:, 0]) ** 2  # rims bend around the face
        lines.append(curve)
        hinge = curve[np.argmax(sign * curve[:, 0])] + [0, 0.4 * high, 0]
        ear = vertices[model.regions[f"{side}_ear"]]
        behind = np.array([sign * (np.abs(ear[:, 0]).mean() + 0.001), ear[:, 1].max() - 0.008, ear[:, 2].mean() - 0.004])
        lines.append(hinge + (behind - hinge) * np.linspace(0, 1, 8)[:, None])
    inner = eyes["left"][0] * 1.04 - wide
    span = np.linspace(-inner, inner, 8)
    lines.append(np.stack([span, eyes["left"][1] + 0.003 + 0.003 * (1 - (span / max(inner, 1e-4)) ** 2), np.full(8, front)], axis=1))
    return joined([_tube(model, line, thick) for line in lines])


def _tube(model: HeadModel, line: np.ndarray, radius: float) -> Worn:
    """A round wire along points (n, 3)."""
    along = unit(np.gradient(line, axis=0))
    first = unit(np.cross(along, np.where(np.abs(along[:, 2:]) > 0.8, [[0, 1.0, 0]], [[0, 0, 1.0]])))
    second = np.cross(along, first)
    angle = np.linspace(0, 2 * np.pi, SIDES + 1)
    normals = first[:, None] * np.cos(angle)[None, :, None] + second[:, None] * np.sin(angle)[None, :, None]
    points = line[:, None] + radius * normals
    tangents = np.broadcast_to(along[:, None], points.shape)
    uvs = np.full((*points.shape[:2], 2), [0.5, sum(FRAME) / 2])
    count = points.shape[0] * points.shape[1]
    flat = (array.reshape(count, -1) for array in (points, normals, tangents, uvs))
    return on_joint(model, *flat, strip_faces(*points.shape[:2]), np.ones(count))  # pyright: ignore[reportCallIssue]
