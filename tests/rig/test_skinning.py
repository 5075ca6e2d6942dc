# SPDX-License-Identifier: Apache-2.0
"""Skinning against a float64 oracle written vertex by vertex from the formula."""

import numpy as np
import pytest

from mvp4d_core.errors import InputError
from mvp4d_core.rig import personalize, skin
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model

MODEL = toy_head_model()
REST = np.zeros(len(MODEL.expression_names)), np.zeros((5, 3)), np.zeros(3)


def random_pose(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=MODEL.shapedirs.shape[2]),
        rng.uniform(0, 1, MODEL.exprdirs.shape[2]),
        rng.normal(size=(5, 3)) * 0.4,
        rng.normal(size=3) * 0.1,
    )


def rodrigues(vector: np.ndarray) -> np.ndarray:
    angle = np.linalg.norm(vector)
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def oracle(model, shape, expression, rotations, translation) -> np.ndarray:
    shaped = model.v_template.astype(np.float64)
    for k in range(len(shape)):
        shaped = shaped + model.shapedirs[:, :, k].astype(np.float64) * shape[k]
    for k in range(len(expression)):
        shaped = shaped + model.exprdirs[:, :, k].astype(np.float64) * expression[k]
    joints = model.J_regressor.astype(np.float64) @ shaped
    matrices = [rodrigues(r) for r in rotations]
    posed = shaped + model.static_offsets
    feature = 0
    for j in range(1, len(joints)):
        for row in range(3):
            for column in range(3):
                posed = posed + model.posedirs[:, :, feature] * (matrices[j][row, column] - (row == column))
                feature += 1

    def through(j: int, points: np.ndarray) -> np.ndarray:
        turned = (points - joints[j]) @ matrices[j].T + joints[j]
        return turned if model.parents[j] < 0 else through(model.parents[j], turned)

    return sum(model.lbs_weights[:, j, None] * through(j, posed) for j in range(len(joints))) + translation


@pytest.mark.parametrize("seed", range(5))
def test_skin_equals_the_formula(seed):
    pose = random_pose(seed)
    assert_arrays_close(skin(MODEL, *pose), oracle(MODEL, *pose), atol=1e-6)


def test_rest_is_the_template():
    assert_arrays_close(skin(MODEL, None, *REST), MODEL.v_template, atol=1e-7)


def test_root_rotation_moves_all_rigidly():
    expression, rotations, translation = (a.copy() for a in REST)
    rotations[0] = [0.2, -0.5, 0.1]
    moved = skin(MODEL, None, expression, rotations, translation)
    root = MODEL.J_regressor[0] @ MODEL.v_template
    assert_arrays_close(moved, (MODEL.v_template - root) @ rodrigues(rotations[0]).T + root, atol=1e-6)


def test_convention_jaw_turns_down_about_positive_x():
    expression, rotations, translation = (a.copy() for a in REST)
    rotations[2, 0] = 0.3
    moved = skin(MODEL, None, expression, rotations, translation) - MODEL.v_template
    chin = np.argmin(np.where(MODEL.lbs_weights[:, 2] > 0.5, MODEL.v_template[:, 1], np.inf))
    assert moved[chin, 1] < 0


def test_offsets_move_the_skin_and_not_the_joints():
    offsets = np.zeros_like(MODEL.v_template)
    offsets[MODEL.regions["scalp"]] = [0, 0.02, 0]
    shape = random_pose(3)[0]
    person = personalize(MODEL, shape, offsets)
    assert person.shapedirs.shape[2] == 0
    expected_joints = MODEL.J_regressor @ (MODEL.v_template + MODEL.shapedirs @ shape.astype(np.float32))
    assert_arrays_close(person.J_regressor @ person.v_template, expected_joints, atol=1e-6)
    assert_arrays_close(skin(person, None, *REST), skin(MODEL, shape, *REST) + offsets, atol=1e-6)


def test_wrong_shapes_are_named():
    with pytest.raises(InputError, match="`rotations` must be"):
        skin(MODEL, None, REST[0], np.zeros((4, 3)), REST[2])
    with pytest.raises(InputError, match="`shape` must have at most"):
        skin(MODEL, np.zeros(999), *REST)
