# SPDX-License-Identifier: Apache-2.0
"""The frames an avatar is fitted to."""

import numpy as np
import pytest

from mvp4d_core.conditioning import fitting_frames, fitting_motion, range_of_motion
from mvp4d_core.errors import InputError
from mvp4d_core.rig import ARKIT_NAMES, showcase_performance
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model

MODEL = toy_head_model()
SHOWCASE = showcase_performance(MODEL)


def test_range_of_motion_uses_arkit_names_and_opens_and_shuts_everything():
    motion = range_of_motion(MODEL)
    peak = dict(zip(motion.expression_names, motion.expression.max(axis=0), strict=True))
    assert set(peak) == set(ARKIT_NAMES)
    assert all(
        peak[name] == 1 for name in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthPucker", "mouthFunnel", "tongueOut", "browInnerUp")
    )
    assert len(np.unique(motion.expression, axis=0)) == len(motion)


@pytest.mark.parametrize("frames", [1, 2, 8, 21, 60])
def test_fitting_frames_start_at_rest_and_spread_out(frames):
    chosen = fitting_frames(SHOWCASE, MODEL, frames)
    assert len(chosen) == frames
    assert_arrays_close(chosen.expression[0], np.zeros(52))
    assert len(np.unique(np.concatenate([chosen.expression, chosen.rotations.reshape(frames, -1)], axis=1), axis=0)) == frames


def test_each_frame_is_the_farthest_from_those_before():
    """Taking one more keeps the ones taken, and no left-out frame is farther from them than they are from each other."""
    few, more = (fitting_frames(SHOWCASE, MODEL, n) for n in (10, 11))
    kept = {row.tobytes() for row in np.concatenate([few.expression, few.rotations.reshape(10, -1)], axis=1)}
    assert kept < {row.tobytes() for row in np.concatenate([more.expression, more.rotations.reshape(11, -1)], axis=1)}


def test_impossible_numbers_are_refused():
    for frames in (0, -3, 10**6):
        with pytest.raises(InputError):
            fitting_frames(SHOWCASE, MODEL, frames)


@pytest.mark.parametrize("frames", [1, 5, 13, 49])
def test_motion_passes_through_the_chosen_faces_a_latent_frame_apart(frames):
    motion, chosen = fitting_motion(SHOWCASE, MODEL, frames), fitting_frames(SHOWCASE, MODEL, 1 + frames // 4)
    assert len(motion) == frames
    for name in ("expression", "rotations", "translation"):
        moving, faces = getattr(motion, name), getattr(chosen, name)
        assert_arrays_close(moving[::4], faces, name=name)
        for k in (1, 2, 3):
            between = ((4 - k) * faces[:-1].astype(np.float64) + k * faces[1:]) / 4
            assert_arrays_close(moving[k::4], between, atol=1e-6, name=name)


def test_motion_of_another_number_of_frames_is_refused():
    for frames in (0, 2, 20, -3):
        with pytest.raises(InputError, match=r"1 \+ 4k"):
            fitting_motion(SHOWCASE, MODEL, frames)
