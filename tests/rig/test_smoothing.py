# SPDX-License-Identifier: Apache-2.0
"""The One Euro filter against the paper's own scalar form, and what it does to tremor, blinks and turning heads."""

import math

import numpy as np
import pytest

from mvp4d_core.errors import InputError
from mvp4d_core.rig import ARKIT_NAMES, Performance
from mvp4d_core.rig.performance_library import JOINT_NAMES, library_performance
from mvp4d_core.rig.smoothing import Smoothing, one_euro, smooth_performance
from tests.support.asserts import assert_arrays_close


class ScalarOneEuro:
    """The filter as the paper's pseudo code has it: two low passes with alpha = 1 / (1 + tau / Te), tau = 1 / (2 pi fc)."""

    def __init__(self, rate: float, min_cutoff: float, beta: float, d_cutoff: float) -> None:
        self.rate, self.min_cutoff, self.beta, self.d_cutoff = rate, min_cutoff, beta, d_cutoff
        self.last: float | None = None
        self.hat, self.dhat = 0.0, 0.0

    def alpha(self, cutoff: float) -> float:
        tau = 1.0 / (2 * math.pi * cutoff)
        return 1.0 / (1.0 + tau * self.rate)

    def __call__(self, x: float) -> float:
        if self.last is None:
            self.last = self.hat = x
            return x
        dx = (x - self.last) * self.rate
        self.last = x
        a = self.alpha(self.d_cutoff)
        self.dhat = a * dx + (1 - a) * self.dhat
        a = self.alpha(self.min_cutoff + self.beta * abs(self.dhat))
        self.hat = a * x + (1 - a) * self.hat
        return self.hat


def test_agrees_with_the_paper():
    signal = np.cumsum(np.random.default_rng(0).normal(size=(200, 3)), axis=0) * 0.1
    ours = one_euro(signal, 60, 1.2, 0.4, 0.9)
    for column in range(3):
        scalar = ScalarOneEuro(60, 1.2, 0.4, 0.9)
        assert_arrays_close(ours[:, column], np.array([scalar(x) for x in signal[:, column]]), atol=1e-12)


def test_tremor_goes_blinks_and_motion_stay():
    rng = np.random.default_rng(1)
    clean = library_performance("speech", fps=60)
    shaky = Performance(clean.expression + rng.normal(size=clean.expression.shape) * 0.02,
                        clean.rotations + rng.normal(size=clean.rotations.shape) * 0.01,
                        rng.normal(size=(len(clean), 3)) * 5e-4, 60, ARKIT_NAMES, JOINT_NAMES)  # fmt: skip
    smooth = smooth_performance(shaky)

    def tremor(track: np.ndarray) -> float:
        return float(np.abs(np.diff(track, axis=0, n=2)).mean())

    still = ARKIT_NAMES.index("cheekPuff")
    assert tremor(smooth.expression[:, still]) < 0.1 * tremor(shaky.expression[:, still])
    assert tremor(smooth.rotations[:, 1]) < 0.15 * tremor(shaky.rotations[:, 1])
    assert tremor(smooth.translation) < 0.15 * tremor(shaky.translation)
    blink, jaw = ARKIT_NAMES.index("eyeBlinkLeft"), ARKIT_NAMES.index("jawOpen")
    assert_arrays_close(smooth.expression[:, blink], shaky.expression[:, blink])
    assert np.corrcoef(smooth.expression[:, jaw], clean.expression[:, jaw])[0, 1] > 0.97
    assert smooth.expression[:, jaw].max() > 0.8 * clean.expression[:, jaw].max()


def test_a_constant_stays_and_turns_beyond_half_a_turn_do_not_flip():
    turns = np.zeros((50, 5, 3))
    turns[:, 1, 1] = np.linspace(2.9, 3.4, 50)
    turns[turns > np.pi] -= 2 * np.pi  # the same rotations by their short names
    constant = Performance(np.full((50, 52), 0.3), turns, np.full((50, 3), 0.1), 24, ARKIT_NAMES, JOINT_NAMES)
    smooth = smooth_performance(constant)
    assert_arrays_close(smooth.expression, constant.expression, atol=1e-6)
    assert (np.abs(np.linalg.norm(smooth.rotations[:, 1], axis=1)) > 2.8).all()


@pytest.mark.parametrize("change", [{"min_cutoff": 0.0}, {"weight_beta": -1.0}, {"speed_cutoff": float("nan")}, {"rotation_beta": 1e9}])
def test_bad_numbers_are_refused(change):
    with pytest.raises(InputError):
        Smoothing(**change)
