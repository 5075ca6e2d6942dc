# SPDX-License-Identifier: Apache-2.0
"""Cutting and mixing: lengths, seams, rotations against scipy, mirror images against the mesh."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from mvp4d_core.errors import InputError
from mvp4d_core.rig import ARKIT_NAMES, Performance, load_head_model, skin
from mvp4d_core.rig import performance_edit as edit
from mvp4d_core.rig.motion_limits import limit_performance
from mvp4d_core.rig.performance_library import JOINT_NAMES, library_face, library_performance
from tests.support.asserts import assert_arrays_close

SPEECH = library_performance("speech", fps=20, seconds=2)


def wild(frames: int, seed: int, fps: float = 24.0) -> Performance:
    rng = np.random.default_rng(seed)
    parts = rng.uniform(0, 1, (frames, 52)), rng.normal(size=(frames, 5, 3)) * 0.6, rng.normal(size=(frames, 3)) * 0.01
    return Performance(*parts, fps, ARKIT_NAMES, JOINT_NAMES)


def same(one: Performance, other: Performance, atol: float = 1e-5) -> None:
    for name in ("expression", "rotations", "translation"):
        assert_arrays_close(getattr(one, name), getattr(other, name), atol=atol, name=name)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(0, 100), st.floats(1, 120))
def test_resampling_keeps_the_length_and_comes_back(frames, seed, fps):
    performance = wild(frames, seed)
    changed = edit.resample(performance, fps)
    assert changed.fps == fps and abs(edit.duration(changed) - edit.duration(performance)) <= max(0.5, 1) / fps
    same(edit.resample(performance, 24.0), performance)


def test_rotations_between_frames_are_the_shortest_ways():
    two = wild(2, 7)
    middle = edit.sample(two, np.array([0.3]), 24.0)
    for joint in range(5):
        slerp = Slerp([0, 1], Rotation.from_rotvec(two.rotations[:, joint].astype(np.float64)))
        assert_arrays_close(middle.rotations[0, joint], slerp(0.3).as_rotvec(), atol=1e-6)


def test_retime_and_trim():
    fast = edit.retime(SPEECH, 2.0)
    assert len(fast) == 20 and fast.fps == 20
    assert_arrays_close(fast.expression, SPEECH.expression[::2], atol=1e-6)
    same(edit.trim(SPEECH, 0.5, 1.0), SPEECH.select(slice(10, 20)))
    same(edit.trim(SPEECH), SPEECH)
    for start, end in ((3.0, None), (-1.0, None), (1.0, 0.5), (0.0, float("nan"))):
        with pytest.raises(InputError):
            edit.trim(SPEECH, start, end)


def test_loops_have_no_seam():
    performance = wild(30, 3)
    ramp = replace(performance, expression=np.tile(np.linspace(0, 1, 30)[:, None], 52), rotations=np.zeros((30, 5, 3)))
    looped = edit.loop(ramp, 3, blend=0.25)
    assert len(looped) == 3 * (30 - 6)
    around = np.concatenate([looped.expression, looped.expression[:1]])
    assert np.abs(np.diff(around, axis=0)).max() < 0.3  # the seam without a blend jumps by 1
    same(edit.loop(performance, 2, blend=0), edit.concatenate([performance, performance]))
    assert len(edit.loop(wild(1, 0), 4, blend=1)) == 4


def test_concatenation_blends_and_unites_names():
    one, other = wild(20, 1), wild(10, 2, fps=12.0)
    narrow = Performance(np.ones((5, 1)), np.zeros((5, 1, 3)), np.zeros((5, 3)), 24.0, ("warp",), ("tail",))
    joined = edit.concatenate([one, other, narrow], blend=0.25)
    assert len(joined) == 20 + 20 - 6 + 5 - 5 and joined.expression_names == (*ARKIT_NAMES, "warp") and joined.joint_names[-1] == "tail"
    same(edit.concatenate([one, one]).select(slice(20, None)), one)


def test_mixing_and_layers():
    one, other = wild(12, 1), wild(8, 2)
    same(edit.mix(one, other, 0.0), one)
    same(edit.mix(one, other, 1.0).select(slice(0, 8)), other)
    same(edit.layer(one, other, 0.0), one)
    top = edit.layer(one, other, 1.0)
    turned = Rotation.from_rotvec(one.rotations[4, 1]) * Rotation.from_rotvec(other.rotations[4, 1])
    assert_arrays_close(top.rotations[4, 1], turned.as_rotvec(), atol=1e-5)
    same(edit.scale(one, 1.0), one)
    assert not edit.scale(one, 0.0).expression.any()


@pytest.mark.parametrize("name", ["smirk", "wink", "contempt"])
def test_mirrored_faces_are_mirror_images_of_the_mesh(name):
    head = load_head_model()
    pose = library_face(name)
    rotations = pose.rotations.copy()
    rotations[0, 1], rotations[0, 3] = [0.1, 0.3, -0.2], [0.05, 0.2, 0]
    pose = replace(pose, rotations=rotations, translation=np.array([[0.01, 0.02, 0.03]]))
    other = edit.mirror(pose)
    one, two = (head.landmarks(skin(head, None, p.expression[0], p.rotations[0], p.translation[0])) for p in (pose, other))
    distance = np.linalg.norm(one[:, None] * [-1, 1, 1] - two[None], axis=-1).min(axis=1)
    assert np.median(distance) < 0.0025  # points are not symmetric themselves, but the surface is
    same(edit.mirror(other), pose)


def test_what_cannot_be_mirrored_is_refused():
    flame = Performance(np.ones((1, 2)), np.zeros((1, 1, 3)), np.zeros((1, 3)), 24.0, ("expr000", "expr001"), ("root",))
    with pytest.raises(InputError, match="mirror"):
        edit.mirror(flame)
    edit.mirror(replace(flame, expression=np.zeros((1, 2))))


def test_limits_hold_weights_angles_and_lips():
    loud = replace(wild(40, 5), expression=wild(40, 5).expression * 3 - 1, rotations=wild(40, 5).rotations * 4)
    kept = limit_performance(loud)
    assert kept.expression.min() >= 0 and kept.expression.max() <= 1
    assert np.abs(np.rad2deg(kept.rotations[:, 2, 1])).max() <= 12.001
    lips, jaw = (kept.expression[:, ARKIT_NAMES.index(name)] for name in ("mouthClose", "jawOpen"))
    assert (lips <= jaw).all()
    same(limit_performance(kept), kept)


@pytest.mark.parametrize("action", [lambda p: edit.retime(p, 0.001), lambda p: edit.resample(p, 0), lambda p: edit.loop(p, 0),
                                    lambda p: edit.loop(wild(5000, 0), 1000), lambda p: edit.mix(p, p, 2), lambda p: edit.scale(p, -1),
                                    lambda p: edit.layer(p, p, float("nan")), lambda p: edit.concatenate([])])  # fmt: skip
def test_bad_numbers_are_refused(action):
    with pytest.raises(InputError):
        action(SPEECH)
