# SPDX-License-Identifier: Apache-2.0
"""The conditioning maps drawn by torch, for CUDA, the twin of kernels_maps.py.

A z-buffer without a loop over faces: all pairs of a face and a pixel centre in its box are listed, those inside the face compete for
the pixel by one atomic minimum of (depth, face), and the winners are shaded. Coverage is decided in the same integers as on the CPU.
"""

import numpy as np
import torch

from ..render.kernels_mesh import GUARD_BAND, SUBPIXELS
from .kernels_maps import FRAMES_A_LATENT, FREQUENCIES, SUPERSAMPLE

FRAMES_AT_ONCE = 64  # frames of all views projected together, which bounds the memory
EMPTY = torch.iinfo(torch.int64).max


def draw_maps(
    frames: torch.Tensor,
    deformation: torch.Tensor,
    canonical: np.ndarray,
    faces: np.ndarray,
    projections: np.ndarray,
    motion_units: np.ndarray,
    positions: torch.Tensor,
    expression: torch.Tensor,
    motions: torch.Tensor,
) -> None:
    """Fills `positions`, `expression` and `motions` on the device of `frames`; the arguments mean what they do in `kernels_maps.draw_maps`.

    Faces with a corner more than 100,000 px outside the raster are left out; the CPU clips them.
    """
    device, (height, width) = frames.device, positions.shape[-2:]
    corners = torch.from_numpy(faces).to(device).long()
    canonical_ = torch.from_numpy(canonical).to(device)
    units = torch.from_numpy(motion_units).to(device)
    step = max(1, FRAMES_AT_ONCE // len(frames))
    for first in range(0, len(projections), step):
        part = slice(first, first + step)
        points = _project(frames, torch.from_numpy(projections[part]).to(device))
        anchors = points[:, ::FRAMES_A_LATENT]
        views, latents, count = anchors.shape[:3]
        motion = torch.zeros((views, latents, count, 9), device=device)
        before = points[:, 1:].reshape(views, latents - 1, FRAMES_A_LATENT, count, 3)[:, :, :-1]
        moved = (before - anchors[:, 1:, None]) * units
        motion[:, 1:] = moved.permute(0, 1, 3, 2, 4).reshape(views, latents - 1, count, 9).float()
        pixels, triangles, weights = _rasterize(anchors.reshape(-1, count, 3), corners, height * SUPERSAMPLE, width * SUPERSAMPLE)
        job = pixels // (height * width * SUPERSAMPLE**2)
        on_head = (weights[..., None] * canonical_[triangles]).sum(dim=1)
        offset = (weights[..., None] * deformation[(job % latents)[:, None], triangles]).sum(dim=1)
        moving = (weights[..., None] * motion.reshape(-1, count, 9)[job[:, None], triangles]).sum(dim=1)
        samples = torch.cat([_encode(on_head), offset, moving], dim=1)
        raster = torch.zeros((views * latents * height * width * SUPERSAMPLE**2, samples.shape[1]), device=device)
        raster[pixels] = samples
        raster = raster.reshape(views, latents, height, SUPERSAMPLE, width, SUPERSAMPLE, -1).mean(dim=(3, 5))
        sizes = [tensor.shape[2] for tensor in (positions, expression, motions)]
        for target, source in zip((positions, expression, motions), raster.split(sizes, dim=-1), strict=True):
            target[part] = source.permute(0, 1, 4, 2, 3)


def _project(frames: torch.Tensor, projections: torch.Tensor) -> torch.Tensor:
    """frames (F, V, 3) and projections (N, 3, 4) float64 -> (N, F, V, 3) float64: raster pixels and depth."""
    homogeneous = torch.einsum("nij,fvj->nfvi", projections[..., :3], frames.double()) + projections[:, None, None, :, 3]
    return torch.cat([homogeneous[..., :2] / homogeneous[..., 2:], homogeneous[..., 2:]], dim=-1)


def _rasterize(points: torch.Tensor, faces: torch.Tensor, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The face each sample sees first.

    Returns:
        (n,) flat samples of (B, height, width), their corners (n, 3) and perspective-correct barycentrics (n, 3) float32.
    """
    count, half = len(faces), SUBPIXELS // 2
    reachable = points[..., :2].abs().amax(dim=-1) < GUARD_BAND
    snapped = (points[..., :2].clamp(-GUARD_BAND, GUARD_BAND) * SUBPIXELS).round().long()
    corners = snapped[:, faces].reshape(-1, 3, 2)
    limits = torch.tensor([width, height], device=points.device)
    low = ((corners.amin(dim=1) + half - 1) // SUBPIXELS).clamp_min(0)
    high = torch.minimum((corners.amax(dim=1) - half) // SUBPIXELS, limits - 1)
    box = (high - low + 1).clamp_min(0)
    usable = (_doubled_area(corners) != 0) & reachable[:, faces].all(dim=-1).reshape(-1)
    pairs = box[:, 0] * box[:, 1] * usable
    triangle = torch.repeat_interleave(torch.arange(len(pairs), device=points.device), pairs)
    place = torch.arange(len(triangle), device=points.device) - (pairs.cumsum(dim=0) - pairs)[triangle]
    columns = box[triangle, 0]
    pixel = low[triangle] + torch.stack([place % columns, place // columns], dim=-1)
    edges, covered = _edges(corners[triangle], pixel * SUBPIXELS + half)
    triangle, pixel, edges = triangle[covered], pixel[covered], edges[covered]
    job, face = triangle // count, triangle % count
    screen = edges.double() / _doubled_area(corners[triangle]).abs()[:, None]
    over_depth = screen / points[..., 2][job[:, None], faces[face]]
    depth = 1 / over_depth.sum(dim=1)
    sample = (job * height + pixel[:, 1]) * width + pixel[:, 0]
    key = (depth.float().view(torch.int32).long() << 32) | face
    buffer = torch.full((len(points) * height * width,), EMPTY, device=points.device).scatter_reduce_(0, sample, key, "amin")
    winner = buffer[sample] == key
    weights = (over_depth * depth[:, None])[winner].clamp(0, 1)
    return sample[winner], faces[face[winner]], (weights / weights.sum(dim=1, keepdim=True)).float()


def _doubled_area(corners: torch.Tensor) -> torch.Tensor:
    a, b, c = corners.unbind(dim=1)
    return (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])


def _edges(corners: torch.Tensor, centre: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Edge functions opposite each corner (n, 3), positive inside whatever the winding, and which centres are covered (top-left rule)."""
    turn = _doubled_area(corners).sign()
    start, end = corners.roll(-1, dims=1), corners.roll(-2, dims=1)
    along = (end - start) * turn[:, None, None]
    to_centre = centre[:, None] - start
    value = along[..., 0] * to_centre[..., 1] - along[..., 1] * to_centre[..., 0]
    owns = (along[..., 1] < 0) | ((along[..., 1] == 0) & (along[..., 0] > 0))
    return value, ((value > 0) | ((value == 0) & owns)).all(dim=1)


def _encode(coordinates: torch.Tensor) -> torch.Tensor:
    """(n, 3) -> (n, 42): for each axis the sines and then the cosines of 2^0 .. 2^6 times it."""
    angles = coordinates[..., None].double() * 2.0 ** torch.arange(FREQUENCIES, device=coordinates.device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1).float()
