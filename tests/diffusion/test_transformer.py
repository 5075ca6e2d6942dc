# SPDX-License-Identifier: Apache-2.0
"""The transformer against diffusers' CogVideoX, against itself written out in float64, and its promises one by one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import CogVideoXTransformer3DModel
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.diffusion.bench import bench_transformer, inputs, twins
from mvp4d_core.diffusion.transformer import MVP4DTransformer3DModel, matmul_attention
from mvp4d_core.errors import InputError, MissingAssetError
from tests.support.asserts import assert_arrays_close
from tests.support.mmvdm_oracle import oracle_forward

CPU = torch.device("cpu")
TOY = {
    "num_attention_heads": 2, "attention_head_dim": 16, "time_embed_dim": 24, "text_embed_dim": 12, "num_layers": 2, "sample_width": 8,
    "sample_height": 6, "sample_frames": 9, "max_text_seq_length": 5, "map_channels": 3, "in_channels": 4, "out_channels": 4,
}  # fmt: skip


def toy(seed=0, **changes) -> MVP4DTransformer3DModel:
    """A model whose weights all count."""
    model = MVP4DTransformer3DModel(**(TOY | changes)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def toy_inputs(views=2, frames=3, height=4, width=6, references=1, batch=1, seed=0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"hidden_states": (batch, views, frames, 4, height, width), "maps": (batch, views, frames, 3, height, width)}
    if references:
        shapes |= {
            "reference_hidden_states": (batch, references, 4, height, width),
            "reference_maps": (batch, references, 3, height, width),
        }
    arrays = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return arrays | {"timestep": torch.randint(1000, (batch,), generator=generator)}


@torch.no_grad()
def output(model, values, **changes):
    return model(**(values | changes)).sample


def relative_error(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("size", [(3, 6, 8), (5, 6, 8), (3, 4, 10), (1, 8, 8)], ids=str)
def test_one_view_with_text_returns_what_diffusers_returns(size):
    theirs, ours = twins({name: value for name, value in TOY.items() if name != "map_channels"}, CPU, torch.float32)
    latents, timestep, text = inputs((2, *size), theirs, CPU, torch.float32)
    with torch.no_grad():
        expected = theirs(latents, text, timestep).sample
        found = ours(latents[:, None], timestep, encoder_hidden_states=text, return_dict=False)[0][:, 0]
    assert expected.std() > 0.1
    assert relative_error(found, expected) <= 1e-5


@pytest.mark.parametrize("with_text", [False, True])
def test_is_what_the_definition_says_in_float64(with_text):
    model, values = toy(text_embed_dim=12 if with_text else None, temporal_interpolation_scale=1.5), toy_inputs(references=2)
    text = torch.randn(1, 5, 12) if with_text else None
    found = output(model, values, encoder_hidden_states=text, frame_indices=torch.tensor([0, 4, 7]))
    state = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    arrays = {name: tensor[0].double().numpy() for name, tensor in values.items()}
    expected = oracle_forward(
        state, model.config, arrays["hidden_states"], arrays["timestep"], arrays["maps"], arrays["reference_hidden_states"],
        arrays["reference_maps"], None if text is None else text[0].double().numpy(), np.array([0, 4, 7]),
    )  # fmt: skip
    assert_arrays_close(found[0].numpy(), expected, atol=2e-5 * np.abs(expected).max(), name="sample")


def test_permuting_views_permutes_the_output():
    model, values = toy(), toy_inputs(views=5)
    order = torch.tensor([3, 0, 4, 2, 1])
    found = output(model, values, hidden_states=values["hidden_states"][:, order], maps=values["maps"][:, order])
    expected = output(model, values)
    assert relative_error(found, expected[:, order]) <= 1e-5
    assert relative_error(found, expected) > 0.1


@settings(max_examples=12)
@given(
    views=st.integers(1, 4), frames=st.integers(1, 4), references=st.integers(0, 2), batch=st.integers(1, 2), side=st.sampled_from([2, 6])
)
def test_any_number_of_views_and_frames_gives_an_output_of_their_shape(views, frames, references, batch, side):
    values = toy_inputs(views, frames, side, 4, references, batch)
    found = output(toy(), values)
    assert found.shape == (batch, views, frames, 4, side, 4) and found.isfinite().all()


def test_samples_of_a_batch_do_not_see_each_other():
    model, values = toy(), toy_inputs(batch=3)
    text = torch.randn(3, 5, 12)
    together = output(model, values, encoder_hidden_states=text)
    for index in range(3):
        alone = {name: tensor[index : index + 1] for name, tensor in values.items()}
        assert relative_error(together[index], output(model, alone, encoder_hidden_states=text[index : index + 1])[0]) <= 1e-5


def test_a_new_models_maps_change_nothing_and_its_blocks_pass_tokens_on():
    model, values = MVP4DTransformer3DModel(**TOY).eval(), toy_inputs()
    assert torch.equal(output(model, values), output(model, values, maps=None, reference_maps=None))
    tokens, text, temb = torch.randn(1, 7, 32), torch.randn(1, 3, 32), torch.randn(1, 24)
    passed = model.transformer_blocks[0](tokens, text, temb)
    assert torch.equal(passed[0], tokens) and torch.equal(passed[1], text)


@pytest.mark.parametrize("which", ["maps", "reference_maps", "reference_hidden_states"])
def test_each_condition_counts_and_no_maps_are_zero_maps(which):
    model, values = toy(), toy_inputs()
    assert relative_error(output(model, values, **{which: values[which] + 0.5}), output(model, values)) > 1e-3
    if which != "reference_hidden_states":
        assert torch.equal(output(model, values, **{which: None}), output(model, values, **{which: torch.zeros_like(values[which])}))


def test_convention_frames_count_from_zero_and_references_lie_at_zero():
    model, values = toy(), toy_inputs()
    assert torch.equal(output(model, values), output(model, values, frame_indices=torch.arange(3)))
    assert relative_error(output(model, values, frame_indices=torch.arange(3) + 5), output(model, values)) > 1e-3
    # a still at time 0 is embedded alike as a reference and as the only frame of a view
    still, maps = values["reference_hidden_states"], values["reference_maps"]
    alone = {"hidden_states": still[:, None], "maps": maps[:, None], "timestep": values["timestep"]}
    referred = output(model, alone, reference_hidden_states=still, reference_maps=maps)
    twice = output(model, {name: tensor if name == "timestep" else torch.cat([tensor, tensor], 1) for name, tensor in alone.items()})
    assert relative_error(referred[:, 0], twice[:, 0]) <= 1e-5


def test_without_text_there_are_no_weights_for_it():
    model = toy(text_embed_dim=None)
    assert not [name for name, _ in model.named_parameters() if "text" in name]
    assert model.transformer_blocks[0].norm1.linear.out_features == 3 * 32
    with pytest.raises(InputError, match="no text parts"):
        output(model, toy_inputs(), encoder_hidden_states=torch.zeros(1, 2, 12))


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = toy().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(**toy_inputs(), encoder_hidden_states=torch.ones(1, 2, 12)).sample.square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert all(tensor.abs().max() > 0 for tensor in gradients[0].values())
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens", [9, 1030, 4100])
def test_attention_in_bfloat16_and_its_gradients_are_as_good_as_bfloat16(tokens):
    torch.manual_seed(0)
    arrays = [torch.randn(1, tokens, 1, 8).bfloat16().requires_grad_() for _ in range(3)]
    found = matmul_attention(*arrays)
    exact = [array.detach().double().transpose(1, 2).requires_grad_() for array in arrays]
    expected = torch.softmax(exact[0] @ exact[1].mT / 8**0.5, dim=-1) @ exact[2]
    pull = torch.randn(1, 1, tokens, 8).bfloat16()
    pairs = [(found.transpose(1, 2), expected)]
    gradients = torch.autograd.grad(found, arrays, pull.transpose(1, 2)), torch.autograd.grad(expected, exact, pull.double())
    pairs += [(mine.transpose(1, 2), theirs) for mine, theirs in zip(*gradients, strict=True)]
    assert all(((mine - theirs).norm() / theirs.norm()).item() < 0.015 for mine, theirs in pairs)


def test_bfloat16_stays_near_float32_and_trains_under_autocast():
    model, values = toy(text_embed_dim=None), toy_inputs()
    expected = output(model, values)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.train()(**values).sample
        found.float().square().mean().backward()
    assert ((found - expected).norm() / expected.norm()).item() < 0.03
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    halved = {name: tensor.bfloat16() if tensor.is_floating_point() else tensor for name, tensor in values.items()}
    assert ((output(model.bfloat16(), halved).float() - expected).norm() / expected.norm()).item() < 0.05


def test_2b_is_built_without_memory_and_has_cogvideox_names():
    with torch.device("meta"):
        ours, theirs = MVP4DTransformer3DModel(), CogVideoXTransformer3DModel()
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert shapes.pop("patch_embed.map_proj.weight") == (1920, 59 * 4)
    assert shapes == {name: tensor.shape for name, tensor in theirs.state_dict().items()}


def test_the_plan_for_several_devices_splits_tokens_and_gathers_them():
    model = toy()
    assert set(model._cp_plan) == {"embedding_dropout", "proj_out"} <= {name for name, _ in model.named_modules()}
    split, gather = model._cp_plan["embedding_dropout"][0], model._cp_plan["proj_out"]
    assert (split.split_dim, split.expected_dims, split.split_output) == (1, 3, True)
    assert (gather.gather_dim, gather.expected_dims) == (1, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_two_processes_that_share_the_tokens_give_what_one_gives(tmp_path):
    command = [sys.executable, "-m", "tests.support.two_devices", str(tmp_path / "meeting")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]


BAD = {
    "hidden_states": (torch.zeros(1, 2, 3, 4, 4), "`hidden_states` must have shape"),
    "odd": (torch.zeros(1, 2, 3, 4, 5, 6), "multiples of the patch size 2"),
    "channels": (torch.zeros(1, 2, 3, 5, 4, 6), "`hidden_states` must have shape"),
    "timestep": (torch.zeros(2), "`timestep` must have shape"),
    "maps": (torch.zeros(1, 2, 3, 2, 4, 6), r"`maps` must have shape \(1, 2, 3, 3, 4, 6\), got \(1, 2, 3, 2, 4, 6\)"),
    "reference_hidden_states": (torch.zeros(1, 4, 4, 6), "`reference_hidden_states` must have shape"),
    "reference_maps": (torch.zeros(1, 2, 3, 4, 6), "`reference_maps` must have shape"),
    "frame_indices": (torch.arange(2), "`frame_indices` must have shape"),
    "encoder_hidden_states": (torch.zeros(1, 5, 13), "`encoder_hidden_states` must have shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses_a_shape_that_does_not_fit(name):
    tensor, message = BAD[name]
    with pytest.raises(InputError, match=message):
        output(toy(), toy_inputs(), **{"hidden_states" if name in ("odd", "channels") else name: tensor})


def test_refuses_reference_maps_alone_and_an_odd_width():
    with pytest.raises(InputError, match="need `reference_hidden_states`"):
        output(toy(), toy_inputs(), reference_hidden_states=None)
    with pytest.raises(InputError, match="multiple of 16"):
        MVP4DTransformer3DModel(**(TOY | {"attention_head_dim": 20}))


def test_bench_reports_every_figure():
    calls = []
    figures = bench_transformer(layers=1, heads=1, side=2, progress=lambda *call: calls.append(call))
    assert figures.keys() == {"speed_vs_diffusers", "forward_ms", "diffusers_forward_ms", "tokens", "parity_error", "matmul_fraction"}
    assert figures["speed_vs_diffusers"] == figures["diffusers_forward_ms"] / figures["forward_ms"]
    assert figures["parity_error"] <= 1e-5 and figures["matmul_fraction"] is None and figures["tokens"] == 231
    assert calls[0][1] == 0 and calls[-1][1] == calls[-1][2]


def test_bench_refuses_what_it_cannot_measure():
    with pytest.raises(InputError, match="`layers` and `heads` must be positive"):
        bench_transformer(layers=0)
    with pytest.raises(InputError, match="`device` must be"):
        bench_transformer(device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(MissingAssetError, match="There is no device cuda"):
            bench_transformer(device="cuda")
