# SPDX-License-Identifier: Apache-2.0
"""How one person's face moves: nobody smiles by exactly the rig's directions."""

from dataclasses import replace

import numpy as np

from ...rig import HeadModel
from .noise import cloud
from .stage import vertex_normals

STRENGTH = 0.25  # deviation of the logarithm of how strongly a person does an expression
NEIGHBOUR = 0.12  # deviation of how much of another expression of the same place comes along
FOLD = 0.15  # deviation of what rises and sinks along the normals, as a share of how far the skin moves
FOLD_CELL = 0.012  # metres between folds


def with_manners(model: HeadModel, rng: np.random.Generator) -> HeadModel:
    """The head with expression directions of a person's own, under the same names.

    Each is stronger or weaker than the rig's, on the left otherwise than on the right, brings a little of its neighbours along, and lifts
    and sinks the skin it moves in folds. Shapes, joints and the rest pose stay.
    """
    directions = model.exprdirs.astype(np.float64)
    count = directions.shape[2]
    reach = np.linalg.norm(directions, axis=1)  # (V, E)
    overlap = reach.T @ reach
    overlap /= np.sqrt(np.outer(np.diag(overlap), np.diag(overlap))) + 1e-12
    mixing = np.exp(STRENGTH * rng.normal(size=count)) * np.eye(count) + NEIGHBOUR * rng.normal(size=(count, count)) * (
        np.clip(overlap, 0, 1) * (1 - np.eye(count))
    )
    side = np.tanh(model.v_template[:, :1] / 0.01)  # -1 on the right, 1 on the left
    lopsided = 1 + 0.5 * STRENGTH * side * rng.normal(size=count)
    moved = (directions @ mixing) * lopsided[:, None, :]
    normals = vertex_normals(model.v_template, model.faces)
    for expression in range(count):
        folds = cloud(model.v_template, FOLD_CELL, int(rng.integers(2**31)), octaves=2)
        moved[:, :, expression] += FOLD * (folds * np.linalg.norm(moved[:, :, expression], axis=1))[:, None] * normals
    inside = model.region_mask(*(name for name in ("upper_teeth", "lower_teeth", "gums", "tongue", "left_eyeball", "right_eyeball")
                                 if name in model.regions))  # fmt: skip
    moved[inside] = directions[inside]  # bone and eyes don't fold
    return replace(model, exprdirs=moved.astype(np.float32))
