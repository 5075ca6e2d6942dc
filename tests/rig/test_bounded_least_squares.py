# SPDX-License-Identifier: Apache-2.0
"""Least squares in a box, against scipy and the conditions of a minimum."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from mvp4d_core.rig.bounded_least_squares import bounded_least_squares
from tests.support.asserts import assert_arrays_close


def test_many_rows_are_scipys():
    rng = np.random.default_rng(1)
    basis, targets = rng.normal(size=(60, 12)), rng.normal(size=(20, 60)) * 3
    basis[:, 1] = basis[:, 0] + 0.05 * rng.normal(size=60)  # nearly alike, as a blink and a squint
    low, high = np.full(12, -0.2), np.full(12, 0.3)
    found = bounded_least_squares(basis.T @ basis, targets @ basis, low, high)
    for row, target in zip(found, targets, strict=True):
        assert_arrays_close(row, lsq_linear(basis, target, (low, high), tol=1e-12).x, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_tight_boxes_are_scipys(seed):
    rng = np.random.default_rng(seed)
    tall, target = rng.normal(size=(40, 12)), rng.normal(size=40)
    low, high = np.full(12, -0.05), np.full(12, 0.1)
    expected = lsq_linear(tall, target, bounds=(low, high), method="bvls").x
    (found,) = bounded_least_squares(tall.T @ tall, (target @ tall)[None], low, high)
    assert np.abs(found - expected).max() < 1e-3


def test_a_step_is_the_constrained_minimum():
    generator = np.random.default_rng(4)
    for _ in range(20):
        factor = generator.normal(size=(12, 8))
        normal, gradient = factor.T @ factor + 1e-3 * np.eye(8), generator.normal(size=8)
        low, high = -generator.uniform(0, 0.2, 8), generator.uniform(0, 0.2, 8)
        (step,) = bounded_least_squares(normal, -gradient[None], low, high)
        slope = normal @ step + gradient
        assert (step >= low - 1e-9).all() and (step <= high + 1e-9).all()
        # at the minimum the slope is zero, or presses against a limit
        assert np.all((np.abs(slope) < 1e-5) | ((slope > 0) & (step <= low + 1e-7)) | ((slope < 0) & (step >= high - 1e-7)))


@pytest.mark.parametrize("seed", range(4))
def test_unknowns_of_all_sizes_some_held_and_some_without_limits(seed):
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-4, 3, 14)
    tall, target = rng.normal(size=(40, 14)) * size, rng.normal(size=40)
    low, high = -0.05 / size, 0.1 / size
    low[:3], high[:3], low[3:5], high[3:5] = -np.inf, np.inf, 0.0, 0.0
    (found,) = bounded_least_squares(tall.T @ tall, (target @ tall)[None], low, high)
    free = np.r_[:3, 5:14]
    expected = lsq_linear(tall[:, free] / size[free], target, ((low * size)[free], (high * size)[free]), method="bvls").x
    assert_arrays_close(found[free] * size[free], expected, atol=1e-9)
    assert not found[3:5].any()
