# SPDX-License-Identifier: Apache-2.0
"""From head to head by their landmarks: the map, its bounds, its residual, and the landmark skinning under it."""

from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.errors import InputError
from mvp4d_core.rig import ARKIT_NAMES, Performance, load_head_model, showcase_performance, skin
from mvp4d_core.rig.arkit_map import convert_performance, fit_head_map, perform_on
from mvp4d_core.rig.landmark_motion import landmark_positions, landmark_rig
from mvp4d_core.rig.performance_library import library_face, library_performance
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model

OPEN = load_head_model()


def stranger(scale: float = 1.0, turn: float = 0.0):
    """The open head with its expressions recombined under other names, larger, and its jaw left to the joint."""
    rng = np.random.default_rng(0)
    kept = [k for k, name in enumerate(ARKIT_NAMES) if name not in ("jawOpen", "jawLeft", "jawRight")]
    mixing = np.linalg.qr(rng.normal(size=(len(kept), len(kept))))[0]
    return replace(
        OPEN,
        v_template=(OPEN.v_template * scale).astype(np.float32),
        exprdirs=(scale * (OPEN.exprdirs[:, :, kept] @ mixing)).astype(np.float32),
        posedirs=np.float32(scale) * OPEN.posedirs,
        expression_names=tuple(f"expr{k:03d}" for k in range(len(kept))),
        name="stranger",
    )


STRANGER = stranger(1.1)


def test_landmarks_are_those_of_the_skinned_head():
    performance = showcase_performance(OPEN).select([0, 30, 70, 110])
    points = landmark_positions(landmark_rig(OPEN), performance.expression, performance.rotations)
    for frame in range(4):
        vertices = skin(OPEN, None, performance.expression[frame].astype(np.float64), performance.rotations[frame], np.zeros(3))
        assert_arrays_close(points[frame], OPEN.landmarks(vertices), atol=1e-9)


def test_a_head_maps_to_itself_one_to_one():
    head = toy_head_model()
    twin = fit_head_map(head, replace(head, name="twin"), joints=())
    assert twin.source_names[:52] == twin.target_names == ARKIT_NAMES
    performance = Performance(np.eye(52) * 0.5, np.zeros((52, 5, 3)), np.zeros((52, 3)), 24.0, ARKIT_NAMES, head.joint_names)
    back = convert_performance(performance, head, replace(head, name="twin"))
    assert back.residual_mm.max() < 0.1


def test_the_face_crosses_and_the_residual_says_how_well():
    performance = library_performance("speech", fps=10)
    there = convert_performance(performance, OPEN, STRANGER)
    assert there.performance.expression_names[0] == "expr000" and there.residual_mm.max() < 1.5
    jaw = there.performance.rotations[:, STRANGER.joint_names.index("jaw"), 0]
    assert 0.05 < jaw.max() < np.deg2rad(35)  # jawOpen became the joint
    assert_arrays_close(there.performance.rotations[:, 1], performance.rotations[:, 1], atol=1e-6)
    back = convert_performance(there.performance, STRANGER, OPEN).performance
    assert np.abs(back.expression - performance.expression).mean() < 0.02
    assert back.expression.min() >= 0 and back.expression.max() <= 1
    carried = fit_head_map(OPEN, STRANGER).carried()
    assert carried["jawOpen"] > 0.8 and carried["mouthSmileLeft"] > 0.9 and carried["jaw.x"] > 0.95


def test_the_residual_is_what_independent_skinning_sees():
    performance = library_face("joy")
    there = convert_performance(performance, OPEN, STRANGER)
    points = [head.landmarks(skin(head, None, p.expression[0].astype(np.float64), p.rotations[0], np.zeros(3))
                             - skin(head, None, np.zeros(len(head.expression_names)), np.zeros((5, 3)), np.zeros(3)))
              for head, p in ((OPEN, performance), (STRANGER, there.performance))]  # fmt: skip
    missed = 1e3 * np.sqrt(((1.1 * points[0] - points[1]) ** 2).sum(axis=1).mean())
    assert missed == pytest.approx(float(there.residual_mm[0]), abs=1e-3)


def test_gaze_becomes_the_eyes_of_a_head_without_looks():
    looks = np.zeros((1, 52))
    for name in ("eyeLookOutLeft", "eyeLookInRight"):
        looks[0, ARKIT_NAMES.index(name)] = 0.6
    eyes = replace(STRANGER, exprdirs=STRANGER.exprdirs[:, :, :0], expression_names=())
    gaze = Performance(looks, np.zeros((1, 5, 3)), np.zeros((1, 3)), 24.0, ARKIT_NAMES, OPEN.joint_names)
    turned = convert_performance(gaze, OPEN, eyes).performance.rotations[0]
    assert (turned[3:, 1] > 0.1).all() and np.abs(turned[3:, 0]).max() < 0.1  # to the subject's left


def test_perform_on_takes_the_shortest_way():
    speech = library_performance("speech", fps=5)
    assert_arrays_close(perform_on(speech, OPEN).expression, speech.expression)
    crossed = perform_on(speech, STRANGER)
    assert crossed.expression_names == STRANGER.expression_names and np.abs(crossed.expression).max() > 0.1
    with pytest.raises(InputError, match="name the head"):
        perform_on(crossed, OPEN)
    assert np.abs(perform_on(crossed, OPEN, STRANGER).expression - speech.expression).mean() < 0.02


def test_heads_without_common_points_are_refused():
    bare = replace(STRANGER, landmark_faces=np.zeros(0, np.int32), landmark_barycentrics=np.zeros((0, 3), np.float32))
    with pytest.raises(InputError, match="landmarks"):
        fit_head_map(OPEN, bare)
