# SPDX-License-Identifier: Apache-2.0
"""The UV atlas: one chart for the skin, cut open at the back of the head, and small ones for all that lies inside.

The skin and the mouth cavity are flattened by Tutte's embedding (Tutte 1963): a convex outline and positive weights, so no triangle can
flip. The weights are Floater's mean values (2003), then divided, round by round, by the stretch at each neighbour (Yoshizawa, Belyaev and
Seidel, "A fast and simple stretch-minimizing mesh parameterization", 2004), which evens out the texel density; where `density` is
high, more of the atlas is asked for.
"""

import logging
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
import scipy.sparse.csgraph as csgraph
import scipy.sparse.linalg as linalg

from .geometry import EYE_RINGS, EYE_SEGMENTS, MIRROR, TONGUE_GROUP, Layout, sphere_faces
from .mesh_fields import boundary_loops, smoothstep
from .regions import FaceRings
from .sources import BaseMesh

log = logging.getLogger(__name__)

FRONT_RINGS = 11  # rings of the eyeball, counted from the pupil, on its front chart
# rectangles (left, bottom, right, top) of the atlas
BOXES = {
    "skin": (0.004, 0.146, 0.856, 0.996),
    "mouth_cavity": (0.004, 0.004, 0.138, 0.138),
    "left_eyeball_front": (0.146, 0.004, 0.280, 0.138), "right_eyeball_front": (0.288, 0.004, 0.422, 0.138),
    "left_eyeball_back": (0.430, 0.004, 0.494, 0.068), "right_eyeball_back": (0.502, 0.004, 0.566, 0.068),
    "upper_teeth": (0.430, 0.076, 0.640, 0.138), "lower_teeth": (0.648, 0.076, 0.856, 0.138),
    "tongue": (0.866, 0.146, 0.996, 0.500),
}  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A flattened piece: which faces, their corners' ids into `uvs`, and uvs in any box."""

    name: str
    face_ids: np.ndarray  # (f,)
    uv_faces: np.ndarray  # (f, 3)
    uvs: np.ndarray  # (t, 2)
    keep_aspect: bool = True


def build_atlas(layout: Layout, base: BaseMesh, template: np.ndarray, rings: FaceRings) -> tuple[np.ndarray, np.ndarray]:
    """uvs (T,2) in 0..1, v up, and uv_faces (F,3)."""
    cavity = np.zeros(len(template), bool)
    cavity[rings.cavity] = True
    part_of = np.zeros(len(template), int)
    for k, ids in enumerate(layout.parts.values()):
        part_of[ids] = k
    face_part = part_of[layout.faces[:, 0]]
    is_cavity = cavity[layout.faces].all(1)
    skin = np.flatnonzero((face_part == 0) & ~is_cavity)
    charts = [_skin_chart(layout, template, skin), _cavity_chart(layout, template, np.flatnonzero(is_cavity))]
    for side in ("left", "right"):
        charts += _eye_charts(layout, side)
    charts += [_teeth_chart(layout, part) for part in layout.arches] + [_tongue_chart(layout, base)]
    return _packed(charts, len(layout.faces))


def _packed(charts: list[Chart], faces: int) -> tuple[np.ndarray, np.ndarray]:
    uvs, uv_faces, start = [], np.full((faces, 3), -1), 0
    for chart in charts:
        left, bottom, right, top = BOXES[chart.name]
        box, low = np.array([right - left, top - bottom]), chart.uvs.min(0)
        extent = np.ptp(chart.uvs, axis=0)
        scale = box / extent
        if chart.keep_aspect:
            scale = np.full(2, scale.min())
        uvs.append((chart.uvs - low - extent / 2) * scale + [(left + right) / 2, (bottom + top) / 2])
        uv_faces[chart.face_ids] = chart.uv_faces + start
        start += len(chart.uvs)
    return np.concatenate(uvs), uv_faces


def _skin_chart(layout: Layout, template: np.ndarray, face_ids: np.ndarray) -> Chart:
    """All skin outside the mouth, cut along the middle from the crown down the back."""
    faces, vertices = layout.faces[face_ids].copy(), template
    seam = _back_seam(layout, template, faces)
    twin = np.full(len(template), -1)
    twin[seam[1:]] = len(template) + np.arange(len(seam) - 1)  # the crown stays one
    on_right = template[faces, 0].mean(1) < 0
    faces[on_right] = np.where(twin[faces[on_right]] >= 0, twin[faces[on_right]], faces[on_right])
    vertices = np.concatenate([template, template[seam[1:]]])
    loops = boundary_loops(faces)
    outline = max(loops, key=lambda loop: loop_length(vertices, loop))
    holes = [loop for loop in loops if loop is not outline]
    start = outline.index(int(seam[-1]))  # the left copy of the seam's end at the rim
    outline = outline[start:] + outline[:start]
    positions = _head_outline(vertices, outline, int(twin[seam[-1]]), int(seam[0]))
    dense = _density(template)
    density = np.concatenate([dense, dense[seam[1:]]])
    return Chart("skin", face_ids, *_flattened(vertices, faces, outline, positions, holes, density))


def _density(points: np.ndarray) -> np.ndarray:
    """(V,) how many texels a length asks for, relative to the back of the head: more on the face, most at eyes, nose and mouth and on the
    ears, which a flattening from afar would crush.
    """
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2] + 0.25 * points[:, 1]
    face = smoothstep(z, 0.015, 0.075) * smoothstep(y, -0.115, -0.075) * smoothstep(y, 0.085, 0.05)
    middle = smoothstep(z, 0.06, 0.085) * smoothstep(y, -0.085, -0.065) * smoothstep(y, 0.055, 0.03)
    ear = smoothstep(x, 0.058, 0.066) * smoothstep(np.abs(points[:, 2]), 0.05, 0.035) * smoothstep(np.abs(y), 0.05, 0.036)
    return 1 + 3.0 * face + 1.2 * middle + 0.7 * ear


def _back_seam(layout: Layout, template: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The vertices of the middle line from the crown to the rim of the bust, down the back."""
    middle = (layout.mirror == np.arange(len(template))) & (template[:, 2] < 0.02)
    used = np.zeros(len(template), bool)
    used[faces] = True
    middle &= used
    crown = np.flatnonzero(middle)[np.argmax(template[middle, 1])]
    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    edges = edges[middle[edges].all(1)]
    length = np.linalg.norm(template[edges[:, 0]] - template[edges[:, 1]], axis=1)
    graph = sparse.coo_matrix((length, edges.T), shape=(len(template),) * 2)
    distance, previous = csgraph.dijkstra(graph, directed=False, indices=crown, return_predecessors=True)
    backward = middle & (template[:, 2] < template[crown, 2]) & np.isfinite(distance)
    end = np.flatnonzero(backward)[np.argmin(template[backward, 1])]
    path = [int(end)]
    while path[-1] != crown:
        path.append(int(previous[path[-1]]))
    return np.array(path[::-1])


def loop_length(vertices: np.ndarray, loop: list[int]) -> float:
    return float(np.sum(np.linalg.norm(vertices[loop] - vertices[np.roll(loop, -1)], axis=1)))


def _head_outline(vertices: np.ndarray, outline: list[int], other_end: int, crown: int) -> np.ndarray:
    """Places the outline on a superellipse: the rim of the bust below, the two sides of the seam left and right, the crown on top."""
    points = vertices[outline]
    step = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    travelled = np.concatenate([[0], np.cumsum(step)])
    marks = [0, outline.index(crown), outline.index(other_end), len(outline)]
    if marks[1] > marks[2]:
        marks[1], marks[2] = marks[2], marks[1]
        angles = [-np.pi * 0.75, -np.pi * 0.25, np.pi * 0.5, np.pi * 1.25]
    else:
        angles = [-np.pi * 0.25, np.pi * 0.5, np.pi * 1.25, np.pi * 1.75]
    angle = np.interp(travelled[:-1], travelled[marks], angles)
    direction = np.stack([np.cos(angle), np.sin(angle)], 1)
    return direction / np.sum(np.abs(direction) ** 5, axis=1, keepdims=True) ** (1 / 5)


def _cavity_chart(layout: Layout, template: np.ndarray, face_ids: np.ndarray) -> Chart:
    faces = layout.faces[face_ids]
    (outline,) = boundary_loops(faces)
    step = np.linalg.norm(template[np.roll(outline, -1)] - template[outline], axis=1)
    angle = 2 * np.pi * np.concatenate([[0], np.cumsum(step)[:-1]]) / step.sum()
    positions = np.stack([np.cos(angle), np.sin(angle)], 1)
    return Chart("mouth_cavity", face_ids, *_flattened(template, faces, outline, positions, [], np.ones(len(template))))


def _flattened(vertices, faces, outline, positions, holes, density, rounds: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Flattens a disc with holes: (uv_faces, uvs)."""
    all_faces, points, dense = faces, vertices, density
    for loop in holes:  # a fan closes each hole while the map is solved
        hub = len(points)
        points = np.concatenate([points, points[loop].mean(0, keepdims=True)])
        dense = np.append(dense, dense[loop].mean())
        fan = [[b, a, hub] for a, b in zip(loop, loop[1:] + loop[:1], strict=True)]
        all_faces = np.concatenate([all_faces, np.array(fan)])
    used, compact = np.unique(all_faces, return_inverse=True)
    compact = compact.reshape(-1, 3)
    where = np.full(len(points), -1)
    where[used] = np.arange(len(used))
    fixed = where[np.array(outline)]
    points, dense = points[used] * 1.0, dense[used]
    weights = _mean_values(points, compact)
    best, best_stretch = None, np.inf
    for _ in range(rounds):
        flat = _tutte(weights, fixed, positions)
        stretch, per_vertex = _stretch(points, compact, flat, dense)
        if stretch < best_stretch:
            best, best_stretch = flat, stretch
        weights = (weights @ sparse.diags(1 / per_vertex**0.7)).tocsr()
    own = np.unique(where[faces])
    renumber = np.full(len(used), -1)
    renumber[own] = np.arange(len(own))
    uv_faces = renumber[where[faces]]
    flipped = _signed_areas(best[compact])
    log.info("atlas: %d faces, stretch %.2f, smallest signed area %.1e", len(faces), best_stretch, flipped.min())
    return uv_faces, best[own]


def _mean_values(points: np.ndarray, faces: np.ndarray) -> sparse.csr_matrix:
    """Floater's mean value weights, (N,N), not normalised."""
    rows, columns, values = [], [], []
    for k in range(3):
        i, j, m = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        to_j, to_m = points[j] - points[i], points[m] - points[i]
        long_j, long_m = np.linalg.norm(to_j, axis=1), np.linalg.norm(to_m, axis=1)
        angle = np.arccos(np.clip(np.sum(to_j * to_m, 1) / (long_j * long_m), -1, 1))
        half = np.tan(np.minimum(angle, np.radians(170)) / 2)
        rows += [i, i]
        columns += [j, m]
        values += [half / long_j, half / long_m]
    return sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(len(points),) * 2)


def _tutte(weights: sparse.csr_matrix, fixed: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Each free point at the weighted mean of its neighbours, the `fixed` at `positions`."""
    count = weights.shape[0]
    free = np.setdiff1d(np.arange(count), fixed)
    rows = sparse.diags(1 / np.asarray(weights.sum(1)).ravel()) @ weights
    system = (sparse.identity(len(free)) - rows[free][:, free]).tocsc()
    flat = np.zeros((count, 2))
    flat[fixed] = positions
    flat[free] = linalg.splu(system).solve(np.asarray(rows[free][:, fixed] @ positions))
    return flat


def _stretch(points: np.ndarray, faces: np.ndarray, flat: np.ndarray, density: np.ndarray) -> tuple[float, np.ndarray]:
    """Sander's L2 stretch of the map from the plane to the surface, whole and per vertex, relative to its mean; `density` adds to it."""
    p, q = points[faces], flat[faces]
    area2 = np.maximum(_signed_areas(q), 1e-14)
    ds = sum(p[:, k] * (q[:, (k + 1) % 3, 1] - q[:, (k + 2) % 3, 1])[:, None] for k in range(3)) / (2 * area2)[:, None]
    dt = sum(p[:, k] * (q[:, (k + 2) % 3, 0] - q[:, (k + 1) % 3, 0])[:, None] for k in range(3)) / (2 * area2)[:, None]
    squared = (np.sum(ds**2, 1) + np.sum(dt**2, 1)) / 2 * density[faces].mean(1) ** 2
    area3 = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1) / 2
    total = np.sqrt(np.sum(squared * area3) / area3.sum()) * np.sqrt(area2.sum() / area3.sum())
    weight = np.bincount(faces.reshape(-1), np.repeat(area3, 3), minlength=len(points))
    sums = np.bincount(faces.reshape(-1), np.repeat(squared * area3, 3), minlength=len(points))
    per_vertex = np.sqrt(sums / np.maximum(weight, 1e-20))
    return float(total), np.maximum(per_vertex / per_vertex.mean(), 1e-3)


def _signed_areas(corners: np.ndarray) -> np.ndarray:
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2


def _eye_charts(layout: Layout, side: str) -> list[Chart]:
    """Two discs an eyeball, polar angle over the radius: the front around the pupil and the hidden back."""
    ball = layout.parts[f"{side}_eyeball"]
    local = sphere_faces()
    first_face = np.flatnonzero(layout.faces[:, 0] >= ball[0])[0]
    face_ids = first_face + np.arange(len(local))
    corners = layout.faces[face_ids] - ball[0]
    azimuth = 2 * np.pi / EYE_SEGMENTS * np.arange(EYE_SEGMENTS)
    polar = np.array([0.0, *np.repeat(EYE_RINGS, EYE_SEGMENTS), 180.0])
    around = np.concatenate([[0.0], np.tile(azimuth, len(EYE_RINGS)), [0.0]])
    direction = np.stack([np.cos(around), np.sin(around)], 1) * (MIRROR[:2] if side == "right" else 1.0)
    last_front = EYE_SEGMENTS * FRONT_RINGS
    is_front = (corners <= last_front).all(1)
    front, back = direction * polar[:, None], direction * [-1, 1] * (180 - polar)[:, None]
    charts = []
    for name, chosen, flat in (("front", is_front, front), ("back", ~is_front, back)):
        used, inverse = np.unique(corners[chosen], return_inverse=True)
        charts.append(Chart(f"{side}_eyeball_{name}", face_ids[chosen], inverse.reshape(-1, 3), flat[used]))
    return charts


def _teeth_chart(layout: Layout, part: str) -> Chart:
    ids = layout.parts[part]
    face_ids = np.flatnonzero((layout.faces[:, 0] >= ids[0]) & (layout.faces[:, 0] <= ids[-1]))
    return Chart(part, face_ids, layout.faces[face_ids] - ids[0], layout.arches[part].uvs)


def _tongue_chart(layout: Layout, base: BaseMesh) -> Chart:
    """The tongue keeps MakeHuman's own UVs."""
    inside = np.array(base.groups) == TONGUE_GROUP
    corners: dict[frozenset, dict[int, int]] = {}
    for quad, uv_quad in zip(base.quads[inside].tolist(), base.uv_quads[inside].tolist(), strict=True):
        for skipped in range(4):
            chosen = [k for k in range(4) if k != skipped]
            corners[frozenset(quad[k] for k in chosen)] = {quad[k]: uv_quad[k] for k in chosen}
    ids = layout.parts["tongue"]
    face_ids = np.flatnonzero((layout.faces[:, 0] >= ids[0]) & (layout.faces[:, 0] <= ids[-1]))
    originals = layout.base_ids[layout.faces[face_ids]].tolist()
    uv_ids = np.array([[corners[frozenset(face)][v] for v in face] for face in originals])
    used, inverse = np.unique(uv_ids, return_inverse=True)
    return Chart("tongue", face_ids, inverse.reshape(-1, 3), base.uvs[used])
