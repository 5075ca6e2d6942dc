# SPDX-License-Identifier: Apache-2.0
"""Comparisons that report the worst element instead of printing arrays."""

import numpy as np


def assert_arrays_close(actual: object, expected: object, atol: float = 0.0, rtol: float = 0.0, name: str = "array") -> None:
    """Asserts equal shapes and `|actual - expected| <= atol + rtol |expected|` everywhere; NaN agrees with NaN only.

    The failure names the element that exceeds its tolerance by most, its two values, and how many elements fail.
    """
    got, wanted = np.asarray(actual), np.asarray(expected)
    assert got.shape == wanted.shape, f"{name} has shape {got.shape}, expected {wanted.shape}"
    with np.errstate(all="ignore"):
        wide = np.result_type(got, wanted, np.float64)
        got_wide, wanted_wide = got.astype(wide), wanted.astype(wide)
        excess = np.abs(got_wide - wanted_wide) - (atol + rtol * np.abs(wanted_wide))
    same = (got_wide == wanted_wide) | (np.isnan(got_wide) & np.isnan(wanted_wide))
    excess = np.where(same, -np.inf, np.where(np.isnan(excess), np.inf, excess))
    failing = int((excess > 0).sum())
    if failing:
        worst = tuple(int(position) for position in np.unravel_index(np.argmax(excess), excess.shape))
        raise AssertionError(
            f"{name}{list(worst)} is {got[worst]!r}, expected {wanted[worst]!r} "
            f"(atol {atol:g}, rtol {rtol:g}; {failing} of {got.size} elements differ)"
        )
