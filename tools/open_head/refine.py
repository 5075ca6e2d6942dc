# SPDX-License-Identifier: Apache-2.0
"""Finer quads on the skull, where MakeHuman's are so large that the outline of the head would show corners.

Each chosen quad becomes four. New points interpolate the old ones along the quad's grid by the four-point scheme (Dyn, Levin and Gregory
1987), so they too are fixed blends of base vertices and the surface stays smooth in every identity.
"""

import numpy as np
import scipy.sparse as sparse

LARGE = 0.0100  # dm^2: quads above this area are split
SKULL_BACK, SKULL_TOP = (0.62, 6.95), 7.75  # dm: skull is what lies behind z and above y, and all above the second y


def refine_skull(quads: np.ndarray, adult: np.ndarray, mirror: np.ndarray) -> tuple[list[list[int]], sparse.csr_matrix, np.ndarray]:
    """Splits the skull's large quads.

    Args:
        quads: (M,4) base vertices, symmetric.
        adult: (N,3) dm.
        mirror: (N,) of the base.

    Returns:
        polygons of 3 to 8 vertex ids in an extended numbering (old ids first), the rows (N+m, N) of that numbering, its mirror map.
    """
    p = adult[quads]
    area = np.linalg.norm(np.cross(p[:, 2] - p[:, 0], p[:, 3] - p[:, 1]), axis=1) / 2
    low = p[..., 1].min(1)
    chosen = (area > LARGE) & (((p[..., 2].max(1) < SKULL_BACK[0]) & (low > SKULL_BACK[1])) | (low > SKULL_TOP))
    around = _quads_at_vertices(quads)
    rows: list[dict[int, float]] = []
    middles: dict[frozenset, int] = {}
    count = len(adult)
    for quad in quads[chosen].tolist():
        for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
            if (key := frozenset((a, b))) not in middles:
                middles[key] = count + len(rows)
                rows.append(_four_point(a, b, quads, around))
    centres: dict[frozenset, int] = {}
    for quad in quads[chosen].tolist():
        row = dict.fromkeys(quad, -0.25)
        for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
            for vertex, weight in rows[middles[frozenset((a, b))] - count].items():
                row[vertex] = row.get(vertex, 0.0) + 0.5 * weight
        centres[frozenset(quad)] = count + len(rows)
        rows.append(row)
    polygons = [_split(quad, middles, centres.get(frozenset(quad))) for quad in quads.tolist()]
    flat = [polygon for parts in polygons for polygon in parts]
    twins = {**middles, **centres}
    extended_mirror = np.concatenate([mirror, [twins[frozenset(int(mirror[v]) for v in key)] for key in twins]])
    order = np.concatenate([np.arange(count), np.array(list(twins.values()), dtype=int)])
    if not np.array_equal(order, np.arange(len(order))):
        raise ValueError("new points must be numbered in the order they were made")
    data = [(count + k, v, w) for k, row in enumerate(rows) for v, w in row.items()]
    i, j, w = (np.array(column) for column in zip(*data, strict=True))
    new = sparse.csr_matrix((w, (i, j)), shape=(count + len(rows), count))
    old = sparse.csr_matrix((np.ones(count), (np.arange(count), np.arange(count))), shape=new.shape)
    return flat, (old + new).tocsr(), extended_mirror


def _quads_at_vertices(quads: np.ndarray) -> dict[int, list[int]]:
    around: dict[int, list[int]] = {}
    for k, quad in enumerate(quads.tolist()):
        for vertex in quad:
            around.setdefault(vertex, []).append(k)
    return around


def _beyond(a: int, b: int, quads: np.ndarray, around: dict[int, list[int]]) -> int | None:
    """The vertex that continues the grid line from b over a, where a is a regular vertex of four quads."""
    at = around[a]
    if len(at) != 4:
        return None
    sharing = [k for k in at if b in quads[k]]
    others = [k for k in at if k not in sharing]
    if len(sharing) != 2:
        return None
    common = set(quads[others[0]].tolist()) & set(quads[others[1]].tolist()) - {a}
    return common.pop() if len(common) == 1 else None


def _four_point(a: int, b: int, quads: np.ndarray, around: dict[int, list[int]]) -> dict[int, float]:
    before, after = _beyond(a, b, quads, around), _beyond(b, a, quads, around)
    if before is None or after is None:
        return {a: 0.5, b: 0.5}
    return {before: -1 / 16, a: 9 / 16, b: 9 / 16, after: -1 / 16}


def _split(quad: list[int], middles: dict[frozenset, int], centre: int | None) -> list[list[int]]:
    """A quad as four quads, or as triangles around the first middle of its split edges, or as it is."""
    between = [middles.get(frozenset((a, b))) for a, b in zip(quad, quad[1:] + quad[:1], strict=True)]
    if centre is not None:
        return [[quad[k], between[k], centre, between[k - 1]] for k in range(4)]
    if all(m is None for m in between):
        return [quad]
    ring = [v for corner, middle in zip(quad, between, strict=True) for v in (corner, middle) if v is not None]
    start = next(k for k, v in enumerate(ring) if v in between)
    ring = ring[start:] + ring[:start]
    return [[ring[0], ring[k], ring[k + 1]] for k in range(1, len(ring) - 1)]
