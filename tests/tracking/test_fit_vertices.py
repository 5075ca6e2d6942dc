# SPDX-License-Identifier: Apache-2.0
"""Heads fitted to points in space, and motion that goes from one head to another and back."""

import numpy as np
import pytest

from mvp4d_core.errors import InputError
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.rig import load_head_model, retarget, showcase_performance, skin
from mvp4d_core.tracking.fit_vertices import _cost, _derivative, _points_of, _posed, _rest, _Task, fit_landmarks, fit_vertices
from mvp4d_core.tracking.transfer import transfer_performance


def played(head, shape, performance):
    frames = [performance[index] for index in range(len(performance))]
    return np.stack([skin(head, shape, frame.expression, frame.rotations, frame.translation) for frame in frames])


def random_motion(head, frames=3, seed=0):
    rng = np.random.default_rng(seed)
    rotations = np.zeros((frames, 5, 3), np.float32)
    rotations[:, 0] = 0.4 * rng.normal(size=(frames, 3))
    rotations[:, 2, 0] = rng.uniform(0, 0.3, frames)
    rotations[:, 2, 1:] = 0.03 * rng.normal(size=(frames, 2))
    rotations[:, 3:] = 0.15 * rng.normal(size=(frames, 2, 3))
    return 0.7 * rng.normal(size=(frames, len(head.expression_names))), rotations, 0.3 * rng.normal(size=(frames, 3))


@pytest.mark.parametrize("known", [True, False])
def test_flame_found_again_from_its_vertices(known):
    head, rng = flame_head(), np.random.default_rng(5)
    shape = 0.8 * rng.normal(size=300)
    expression, rotations, translation = random_motion(head)
    vertices = np.stack([skin(head, shape, *frame) for frame in zip(expression, rotations, translation, strict=True)])
    fit = fit_vertices(head, vertices, shape=shape if known else None)
    assert fit.errors.max() < (1e-5 if known else 3e-5)  # metres
    np.testing.assert_allclose(fit.performance.rotations[:, 0], rotations[:, 0], atol=0.01)
    np.testing.assert_allclose(fit.performance.rotations[:, 2:], rotations[:, 2:], atol=0.02)
    again = played(head, fit.shape, fit.performance)
    assert np.linalg.norm(again - vertices, axis=2).max() < 5e-4  # of all vertices, most of which were not looked at


def test_the_open_head_found_again_from_its_face_points():
    head = load_head_model()
    performance = showcase_performance(head)
    performance = performance.select(np.linspace(0, len(performance) - 1, 6).astype(int))
    vertices = played(head, None, performance)
    fit = fit_landmarks(head, np.stack([head.landmarks(v) for v in vertices]), shape=np.zeros(0))
    assert fit.errors.max() < 3e-4 and fit.performance.expression.min() >= 0 and fit.performance.expression.max() <= 1


def test_derivatives_are_those_of_the_points():
    head, rng = flame_head(), np.random.default_rng(2)
    corners = rng.choice(len(head.v_template), (40, 1), replace=False)
    corners[:20, 0] = np.argsort(-head.lbs_weights[:, 2])[:20]
    points = _points_of(head, corners, np.ones((40, 1)))
    own = 6 + 3 * len(points.rig.turned) + 100
    shape = 0.5 * rng.normal(size=300)
    frame = _rest(points, 300).moved(0.3 * rng.normal(size=own))
    form = _derivative(points, frame, shape)
    for column in [0, 150, 299, *range(300, 300 + own, 5), 300 + own - 1]:
        step = np.zeros(300 + own)
        step[column] = 1e-6
        up = _posed(points, frame.moved(step[300:]), shape + step[:300])
        down = _posed(points, frame.moved(-step[300:]), shape - step[:300])
        np.testing.assert_allclose(form[:, :, column], (up - down) / 2e-6, atol=2e-8)
    task = _Task(points, 1e-3, np.full(100, -6.0), np.full(100, 6.0), np.ones(100))
    assert _cost(task, up[None], [frame], shape) > 0


def test_motion_goes_to_flame_and_back():
    open_head, flame = load_head_model(), flame_head()
    performance = showcase_performance(open_head)
    performance = performance.select(np.linspace(0, len(performance) - 1, 10).astype(int))
    there = transfer_performance(performance, open_head, flame, target_shape=0.5 * np.random.default_rng(1).normal(size=300))
    assert there.errors.max() < 0.1 * there.motion.max() and there.motion.max() > 3e-3
    np.testing.assert_array_equal(there.performance.rotations[:, [0, 1, 3, 4]], performance.rotations[:, [0, 1, 3, 4]])
    simple = transfer_performance(performance, open_head, flame)
    back = transfer_performance(simple.performance, flame, open_head)
    assert np.abs(back.performance.expression - performance.expression).mean() < 0.03
    np.testing.assert_allclose(back.performance.translation, performance.translation, atol=1e-5)


def test_blinks_by_name_outlive_a_head_without_them():
    open_head, flame = load_head_model(), flame_head()
    performance = showcase_performance(open_head).select([0, 1])
    weights = np.zeros_like(performance.expression)
    weights[:, open_head.expression_names.index("eyeBlinkLeft")] = 0.7
    object.__setattr__(performance, "expression", weights)
    moved = transfer_performance(performance, open_head, flame, carry_blinks=True).performance
    assert moved.expression_names[-2:] == ("eyeBlinkLeft", "eyeBlinkRight")
    np.testing.assert_allclose(moved.expression[:, -2:], [[0.7, 0]] * 2)
    assert np.abs(moved.expression[:, :-2]).max() < 1e-3
    back = retarget(transfer_performance(moved, flame, open_head).performance, open_head)
    np.testing.assert_allclose(back.expression, weights, atol=0.02)


def test_points_that_do_not_fit_are_refused():
    head = flame_head()
    for vertices in (np.zeros((2, 6000, 3)), np.zeros((2, 3)), np.full((1, 5023, 3), np.nan), np.zeros((0, 5023, 3))):
        with pytest.raises(InputError):
            fit_vertices(head, vertices)
    with pytest.raises(InputError, match="478"):
        fit_landmarks(head, np.zeros((1, 68, 3)))
