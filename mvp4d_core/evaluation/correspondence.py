# SPDX-License-Identifier: Apache-2.0
"""What exact geometry says of pictures: which pixels show a surface that the photo shows too, and which pixels of two views show the
same point.

Every moving mesh has the same triangles in every frame, so a triangle and barycentrics name a point of the surface at any time.
"""

from dataclasses import dataclass

import numpy as np

from ..cameras import Camera, project
from ..render.mesh import MeshBuffers, rasterize_mesh

REFERENCE_SAMPLES = 4  # depth samples a pixel of the photo along each axis: a lash line of hair hides what lies behind it
VIEW_SAMPLES = 2
DEPTH_TOLERANCE = 0.004  # metres between a surface and what a depth buffer holds: more than its slope across a sample, less than hair


@dataclass(frozen=True)
class Matches:
    """n pixels of view `first` and the places in view `second` where the same surface points are seen.

    Attributes:
        first, second: views.
        pixels: (n,) flat indices into the pixels of `first`.
        places: (n, 2) float32 pixel coordinates in `second`, pixel centres at +0.5.
    """

    first: int
    second: int
    pixels: np.ndarray
    places: np.ndarray


def surface_points(buffers: MeshBuffers, faces: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The flat indices (n,) of the covered pixels, and where the points they show are on `vertices` (N, 3), at whatever time: (n, 3)."""
    pixels = np.flatnonzero(buffers.mask)
    corners = faces[buffers.face_ids.ravel()[pixels]]
    weights = buffers.barycentrics.reshape(-1, 3)[pixels]
    return pixels, np.einsum("nk,nkd->nd", weights, vertices[corners])


def is_visible(points: np.ndarray, camera: Camera, depth: np.ndarray, samples: int) -> np.ndarray:
    """(n,) bool: points (n, 3) that lie inside the camera's picture with nothing of its depth buffer, `samples` a pixel, before them."""
    pixels, away = project(points, camera)
    column, row = np.floor(pixels.T * samples).astype(np.int64)
    inside = (away > 0) & (column >= 0) & (row >= 0) & (column < depth.shape[1]) & (row < depth.shape[0])
    found = np.zeros(len(points), dtype=bool)
    found[inside] = away[inside] <= depth[row[inside], column[inside]] + DEPTH_TOLERANCE
    return found


def unseen_pixels(buffers: MeshBuffers, faces: np.ndarray, reference_vertices: np.ndarray, camera: Camera, depth: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose surface point the photo doesn't show, being turned away, hidden or outside it.

    Args:
        buffers: of the picture that is asked about.
        reference_vertices: (N, 3) the same meshes at the time of the photo.
        camera, depth: the photo's, its depth buffer `REFERENCE_SAMPLES` a pixel.
    """
    pixels, points = surface_points(buffers, faces, reference_vertices)
    unseen = np.zeros(buffers.mask.shape, dtype=bool)
    unseen.ravel()[pixels] = ~is_visible(points, camera, depth, REFERENCE_SAMPLES)
    return unseen


def match_views(
    vertices: np.ndarray, faces: np.ndarray, cameras: tuple[Camera, ...], buffers: list[MeshBuffers], solid: np.ndarray
) -> list[Matches]:
    """Same points in every pair of views of one moment.

    Args:
        vertices: (N, 3) at that moment.
        buffers: V, of each camera.
        solid: (V, H, W) bool, pixels that nothing of the background shines through; only points that are solid in both views count, with
            all four pixels around their place in the second.
    """
    depths = [rasterize_mesh(vertices, faces, camera, supersample=VIEW_SAMPLES).depth for camera in cameras]
    all_four = np.zeros_like(solid)
    all_four[:, 1:, 1:] = solid[:, :-1, :-1] & solid[:, 1:, :-1] & solid[:, :-1, 1:] & solid[:, 1:, 1:]  # the last pixel of the four
    matches = []
    for first, seen in enumerate(buffers):
        pixels, points = surface_points(seen, faces, vertices)
        kept = solid[first].ravel()[pixels]
        pixels, points = pixels[kept], points[kept]
        for second in range(first + 1, len(cameras)):
            places, _ = project(points, cameras[second])
            visible = is_visible(points, cameras[second], depths[second], VIEW_SAMPLES)
            last = np.floor(places[visible] + 0.5).astype(np.int64)
            height, width = solid.shape[1:]
            column, row = np.minimum(last[:, 0], width - 1), np.minimum(last[:, 1], height - 1)
            visible[visible] = all_four[second][row, column]
            matches.append(Matches(first, second, pixels[visible], places[visible].astype(np.float32)))
    return matches


def sample_picture(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Bilinear colours (n, C) of a picture (H, W, C) at pixel coordinates (n, 2), pixel centres at +0.5, clamped at the border."""
    height, width = picture.shape[:2]
    x, y = np.clip(places[:, 0] - 0.5, 0, width - 1), np.clip(places[:, 1] - 0.5, 0, height - 1)
    left, top = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    along, down = (x - left)[:, None], (y - top)[:, None]
    upper = picture[top, left] * (1 - along) + picture[top, right] * along
    lower = picture[bottom, left] * (1 - along) + picture[bottom, right] * along
    return upper * (1 - down) + lower * down
