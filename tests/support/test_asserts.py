# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from tests.support.asserts import assert_arrays_close


def test_accepts_what_is_close():
    assert_arrays_close([1.0, 2.0], np.array([1.0, 2.01], np.float32), atol=0.011)
    assert_arrays_close([np.nan, np.inf, 0.0], [np.nan, np.inf, -0.0])
    assert_arrays_close(np.zeros((0, 3)), np.zeros((0, 3)))
    assert_arrays_close(np.array([2**63], np.uint64), np.array([2**63], np.uint64))
    assert_arrays_close([100.0], [101.0], rtol=0.01)


@pytest.mark.parametrize(
    ("actual", "expected", "says"),
    [
        (np.zeros(2), np.zeros(3), r"x has shape \(2,\), expected \(3,\)"),
        ([[0, 1], [5, 0]], [[0, 0], [0, 0]], r"x\[1, 0\] is .*5.*, expected .*0.* \(atol 0, rtol 0; 2 of 4 elements differ\)"),
        ([np.nan, 9.0], [0.0, 0.0], r"x\[0\] is .*nan"),
        ([0.0, 1.0], [0.0, np.nan], r"x\[1\]"),
        ([np.inf], [-np.inf], r"x\[0\] is .*inf"),
        ([1.0], [np.inf], r"x\[0\]"),
    ],
)
def test_names_the_worst_element(actual, expected, says):
    with pytest.raises(AssertionError, match=says):
        assert_arrays_close(actual, expected, name="x")
