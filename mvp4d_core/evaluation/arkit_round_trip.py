# SPDX-License-Identifier: Apache-2.0
"""What survives of ARKit weights that go to another head and come back."""

from dataclasses import dataclass

import numpy as np

from ..rig import HeadModel, Performance, load_head_model
from ..rig.arkit_map import FACE_JOINTS, convert_performance
from ..rig.faces import EXPRESSIONS, both_sides
from ..rig.landmark_motion import controls_of, landmark_basis, landmark_rig

EXPRESSIBLE = 0.9  # share of a face's motion that the other head must be able to follow for the face to count
SEEN = 5e-5  # metres, root mean square over the points, by which a face must move them at unit weights to be seen at all
_RANDOM_FACES, _ACTIVE = 120, 6


@dataclass(frozen=True)
class ArkitRoundTrip:
    """Mean absolute errors of ARKit weights.

    Attributes:
        expressible: error along the directions of weight space that the other head can follow.
        dimensions: how many of the 52 those are.
        rest: error along the other directions.
        total: error of the weights as they are.
        by_name: (52 entries) total error of each weight.
    """

    expressible: float
    dimensions: int
    rest: float
    total: float
    by_name: dict[str, float]


def arkit_round_trip_error(head: HeadModel, arkit_head: HeadModel | None = None, seed: int = 0) -> ArkitRoundTrip:
    """Random faces and the library's, as weights of `arkit_head` (the open head by default), to `head` and back.

    The expressible subspace is found from the two heads alone, before anything goes round: the directions w of weight space along which
    the points' motion D w, as far as the other head's controls span it, keeps `EXPRESSIBLE` of its energy, a motion below `SEEN`
    counting as lost. They solve the generalised eigenproblem of (P D)^T (P D) against D^T D + `SEEN`^2.
    """
    arkit_head = arkit_head or load_head_model()
    subspace = expressible_subspace(arkit_head, head)
    faces = _faces(arkit_head, seed)
    still = np.zeros((len(faces), len(arkit_head.joint_names), 3))
    sent = Performance(faces, still, np.zeros((len(faces), 3)), 24.0, arkit_head.expression_names, arkit_head.joint_names)
    there = convert_performance(sent, arkit_head, head).performance
    back = convert_performance(there, head, arkit_head).performance
    error = back.expression.astype(np.float64) - faces
    along = error @ subspace @ subspace.T
    return ArkitRoundTrip(
        expressible=float(np.abs(along).mean()),
        dimensions=subspace.shape[1],
        rest=float(np.abs(error - along).mean()),
        total=float(np.abs(error).mean()),
        by_name=dict(zip(arkit_head.expression_names, np.abs(error).mean(axis=0).tolist(), strict=True)),
    )


def expressible_subspace(source: HeadModel, target: HeadModel) -> np.ndarray:
    """(E, K) orthonormal directions of the source's weights that the target can follow; see `arkit_round_trip_error`."""
    source_rig, target_rig = landmark_rig(source), landmark_rig(target)
    motion = landmark_basis(source_rig, controls_of(source, ()))
    reach = np.linalg.qr(landmark_basis(target_rig, controls_of(target, FACE_JOINTS)))[0]
    followed = reach.T @ motion
    seen = np.linalg.cholesky(motion.T @ motion + SEEN**2 * len(motion) / 3 * np.eye(motion.shape[1]))
    half = np.linalg.solve(seen, followed.T)
    shares, directions = np.linalg.eigh(half @ half.T)
    kept = np.linalg.solve(seen.T, directions[:, shares >= EXPRESSIBLE])
    return np.linalg.qr(kept)[0]


def _faces(head: HeadModel, seed: int) -> np.ndarray:
    """(T, E) the library's faces, then random ones of a few expressions each."""
    names = {name: column for column, name in enumerate(head.expression_names)}
    faces = np.zeros((len(EXPRESSIONS) + _RANDOM_FACES, len(names)))
    for row, face in enumerate(EXPRESSIONS.values()):
        for name, weight in both_sides(face).items():
            if name in names:
                faces[row, names[name]] = weight
    rng = np.random.default_rng(seed)
    for row in faces[len(EXPRESSIONS) :]:
        row[rng.choice(len(names), min(_ACTIVE, len(names)), replace=False)] = rng.uniform(0.1, 0.9, min(_ACTIVE, len(names)))
    return faces
