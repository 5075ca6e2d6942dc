# SPDX-License-Identifier: Apache-2.0
"""Rows of teeth. MakeHuman's are plain bands of 4 x 17 vertices; here each band carries twelve crowns between gums.

A band's rows run from the gum's outside over the outer face to the biting edge and inwards. A vertex of ours is a fixed blend of the
band's, so it follows every identity; what makes it a crown (bulge, groove, thickness) is an offset of the template, added once.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from .mesh_fields import boundary_loops

ROWS, COLUMNS = 4, 17
# per tooth from the middle to the back: width (mm), where its columns lie (share of the width), thickness of the edge (share of the band)
UPPER = (
    (8.6, (0.0, 0.18, 0.5, 0.82), 0.13), (6.7, (0.0, 0.2, 0.5, 0.8), 0.13), (7.6, (0.0, 0.22, 0.5, 0.78), 0.20),
    (7.0, (0.0, 0.25, 0.75), 0.40), (6.8, (0.0, 0.25, 0.75), 0.45), (10.2, (0.0, 0.5), 0.60),
)  # fmt: skip
LOWER = (
    (5.4, (0.0, 0.2, 0.5, 0.8), 0.13), (5.9, (0.0, 0.2, 0.5, 0.8), 0.13), (6.8, (0.0, 0.22, 0.5, 0.78), 0.20),
    (7.0, (0.0, 0.25, 0.75), 0.40), (7.1, (0.0, 0.25, 0.75), 0.45), (11.0, (0.0, 0.5), 0.60),
)  # fmt: skip
ARCH_SHARE = 0.94  # of the half band's length that the teeth fill
# the profile of a crown: outer gum, gum line, crown, outer edge, inner edge, inner crown, inner gum
PROFILE = 7
OUTER = ((0, 0.0), (1, 0.0), (1, 0.55), (2, 0.0))  # row and share towards the next row, of the first four
INNER_SLANT = (0.0, 0.10, 0.16)  # how much further in, as a share of the band, the last three lie
INNER_HEIGHT = (0.0, 0.0055, 0.0110)  # metres from the edge towards the gum
GUM_POINTS = (0, 1, 6)


@dataclass(frozen=True)
class Arch:
    """One row of teeth: vertex (column, point) is `column * PROFILE + point`."""

    rows: sparse.csr_matrix  # (n, N) blends of base vertices
    faces: np.ndarray  # (f, 3) local
    mirror: np.ndarray  # (n,)
    groove: np.ndarray  # (columns,) 1 between two teeth, 0 in a tooth's middle
    uvs: np.ndarray  # (n, 2) the band unrolled, in any unit


def build_arch(quads: np.ndarray, base: np.ndarray, upper: bool) -> Arch:
    """A row of teeth over a band of `quads` (48,4) of base vertices (N,3) in decimetres."""
    grid = band_grid(quads, base)
    positions, groove, edge = _columns(base[grid[2]], UPPER if upper else LOWER)
    n = len(positions)
    weights = np.zeros((n, PROFILE, ROWS, COLUMNS))
    low = np.minimum(positions.astype(int), COLUMNS - 2)
    share = positions - low
    along = np.zeros((n, COLUMNS))
    along[np.arange(n), low] = 1 - share
    along[np.arange(n), low + 1] += share
    for point in range(PROFILE):
        if point < len(OUTER):
            row, towards = OUTER[point]
            across = np.tile(np.eye(ROWS)[row] * (1 - towards) + np.eye(ROWS)[min(row + 1, ROWS - 1)] * towards, (n, 1))
        else:
            inward = np.minimum(edge + INNER_SLANT[point - len(OUTER)], 1.0)[:, None]
            across = (1 - inward) * np.eye(ROWS)[2] + inward * np.eye(ROWS)[3]
        weights[:, point] = across[:, :, None] * along[:, None, :]
    flat = sparse.csr_matrix(weights.reshape(n * PROFILE, -1))
    select = sparse.csr_matrix((np.ones(grid.size), (np.arange(grid.size), grid.reshape(-1))), shape=(grid.size, len(base)))
    mirror = (np.arange(n)[::-1, None] * PROFILE + np.arange(PROFILE)).reshape(-1)
    rows = (flat @ select).tocsr()
    return Arch(rows, _faces(n, rows @ base), mirror, groove, _unrolled(n, positions))


def band_grid(quads: np.ndarray, base: np.ndarray) -> np.ndarray:
    """(4,17) base vertices of a band: row 0 is the outer gum, columns run from the subject's left to the right."""
    (loop,) = boundary_loops(quads)
    uses = np.bincount(quads.reshape(-1))
    corners = [v for v in loop if uses[v] == 1]
    start = max(corners, key=lambda v: base[v, 0])
    if len({v for q in quads if start in q for v in q} & set(corners)) != 1:
        raise ValueError("a band of teeth must have its four corners apart")
    at = loop.index(start)
    around = loop[at:] + loop[:at]
    row = around[:COLUMNS] if uses[around[COLUMNS - 1]] == 1 else (around[:1] + around[1:][::-1])[:COLUMNS]
    near: dict[int, set[int]] = {}
    for quad in quads.tolist():
        for k in range(4):
            near.setdefault(quad[k], set()).update((quad[k - 1], quad[(k + 1) % 4]))
    grid, taken = [row], set(row)
    while len(grid) < ROWS:
        row = [next(iter(near[v] - taken)) for v in grid[-1]]
        taken |= set(row)
        grid.append(row)
    return np.array(grid)


def _columns(edge_line: np.ndarray, teeth: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Band coordinates of our columns, left to right; 1 at grooves; thickness of the edge."""
    step = np.linalg.norm(np.diff(edge_line, axis=0), axis=1)
    travelled = np.concatenate([[0], np.cumsum(step)])
    half = travelled[-1] / 2
    total = sum(width for width, _, _ in teeth)
    distance, groove, edge = [], [], []
    start = 0.0
    for width, places, thick in teeth:
        for place in places:
            distance.append((start + place * width) / total * half * ARCH_SHARE)
            groove.append(1.0 if place == 0 else 0.0)
            edge.append(thick)
        start += width
    distance.append(half * ARCH_SHARE)
    groove.append(1.0)
    edge.append(edge[-1])
    one_side = np.array(distance)
    both = np.concatenate([half - one_side[:0:-1], half + one_side])
    positions = np.interp(both, travelled, np.arange(len(travelled)))
    positions = (positions + (len(travelled) - 1 - positions)[::-1]) / 2
    return positions, np.array(groove[:0:-1] + groove), np.array(edge[:0:-1] + edge)


def _faces(columns: int, points: np.ndarray) -> np.ndarray:
    """Faces of the grid (columns, PROFILE), symmetric, counter-clockwise from outside."""
    faces = []
    middle = columns // 2
    for c in range(columns - 1):
        for p in range(PROFILE - 1):
            a, b = c * PROFILE + p, (c + 1) * PROFILE + p
            faces += [[a, b, b + 1], [a, b + 1, a + 1]] if c < middle else [[a, b, a + 1], [b, b + 1, a + 1]]
    faces = np.array(faces)
    front = points[faces[(middle * (PROFILE - 1)) * 2]]
    if np.cross(front[1] - front[0], front[2] - front[0])[2] < 0:
        faces = faces[:, [0, 2, 1]]
    return faces


def _unrolled(columns: int, positions: np.ndarray) -> np.ndarray:
    across = np.array([0.0, 0.22, 0.37, 0.52, 0.62, 0.80, 1.0])
    return np.stack(np.broadcast_arrays(positions[:, None] / positions[-1] * 3.4, across[None]), -1).reshape(-1, 2)


def crown_offsets(points: np.ndarray, groove: np.ndarray, upper: bool) -> np.ndarray:
    """(n,3) metres: what turns a smooth band (n,3) into crowns."""
    band = points.reshape(-1, PROFILE, 3)
    tangent = np.gradient(band[:, 3], axis=0)
    outward = np.stack([-tangent[:, 2], np.zeros(len(tangent)), tangent[:, 0]], 1)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    outward *= np.sign(outward[len(outward) // 2, 2])
    gumward = np.array([0.0, 1.0 if upper else -1.0, 0.0])
    offsets = np.zeros_like(band)
    g = (groove if upper else 0.6 * groove)[:, None]
    offsets[:, 1] += outward * (0.0002 + 0.0003 * g) + gumward * (0.0006 - 0.0018 * g)
    offsets[:, 2] += outward * (0.0006 - 0.0016 * g)
    offsets[:, 3] += outward * (-0.0002 - 0.0009 * g) + gumward * 0.0008 * g
    offsets[:, 4] += outward * 0.0005 * g + gumward * 0.0008 * g
    for k, height in enumerate(INNER_HEIGHT):
        offsets[:, 4 + k] += gumward * height
    return offsets.reshape(-1, 3)
