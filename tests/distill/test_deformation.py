# SPDX-License-Identifier: Apache-2.0
"""Deformations: nothing at first, the same in torch and in a baked rig, smooth where they should be."""

import numpy as np
import pytest
import torch

from mvp4d_core.differentiable.skinning import skin_frames
from mvp4d_core.distill.deformation import SMOOTHINGS, UNIT, LinearDeformation, UVUNet, bake, linearised, roughness
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


def test_no_corrected_direction_moves_a_joint():
    rig = bake(MODEL, stirred(LinearDeformation(MODEL), 0.2))
    changed = rig.exprdirs.astype(np.float64) - MODEL.exprdirs
    assert np.abs(np.tensordot(MODEL.J_regressor.astype(np.float64), changed, axes=(1, 0))).max() < 1e-7
    assert np.abs(changed)[MODEL.J_regressor.any(axis=0)].max() > 1e-4


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


def test_averaging_and_its_gradient_are_those_of_a_dense_matrix():
    deformation = LinearDeformation(MODEL)
    count = len(MODEL.v_template)
    dense = np.zeros((count, count))
    neighbours = [set() for _ in range(count)]
    for a, b, c in MODEL.faces:
        for one, other in ((a, b), (b, c), (c, a)):
            neighbours[one].add(other)
            neighbours[other].add(one)
    for vertex, around in enumerate(neighbours):
        dense[vertex, vertex] = 0.5
        dense[vertex, list(around)] = 0.5 / len(around)
    power = np.linalg.matrix_power(dense, SMOOTHINGS)
    fields = torch.randn(2, count, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.randn(2, count, 3, generator=torch.Generator().manual_seed(1))
    smoothed = deformation.smooth(fields)
    (smoothed * weights).sum().backward()
    assert_arrays_close(smoothed.detach().numpy(), power @ fields.detach().numpy(), atol=1e-5)
    assert_arrays_close(fields.grad.numpy(), power.T @ weights.numpy(), atol=1e-5)


def test_an_expression_is_corrected_where_it_moves_the_face():
    """Brows always go up as the jaw drops, and only the jaw does otherwise than the rig: the brows alone then leave the mouth be."""
    jaw, brow = (MODEL.expression_names.index(name) for name in ("jawOpen", "browInnerUp"))
    deformation = LinearDeformation(MODEL)
    expression = torch.zeros(3, len(MODEL.expression_names))
    expression[0, jaw] = expression[0, brow] = expression[1, jaw] = expression[2, brow] = 1
    wanted = 0.5 * torch.as_tensor(MODEL.exprdirs[:, :, jaw])
    wanted -= torch.linalg.pinv(deformation.regressor) @ (deformation.regressor @ wanted)  # no correction moves a joint
    optimiser = torch.optim.Adam(deformation.parameters(), 0.02)
    for _ in range(100):
        optimiser.zero_grad()
        rest, together = deformation(torch.stack([torch.zeros_like(expression[0]), expression[0]]))
        (((together - rest - wanted) / UNIT).square().sum() + (rest / UNIT).square().sum()).backward()
        optimiser.step()
    with torch.no_grad():
        rest, _, jaw_alone, brow_alone = deformation(torch.cat([torch.zeros_like(expression[:1]), expression]))
    error = [
        float((found - rest - target).square().sum() / wanted.square().sum()) for found, target in ((jaw_alone, wanted), (brow_alone, 0))
    ]
    assert error[0] < 0.2
    assert error[1] < 0.01


def test_roughness_is_the_mean_squared_difference_along_edges():
    corrections = torch.tensor([[[0.0, 0, 0], [UNIT, 0, 0], [UNIT, 2 * UNIT, 0]]])
    assert float(roughness(corrections, torch.tensor([[0, 1], [1, 2]]))) == pytest.approx((1 + 4) / 2)
