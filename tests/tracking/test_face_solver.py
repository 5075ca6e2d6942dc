# SPDX-License-Identifier: Apache-2.0
"""The solver of single frames, against skinning and finite differences."""

import numpy as np
import pytest

from mvp4d_core.rig import HeadModel, load_head_model, skin
from mvp4d_core.rotations import axis_angle_to_matrix
from mvp4d_core.tracking.detector_habits import DetectorHabits, load_habits, measure_habits
from mvp4d_core.tracking.face_solver import (
    FacePose,
    SolverSettings,
    face_rig,
    residuals,
    solve_face,
    with_identity,
)
from mvp4d_core.tracking.point_rig import turns

FOCAL, CENTRE = 1400.0, np.array([640.0, 360.0])
EXACT = DetectorHabits(np.zeros((478, 2)), np.zeros((478, 2, 1)), np.zeros((478, 2, 1)), np.zeros((478, 2, 52)), np.full(478, 0.0005))


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_head_model()


def seen_points(model: HeadModel, expression: np.ndarray, rotation: np.ndarray, gaze: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Landmarks (478, 3) as an exact detector would find them, by skinning."""
    rotations = np.zeros((len(model.joint_names), 3))
    for name in ("left_eye", "right_eye"):
        rotations[model.joint_names.index(name), :2] = gaze
    points = model.landmarks(skin(model, shape, expression, rotations, np.zeros(3)))
    in_camera = points @ rotation.T + [0.02, -0.01, 0.8]
    pixels = FOCAL * in_camera[:, :2] / in_camera[:, 2:] + CENTRE
    return np.concatenate([pixels, FOCAL / 0.8 * (in_camera[:, 2:] - in_camera[:, 2:].mean())], axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_exact_points_give_back_what_the_face_did(model, seed):
    rng = np.random.default_rng(seed)
    expression, shape = np.zeros(52), rng.normal(size=len(model.shape_names))
    for name in ("jawOpen", "mouthSmileLeft", "browInnerUp", "eyeBlinkRight", "mouthPucker"):
        expression[model.expression_names.index(name)] = rng.uniform(0.2, 0.8)
    turn = np.diag([1.0, -1.0, -1.0]) @ axis_angle_to_matrix(rng.normal(size=3) * 0.2)
    gaze = rng.uniform(-0.2, 0.2, 2)
    settings = SolverSettings(noise=1.0, sparse=0.3)
    rig = with_identity(face_rig(model, settings, EXACT), np.append(shape, 0.0))
    pose = solve_face(rig, seen_points(model, expression, turn, gaze, shape), FOCAL, CENTRE, settings)
    assert np.rad2deg(np.arccos(np.clip((np.trace(pose.rotation @ turn.T) - 1) / 2, -1, 1))) < 0.3
    assert np.abs(pose.weights - expression).mean() < 0.03
    assert np.abs(pose.weights - expression).max() < 0.25
    for found in turns(pose.angles)[0]:
        assert np.abs(found - axis_angle_to_matrix(np.append(gaze, 0.0))).max() < 0.03


def test_derivatives_are_those_of_differences(model):
    rng = np.random.default_rng(1)
    rig = face_rig(model, SolverSettings())
    rig = with_identity(rig, np.zeros(rig.identities))
    count, modes = rig.basis.shape[2], rig.modes.shape[2]
    pose = FacePose(
        np.diag([1.0, -1.0, -1.0]), np.array([0, 0, 0.8]), rng.uniform(0, 0.5, count), rng.normal(size=(2, 2)) * 0.1, rng.normal(size=modes)
    )
    landmarks = seen_points(model, np.zeros(52), pose.rotation, np.zeros(2), np.zeros(len(model.shape_names)))
    found = residuals(rig, pose, landmarks, FOCAL, CENTRE)
    step, form = 1e-6, np.concatenate([pose.weights, pose.angles.ravel()])
    for column in (0, 1, 2, 3, 5, 6, 7, 6 + modes, 6 + modes + 17, 6 + modes + count, 6 + modes + count + 3):
        move = np.zeros(6 + modes + len(form))
        move[column] = step
        moved_form = form + move[6 + modes :]
        moved = FacePose(
            axis_angle_to_matrix(move[:3]) @ pose.rotation,
            pose.translation + move[3:6],
            moved_form[:count],
            moved_form[count:].reshape(-1, 2),
            pose.habits + move[6 : 6 + modes],
        )
        pixels = residuals(rig, moved, landmarks, FOCAL, CENTRE).pixels
        expected = ((pixels - found.pixels) * found.roots[:, None]).ravel() / step
        assert np.abs(found.jacobian[:, column] - expected).max() < 2e-4 * max(1.0, np.abs(expected).max())


def test_habits_are_found_in_errors_that_have_them():
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(60), 12)
    mean, own, mode = rng.normal(size=(478, 2)) * 0.02, rng.normal(size=(478, 2)) * 0.03, rng.normal(size=(478, 2)) * 0.02
    gain = np.zeros((478, 2, 52))
    gain[:, :, 3] = rng.normal(size=(478, 2)) * 0.05
    expressions = rng.uniform(0, 1, (len(people), 52))
    errors = mean + rng.normal(size=60)[people][:, None, None] * own + rng.normal(size=len(people))[:, None, None] * mode
    errors = errors + np.einsum("ldk,nk->nld", gain, expressions)
    found = measure_habits(errors, expressions, people, 1, 1, 1.0)
    assert np.abs(found.gain[:, :, 3] - gain[:, :, 3]).max() < 0.04
    for vector, direction in ((found.own_modes[..., 0], own), (found.modes[..., 0], mode)):
        cosine = (vector * direction).sum() / np.linalg.norm(vector) / np.linalg.norm(direction)
        assert abs(cosine) > 0.95
    assert found.noise.max() < 0.01


def test_the_bundled_habits_are_small_and_for_all_points():
    habits = load_habits()
    assert habits.mean.shape == (478, 2) and habits.gain.shape == (478, 2, 52) and habits.noise.min() > 0
    assert np.abs(habits.mean).max() < 0.2
    assert np.array_equal(habits.gain_of(("nothing",)), np.zeros((478, 2, 1)))
