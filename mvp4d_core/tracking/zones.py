# SPDX-License-Identifier: Apache-2.0
"""What the fitted head covers in a picture of it."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..cameras import Camera, project
from ..render.mesh import rasterize_mesh
from ..rig import HeadModel
from .regions import mask_of, sides_of

_BROW_MIDDLE, _CHIN = 168, 152  # landmarks between the eyes and under the chin
_ACROSS_BINS = 96


@dataclass(frozen=True)
class Zones:
    """Masks (H, W) bool of what the mesh shows: `head` all but the neck, `face` the face's skin, eyes and mouth, `neck`, `eyes` the
    eyeballs, `ears` the subject's left and right one; `below_eyes` (H, W) float32 is the distance below the eyes along the face, in
    distances from eyes to chin; `below_neck` lies beneath the mesh's lower rim.
    """

    head: np.ndarray
    face: np.ndarray
    neck: np.ndarray
    eyes: np.ndarray
    ears: tuple[np.ndarray, np.ndarray]
    below_eyes: np.ndarray
    below_neck: np.ndarray


def find_zones(model: HeadModel, vertices: np.ndarray, camera: Camera) -> Zones:
    """The zones of posed `vertices` (V, 3) in `camera`."""
    buffers = rasterize_mesh(vertices, model.faces, camera)
    of_face = np.zeros(len(model.faces) + 1, np.int8)  # 1 neck, 2 face, 4 and 5 the ears, 6 eyeballs, 3 the rest of the head
    of_face[:-1] = 3
    of_face[:-1][mask_of(model, "neck")[model.faces].all(axis=1)] = 1
    of_face[:-1][mask_of(model, "face", "lip", "lid", "teeth", "tongue", "mouth_cavity")[model.faces].all(axis=1)] = 2
    for number, side in zip((4, 5), sides_of(model, "ear"), strict=True):
        of_face[:-1][side[model.faces].all(axis=1)] = number
    of_face[:-1][mask_of(model, "eyeball")[model.faces].all(axis=1)] = 6
    code = of_face[buffers.face_ids]
    eyes, chin = project(model.landmarks(vertices)[[_BROW_MIDDLE, _CHIN]], camera)[0]
    down = (chin - eyes) / max(np.linalg.norm(chin - eyes), 1e-6)
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    offset = np.stack([x, y], axis=-1) - eyes
    below_eyes = (offset @ down) / max(np.linalg.norm(chin - eyes), 1e-6)
    across = offset @ np.array([down[1], -down[0]])
    return Zones(
        head=code > 1,
        face=(code == 2) | (code == 6),
        neck=code == 1,
        eyes=code == 6,
        ears=(code == 4, code == 5),
        below_eyes=below_eyes.astype(np.float32),
        below_neck=below_eyes > _rim(code > 0, across, below_eyes),
    )


def _rim(covered: np.ndarray, across: np.ndarray, below: np.ndarray) -> np.ndarray:
    """(H, W): how far down the mesh reaches at each place across; beyond its sides, as far as at its sides."""
    if not covered.any():
        return np.full(covered.shape, np.inf)
    low, high = across[covered].min(), across[covered].max()
    place = np.clip((across - low) / max(high - low, 1e-6) * _ACROSS_BINS, 0, _ACROSS_BINS - 1).astype(int)
    depth = np.full(_ACROSS_BINS, -np.inf)
    np.maximum.at(depth, place[covered], below[covered])
    known = np.nonzero(np.isfinite(depth))[0]
    depth = np.interp(np.arange(_ACROSS_BINS), known, depth[known])
    return ndimage.gaussian_filter1d(depth, 1.5, mode="nearest")[place]
