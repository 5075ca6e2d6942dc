# SPDX-License-Identifier: Apache-2.0
"""Points of heads by weights and joints, against the skinning of all vertices and differences."""

import numpy as np
import pytest

from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.rig import load_head_model, skin
from mvp4d_core.rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_axis_angle
from mvp4d_core.tracking.point_rig import joint_place, point_derivatives, point_rig, posed_points, turning_joints, turns, with_weights


@pytest.mark.parametrize("model", [load_head_model(), flame_head()], ids=["open head", "flame"])
def test_landmarks_are_those_of_skinning_and_so_are_their_derivatives(model):
    rng = np.random.default_rng(0)
    joints = tuple(name for name, *_ in turning_joints(model))
    assert ("jaw" in joints) == ("jawOpen" not in model.expression_names)
    basis, shapes = np.concatenate([model.shapedirs, model.exprdirs], axis=2), model.shapedirs.shape[2]
    rig = point_rig(model, basis, joints, model.faces[model.landmark_faces], model.landmark_barycentrics)
    weights, angles = rng.uniform(0, 0.5, basis.shape[2]), rng.uniform(-0.3, 0.3, (len(joints), 2))
    matrices, rates = turns(angles)
    rotations = np.zeros((len(model.joint_names), 3))
    rotations[[model.joint_names.index(name) for name in joints]] = quaternion_to_axis_angle(matrix_to_quaternion(matrices))
    expected = model.landmarks(skin(model, weights[:shapes], weights[shapes:], rotations, np.zeros(3)))
    np.testing.assert_allclose(posed_points(rig, weights, matrices), expected, atol=1e-8)
    person = with_weights(rig, weights[:shapes])
    np.testing.assert_allclose(posed_points(person, weights[shapes:], matrices), expected, atol=1e-8)
    derivative = point_derivatives(rig, weights, matrices, rates)
    for column in (0, shapes - 1, shapes, len(weights) - 1, *range(len(weights), derivative.shape[2])):
        step = np.zeros(derivative.shape[2])
        step[column] = 1e-6
        by_weight, by_angle = step[: len(weights)], step[len(weights) :].reshape(-1, 2)
        ahead = posed_points(rig, weights + by_weight, turns(angles + by_angle)[0])
        behind = posed_points(rig, weights - by_weight, turns(angles - by_angle)[0])
        np.testing.assert_allclose(derivative[:, :, column], (ahead - behind) / 2e-6, atol=1e-8)


def test_turns_are_pitch_and_then_yaw():
    angles = np.array([[0.2, -0.3], [0.0, 0.0]])
    matrices, _ = turns(angles)
    np.testing.assert_allclose(matrices[0], axis_angle_to_matrix(np.array([0, -0.3, 0])) @ axis_angle_to_matrix(np.array([0.2, 0, 0])))
    np.testing.assert_array_equal(matrices[1], np.eye(3))


def test_a_joint_goes_where_its_regressor_says():
    model = flame_head()
    weights = np.random.default_rng(1).normal(size=100)
    place, by_weight = joint_place(model, 2, model.exprdirs)
    expected = model.J_regressor[2].astype(np.float64) @ (model.v_template + model.exprdirs @ weights)
    np.testing.assert_allclose(place + by_weight @ weights, expected, atol=1e-8)
