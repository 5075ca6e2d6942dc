# SPDX-License-Identifier: Apache-2.0
"""Fewer keys: what straight lines between them give back, against numpy's own interpolation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp4d_core.errors import InputError
from mvp4d_core.rig.keyframes import kept_frames


@given(st.integers(1, 60), st.integers(1, 4), st.integers(0, 1000), st.sampled_from([0.0, 1e-3, 0.05, 0.5, 3.0]))
def test_lines_between_the_keys_stay_within_the_tolerance(frames, curves, seed, tolerance):
    values = np.random.default_rng(seed).normal(size=(frames, curves)).cumsum(axis=0)
    kept = kept_frames(values, tolerance)
    assert kept[0] == 0 and (len(kept) == 1 or kept[-1] == frames - 1) and (np.diff(kept) > 0).all()
    for curve in values.T:
        assert np.abs(np.interp(np.arange(frames), kept, curve[kept]) - curve).max() <= tolerance + 1e-9


def test_straight_runs_need_their_ends_and_stillness_one_key():
    ramp = np.concatenate([np.linspace(0, 1, 30), np.ones(40), np.linspace(1, 0, 31)])[:, None]
    assert kept_frames(ramp, 1e-9).tolist() == [0, 29, 69, 70, 100] or kept_frames(ramp, 1e-9).tolist() == [0, 29, 70, 100]
    assert kept_frames(np.full((50, 3), 0.25), 0).tolist() == [0]


def test_a_negative_tolerance_is_refused():
    with pytest.raises(InputError, match="tolerance"):
        kept_frames(np.zeros((2, 1)), -1)
    with pytest.raises(InputError, match="tolerance"):
        kept_frames(np.zeros((2, 1)), float("nan"))
