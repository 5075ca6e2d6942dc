# SPDX-License-Identifier: Apache-2.0
"""Per-vertex offsets that bring a fitted head's face points onto the detected ones, as smoothly as that can be done.

Only what the picture shows is moved: offsets lie in the image plane, depth stays the parametric fit's. A bending term (squared uniform
Laplacian) spreads them over the skin; its weight falls step by step until the points agree, and never so far that a triangle folds
beyond mending. What looks away from the camera takes its mirror image's offset. Points that meet when mouth or eyes close are tied to
one another, for how far they are open is the expression's affair. Eyeballs, teeth and tongue follow rigidly, and lids stay outside the
eyeballs.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ..cameras import Camera, project
from ..rig import HeadModel, Parameters, face_normals, skin, vertex_normals
from ..rig.surface import parts
from ..rotations import axis_angle_to_matrix
from . import landmark_sets as sets
from .fit import Fit, eye_distance, landmark_importance
from .regions import mask_of
from .smooth_fields import landmark_matrix, laplacian, mirror_vertices

TARGET_PERCENT = 0.8  # mean landmark error at which smoothing stops giving way
_BENDING = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)  # weights against a landmark's 1, from stiff to soft
_ANCHOR_FACE, _ANCHOR_ELSEWHERE = 1e-4, 3e-2  # what draws offsets to zero
_LIP_TIE, _LID_TIE = 40.0, 4.0  # against a landmark's 1
_MENDINGS = 40
_SLIVER = 4e-4  # metres: flatter triangles, as between closed lips, may turn as they like
_COLLAPSED = 0.08  # a triangle whose area in the picture shrinks below this share has folded
_LID_GAP = 0.0004  # metres that skin keeps from an eyeball it was outside of
_RIGID_NEIGHBOURS = 80


@dataclass(frozen=True)
class _Skin:
    """The connected part of the mesh that carries the face: its vertices, and the other parts, each a rigid body."""

    ids: np.ndarray
    bodies: tuple[np.ndarray, ...]


def landmark_offsets(model: HeadModel, fit: Fit, detected: np.ndarray) -> np.ndarray:
    """Offsets (V, 3) float32, metres, to be added to the head's `static_offsets`.

    Args:
        detected: (478, >=2) pixels in the fit's camera.
    """
    posed = skin(model, fit.shape, fit.parameters.expression.astype(np.float64), fit.parameters.rotations, fit.parameters.translation)
    layout = _find_skin(model)
    matrix = landmark_matrix(model.faces, model.landmark_faces, model.landmark_barycentrics, len(posed))
    pixels, depth = project(matrix @ posed, fit.camera)
    target = (detected[:, :2] - pixels) * depth[:, None] / fit.camera.K[0, 0]  # metres along the camera's x and y
    weights = landmark_importance() * fit.weights
    on_skin = np.isin(model.faces[model.landmark_faces, 0], layout.ids)
    weights = np.where(on_skin, weights, 0.0)
    pairs = np.array(sets.LIP_PAIRS + sets.LID_PAIRS)
    ties = np.repeat([_LIP_TIE, _LID_TIE], [len(sets.LIP_PAIRS), len(sets.LID_PAIRS)])
    observed = sparse.vstack([matrix, matrix[pairs[:, 0]] - matrix[pairs[:, 1]]]).tocsr()
    wanted = observed, np.concatenate([weights, ties]), np.concatenate([target, np.zeros((len(pairs), 2))])
    best = np.zeros((len(posed), 3))
    for bending in _BENDING:
        moves = _solve(model, layout, *wanted, bending) @ fit.camera.camera_from_world[:2, :3]  # pyright: ignore[reportArgumentType]
        moves = _mirrored_where_unseen(model, posed, moves, fit.camera)
        moves = _outside_eyeballs(model, layout, posed, _follow_rigidly(layout, posed, moves))
        moves = _unfolded(model, posed, moves, fit.camera)
        if moves is None:
            break
        best = moves
        moved, _ = project(matrix @ (posed + moves), fit.camera)
        error = np.linalg.norm(moved - detected[:, :2], axis=1)[on_skin].mean()
        if 100 * error <= TARGET_PERCENT * eye_distance(detected):
            break
    return to_rest_pose(model, fit.parameters, best).astype(np.float32)


def _unfolded(model: HeadModel, posed: np.ndarray, moves: np.ndarray, camera: Camera) -> np.ndarray | None:
    """Moves (V, 3), averaged over neighbours around triangles that would fold; None where that does not help."""
    moves = moves.copy()
    mean: sparse.csr_matrix = sparse.identity(len(posed), format="csr") - laplacian(model.faces, len(posed))
    for _ in range(_MENDINGS):
        folded = _folded(model, posed, moves, camera)
        if not len(folded):
            return moves
        for _ in range(2):  # rings of neighbours
            folded = np.unique(model.faces[np.isin(model.faces, folded).any(axis=1)])
        moves[folded] = mean[folded] @ moves  # pyright: ignore[reportIndexIssue]
    return None


def _find_skin(model: HeadModel) -> _Skin:
    labels = parts(model.faces, len(model.v_template))
    face_label = np.bincount(labels[model.faces[model.landmark_faces, 0]]).argmax()
    bodies = [np.nonzero(labels == label)[0] for label in np.unique(labels) if label != face_label]
    return _Skin(np.nonzero(labels == face_label)[0], tuple(bodies))


def _solve(
    model: HeadModel, layout: _Skin, matrix: sparse.csr_matrix, weights: np.ndarray, target: np.ndarray, bending: float
) -> np.ndarray:
    """(V, 2) metres along the camera's x and y: argmin sum w |C u - target|^2 + bending |L u|^2 + anchor |u|^2 on the skin."""
    count = len(model.v_template)
    anchor = np.full(count, _ANCHOR_ELSEWHERE)
    anchor[mask_of(model, "face", "mouth_cavity", "lip", "lid")] = _ANCHOR_FACE
    lap = laplacian(model.faces, count)[layout.ids][:, layout.ids]
    observe = sparse.diags(np.sqrt(weights)) @ matrix[:, layout.ids]
    system = (bending * lap.T @ lap + sparse.diags(anchor[layout.ids]) + observe.T @ observe).tocsc()
    right = observe.T @ (np.sqrt(weights)[:, None] * target)
    moves = np.zeros((count, 2))
    moves[layout.ids] = splu(system).solve(right)
    return moves


def _mirrored_where_unseen(model: HeadModel, posed: np.ndarray, moves: np.ndarray, camera: Camera) -> np.ndarray:
    """Vertices that look away take the mirror image of the other side's move, as far as that side is seen."""
    towards = camera.position - posed
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    cosine = np.einsum("vd,vd->v", vertex_normals(posed, model.faces), towards)
    seen = np.clip((cosine + 0.1) / 0.4, 0, 1)
    mirror, exact = mirror_vertices(model.v_template)
    share = np.where(exact, np.clip(seen[mirror] - seen, 0, 1), 0)[:, None]
    return (1 - share) * moves + share * moves[mirror] * [-1, 1, 1]


def _follow_rigidly(layout: _Skin, posed: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Each body that is not skin moves by the mean of the skin nearest to it."""
    moves = moves.copy()
    tree = cKDTree(posed[layout.ids])
    for body in layout.bodies:
        distance, _ = tree.query(posed[body])
        near = body[np.argsort(distance, kind="stable")[:_RIGID_NEIGHBOURS]]
        moves[body] = moves[layout.ids[np.unique(tree.query(posed[near])[1])]].mean(axis=0)
    return moves


def _outside_eyeballs(model: HeadModel, layout: _Skin, posed: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Pushes skin radially out of an eyeball it has been moved into."""
    moves = moves.copy()
    eyeballs = mask_of(model, "eyeball")
    for body in layout.bodies:
        if not eyeballs[body].all():
            continue
        centre = posed[body].mean(axis=0)
        radius = np.linalg.norm(posed[body] - centre, axis=1).max()
        before = np.linalg.norm(posed[layout.ids] - centre, axis=1)
        near = layout.ids[before < 1.5 * radius]
        ray = posed[near] + moves[near] - centre - moves[body[0]]
        distance = np.linalg.norm(ray, axis=1)
        wanted = np.minimum(np.linalg.norm(posed[near] - centre, axis=1), radius + _LID_GAP)
        push = np.clip(wanted - distance, 0, None) / np.maximum(distance, 1e-9)
        moves[near] += push[:, None] * ray
    return moves


def _folded(model: HeadModel, posed: np.ndarray, moves: np.ndarray, camera: Camera) -> np.ndarray:
    """The vertices of the face's triangles that turned by more than 60 degrees and collapsed or turned over in the camera's picture.

    Both, because a triangle seen edge-on may turn a little and be seen no more, or may come into sight as it stretches.
    """
    faces = model.faces[mask_of(model, "face", "lip", "lid")[model.faces].all(axis=1)]
    before, after = face_normals(posed, faces), face_normals(posed + moves, faces)
    towards = camera.position - posed[faces].mean(axis=1)
    seen, still_seen = (np.einsum("fd,fd->f", normals, towards) for normals in (before, after))
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    turned = np.einsum("fd,fd->f", before, after) < 0.5 * lengths
    corners = posed[faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    visible = np.linalg.norm(before, axis=1) > _SLIVER * longest
    return np.unique(faces[turned & visible & (seen > 0) & (still_seen < _COLLAPSED * seen)])


def to_rest_pose(model: HeadModel, parameters: Parameters, moves: np.ndarray) -> np.ndarray:
    """Moves of posed vertices as moves of the rest pose: the inverse of the blended joint rotations."""
    if not parameters.rotations.any():
        return moves
    matrices = axis_angle_to_matrix(parameters.rotations.astype(np.float64))
    world = matrices.copy()
    for joint, parent in enumerate(model.parents):
        if parent >= 0:
            world[joint] = world[parent] @ matrices[joint]
    blended = np.einsum("vj,jab->vab", model.lbs_weights, world)
    return np.linalg.solve(blended, moves[..., None])[..., 0]
