# SPDX-License-Identifier: Apache-2.0
"""Where the Gaussians start: flat discs spread over the person's surface, coloured by the pictures that see them."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ..avatar.harmonics import SH_C0
from ..cameras import project
from ..generate.multiview import MultiViewVideo
from ..render.mesh import rasterize_mesh
from ..rig import HeadModel, skin, triangle_frames

# discs overlap so that no gap shows between them; thin along the normal
DISC_RADIUS, DISC_THICKNESS, DISC_OPACITY = 0.75, 0.15, 0.9
# density of a region over that of the rest: fine detail needs more, what hides in the mouth less
DENSITY = {"face": 2.0, "lips": 3.0, "left_lids": 3.0, "right_lids": 3.0, "left_eyeball": 3.0, "right_eyeball": 3.0, "mouth_cavity": 0.5}
DEPTH_TOLERANCE = 0.004  # metres between a point and the surface a camera sees there


@dataclass(frozen=True)
class SurfaceSamples:
    """Points on triangles: `binding` (N,), `barycentrics` (N, 3) and `area` (N,) in square metres at rest, the patch each stands for."""

    binding: np.ndarray
    barycentrics: np.ndarray
    area: np.ndarray

    def points(self, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """(N, 3) on the triangles of `vertices`."""
        return np.einsum("nk,nkd->nd", self.barycentrics, vertices[faces[self.binding]])


def sample_surface(rig: HeadModel, count: int, seed: int) -> SurfaceSamples:
    """`count` points, at least one a triangle, otherwise in proportion to area times the region's density."""
    vertices = rig.v_template + rig.static_offsets
    corners = vertices[rig.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    density = np.ones(len(rig.faces))
    for region, factor in DENSITY.items():
        if region in rig.regions:
            density[rig.region_mask(region)[rig.faces].all(axis=1)] = factor
    weights = areas * density / (areas * density).sum()
    spare = max(0, count - len(areas))
    # largest remainders: the counts are as close to the shares as whole numbers can be, and add up
    shares = weights * spare
    counts = 1 + np.floor(shares).astype(int)
    short = len(areas) + spare - counts.sum()
    counts[np.argsort(shares - np.floor(shares), kind="stable")[::-1][:short]] += 1
    binding = np.repeat(np.arange(len(areas), dtype=np.int32), counts)
    u, v = np.random.default_rng(seed).random((2, len(binding)))
    root = np.sqrt(u)  # uniform over a triangle
    barycentrics = np.stack([1 - root, root * (1 - v), root * v], axis=-1)
    barycentrics = 0.85 * barycentrics + 0.05  # off the edges, so that a disc lies mostly on its own triangle
    return SurfaceSamples(binding, barycentrics, (areas / counts)[binding])


def gaussians_from_samples(samples: SurfaceSamples, rig: HeadModel, colors: np.ndarray, sh_degree: int) -> dict[str, np.ndarray]:
    """The stored arrays of `GaussianAvatar` (float32) for opaque discs of `colors` (N, 3) lying on the samples."""
    vertices = (rig.v_template + rig.static_offsets).astype(np.float64)
    frames = triangle_frames(vertices, rig.faces)
    binding, count = samples.binding, len(samples.binding)
    sizes = np.maximum(frames.sizes[binding], 1e-9)
    centred = samples.points(vertices, rig.faces) - frames.centres[binding]
    radius = DISC_RADIUS * np.sqrt(samples.area) / sizes
    scales = np.stack([radius, radius * DISC_THICKNESS, radius], axis=-1)  # the frame's second axis is the normal
    quats = np.zeros((count, 4))
    quats[:, 0] = 1
    arrays = {
        "means": np.einsum("nji,nj->ni", frames.rotations[binding], centred) / sizes[:, None],
        "quats": quats,
        "log_scales": np.log(np.clip(scales, 1e-4, 1.0)),
        "opacity_logits": np.full(count, np.log(DISC_OPACITY / (1 - DISC_OPACITY))),
        "sh0": (colors - 0.5) / SH_C0,
        "shN": np.zeros((count, (sh_degree + 1) ** 2 - 1, 3)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def back_project(video: MultiViewVideo, rig: HeadModel, samples: SurfaceSamples, pictures: list[tuple[int, int]]) -> np.ndarray:
    """Colours (N, 3) of surface samples from the `pictures` (view, frame) that see them.

    A picture counts by the square of the cosine under which it sees the sample. Samples that no picture sees take the colour of the nearest
    seen one on the rest surface.
    """
    total = np.zeros((len(samples.binding), 3))
    weight = np.full(len(samples.binding), 1e-9)
    posed = {}
    for view, frame in pictures:
        camera = video.plan.cameras[view]
        if frame not in posed:
            p = video.plan.performance[frame]
            vertices = skin(rig, None, p.expression, p.rotations, p.translation)
            posed[frame] = (vertices, triangle_frames(vertices, rig.faces).rotations[:, :, 1], samples.points(vertices, rig.faces))
        vertices, normals, points = posed[frame]
        buffers = rasterize_mesh(vertices, rig.faces, camera)
        pixels, depth = project(points, camera)
        column, row = (np.floor(pixels[:, k]).astype(int) for k in (0, 1))
        inside = (column >= 0) & (row >= 0) & (column < camera.width) & (row < camera.height) & (depth > 0)
        column, row = np.where(inside, column, 0), np.where(inside, row, 0)
        towards = camera.position - points
        cosine = np.einsum("ni,ni->n", normals[samples.binding], towards) / np.linalg.norm(towards, axis=1)
        opaque = video.alphas[view, frame, row, column] > 250
        seen = inside & opaque & (cosine > 0.15) & (np.abs(buffers.depth[row, column] - depth) < DEPTH_TOLERANCE)
        amount = np.where(seen, cosine**2, 0)
        total += amount[:, None] * video.frames[view, frame, row, column] / 255
        weight += amount
    colors = total / weight[:, None]
    known = weight > 1e-6
    if known.any() and not known.all():
        rest = samples.points(rig.v_template + rig.static_offsets, rig.faces)
        colors[~known] = colors[known][cKDTree(rest[known]).query(rest[~known])[1]]
    return colors
