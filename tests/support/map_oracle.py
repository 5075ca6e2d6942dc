# SPDX-License-Identifier: Apache-2.0
"""The conditioning maps from their definitions, in float64, by casting a ray through every sample at every triangle."""

from typing import Any

import numpy as np

from mvp4d_core.cameras import Camera, project
from mvp4d_core.rig import HeadModel, Performance, skin


def trace_maps(
    head_model: HeadModel, rig: HeadModel, camera: Camera, performance: Performance, latent: int, reference: Camera, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """One latent frame of one view: maps (59, h, w), and (h, w) whether all rays of a pixel clearly miss all edges."""
    height, width = size
    anchor = posed(rig, performance, 4 * latent)
    face, weights, clear = cast(anchor[rig.faces], camera, 2 * height, 2 * width)
    corners, hit = rig.faces[np.maximum(face, 0)], (face >= 0)[:, None]

    def paint(attribute: np.ndarray) -> np.ndarray:
        return (weights[..., None] * attribute[corners]).sum(axis=1)

    template = head_model.v_template.astype(np.float64)
    canonical = template - template.mean(axis=0)
    angles = paint(canonical / canonical.max())
    encoded = [wave(2.0**band * angles[:, axis]) for axis in range(3) for wave in (np.sin, np.cos) for band in range(7)]
    expression = paint((expressed(rig, performance, 4 * latent) - expressed(rig, performance, None)) / 0.0104)
    motion = np.zeros((len(face), 9))
    if latent:
        here, depth = project(anchor, camera)
        for place in range(3):
            there, far = project(posed(rig, performance, 4 * latent - 3 + place), camera)
            moved = (there - here) / [camera.width, camera.height] / 0.01
            motion[:, 3 * place : 3 * place + 3] = paint(np.concatenate([moved, (far - depth)[:, None] / 0.004], axis=1))
    painted = np.concatenate([np.stack(encoded, axis=1), expression, motion], axis=1) * hit
    pooled = painted.reshape(height, 2, width, 2, 54).mean(axis=(1, 3)).transpose(2, 0, 1)
    ones = np.ones((1, height, width))
    maps = np.concatenate([pooled[:45], rays(camera, reference, size), 0 * ones, ones, pooled[45:]])
    return maps, clear.reshape(height, 2, width, 2).all(axis=(1, 3))


def posed(rig: HeadModel, performance: Performance, frame: int) -> np.ndarray:
    pose: Any = performance[frame]
    return skin(rig, None, *(array.astype(np.float64) for array in (pose.expression, pose.rotations, pose.translation)))


def expressed(rig: HeadModel, performance: Performance, frame: int | None) -> np.ndarray:
    """The head at rest pose with the expression, jaw and gaze of a frame, or neutral."""
    expression, rotations = np.zeros(len(rig.expression_names)), np.zeros((len(rig.joint_names), 3))
    if frame is not None:
        expression += performance.expression[frame]
        for name in ("jaw", "left_eye", "right_eye"):
            rotations[rig.joint_names.index(name)] = performance.rotations[frame, rig.joint_names.index(name)]
    return skin(rig, None, expression, rotations, np.zeros(3))


def cast(triangles: np.ndarray, camera: Camera, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moeller-Trumbore in world space: nearest face (n,) or -1, barycentrics (n, 3), and whether no edge is near the ray (n,)."""
    directions = directions_to_samples(camera, height, width).reshape(-1, 3)
    edge1, edge2, start = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0], camera.position - triangles[:, 0]
    across = np.cross(directions[:, None], edge2)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / np.einsum("fk,rfk->rf", edge1, across)
        second = np.einsum("fk,rfk->rf", start, across) * scale
        third = np.einsum("rk,fk->rf", directions, np.cross(start, edge1)) * scale
        distance = np.einsum("fk,fk->f", edge2, np.cross(start, edge1)) * scale
        weights = np.stack([1 - second - third, second, third], axis=-1)
        inside = (weights >= 0).all(axis=-1) & (distance > 0)
        margin = np.where(np.isfinite(weights), np.abs(weights), 1).min(axis=-1)
        near_edge = ((weights > -1e-3).all(axis=-1) & (margin < 1e-3) & (distance > 0)).any(axis=1)
    distance = np.where(inside, distance, np.inf)
    nearest, rows = distance.argmin(axis=1), np.arange(len(directions))
    hit = np.isfinite(distance[rows, nearest])
    return np.where(hit, nearest, -1), np.where(hit[:, None], weights[rows, nearest], 0), ~near_edge


def directions_to_samples(camera: Camera, height: int, width: int) -> np.ndarray:
    """(height, width, 3) world directions through the centres of a raster laid over the picture."""
    out = np.zeros((height, width, 3))
    for row in range(height):
        for column in range(width):
            pixel = [(column + 0.5) / width * camera.width, (row + 0.5) / height * camera.height, 1.0]
            out[row, column] = np.linalg.solve(camera.K @ camera.camera_from_world[:3, :3], pixel)
    return out


def rays(camera: Camera, reference: Camera, size: tuple[int, int]) -> np.ndarray:
    directions = directions_to_samples(camera, *size) @ reference.camera_from_world[:3, :3].T
    return (directions / np.linalg.norm(directions, axis=-1, keepdims=True)).transpose(2, 0, 1)
