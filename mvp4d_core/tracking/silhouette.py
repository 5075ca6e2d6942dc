# SPDX-License-Identifier: Apache-2.0
"""Hair volume: scalp, ears and neck grow along smoothed normals until the head's outline in the picture meets the head matte.

One thickness per vertex. Each round draws the mesh, pairs the samples of the matte's outline with the mesh's own outline, and solves for
the thickness that brings them together: linear least squares with a bending and a membrane term, which carry the hair over the back of
the head, and with the face held where it is. Samples that only the face is near to (hair that hangs beside it) pull at the nearest
vertices behind it. An ear that is seen moves nearly as one piece; one that hair covers is flattened first and then grows like the scalp.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from scipy import ndimage
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ..cameras import Camera, project
from ..render.mesh import rasterize_mesh
from ..rig import HeadModel, vertex_normals
from ..rig.surface import parts
from .regions import mask_of
from .smooth_fields import cotangent_stiffness, laplacian

ROUNDS = 12
_RIM_COSINE = 0.5  # vertices may be pulled whose direction of growth has at most this cosine to the line of sight
_TURN_COST = 0.25  # what a right angle between the normals of two outlines costs, in head widths
_REACH, _BACK_REACH, _NECK_REACH = 0.6, 0.25, 0.1  # farthest pair, in head widths: from the matte to the mesh, back, and back from the neck
_HANGING = 0.05  # head widths that hair beside the face must stick out beyond it
# square metres: hair follows the matte in waves of about two centimetres, the neck in longer ones, ears that are seen only as a whole
_BENDING, _NECK_BENDING, _EAR_BENDING = 1.5e-6, 3e-5, 2e-4
# what draws thickness to its neighbours', and per square metre to zero and to zero at the shoulders
_MEMBRANE, _ANCHOR, _NECK_ANCHOR = 0.003, 0.1, 3000.0
_THINNEST, _THICKEST = -0.012, 0.12  # metres
_CHIN = 152  # landmark
_GROWING = ("scalp", "ear", "neck")


@dataclass(frozen=True)
class Outline:
    """Samples of an outline, one a pixel: `points` (n, 2) px, `normals` (n, 2) outward, and the `rows` and `columns` of their pixels."""

    points: np.ndarray
    normals: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class _Growth:
    """Where thickness is free: `place` (V,) number of each free vertex or -1, `ids` (m,) vertices, `directions` (V, 3), the smoothness
    matrix (m, m), and `neck` (V,) bool, whose outline may go on where the matte's ends at a collar.
    """

    place: np.ndarray
    ids: np.ndarray
    directions: np.ndarray
    smoothness: sparse.csc_matrix
    neck: np.ndarray


@dataclass(frozen=True)
class _Pairs:
    """Equations: corners (n, 3) vertices with their `weights` (n, 3), moved together, have to go `gap` (n,) px along `normals` (n, 2)."""

    corners: np.ndarray
    weights: np.ndarray
    normals: np.ndarray
    gap: np.ndarray


def find_outline(mask: np.ndarray, trusted: np.ndarray | None = None) -> Outline:
    """The outline of a mask (H, W) bool, where `trusted` (H, W) bool says that it is one."""
    inside, outside = (np.asarray(ndimage.distance_transform_edt(region)) for region in (mask, ~mask))
    distance = ndimage.gaussian_filter(np.where(mask, inside - 0.5, 0.5 - outside), 1.0)  # to the border between pixels, positive inside
    rim = mask & ~ndimage.binary_erosion(mask, border_value=1)  # pyright: ignore[reportOperatorIssue]
    rows, columns = np.nonzero(rim if trusted is None else rim & trusted)
    down, right = np.gradient(distance)
    gradient = np.stack([right[rows, columns], down[rows, columns]], axis=1)
    inward = gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-6)
    points = np.stack([columns, rows], axis=1) + 0.5 - inward * distance[rows, columns, None]
    return Outline(points, -inward, rows, columns)


def grow_hair(model: HeadModel, vertices: np.ndarray, outline: Outline, camera: Camera, covered_ears: np.ndarray) -> np.ndarray:
    """Displacements (V, 3) metres of posed `vertices` (V, 3) float64 that bring the head's outline in `camera` to `outline`.

    Args:
        covered_ears: (V,) bool, the vertices of ears that hair hides.
    """
    lap = laplacian(model.faces, len(vertices))
    flattened = _flatten(vertices, lap, covered_ears)
    growth = _free_vertices(model, flattened, lap, covered_ears)
    thickness = np.zeros(len(vertices))
    if len(outline.points) == 0 or len(growth.ids) == 0:
        return np.zeros_like(vertices)
    width = float(np.ptp(project(vertices[growth.ids], camera)[0][:, 0]))
    for done in range(ROUNDS):
        grown = flattened + thickness[:, None] * growth.directions
        pairs = _pair(model, grown, growth, outline, camera, width)
        stiffness = 8.0 * 0.55**done + 1.0
        thickness[growth.ids] = np.clip(_solve(grown, thickness, growth, pairs, camera, stiffness), _THINNEST, _THICKEST)
    return flattened + thickness[:, None] * growth.directions - vertices


def _flatten(vertices: np.ndarray, lap: sparse.csr_matrix, covered: np.ndarray) -> np.ndarray:
    """`vertices` with the covered ones laid into the smoothest surface that continues what surrounds them."""
    flattened = vertices.copy()
    ids, rest = np.nonzero(covered)[0], np.nonzero(~covered)[0]
    if len(ids):
        bending = lap.T @ lap + 0.05 * lap  # a little of the harmonic surface keeps it from bulging
        inner = bending[ids]
        flattened[ids] = splu(inner[:, ids].tocsc()).solve(-(inner[:, rest] @ vertices[rest]))
    return flattened


def _free_vertices(model: HeadModel, vertices: np.ndarray, lap: sparse.csr_matrix, covered_ears: np.ndarray) -> _Growth:
    count = len(vertices)
    labels = parts(model.faces, count)
    main = np.bincount(labels[model.faces[model.landmark_faces, 0]]).argmax()
    free = mask_of(model, *_GROWING) & (labels == main)
    free[model.faces[model.landmark_faces]] = False  # the face's points stay where they were fitted
    ids = np.nonzero(free)[0]
    place = np.full(count, -1)
    place[ids] = np.arange(len(ids))
    # by true lengths, for ears are meshed more finely than the scalp; the border to the face counts, so thickness starts at zero
    stiffness, areas = cotangent_stiffness(vertices, model.faces)
    weight = np.where(mask_of(model, "ear") & ~covered_ears, _EAR_BENDING, np.where(mask_of(model, "neck"), _NECK_BENDING, _BENDING))
    bending = stiffness @ sparse.diags(weight / areas) @ stiffness
    anchor = sparse.diags((_ANCHOR + _NECK_ANCHOR * _down_the_neck(model, vertices) ** 2) * areas)
    smoothness = (bending + _MEMBRANE * stiffness + anchor)[ids][:, ids]
    return _Growth(place, ids, _directions(model, vertices, lap), smoothness.tocsc(), mask_of(model, "neck"))


def _down_the_neck(model: HeadModel, vertices: np.ndarray) -> np.ndarray:
    """(V,) from 0 at the height of the chin and above to 1 at the lowest vertex: shoulders are not hair."""
    chin, lowest = model.landmarks(vertices)[_CHIN, 1], vertices[:, 1].min()
    return np.clip((chin - vertices[:, 1]) / max(chin - lowest, 1e-6), 0, 1) * mask_of(model, "neck")


def _directions(model: HeadModel, vertices: np.ndarray, lap: sparse.csr_matrix) -> np.ndarray:
    """(V, 3) unit directions of growth: normals, smoothed well; an ear's are those of the skin around it."""
    normals = vertex_normals(vertices, model.faces)
    ears = mask_of(model, "ear")
    if ears.any():
        ids, rest = np.nonzero(ears)[0], np.nonzero(~ears)[0]
        inner = lap[ids]
        normals[ids] = splu(inner[:, ids].tocsc()).solve(-(inner[:, rest] @ normals[rest]))
    for _ in range(20):
        normals = normals - 0.5 * (lap @ normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)


def _pair(model: HeadModel, vertices: np.ndarray, growth: _Growth, outline: Outline, camera: Camera, width: float) -> _Pairs:
    """Each sample of the matte's outline with the nearest place of the mesh's outline that looks the same way, and the other way round."""
    buffers = rasterize_mesh(vertices, model.faces, camera)
    rim = find_outline(buffers.mask)
    corners = model.faces[buffers.face_ids[rim.rows, rim.columns]]
    weights = buffers.barycentrics[rim.rows, rim.columns].astype(np.float64)
    turn = _TURN_COST * width / np.sqrt(2)
    of_matte = np.concatenate([outline.points, turn * outline.normals], axis=1)
    of_mesh = np.concatenate([rim.points, turn * rim.normals], axis=1)
    distance, nearest = cKDTree(of_mesh).query(of_matte, distance_upper_bound=_REACH * width)
    sample = np.nonzero(np.isfinite(distance))[0]
    place = nearest[sample]
    fixed = (weights * (growth.place[corners] < 0)).sum(axis=1) > 0.5
    beyond = np.einsum("nd,nd->n", outline.normals[sample], outline.points[sample] - rim.points[place]) > _HANGING * width
    hanging = _pair_behind(vertices, growth, outline, sample[fixed[place] & beyond], camera, turn)
    sample, place = sample[~fixed[place]], place[~fixed[place]]
    own = np.nonzero(~fixed)[0]
    back, partner = cKDTree(of_matte).query(of_mesh[own])
    near = back < np.where(growth.neck[corners[own]].all(axis=1), _NECK_REACH, _BACK_REACH) * width
    sample, place = np.concatenate([sample, partner[near]]), np.concatenate([place, own[near]])
    normals = outline.normals[sample]
    gap = np.einsum("nd,nd->n", normals, outline.points[sample] - rim.points[place])
    return _Pairs(
        np.concatenate([corners[place], hanging.corners]),
        np.concatenate([weights[place], hanging.weights]),
        np.concatenate([normals, hanging.normals]),
        np.concatenate([gap, hanging.gap]),
    )


def _pair_behind(vertices: np.ndarray, growth: _Growth, outline: Outline, samples: np.ndarray, camera: Camera, turn: float) -> _Pairs:
    """Samples with the nearest free vertex, hidden behind the face, that grows the way they look."""
    ids = growth.ids
    sight = vertices[ids] - camera.position
    sight /= np.linalg.norm(sight, axis=1, keepdims=True)
    ids = ids[np.abs(np.einsum("vd,vd->v", growth.directions[ids], sight)) < _RIM_COSINE]
    if not len(ids) or not len(samples):
        return _Pairs(np.zeros((0, 3), int), np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0))
    pixels, _ = project(vertices[ids], camera)
    flat = growth.directions[ids] @ camera.camera_from_world[:2, :3].T
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    points, normals = outline.points[samples], outline.normals[samples]
    tree = cKDTree(np.concatenate([pixels, turn * flat], axis=1))
    _, nearest = tree.query(np.concatenate([points, turn * normals], axis=1))
    gap = np.einsum("nd,nd->n", normals, points - pixels[nearest])
    return _Pairs(np.repeat(ids[nearest][:, None], 3, axis=1), np.tile([1.0, 0.0, 0.0], (len(samples), 1)), normals, gap)


def _solve(vertices: np.ndarray, thickness: np.ndarray, growth: _Growth, pairs: _Pairs, camera: Camera, stiffness: float) -> np.ndarray:
    """The thickness (m,), metres, of the free vertices that closes the pairs' gaps."""
    _, depth = project(vertices, camera)
    flat = growth.directions @ camera.camera_from_world[:2, :3].T
    coefficient = pairs.weights * np.einsum("nd,nkd->nk", pairs.normals, flat[pairs.corners])
    metres = (pairs.weights * depth[pairs.corners]).sum(axis=1) / camera.K[0, 0]
    target = pairs.gap * metres + (coefficient * thickness[pairs.corners]).sum(axis=1)
    place = growth.place[pairs.corners]
    coefficient = np.where(place >= 0, coefficient, 0.0)
    usable = coefficient.sum(axis=1) > 0.2  # a direction nearly along the outline says nothing about the thickness
    rows = np.repeat(np.arange(usable.sum()), 3)
    shape = (int(usable.sum()), len(growth.ids))
    matrix = sparse.csr_matrix((coefficient[usable].ravel(), (rows, np.maximum(place[usable], 0).ravel())), shape=shape)
    # samples come one a pixel: weigh them so that the picture's resolution does not matter
    weight = metres[usable] / 0.002
    system = matrix.T @ sparse.diags(weight) @ matrix + stiffness * growth.smoothness
    return splu(system.tocsc()).solve(matrix.T @ (weight * target[usable]))
