# SPDX-License-Identifier: Apache-2.0
"""All of MediaPipe's 478 points on a FLAME head, from those that somebody knows: the open head's, warped onto them, on the surface.

Lip points stay on their lip, which is told by the jaw's weights, and irises on their eyeball.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FormatError
from ..io.npz import read_npz
from .correspondence import SMOOTHING, nearest_on_surface, warp
from .flame_pickle import read_pickled_tables
from .head_model import HeadModel, load_head_model

COUNT = 478
SEEN_SMOOTHING = 0.05  # of the warp onto points that networks saw, which err by millimetres
_UPPER = (191, 80, 81, 82, 13, 312, 311, 310, 415, 185, 40, 39, 37, 0, 267, 269, 270, 409)
_LOWER = (95, 88, 178, 87, 14, 317, 402, 318, 324, 146, 91, 181, 84, 17, 314, 405, 321, 375)
_IRISES = {"right": (468, 469, 470, 471, 472), "left": (473, 474, 475, 476, 477)}
# MediaPipe's points at the 51 inner points of the 68 of iBUG (Sagonas et al. 2013): brows, nose, eyes, lips
_STATIC = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 98, 97, 2, 326, 327, 33, 160, 158, 133, 153, 144,
           362, 385, 387, 263, 373, 380, 61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308,
           317, 14, 87)  # fmt: skip


@dataclass(frozen=True)
class Embedding:
    """Some of the 478 points: `indices` (n,), and where they are, `points` (n, 3) metres on the template or `faces` with `barycentrics`."""

    indices: np.ndarray
    faces: np.ndarray | None = None
    barycentrics: np.ndarray | None = None
    points: np.ndarray | None = None


def read_embedding(path: Path, faces: int) -> Embedding:
    """MediaPipe's embedding (.npz: lmk_face_idx, lmk_b_coords, landmark_indices), or the static 51 of landmark_embedding.npy."""
    if path.suffix.lower() == ".npz":
        arrays = read_npz(path, ("lmk_face_idx", "lmk_b_coords", "landmark_indices"))
        if len(arrays) != 3:
            raise FormatError(
                f"{path.name} must hold lmk_face_idx, lmk_b_coords and landmark_indices, as FLAME's MediaPipe embedding does."
            )
        ids, weights, indices = arrays["lmk_face_idx"], arrays["lmk_b_coords"], arrays["landmark_indices"]
    else:
        names = ("static_lmk_faces_idx", "static_lmk_bary_coords", "full_lmk_faces_idx", "full_lmk_bary_coords")
        tables = read_pickled_tables(path, names)
        kind = "static" if "static_lmk_faces_idx" in tables else "full"
        try:
            ids, weights = tables[f"{kind}_lmk_faces_idx"], tables[f"{kind}_lmk_bary_coords"]
        except KeyError:
            raise FormatError(
                f"{path.name} must hold static_lmk_faces_idx and static_lmk_bary_coords, as FLAME's embedding does."
            ) from None
        ids, weights, indices = ids.reshape(-1), weights.reshape(-1, weights.shape[-1] if weights.ndim else 1), np.array(_STATIC)
        ids, weights = ids[-68:][-51:], weights[-68:][-51:]
    fits = ids.ndim == 1 and weights.shape == (len(ids), 3) and indices.shape == ids.shape and len(np.unique(indices)) == len(indices) >= 8
    if not fits or ids.dtype.kind not in "iu" or indices.dtype.kind not in "iu" or not np.isfinite(weights).all():
        raise FormatError(
            f"{path.name} must place eight points or more, each on a triangle; got {ids.shape}, {weights.shape}, {indices.shape}."
        )
    if ids.min() < 0 or ids.max() >= faces or indices.min() < 0 or indices.max() >= COUNT or np.abs(weights.sum(axis=1) - 1).max() > 0.01:
        raise FormatError(f"{path.name} places points off the head's {faces:,} triangles. It is another model's file.")
    return Embedding(indices.astype(np.int64), ids.astype(np.int32), weights.astype(np.float64))


def embed(head: HeadModel, embedding: Embedding) -> tuple[np.ndarray, np.ndarray]:
    """Faces (478,) int32 and barycentrics (478, 3) float32 of all points. Those of `embedding` with faces of their own keep them."""
    own = load_head_model()
    theirs = own.landmarks(own.v_template).astype(np.float64)
    template = head.v_template.astype(np.float64)
    known = embedding.points
    if known is None:
        assert embedding.faces is not None and embedding.barycentrics is not None
        known = np.einsum("lk,lkd->ld", embedding.barycentrics, template[head.faces[embedding.faces]])
    exact = embedding.points is None
    places = warp(theirs[embedding.indices], known, SMOOTHING if exact else SEEN_SMOOTHING)(theirs)
    if exact:
        places[embedding.indices] = known
    places = _irises_on_balls(own, head, theirs, places)
    faces, barycentrics = np.zeros(COUNT, np.int32), np.zeros((COUNT, 3))
    for members, allowed in _allowed(head):
        ids = np.flatnonzero(allowed)
        on, weights = nearest_on_surface(places[members], template, head.faces[ids])
        faces[members], barycentrics[members] = ids[on], weights
    if embedding.faces is not None and embedding.barycentrics is not None:
        faces[embedding.indices], barycentrics[embedding.indices] = embedding.faces, embedding.barycentrics
    return faces, barycentrics.astype(np.float32)


def _allowed(head: HeadModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """Points (n,), and the triangles (F,) bool on which they may lie."""
    eyes = {side: head.lbs_weights[:, head.joint_names.index(f"{side}_eye")] > 0.5 for side in _IRISES}
    skin = ~(eyes["left"] | eyes["right"])
    jaw = head.lbs_weights[:, head.joint_names.index("jaw")]
    below = jaw > 0.5
    irises = sum(_IRISES.values(), ())
    rest = np.setdiff1d(np.arange(COUNT), (*_UPPER, *_LOWER, *irises))
    groups = [(rest, skin), (np.array(_UPPER), skin & ~below), (np.array(_LOWER), skin & below)]
    groups += [(np.array(ids), eyes[side]) for side, ids in _IRISES.items()]
    fits = [(members, mask[head.faces].all(axis=1)) for members, mask in groups]
    if not all(triangles.any() for _, triangles in fits):
        raise FormatError(f"The weights of `{head.name}` give its jaw or its eyes no triangle. It is no FLAME model.")
    return fits


def _irises_on_balls(own: HeadModel, head: HeadModel, theirs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """`places` with the irises where the open head's lie on its eyeballs: of the same direction from the middle of the eye."""
    places = places.copy()
    for side, ids in _IRISES.items():
        joint = head.joint_names.index(f"{side}_eye")
        ball = head.v_template[head.lbs_weights[:, joint] > 0.5]
        if not len(ball):
            continue
        middle = (ball.min(axis=0) + ball.max(axis=0)) / 2
        off = theirs[list(ids)] - own.J_regressor[own.joint_names.index(f"{side}_eye")] @ own.v_template
        radius = np.median(np.linalg.norm(ball - middle, axis=1))
        places[list(ids)] = middle + radius * off / np.linalg.norm(off, axis=1, keepdims=True)
    return places
