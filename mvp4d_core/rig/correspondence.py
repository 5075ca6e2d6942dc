# SPDX-License-Identifier: Apache-2.0
"""From one head to another by the landmarks that both carry: a smooth warp, and what lies on one head's surface carried to the other's."""

from collections.abc import Callable

import numpy as np

from ..errors import InputError
from .head_model import HeadModel

SMOOTHING = 1e-3  # metres of a point's own error that the warp may leave: landmarks jitter, faces do not
_CHUNK = 512
_CANDIDATES = 24


def warp(source: np.ndarray, target: np.ndarray, smoothing: float = SMOOTHING) -> Callable[[np.ndarray], np.ndarray]:
    """The map of space (n, 3) -> (n, 3) that takes `source` (L, 3) to `target` (L, 3): a biharmonic spline (Duchon 1977)."""
    count = len(source)
    if source.shape != target.shape or count < 8:
        raise InputError(f"A warp needs eight pairs of points or more, got {source.shape} and {target.shape}.")
    affine = np.concatenate([np.ones((count, 1)), source], axis=1)
    system = np.zeros((count + 4, count + 4))
    system[:count, :count] = -np.linalg.norm(source[:, None] - source, axis=-1) + smoothing * np.eye(count)
    system[:count, count:], system[count:, :count] = affine, affine.T
    wanted = np.concatenate([target, np.zeros((4, 3))])
    weights = np.linalg.lstsq(system, wanted, rcond=None)[0]

    def moved(points: np.ndarray) -> np.ndarray:
        parts = [-np.linalg.norm(chunk[:, None] - source, axis=-1) @ weights[:count] for chunk in _chunks(points)]
        return np.concatenate(parts) + weights[count] + points @ weights[count + 1 :]

    return moved


def nearest(points: np.ndarray, among: np.ndarray) -> np.ndarray:
    """(n,) the index of the nearest of `among` (m, 3) for each of `points` (n, 3)."""
    squares = (among**2).sum(axis=1)
    return np.concatenate([np.argmin(squares - 2 * chunk @ among.T, axis=1) for chunk in _chunks(points)])


def nearest_vertices(source: HeadModel, target: HeadModel) -> np.ndarray:
    """(V of target,) for each vertex of `target` the nearest one of `source` once that is warped onto it by the landmarks of both."""
    if not len(source.landmark_faces) == len(target.landmark_faces) > 0:
        raise InputError(f"The heads `{source.name}` and `{target.name}` must carry the same landmarks for one to be laid on the other.")
    moved = warp(source.landmarks(source.v_template), target.landmarks(target.v_template))(source.v_template.astype(np.float64))
    return nearest(target.v_template.astype(np.float64), moved)


def carried_regions(source: HeadModel, target: HeadModel, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named regions of `source`, as vertices of `target`."""
    origin = nearest_vertices(source, target)
    return {name: np.flatnonzero(source.region_mask(name)[origin]).astype(np.int32) for name in names if name in source.regions}


def nearest_on_surface(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces (n,) int32 and barycentrics (n, 3) of the nearest points of a mesh, looked for among the 24 faces of nearest middle."""
    triangles = vertices[faces].astype(np.float64)
    middles, few = triangles.mean(axis=1), min(_CANDIDATES, len(faces))
    squares = (middles**2).sum(axis=1)
    near = [np.argpartition(squares - 2 * chunk @ middles.T, few - 1, axis=1)[:, :few] for chunk in _chunks(points)]
    return nearest_of_triangles(points, triangles, np.concatenate(near))


def nearest_of_triangles(points: np.ndarray, triangles: np.ndarray, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which (n,) int32 of the triangles (F, 3, 3) is nearest to each of `points` (n, 3), of its `candidates` (n, k) alone, and the
    barycentrics (n, 3) of the place.
    """
    chosen = triangles[candidates]
    shares = _closest(chosen, points[:, None])
    places = np.einsum("nkc,nkcd->nkd", shares, chosen)
    rows, best = np.arange(len(points)), np.linalg.norm(places - points[:, None], axis=-1).argmin(axis=1)
    return candidates[rows, best].astype(np.int32), shares[rows, best]


def _closest(triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(..., 3) barycentrics of the place of each triangle (..., 3, 3) nearest to its point (..., 3): inside, or on the best side."""
    a, b, c = (triangles[..., k, :] for k in range(3))
    u, v, w = b - a, c - a, points - a
    uu, uv, vv, wu, wv = ((x * y).sum(axis=-1) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    area = np.maximum(uu * vv - uv**2, 1e-30)
    s, t = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    best = np.stack([1 - s - t, s, t], axis=-1)
    outside = best.min(axis=-1) < 0
    distance = np.where(outside, np.inf, 0.0)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, along = triangles[..., i, :], triangles[..., j, :] - triangles[..., i, :]
        share = np.clip(((points - start) * along).sum(axis=-1) / np.maximum((along**2).sum(axis=-1), 1e-30), 0, 1)
        off = np.linalg.norm(start + share[..., None] * along - points, axis=-1)
        side = np.zeros_like(best)
        side[..., i], side[..., j] = 1 - share, share
        better = outside & (off < distance)
        best[better], distance[better] = side[better], off[better]
    return best


def _chunks(points: np.ndarray) -> list[np.ndarray]:
    return [points[k : k + _CHUNK] for k in range(0, len(points), _CHUNK)] or [points]
