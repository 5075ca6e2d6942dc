# SPDX-License-Identifier: Apache-2.0
"""The parametric fit against heads of known parameters: their projected landmarks are the oracle."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mvp4d_core.cameras import orbit_camera, project
from mvp4d_core.rig import HeadModel, load_head_model, skin
from mvp4d_core.rotations import axis_angle_to_matrix
from mvp4d_core.tracking import fit as fitting
from mvp4d_core.tracking import landmark_sets as sets
from tests.support.toy_head import toy_head_model

WIDTH, HEIGHT = 640, 480


@pytest.fixture(scope="module")
def toy() -> HeadModel:
    return toy_head_model()


@pytest.fixture(scope="module")
def open_head() -> HeadModel:
    return load_head_model()


def seen(model, *, shape=None, expression=None, gaze=(0.0, 0.0), yaw=0.1, pitch=0.05, distance=0.9, fov=0.4, off_centre=0.02):
    """Landmarks (478, 3) of a head in a camera (pixels, and depth in the same unit), and that camera."""
    weights = np.zeros(len(model.expression_names))
    for name, weight in (expression or {}).items():
        weights[model.expression_names.index(name)] = weight
    rotations = np.zeros((len(model.joint_names), 3))
    for eye in ("left_eye", "right_eye"):
        rotations[model.joint_names.index(eye)] = [*gaze, 0]
    vertices = skin(model, np.zeros(len(model.shape_names)) if shape is None else shape, weights, rotations, np.zeros(3))
    target = np.array([off_centre, 0, 0])
    camera = orbit_camera(yaw, pitch, target=target, distance=distance, fov_y=fov, width=WIDTH, height=HEIGHT)
    pixels, depth = project(model.landmarks(vertices), camera)
    return np.column_stack([pixels, (depth - depth.mean()) * camera.K[0, 0] / depth.mean()]), camera, weights


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees between the rotations of two camera_from_world matrices."""
    cosine = (np.trace(a[:3, :3] @ b[:3, :3].T) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), yaw=st.floats(-0.5, 0.5), pitch=st.floats(-0.25, 0.25), distance=st.floats(0.6, 2.0))
@example(seed=1697, yaw=0.5, pitch=0.0, distance=1.0)  # a narrow head seen from the side
def test_known_heads_are_found_again(seed, yaw, pitch, distance):
    model = toy_head_model()
    shape = np.random.default_rng(seed).normal(size=len(model.shape_names))
    landmarks, camera, _ = seen(
        model, shape=shape, expression={"jawOpen": 0.6, "mouthSmileLeft": 0.5}, yaw=yaw, pitch=pitch, distance=distance
    )
    fit = fitting.fit_head(model, landmarks, WIDTH, HEIGHT)
    assert fit.error < 0.5
    # shape and perspective can pass for a turn: of 600 heads the median is 0.3 degrees off, one in a hundred 2 and more
    assert angle_between(fit.camera.camera_from_world, camera.camera_from_world) < 4
    assert abs(fit.parameters.expression[model.expression_names.index("jawOpen")] - 0.6) < 0.25


def test_the_open_head_is_found_again_with_its_expression_and_gaze(open_head):
    generator = np.random.default_rng(5)
    shape = 0.8 * generator.normal(size=len(open_head.shape_names))
    truth = {"jawOpen": 0.5, "mouthSmileLeft": 0.7, "mouthSmileRight": 0.7, "browInnerUp": 0.6}
    landmarks, camera, weights = seen(open_head, shape=shape, expression=truth, gaze=(0.1, 0.2), yaw=0.25)
    fit = fitting.fit_head(open_head, landmarks, WIDTH, HEIGHT)
    assert fit.error < 0.6
    assert angle_between(fit.camera.camera_from_world, camera.camera_from_world) < 3
    for name in ("jawOpen", "browInnerUp"):
        index = open_head.expression_names.index(name)
        assert abs(fit.parameters.expression[index] - weights[index]) < 0.3, name
    for eye in ("left_eye", "right_eye"):
        found = fit.parameters.rotations[open_head.joint_names.index(eye)]
        np.testing.assert_allclose(found[:2], [0.1, 0.2], atol=0.06)
    vertices = skin(open_head, fit.shape, fit.parameters.expression, fit.parameters.rotations, fit.parameters.translation)
    pixels, _ = project(open_head.landmarks(vertices), fit.camera)
    np.testing.assert_allclose(pixels, fit.points, atol=0.05)  # what the fit says of itself is what the rig does


def test_convention_the_subjects_left_is_right_in_the_picture(toy):
    landmarks, _, _ = seen(toy, yaw=0.0)
    assert landmarks[sets.LEFT_IRIS[0], 0] > landmarks[sets.RIGHT_IRIS[0], 0]
    assert toy.landmarks(toy.v_template)[sets.LEFT_IRIS[0], 0] > 0
    fit = fitting.fit_head(toy, landmarks, WIDTH, HEIGHT)
    assert fit.camera.position[2] > 0  # the camera looks the subject in the face
    assert fit.camera.camera_from_world[1, 1] < 0  # head's up is the picture's up


def test_root_and_neck_stay_at_rest_and_limits_hold(toy):
    landmarks, _, _ = seen(toy, expression={"jawOpen": 1.0}, gaze=(0.3, -0.4), yaw=0.4)
    noisy = landmarks + np.random.default_rng(0).normal(scale=[3, 3, 0], size=landmarks.shape)
    fit = fitting.fit_head(toy, noisy, WIDTH, HEIGHT)
    assert not fit.parameters.rotations[:2].any() and not fit.parameters.translation.any()
    assert fit.parameters.expression.min() >= 0 and fit.parameters.expression.max() <= 1
    assert np.abs(fit.shape).max() <= 4
    gaze = [i for i, name in enumerate(toy.expression_names) if name.startswith("eyeLook")]
    assert fit.parameters.expression[gaze].max() < 1e-6  # the eyes' joints carry the gaze


def test_a_few_wild_points_do_not_pull_the_face(toy):
    landmarks, camera, _ = seen(toy)
    wild = landmarks.copy()
    wild[np.arange(200, 230), :2] += 90
    fit = fitting.fit_head(toy, wild, WIDTH, HEIGHT)
    honest = np.delete(np.arange(478), np.arange(200, 230))
    error = np.linalg.norm(fit.points - landmarks[:, :2], axis=1)[honest].mean() / fitting.eye_distance(landmarks)
    assert error < 0.01
    assert fit.weights[200:230].max() < 0.1 < np.median(fit.weights)
    assert angle_between(fit.camera.camera_from_world, camera.camera_from_world) < 2.5


def test_the_jaw_joint_opens_the_mouth_where_no_expression_does(toy):
    keep = [i for i, name in enumerate(toy.expression_names) if name != "jawOpen"]
    model = replace(
        toy, exprdirs=np.ascontiguousarray(toy.exprdirs[:, :, keep]), expression_names=tuple(toy.expression_names[i] for i in keep)
    )
    rotations = np.zeros((5, 3))
    rotations[2, 0] = 0.25
    vertices = skin(model, None, np.zeros(len(keep)), rotations, np.zeros(3))
    camera = orbit_camera(0.1, 0, target=np.zeros(3), distance=0.9, fov_y=0.4, width=WIDTH, height=HEIGHT)
    pixels, depth = project(model.landmarks(vertices), camera)
    fit = fitting.fit_head(model, np.column_stack([pixels, (depth - depth.mean()) * camera.K[0, 0] / depth.mean()]), WIDTH, HEIGHT)
    assert fit.error < 0.5
    assert fit.parameters.rotations[2, 0] > 0.1


def test_jacobian_is_the_derivative(toy):
    """Every unknown by central differences, on a state away from zero."""
    rig = fitting._landmark_rig(toy)
    generator = np.random.default_rng(3)
    state = fitting._State(
        axis_angle_to_matrix(np.array([3.0, 0.2, -0.1])),
        np.array([0.02, 0.01, 0.9]),
        float(np.log(900.0)),
        generator.uniform(0, 0.7, rig.basis.shape[2]),
        generator.uniform(-0.3, 0.3, (len(rig.turned), 2)),
    )
    _, jacobian = fitting._seen(rig, state)
    for unknown in range(jacobian.shape[2]):
        step = np.zeros(jacobian.shape[2])
        step[unknown] = 1e-5
        ahead, behind = (fitting._seen(rig, moved)[0] for moved in (state.moved(step), state.moved(-step)))
        np.testing.assert_allclose(jacobian[:, :, unknown], (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-3, err_msg=f"unknown {unknown}")
