# SPDX-License-Identifier: Apache-2.0
"""Deformations: nothing at first, the same in torch and in a baked rig, smooth where they should be."""

import numpy as np
import pytest
import torch

from mvp4d_core.differentiable.skinning import skin_frames
from mvp4d_core.distill.deformation import UNIT, LinearDeformation, UVUNet, bake, linearised, roughness
from mvp4d_core.rig import showcase_performance, skin
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model

MODEL = toy_head_model()
PERFORMANCE = showcase_performance(MODEL).select(list(range(0, 140, 7)))
EXPRESSIONS = torch.as_tensor(PERFORMANCE.expression)


def stirred(deformation: torch.nn.Module, scale: float) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in deformation.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return deformation


@pytest.mark.parametrize("make", [LinearDeformation, lambda rig: UVUNet(rig, resolution=64, channels=4)])
def test_nothing_is_deformed_at_first_and_gradients_flow(make):
    deformation = make(MODEL)
    corrections = deformation(EXPRESSIONS[:2])
    assert corrections.shape == (2, len(MODEL.v_template), 3) and corrections.abs().max() == 0
    corrections.sum().backward()
    assert any(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in deformation.parameters())


def test_a_baked_rig_poses_as_the_deformation_does():
    deformation = stirred(LinearDeformation(MODEL), 0.2)
    rig = bake(MODEL, deformation)
    for frame in (0, 5, 11):
        p = PERFORMANCE[frame]
        tensors = [torch.as_tensor(array)[None] for array in (p.expression, p.rotations, p.translation)]
        found = skin_frames(MODEL, *tensors, deformation(tensors[0]))[0].detach().numpy()
        assert_arrays_close(found, skin(rig, None, p.expression, p.rotations, p.translation), atol=2e-6)
    assert np.abs(rig.exprdirs - MODEL.exprdirs).max() > 0.1 * UNIT


def test_the_unet_gives_what_is_not_of_the_face_one_shape():
    deformation = stirred(UVUNet(MODEL, resolution=64, channels=4), 0.1)
    corrections = deformation(EXPRESSIONS)
    moving = np.abs(MODEL.exprdirs).max(axis=(1, 2)) > 1e-4
    assert 0 < moving.sum() < len(moving)
    assert corrections[:, ~moving].std(dim=0).max() < 1e-7
    assert corrections[:, moving].std(dim=0).max() > 1e-5
    assert corrections.abs().max() > 1e-4


def test_the_nearest_linear_deformation_is_found():
    true = stirred(LinearDeformation(MODEL), 0.3)
    generator = torch.Generator().manual_seed(2)
    expressions = torch.rand(200, len(MODEL.expression_names), generator=generator)
    found = linearised(MODEL, true, expressions, ridge=0.0)
    with torch.no_grad():
        assert_arrays_close(found(expressions[:5]).numpy(), true(expressions[:5]).numpy(), atol=2e-5)
    net = stirred(UVUNet(MODEL, resolution=64, channels=4), 0.1)
    linear = linearised(MODEL, net, EXPRESSIONS)
    with torch.no_grad():
        wanted = torch.cat([net(expression[None]) for expression in EXPRESSIONS])
        error = (linear(EXPRESSIONS) - wanted).square().mean()
        spread = (wanted - wanted.mean(dim=0)).square().mean()
    assert error < 0.3 * spread


def test_directions_without_expressions_stay_the_rigs():
    net = stirred(UVUNet(MODEL, resolution=64, channels=4), 0.1)
    expressions = EXPRESSIONS.clone()
    expressions[:, 0] = 0
    assert linearised(MODEL, net, expressions).first_directions[0].abs().max() == 0


def test_roughness_is_the_mean_squared_difference_along_edges():
    corrections = torch.tensor([[[0.0, 0, 0], [UNIT, 0, 0], [UNIT, 2 * UNIT, 0]]])
    assert float(roughness(corrections, torch.tensor([[0, 1], [1, 2]]))) == pytest.approx((1 + 4) / 2)
