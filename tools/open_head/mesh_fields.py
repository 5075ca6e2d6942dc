# SPDX-License-Identifier: Apache-2.0
"""Scalar fields on the head's mesh: areas, smooth steps, and weights diffused along edges."""

import numpy as np
import scipy.sparse as sparse
import scipy.sparse.linalg as linalg


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, with a level start and end; `low` may exceed `high`."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def unique_edges(faces: np.ndarray) -> np.ndarray:
    """(E,2) each edge once, ascending."""
    return np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)


def boundary_loops(faces: np.ndarray) -> list[list[int]]:
    """Loops of vertices along edges that have one face (triangle or quad), in the faces' direction."""
    directed = np.stack([faces, np.roll(faces, -1, axis=1)], -1).reshape(-1, 2)
    both = {(int(a), int(b)) for a, b in directed}
    following = {a: b for a, b in both if (b, a) not in both}
    loops = []
    while following:
        start = min(following)
        loop = [start]
        while (nxt := following.pop(loop[-1])) != start:
            loop.append(nxt)
        loops.append(loop)
    return loops


def vertex_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V,) a third of the faces around each vertex."""
    p = vertices[faces]
    area = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1) / 2
    return np.bincount(faces.reshape(-1), np.repeat(area / 3, 3), minlength=len(vertices))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V,3) unit, area-weighted."""
    p = vertices[faces]
    face_normals = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    normals = np.stack([np.bincount(faces.reshape(-1), np.repeat(face_normals[:, d], 3), minlength=len(vertices)) for d in range(3)], 1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)


def neighbour_mean(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    """(V,V) row-stochastic: the mean over each vertex's neighbours (itself where it has none)."""
    edges = unique_edges(faces)
    i, j = np.concatenate([edges, edges[:, ::-1]]).T
    adjacency = sparse.csr_matrix((np.ones(len(i)), (i, j)), shape=(count, count))
    lonely = sparse.diags((np.asarray(adjacency.sum(1)).ravel() == 0).astype(float))
    adjacency = (adjacency + lonely).tocsr()
    return sparse.diags(1 / np.asarray(adjacency.sum(1)).ravel()) @ adjacency


def smoothed(values: np.ndarray, faces: np.ndarray, rounds: int, held: np.ndarray | None = None) -> np.ndarray:
    """`values` (V,) or (V,D) diffused over the mesh by half steps; where `held` (V,) bool, they stay."""
    mean = neighbour_mean(faces, len(values))
    out = values
    for _ in range(rounds):
        step = 0.5 * out + 0.5 * (mean @ out)
        if held is not None:
            step[held] = values[held]
        out = step
    return out


def interpolated(values: np.ndarray, known: np.ndarray, faces: np.ndarray, order: int) -> np.ndarray:
    """`values` (V,D) where `known` (V,) bool, and in between a smooth field: of order 1 harmonic, which never overshoots; of order 2 the
    one of least squared graph Laplacian, which also continues slopes.
    """
    laplacian = sparse.identity(len(values)) - neighbour_mean(faces, len(values))
    energy = laplacian.tocsc() if order == 1 else (laplacian.T @ laplacian).tocsc()
    free, fixed = np.flatnonzero(~known), np.flatnonzero(known)
    out = values.astype(np.float64).copy()
    if len(free):
        system = energy[free][:, free] + 1e-12 * sparse.identity(len(free))
        out[free] = linalg.splu(system.tocsc()).solve(np.asarray(-(energy[free][:, fixed] @ out[fixed])))
    return out
