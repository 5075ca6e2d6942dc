# SPDX-License-Identifier: Apache-2.0
"""The judge of driving videos, on tracks that are known to be right or wrong by as much."""

import json

import numpy as np
import pytest

from mvp4d_core.cameras import orbit_camera
from mvp4d_core.evaluation.drive_bench import arkit_weights, bench_drive, blinks, judge_track
from mvp4d_core.rig import ARKIT_NAMES, Performance, load_head_model
from mvp4d_core.tracking.video import VideoTrack
from mvp4d_core.training.synthetic.noise import named_rng
from mvp4d_core.training.synthetic.performances import random_performance

CAMERA = orbit_camera(0.1, 0.05, target=np.zeros(3), distance=0.7, fov_y=0.5, width=640, height=360)
KEYS = {"flame_lbs_error", "flowface_lbs_error", "arkit_round_trip_error", "video_expression_error", "video_rotation_error_degrees",
        "blink_recall", "video_frames_per_second", "landmark_error_px", "matte_error"}  # fmt: skip


def acted(seed: int) -> Performance:
    return random_performance(named_rng("judged", seed), load_head_model(), 60, 25.0)


def track_of(performance: Performance) -> VideoTrack:
    frames = len(performance)
    return VideoTrack(performance, CAMERA, np.zeros(1), np.ones(frames, bool), (), 0.0, np.zeros((frames, 478, 2)), ())


def test_the_truth_is_without_error():
    figures = judge_track(track_of(acted(0)), acted(0), CAMERA)
    assert figures.expression_error == 0 and figures.rotation_error < 0.01 and figures.motion_error < 0.01
    assert figures.blinks_found == figures.blinks and figures.rest_error > 0.02 and figures.followed == pytest.approx(1)


def test_errors_are_as_large_as_they_were_made():
    true = acted(1)
    rotations = true.rotations.copy()
    rotations[:, true.joint_names.index("root")] = 0
    still = Performance(true.expression, rotations, true.translation, 25.0, true.expression_names, true.joint_names)
    turned = rotations.copy()
    turned[:, true.joint_names.index("root")] = [0, np.deg2rad(3), 0]
    made = Performance(np.zeros_like(true.expression), turned, true.translation, 25.0, true.expression_names, true.joint_names)
    figures = judge_track(track_of(made), still, CAMERA)
    assert figures.rotation_error == pytest.approx(3, abs=0.01)
    assert figures.blinks_found == 0 and figures.expression_error > 0.5 * figures.rest_error and figures.followed < 0.5  # of the gaze alone


def test_convention_gaze_by_joints_and_by_looks_is_one():
    names, joints = ARKIT_NAMES, ("root", "neck", "jaw", "left_eye", "right_eye")
    rotations = np.zeros((1, 5, 3))
    rotations[0, 3:, 1] = np.deg2rad(15)  # both eyes to the subject's left
    weights = arkit_weights(Performance(np.zeros((1, 52)), rotations, np.zeros((1, 3)), 25.0, names, joints))[0]
    assert weights[names.index("eyeLookOutLeft")] == pytest.approx(0.5, abs=1e-5) == weights[names.index("eyeLookInRight")]
    assert np.count_nonzero(weights > 1e-6) == 2


def test_blinks_are_short_and_stand_out():
    closure = np.zeros(100)
    closure[20:23], closure[50:53] = 1.0, [0.5, 0.8, 0.5]
    closure[70:95] = 1.0  # eyes that stay closed
    assert np.abs(blinks(closure, 0.5)[:2] - [21, 51]).max() <= 1


@pytest.mark.slow
def test_the_bench_has_its_keys():
    result = bench_drive(head_model=load_head_model(), people=1, frames=30)
    assert set(result) >= KEYS and json.dumps(result)
    assert result["video_expression_error"] < 0.12 and result["video_motion_error_degrees"] < 3
    assert result["arkit_round_trip_error"] < 0.05 and result["flame_lbs_error"] < 1e-6 and result["flowface_lbs_error"] < 1e-6
