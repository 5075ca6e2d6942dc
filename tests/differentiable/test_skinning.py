# SPDX-License-Identifier: Apache-2.0
"""Skinning in torch against skinning in numpy."""

import numpy as np
import pytest
import torch

from mvp4d_core.differentiable.skinning import skin_frames
from mvp4d_core.errors import InputError
from mvp4d_core.rig import Performance, load_head_model, skin
from tests.support.asserts import assert_arrays_close
from tests.support.poses import random_performance
from tests.support.toy_head import toy_head_model


def tensors(performance: Performance, dtype: torch.dtype) -> list[torch.Tensor]:
    return [torch.from_numpy(a).to(dtype) for a in (performance.expression, performance.rotations, performance.translation)]


@pytest.mark.parametrize("model", [toy_head_model(), load_head_model()], ids=["toy", "open head"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_agrees_with_numpy_frame_by_frame(model, dtype, tolerance):
    performance = random_performance(model, 3)
    performance.rotations[1] = 0
    vertices = skin_frames(model, *tensors(performance, dtype))
    assert vertices.dtype == dtype
    for frame in range(3):
        pose = [a[frame].astype(np.float64) for a in (performance.expression, performance.rotations, performance.translation)]
        assert_arrays_close(vertices[frame], skin(model, None, *pose), atol=tolerance, name=f"vertices of frame {frame}")


def test_gradients_are_those_of_finite_differences():
    model = toy_head_model()
    leaves = [t.requires_grad_() for t in tensors(random_performance(model, 1), torch.float64)]
    assert torch.autograd.gradcheck(lambda *pose: skin_frames(model, *pose)[:, ::97], leaves)


def test_refuses_a_pose_of_another_head():
    model = toy_head_model()
    expression, rotations, translation = tensors(random_performance(model, 2), torch.float32)
    with pytest.raises(InputError, match=r"`rotations` must be \(2, 5, 3\) for the head `toy-head`, got \(2, 4, 3\)"):
        skin_frames(model, expression, rotations[:, :4], translation)
