# SPDX-License-Identifier: Apache-2.0
"""Clone, split and prune: what is kept, what grows, and where children lie."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.distill.densify import FAINT, SPLIT_SCALE, GradientRecord, densify
from mvp4d_core.distill.state import PARAMETERS
from tests.support.asserts import assert_arrays_close

SHAPES = {"means": (3,), "quats": (4,), "log_scales": (3,), "opacity_logits": (), "sh0": (3,), "shN": (3, 3)}


def some(count: int, seed: int = 0, triangles: int = 7):
    """Gaussians with moments, their binding, the optimiser and a record."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {name: torch.nn.Parameter(torch.randn(count, *SHAPES[name], generator=generator)) for name in PARAMETERS}
    optimiser = torch.optim.Adam([{"params": [parameters[name]], "lr": 0.0} for name in PARAMETERS])
    sum(parameter.square().sum() for parameter in parameters.values()).backward()
    optimiser.step()
    binding = torch.randint(0, triangles, (count,), generator=generator)
    record = GradientRecord(torch.rand(count, generator=generator), torch.ones(count))
    return parameters, binding, optimiser, record


def grow(parameters, binding, optimiser, record, **changes) -> torch.Tensor:
    options = {"budget": 10_000, "growth": 0.2, "split_size": 0.5, "seed": (0,)} | changes
    return densify(parameters, binding, optimiser, record, **options)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), budget=st.integers(20, 80), growth=st.floats(0, 1))
def test_budget_binding_and_shapes_hold(seed, budget, growth):
    parameters, binding, optimiser, record = some(40, seed)
    faint = torch.rand(40, generator=torch.Generator().manual_seed(seed + 1)) < 0.3
    parameters["opacity_logits"].data[faint] = -9.0
    after = grow(parameters, binding, optimiser, record, budget=budget, growth=growth)
    assert set(after.tolist()) == set(binding.tolist())  # no triangle loses its last Gaussian
    kept = int((~faint).sum()) + len(set(binding.tolist()) - set(binding[~faint].tolist()))
    assert kept <= len(after) <= max(kept, budget) and len(after) - kept <= growth * kept
    for name, parameter in parameters.items():
        assert parameter.shape == (len(after), *SHAPES[name])
        assert any(parameter is p for group in optimiser.param_groups for p in group["params"])
        assert optimiser.state[parameter]["exp_avg"].shape == parameter.shape
    assert len(optimiser.state) == len(PARAMETERS)


def test_the_largest_gradients_grow_and_their_children_begin_without_moments():
    parameters, binding, optimiser, record = some(40)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    parameters["opacity_logits"].data.fill_(1.0)
    after = grow(parameters, binding, optimiser, record, split_size=1e9)
    parents = record.sums.topk(8).indices.sort().values
    assert_arrays_close(after[40:].numpy(), binding[parents].numpy())
    assert_arrays_close(parameters["means"].detach()[40:].numpy(), before["means"][parents].numpy())  # clones
    moments = optimiser.state[parameters["means"]]
    assert moments["exp_avg"][40:].abs().max() == 0 and moments["exp_avg"][:40].abs().min() > 0


def test_splits_lie_on_either_side_and_are_smaller():
    parameters, binding, optimiser, record = some(40)
    parameters["opacity_logits"].data.fill_(1.0)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    grow(parameters, binding, optimiser, record, split_size=0.0)
    parents = record.sums.topk(8).indices.sort().values
    means, scales = parameters["means"].detach(), parameters["log_scales"].detach()
    assert_arrays_close(((means[parents] + means[40:]) / 2).numpy(), before["means"][parents].numpy(), atol=1e-6)
    assert (means[parents] - means[40:]).norm(dim=-1).min() > 0
    for rows in (parents, torch.arange(40, 48)):
        assert_arrays_close(scales[rows].numpy(), before["log_scales"][parents].numpy() - np.log(SPLIT_SCALE), atol=1e-6)
    others = torch.ones(40, dtype=torch.bool)
    others[parents] = False
    assert_arrays_close(means[:40][others].numpy(), before["means"][others].numpy())


def test_twins_lie_along_the_gaussians_own_axes():
    """A Gaussian that is long in one direction splits in that direction, wherever it is turned to."""
    parameters, binding, optimiser, record = some(400)
    parameters["opacity_logits"].data.fill_(1.0)
    half = np.sqrt(0.5)
    parameters["quats"].data[:] = torch.tensor([half, 0, 0, half])  # a quarter turn about z: x becomes y
    parameters["log_scales"].data[:] = torch.log(torch.tensor([1.0, 1e-4, 1e-4]))
    before = parameters["means"].detach().clone()
    grow(parameters, binding, optimiser, record, split_size=0.0)
    shift = (parameters["means"].detach()[:400] - before).abs()
    assert shift[:, 1].max() > 0.5 and shift[:, [0, 2]].max() < 1e-2


def test_the_record_counts_views_in_half_pictures():
    record = GradientRecord.empty(2, "cpu")
    absgrad = torch.tensor([[[3.0, 0.0], [1.0, 1.0]], [[0.0, 4.0], [1.0, 1.0]]])
    radii = torch.tensor([[[2, 2], [0, 0]], [[1, 1], [0, 0]]])
    record.add(absgrad, radii, width=20, height=10)
    assert record.means.tolist() == pytest.approx([(30 + 20) / 2, 0])
    assert record.views.tolist() == [2, 0]


def test_the_least_faint_of_a_triangle_stays():
    parameters, binding, optimiser, record = some(6, triangles=1)
    parameters["opacity_logits"].data[:] = torch.tensor([-9.0, -8.0, -7.0, -9.0, -9.0, -9.0])
    assert parameters["opacity_logits"].detach().sigmoid().max() < FAINT
    wanted = parameters["means"].detach()[2].clone()
    after = grow(parameters, binding, optimiser, record, growth=0.0)
    assert len(after) == 1
    assert_arrays_close(parameters["means"].detach()[0].numpy(), wanted.numpy())
