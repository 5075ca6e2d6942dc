# SPDX-License-Identifier: Apache-2.0
"""An atlas for a head that comes without one: each part cut open, pinned to a disc and relaxed (Tutte 1963), which cannot overlap."""

import heapq
from itertools import pairwise

import numpy as np

from .surface import connected, edges, openings, parts

_STEPS, _TOLERANCE = 2000, 1e-7  # of the conjugate gradients
_ROUNDS = 8


def own_atlas(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """uvs (T, 2) float32 in 0..1 and uv_faces (F, 3) int32: the largest part above, the others in a row below it.

    Each part is cut along the back from its lowest opening behind, or its lowest point, up to its top: the seam is not on the face.
    """
    part_of = np.unique(parts(faces, len(vertices))[faces[:, 0]], return_inverse=True)[1]
    sizes = np.bincount(part_of)
    order = np.argsort(sizes)[::-1]
    small = min(0.25, 1 / max(len(order) - 1, 1))
    uvs, uv_faces, count = [], np.zeros_like(faces, np.int32), 0
    for rank, part in enumerate(order):
        mine = np.flatnonzero(part_of == part)
        corners, places = _disc(vertices, faces[mine])
        radius, middle = (0.36, (0.5, 0.635)) if rank == 0 else (0.45 * small, ((rank - 0.5) * small, 0.125))
        uvs.append(np.array(middle) + radius * places)
        uv_faces[mine] = corners + count
        count += len(places)
    return np.concatenate(uvs).astype(np.float32), uv_faces


def _disc(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (n, 3) and their places (m, 2) in the unit disc, of one part."""
    loops = openings(faces)
    used = np.unique(faces)
    y, z = vertices[used, 1], vertices[used, 2]
    low = [loop[np.argmin(vertices[loop, 2])] for loop in loops if vertices[loop, 2].min() < z.mean()]
    start = min(low, key=lambda v: vertices[v, 1]) if low else used[np.argmin(y)]
    end = used[np.argmax(y)]
    corners, count = _cut(faces, _path(vertices, faces, int(start), int(end)))
    position = np.zeros((count, 3))
    position[corners] = vertices[faces]
    loops = sorted(openings(corners), key=lambda loop: -_length(position[loop]))
    around = np.cumsum(np.linalg.norm(position[loops[0]] - np.roll(position[loops[0]], 1, axis=0), axis=1))
    angle = 2 * np.pi * around / around[-1] - np.pi / 2
    filled = [corners] + [np.stack([loop, np.roll(loop, -1), np.full(len(loop), count + k)], 1) for k, loop in enumerate(loops[1:])]
    pinned = np.stack([-np.cos(angle), np.sin(angle)], axis=1)  # openings run clockwise
    middles = [position[loop].mean(axis=0, keepdims=True) for loop in loops[1:]]
    return corners, _relaxed(np.concatenate(filled), np.concatenate([position, *middles]), loops[0], pinned)[:count]


def _length(points: np.ndarray) -> float:
    return float(np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum())


def _path(vertices: np.ndarray, faces: np.ndarray, start: int, end: int) -> list[int]:
    """The shortest way along edges that keeps to the back: edges in front cost more (Dijkstra 1959)."""
    ties = edges(faces)
    depth = vertices[:, 2] - vertices[np.unique(faces), 2].min()
    cost = np.linalg.norm(vertices[ties[:, 0]] - vertices[ties[:, 1]], axis=1) * (1 + 100 * depth[ties].mean(axis=1))
    near: dict[int, list[tuple[int, float]]] = {}
    for (a, b), price in zip(ties.tolist(), cost.tolist(), strict=True):
        near.setdefault(a, []).append((b, price))
        near.setdefault(b, []).append((a, price))
    best, came, queue = {start: 0.0}, {start: start}, [(0.0, start)]
    while queue:
        price, vertex = heapq.heappop(queue)
        if vertex == end:
            break
        for other, step in near[vertex]:
            if price + step < best.get(other, np.inf):
                best[other], came[other] = price + step, vertex
                heapq.heappush(queue, (price + step, other))
    path = [end]
    while path[-1] != start:
        path.append(came[path[-1]])
    return path


def _cut(faces: np.ndarray, path: list[int]) -> tuple[np.ndarray, int]:
    """Faces whose corners on the two sides of a path are different points, and the number of points."""
    seam = {frozenset(pair) for pair in pairwise(path)}
    owner: dict[tuple[int, int], int] = {}
    pairs = []
    for face, triangle in enumerate(faces.tolist()):
        for k in range(3):
            a, b = triangle[k], triangle[(k + 1) % 3]
            owner[a, b] = 3 * face + k
    for (a, b), corner in owner.items():
        other = owner.get((b, a))
        if other is not None and a < b and frozenset((a, b)) not in seam:
            pairs.append((corner, other - other % 3 + (other + 1) % 3))
            pairs.append((corner - corner % 3 + (corner + 1) % 3, other))
    corners = connected(np.array(pairs).reshape(-1, 2), faces.size).reshape(faces.shape)
    return corners, int(corners.max()) + 1


def _relaxed(faces: np.ndarray, position: np.ndarray, ring: np.ndarray, pinned: np.ndarray) -> np.ndarray:
    """(n, 2) each point in the weighted middle of its neighbours, the ring's where they are pinned.

    Edges that come out longer than others, for their length on the head, pull harder in the next of `_ROUNDS`, which evens out the scale
    (after Yoshizawa et al. 2004). Weights stay positive, so that nothing folds over.
    """
    ties = edges(faces)
    lengths = np.linalg.norm(position[ties[:, 0]] - position[ties[:, 1]], axis=1) + 1e-6
    weights = np.ones(len(ties))
    places = np.zeros((len(position), 2))
    places[ring] = pinned
    for _ in range(_ROUNDS):
        places = _balanced(ties, weights, ring, places)
        stretch = (np.linalg.norm(places[ties[:, 0]] - places[ties[:, 1]], axis=1) + 1e-6) / lengths
        weights = np.clip(weights * np.sqrt(stretch / np.median(stretch)), 0.02, 50.0)
    return places


def _balanced(ties: np.ndarray, weights: np.ndarray, ring: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(n, 2) where springs of `weights` hold all points but the ring's; by conjugate gradients from `places`."""
    count = len(places)
    a, b = ties.T
    degree = (np.bincount(a, weights, count) + np.bincount(b, weights, count))[:, None]
    free = np.ones((count, 1))
    free[ring] = 0.0

    def laplacian(x: np.ndarray) -> np.ndarray:
        sums = [np.bincount(a, weights * x[b, k], count) + np.bincount(b, weights * x[a, k], count) for k in (0, 1)]
        return free * (degree * x - np.stack(sums, axis=1))

    places = places.copy()
    residual = -laplacian(places)
    direction = residual / degree
    energy = (residual * direction).sum(axis=0)
    first = energy.copy()
    for _ in range(_STEPS):
        if (energy <= _TOLERANCE**2 * first).all():
            break
        turned = laplacian(direction)
        step = energy / np.maximum((direction * turned).sum(axis=0), 1e-300)
        places += step * direction
        residual -= step * turned
        scaled = residual / degree
        after = (residual * scaled).sum(axis=0)
        direction = scaled + after / np.maximum(energy, 1e-300) * direction
        energy = after
    return places
