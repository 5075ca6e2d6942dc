# SPDX-License-Identifier: Apache-2.0
"""How far the two skinning modes lie from their formulas, worked out vertex by vertex in float64 on arrays of FLAME's size."""

import numpy as np

from ..rig import HeadModel, skin
from ..rig.flowface import EXPRESSIONS, SHAPES, skin_flowface

VERTICES = 5023


def flame_lbs_error(model: HeadModel | None = None, poses: int = 3, seed: int = 0) -> float:
    """The largest distance (metres) between `skin` in float32 and the formula, over random poses; `model` defaults to random arrays."""
    rng = np.random.default_rng(seed)
    model = model or random_flame_sized_head(rng)
    worst = 0.0
    for _ in range(poses):
        shape, expression, translation = _numbers(rng, model)
        turns = rng.normal(0, 0.3, (5, 3))
        ours = skin(model, shape.astype(np.float32), expression.astype(np.float32), turns.astype(np.float32), translation)
        shaped, joints = _shaped(model, shape, expression)
        matrices = [_turn(turn) for turn in turns.astype(np.float32).astype(np.float64)]
        posed = shaped + model.static_offsets + _correctives(model, [matrix - np.eye(3) for matrix in matrices[1:]])
        moved = np.zeros_like(posed)
        for joint in range(5):
            place, points = joint, posed
            while place >= 0:  # from the joint to the root, each turning about its own rest place
                points = (points - joints[place]) @ matrices[place].T + joints[place]
                place = int(model.parents[place])
            moved += model.lbs_weights[:, joint, None].astype(np.float64) * points
        worst = max(worst, float(np.linalg.norm(moved + translation - ours, axis=1).max()))
    return worst


def flowface_lbs_error(model: HeadModel | None = None, poses: int = 3, seed: int = 0) -> float:
    """As `flame_lbs_error`, of `skin_flowface`; `model` has 150 identity and 65 expression directions."""
    rng = np.random.default_rng(seed)
    model = model or random_flame_sized_head(rng, SHAPES, EXPRESSIONS)
    worst = 0.0
    for _ in range(poses):
        shape, expression, translation = _numbers(rng, model)
        whole, eye, neck, jaw = rng.normal(0, 0.3, (4, 3)).astype(np.float32)
        ours = skin_flowface(model, shape, expression.astype(np.float32), whole, translation, eye, neck, jaw)
        shaped, joints = _shaped(model, shape, expression)
        matrices = [_turn(turn.astype(np.float64)) for turn in (neck, np.zeros(3), jaw, eye, eye)]
        posed = shaped + model.static_offsets + _correctives(model, [matrices[slot] - 2 * np.eye(3) for slot in (0, 2, 3, 4)])
        moved = np.zeros_like(posed)
        for joint in range(5):
            points = (posed - joints[joint]) @ matrices[joint].T + joints[joint]
            moved += model.lbs_weights[:, joint, None].astype(np.float64) * points
        moved = moved @ _turn(whole.astype(np.float64)).T + translation
        worst = max(worst, float(np.linalg.norm(moved - ours, axis=1).max()))
    return worst


def random_flame_sized_head(rng: np.random.Generator, shapes: int = 300, expressions: int = 100) -> HeadModel:
    """Arrays of FLAME's shapes and of the sizes of a head's numbers; no face."""
    first = rng.integers(0, VERTICES - 2, 9976)
    faces = np.stack([first, first + 1, first + 2], axis=1).astype(np.int32)
    return HeadModel(
        v_template=rng.uniform(-0.12, 0.12, (VERTICES, 3)).astype(np.float32),
        faces=faces,
        uvs=rng.uniform(size=(VERTICES, 2)).astype(np.float32),
        uv_faces=faces,
        shapedirs=rng.normal(0, 2e-4, (VERTICES, 3, shapes)).astype(np.float32),
        exprdirs=rng.normal(0, 2e-4, (VERTICES, 3, expressions)).astype(np.float32),
        posedirs=rng.normal(0, 1e-3, (VERTICES, 3, 36)).astype(np.float32),
        J_regressor=rng.dirichlet(np.full(VERTICES, 0.01), 5).astype(np.float32),
        parents=np.array([-1, 0, 1, 1, 1], np.int32),
        lbs_weights=rng.dirichlet(np.ones(5), VERTICES).astype(np.float32),
        landmark_faces=np.zeros(0, np.int32),
        landmark_barycentrics=np.zeros((0, 3), np.float32),
        static_offsets=np.zeros((VERTICES, 3), np.float32),
        joint_names=("root", "neck", "jaw", "left_eye", "right_eye"),
        expression_names=tuple(f"expr{k:03d}" for k in range(expressions)),
        shape_names=tuple(f"shape{k:03d}" for k in range(shapes)),
        name="random",
        licence="CC0-1.0",
    )


def _numbers(rng: np.random.Generator, model: HeadModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Identity, expression and translation, exact in float32."""
    shape, expression = (rng.normal(size=directions.shape[2]).astype(np.float32) for directions in (model.shapedirs, model.exprdirs))
    return shape.astype(np.float64), expression.astype(np.float64), rng.normal(0, 0.1, 3).astype(np.float32).astype(np.float64)


def _shaped(model: HeadModel, shape: np.ndarray, expression: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shaped = model.v_template.astype(np.float64)
    for directions, weights in ((model.shapedirs, shape), (model.exprdirs, expression)):
        for k, weight in enumerate(weights):
            shaped = shaped + directions[:, :, k].astype(np.float64) * weight
    return shaped, model.J_regressor.astype(np.float64) @ shaped


def _correctives(model: HeadModel, matrices: list[np.ndarray]) -> np.ndarray:
    entries = [float(entry) for matrix in matrices for row in matrix for entry in row]
    return sum(
        (model.posedirs[:, :, k].astype(np.float64) * entry for k, entry in enumerate(entries)), np.zeros_like(model.v_template, float)
    )


def _turn(vector: np.ndarray) -> np.ndarray:
    """The rotation matrix of an axis-angle vector (3,), by its unit quaternion."""
    angle = float(np.linalg.norm(vector))
    w, (x, y, z) = np.cos(angle / 2), (vector * (np.sin(angle / 2) / angle) if angle else vector)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
