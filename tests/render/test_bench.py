# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from mvp4d_core.errors import InputError
from mvp4d_core.render.bench import bench_splats, gradient_error

KEYS = {
    "forward_ms_1", "forward_ms_2", "forward_backward_ms_1", "forward_backward_ms_2", "torch_forward_backward_ms", "speedup",
    "thread_scaling", "gradient_error",
}  # fmt: skip


def test_reports_every_figure():
    calls = []
    figures = bench_splats(splats=300, size=48, progress=lambda *call: calls.append(call))
    assert figures.keys() == KEYS
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    assert figures["speedup"] == figures["torch_forward_backward_ms"] / figures["forward_backward_ms_2"]
    assert figures["thread_scaling"] == figures["forward_backward_ms_1"] / figures["forward_backward_ms_2"]
    assert figures["gradient_error"] <= 1e-5
    assert calls[0][1:] == (0, 8) and calls[-1][1:] == (8, 8)


@pytest.mark.parametrize("seed", [11, 222])
def test_gradients_are_exact_on_other_scenes_too(seed):
    assert gradient_error(seed) <= 1e-5


def test_refuses_nothing_to_measure():
    with pytest.raises(InputError, match="`splats` must be positive"):
        bench_splats(splats=0)
