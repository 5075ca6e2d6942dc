# SPDX-License-Identifier: Apache-2.0
"""The open head's mesh: what is kept of MakeHuman's base, where it is cut, and how head vertices follow base vertices.

Every head vertex is a fixed linear function of the base's vertices, so any target of the base becomes a motion of the head:
skin and tongue are base vertices or fixed blends of a few, so are the teeth (see teeth.py), and an eyeball is a sphere of our own whose
centre and radius are linear in the base's coarse eye, so it only ever moves by translation and uniform scale.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from scipy.spatial import cKDTree

from .refine import refine_skull
from .sources import BaseMesh
from .teeth import Arch, build_arch

SKIN_GROUP, TONGUE_GROUP = "body", "helper-tongue"
TEETH_GROUPS = {"upper_teeth": "helper-upper-teeth", "lower_teeth": "helper-lower-teeth"}
EYE_GROUPS = {"left": "helper-l-eye", "right": "helper-r-eye"}
MIRROR = np.array([-1.0, 1.0, 1.0])
CROP_Y = 5.0  # dm, below the whole rim
SOCKET_RINGS = 9  # vertex rings around the bottom of the eye's pocket that the eyeball hides
SNAP = 0.25  # a crossing nearer to a vertex than this share of the edge moves the vertex, so that the rim has no slivers

# polar angles of the eyeball's rings, degrees from the middle of the pupil
EYE_RINGS = (3.7, 7.4, 12.0, 17.0, 21.5, 27.0, 34.0, 43.0, 54.0, 66.0, 78.0, 90.0, 102.0, 126.0, 152.0)
PUPIL_RING, IRIS_RING = 1, 4  # of EYE_RINGS: the borders of pupil and iris
EQUATOR_RINGS = (10, 12)  # of EYE_RINGS: two rings mirrored at the equator, whose mean is the centre
EYE_SEGMENTS = 28

Record = tuple[int, int, float]  # (a, b, t): the head vertex (1-t) a + t b of two base vertices


@dataclass(frozen=True)
class Eye:
    """One eyeball: `ids` of the base's coarse eye, their `directions` from its mean, the sphere's centre off that mean, and its radius."""

    ids: np.ndarray
    directions: np.ndarray
    offset: np.ndarray
    radius: float
    sphere: np.ndarray  # (n, 3) unit sphere

    def pose(self, base: np.ndarray) -> tuple[np.ndarray, float]:
        """Centre (3,) and radius on base vertices (N, 3); both linear in them."""
        points = base[self.ids]
        scale = np.sum(self.directions * points) / np.sum(self.directions**2)
        return points.mean(0) + scale * self.offset, scale * self.radius


@dataclass(frozen=True)
class Block:
    """A piece of the head in its own numbering: blends of base vertices (n,N), faces, mirror map, and the base vertex of each, or -1."""

    rows: sparse.csr_matrix
    faces: np.ndarray
    mirror: np.ndarray
    base_ids: np.ndarray


@dataclass(frozen=True)
class Layout:
    """The head's topology and its linear dependence on the base mesh; vertices run skin, teeth, tongue, left eyeball, right eyeball."""

    soft_from_base: sparse.csr_matrix  # (n, N): skin, teeth and tongue
    base_ids: np.ndarray  # (V,) the base vertex that a head vertex is, or -1
    faces: np.ndarray  # (F, 3)
    skin_quads: np.ndarray  # (M, 4) the skin's uncut quads
    mirror: np.ndarray  # (V,) the vertex on the other side
    parts: dict[str, np.ndarray]  # skin, upper_teeth, lower_teeth, tongue, left_eyeball, right_eyeball
    eyes: dict[str, Eye]
    arches: dict[str, Arch]  # upper_teeth, lower_teeth

    def assemble(self, base: np.ndarray) -> np.ndarray:
        """Head vertices (V, 3) of base vertices (N, 3), in their unit and frame."""
        balls = []
        for eye in self.eyes.values():
            centre, radius = eye.pose(base)
            balls.append(centre + radius * eye.sphere)
        return np.concatenate([self.soft_from_base @ base, *balls])


def build_layout(base: BaseMesh, adult: np.ndarray) -> Layout:
    """Crops the base. `adult` (N,3) dm, in base topology, is a symmetric average; the rim of the bust is cut on it."""
    mirror = mirror_map(base.vertices)
    groups = np.array(base.groups)
    eyes = {side: _eye(base, groups, adult, side) for side in EYE_GROUPS}
    skin_quads = base.quads[(groups == SKIN_GROUP) & (adult[base.quads, 1] > CROP_Y).all(1)]
    skin_quads = _without_sockets(skin_quads, adult, eyes)
    arches = {part: build_arch(base.quads[groups == group], adult, part == "upper_teeth") for part, group in TEETH_GROUPS.items()}
    blocks = {"skin": _skin_block(skin_quads, adult, mirror)}
    for part, arch in arches.items():
        blocks[part] = Block(arch.rows, arch.faces, arch.mirror, np.full(len(arch.mirror), -1))
    blocks["tongue"] = _plain_block(base.quads[groups == TONGUE_GROUP], adult, mirror)
    nothing = sparse.csr_matrix((len(unit_sphere()), len(adult)))
    ball = Block(nothing, sphere_faces(), np.arange(nothing.shape[0]), np.full(nothing.shape[0], -1))
    blocks |= {"left_eyeball": ball, "right_eyeball": Block(nothing, ball.faces[:, [0, 2, 1]], ball.mirror, ball.base_ids)}
    return _joined(blocks, eyes, arches, skin_quads)


def _joined(blocks: dict[str, Block], eyes: dict[str, Eye], arches: dict[str, Arch], skin_quads: np.ndarray) -> Layout:
    starts = np.cumsum([0] + [len(block.mirror) for block in blocks.values()])
    parts = {part: np.arange(a, b) for part, a, b in zip(blocks, starts, starts[1:], strict=False)}
    mirror = np.concatenate([block.mirror + parts[part][0] for part, block in blocks.items()])
    mirror[parts["left_eyeball"]], mirror[parts["right_eyeball"]] = parts["right_eyeball"], parts["left_eyeball"]
    base_ids = np.concatenate([block.base_ids for block in blocks.values()])
    number = np.full(int(skin_quads.max()) + 1, -1)
    skin_ids = blocks["skin"].base_ids
    number[skin_ids[skin_ids >= 0]] = np.flatnonzero(skin_ids >= 0)
    quads = number[skin_quads]
    return Layout(
        soft_from_base=sparse.vstack([block.rows for part, block in blocks.items() if "eyeball" not in part]).tocsr(),
        base_ids=base_ids,
        faces=np.concatenate([block.faces + parts[part][0] for part, block in blocks.items()]).astype(np.int32),
        skin_quads=quads[(quads >= 0).all(1)],
        mirror=mirror,
        parts=parts,
        eyes=eyes,
        arches=arches,
    )


def _skin_block(quads: np.ndarray, adult: np.ndarray, mirror: np.ndarray) -> Block:
    """The skin with finer quads on the skull, cut at the rim of the bust."""
    polygons, rows, wide_mirror = refine_skull(quads, adult, mirror)
    return _block(_cut(_half(polygons, rows @ adult), rows @ adult), rows, wide_mirror, len(adult))


def _plain_block(quads: np.ndarray, adult: np.ndarray, mirror: np.ndarray) -> Block:
    rows = sparse.identity(len(adult), format="csr")
    triangles = _half(quads.tolist(), adult)
    return _block([tuple((int(c), int(c), 0.0) for c in triangle) for triangle in triangles], rows, mirror, len(adult))


def _block(half: list[tuple[Record, Record, Record]], rows: sparse.csr_matrix, mirror: np.ndarray, base_count: int) -> Block:
    """Both halves of a piece, numbered; `rows` are the blends that the records' ids stand for."""

    def other(record: Record) -> Record:
        return int(mirror[record[0]]), int(mirror[record[1]]), record[2]

    whole = half + [tuple(other(r) for r in (f[0], f[2], f[1])) for f in half]
    records = sorted({r for f in whole for r in f})
    number = {r: k for k, r in enumerate(records)}
    a, b, t = (np.array(column) for column in zip(*records, strict=True))
    index = np.tile(np.arange(len(records)), 2)
    between = sparse.csr_matrix((np.concatenate([1 - t, t]), (index, np.concatenate([a, b]))), shape=(len(records), rows.shape[0]))
    return Block(
        rows=(between @ rows).tocsr(),
        faces=np.array([[number[r] for r in f] for f in whole]),
        mirror=np.array([number[other(r)] for r in records]),
        base_ids=np.where((t == 0) & (a < base_count), a, -1),
    )


def mirror_map(vertices: np.ndarray) -> np.ndarray:
    """(N,) the vertex at each one's mirror image in x; a vertex without one maps to the nearest."""
    return cKDTree(vertices).query(vertices * MIRROR)[1]


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares centre (3,) and radius of points (N,3)."""
    solution = np.linalg.lstsq(np.c_[2 * points, np.ones(len(points))], np.sum(points**2, 1), rcond=None)[0]
    return solution[:3], float(np.sqrt(solution[3] + solution[:3] @ solution[:3]))


def unit_sphere() -> np.ndarray:
    """The left eyeball (n, 3): the pole on +z, the rings of EYE_RINGS, the back pole."""
    polar = np.radians(EYE_RINGS)[:, None]
    azimuth = (2 * np.pi / EYE_SEGMENTS * np.arange(EYE_SEGMENTS))[None]
    rings = np.stack(np.broadcast_arrays(np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)), -1)
    return np.concatenate([[[0, 0, 1]], rings.reshape(-1, 3), [[0, 0, -1]]])


def sphere_faces() -> np.ndarray:
    """(F,3) faces of `unit_sphere`, counter-clockwise from outside."""
    k = np.arange(EYE_SEGMENTS)
    nxt = (k + 1) % EYE_SEGMENTS
    faces = [np.stack([np.zeros_like(k), 1 + k, 1 + nxt], 1)]
    for ring in range(len(EYE_RINGS) - 1):
        inner, outer = 1 + ring * EYE_SEGMENTS, 1 + (ring + 1) * EYE_SEGMENTS
        faces += [np.stack([inner + k, outer + k, outer + nxt], 1), np.stack([inner + k, outer + nxt, inner + nxt], 1)]
    last = 1 + (len(EYE_RINGS) - 1) * EYE_SEGMENTS
    faces.append(np.stack([last + k, np.full_like(k, last + EYE_SEGMENTS), last + nxt], 1))
    return np.concatenate(faces)


def eye_ring(ring: int) -> np.ndarray:
    """Vertices of one ring of EYE_RINGS within an eyeball."""
    return 1 + ring * EYE_SEGMENTS + np.arange(EYE_SEGMENTS)


def rings_around(quads: np.ndarray, start: np.ndarray, count: int) -> list[np.ndarray]:
    """Vertex rings grown over quads (shared corners) from the vertices `start`; the first ring is `start` itself."""
    seen = set(int(v) for v in np.atleast_1d(start))
    rings = [np.array(sorted(seen))]
    touching: dict[int, set[int]] = {}
    for quad in quads.tolist():
        for corner in quad:
            touching.setdefault(corner, set()).update(quad)
    for _ in range(count):
        ring = set().union(*(touching[int(v)] for v in rings[-1])) - seen
        seen |= ring
        rings.append(np.array(sorted(ring)))
    return rings


def _eye(base: BaseMesh, groups: np.ndarray, adult: np.ndarray, side: str) -> Eye:
    ids = np.unique(base.quads[groups == EYE_GROUPS[side]])
    centre, radius = fit_sphere(adult[ids])
    mean = adult[ids].mean(0)
    sphere = unit_sphere() * (MIRROR if side == "right" else 1.0)
    return Eye(ids, adult[ids] - mean, centre - mean, radius, sphere)


def _without_sockets(quads: np.ndarray, adult: np.ndarray, eyes: dict[str, Eye]) -> np.ndarray:
    """Drops the back of the pockets that the eyeballs fill."""
    ids = np.unique(quads)
    for eye in eyes.values():
        centre, radius = eye.pose(adult)
        bottom = ids[np.argmin(np.linalg.norm(adult[ids] - (centre - [0, 0, radius]), axis=1))]
        pocket = np.concatenate(rings_around(quads, bottom, SOCKET_RINGS - 1))
        quads = quads[~np.isin(quads, pocket).any(1)]
    return quads


def _half(polygons: list[list[int]], points: np.ndarray) -> np.ndarray:
    """(n,3) triangles of the triangles and quads on the subject's left; quads are split along their shorter diagonal."""
    out = []
    for polygon in polygons:
        p = points[polygon]
        if p[:, 0].mean() <= 0:
            continue
        if p[:, 0].min() < -1e-9:
            raise ValueError("the base's quads must not cross the plane of symmetry")
        if len(polygon) == 3:
            out.append(polygon)
            continue
        a, b, c, d = polygon
        if np.linalg.norm(p[0] - p[2]) <= np.linalg.norm(p[1] - p[3]):
            out += [[a, b, c], [a, c, d]]
        else:
            out += [[a, b, d], [b, c, d]]
    return np.array(out)


def _rim(points: np.ndarray) -> np.ndarray:
    """Positive inside the bust, zero on its rim: a flat bottom that curves up over the shoulders. Points in dm."""
    return points[..., 1] - 5.42 - 0.5 * (points[..., 0] / 1.35) ** 4


def _cut(triangles: np.ndarray, adult: np.ndarray) -> list[tuple[Record, Record, Record]]:
    """Clips one half of the skin at the rim, moving near vertices onto it rather than making slivers."""
    value = _rim(adult)
    edges = np.unique(np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    inside = np.where(value[edges[:, 0]] > 0, edges[:, 0], edges[:, 1])
    outside = edges.sum(1) - inside
    crossing = (value[inside] > 0) & (value[outside] <= 0)
    inside, outside = inside[crossing], outside[crossing]
    share = value[inside] / (value[inside] - value[outside])
    moved: dict[int, tuple[float, int]] = {}
    middle = np.abs(adult[:, 0]) < 1e-9
    for a, b, t in [*zip(inside, outside, share, strict=True), *zip(outside, inside, 1 - share, strict=True)]:
        if t < SNAP and middle[a] <= middle[b]:  # a vertex of the middle stays there
            moved[int(a)] = min(moved.get(int(a), (1.0, 0)), (float(t), int(b)))
    value = value.copy()
    value[list(moved)] = 0.0

    def corner(v: int) -> Record:
        t, b = moved.get(v, (0.0, v))
        return (v, b, t)

    faces = []
    for triangle in triangles.tolist():
        if max(value[v] for v in triangle) <= 0:
            continue
        polygon: list[Record] = []
        for v, w in zip(triangle, triangle[1:] + triangle[:1], strict=True):
            if value[v] >= 0:
                polygon.append(corner(v))
            if value[v] * value[w] < 0:
                a, b = (v, w) if value[v] > 0 else (w, v)
                polygon.append((a, b, float(value[a] / (value[a] - value[b]))))
        faces += [(polygon[0], polygon[k], polygon[k + 1]) for k in range(1, len(polygon) - 1)]
    return faces
