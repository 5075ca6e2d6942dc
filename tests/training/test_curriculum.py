# SPDX-License-Identifier: Apache-2.0
"""Curricula: what is shown when, and what it costs."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.diffusion.transformer import MVP4DTransformer3DModel
from mvp4d_core.errors import InputError
from mvp4d_core.training.cost import estimate_cost
from mvp4d_core.training.curriculum import Curriculum, Modality, Stage, cogvideox_curriculum, nano_curriculum, read_curriculum, scaled

TINY = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "time_embed_dim": 16, "text_embed_dim": None}


@pytest.mark.parametrize("curriculum", [nano_curriculum(), cogvideox_curriculum()], ids=["nano", "cogvideox-2b"])
def test_rates_rise_over_the_warm_up_and_fall_over_a_stage(curriculum):
    rates = [curriculum.learning_rate(step) for step in range(0, curriculum.steps, max(1, curriculum.steps // 200))]
    assert curriculum.learning_rate(0) == pytest.approx(curriculum.stages[0].learning_rate / curriculum.warmup)
    assert max(rates) <= curriculum.stages[0].learning_rate and rates[-1] < 1.2 * curriculum.stages[-1].final_learning_rate
    first = curriculum.stages[0].steps
    assert curriculum.learning_rate(first) == pytest.approx(curriculum.stages[1].learning_rate)
    with pytest.raises(InputError, match="beyond"):
        curriculum.learning_rate(curriculum.steps)


def test_modalities_come_by_their_shares_and_the_same_for_all():
    curriculum = nano_curriculum()
    names = [curriculum.modality_at(step).name for step in range(2500)]
    assert names == [nano_curriculum().modality_at(step).name for step in range(2500)]
    for modality in curriculum.stages[0].modalities:
        assert names.count(modality.name) / 2500 == pytest.approx(modality.share, abs=0.03)


def test_json_round_trip_and_what_is_refused(tmp_path):
    for curriculum in (nano_curriculum(), cogvideox_curriculum(5)):
        path = tmp_path / "curriculum.json"
        path.write_text(json.dumps(curriculum.to_json()))
        assert read_curriculum(path) == curriculum
        path.write_text(json.dumps({"curriculum": curriculum.to_json(), "precision": "bf16"}))
        assert read_curriculum(path) == curriculum
    # files of before `both` are accepted, and mean none of it
    values = nano_curriculum().to_json()
    del values["both"]
    assert Curriculum.from_json(values) == replace(nano_curriculum(), both=0.0)
    for text in ("{", "[]", "{}", '{"stages": []}', '{"stages": [{"steps": 1}]}'):
        path.write_text(text)
        with pytest.raises(InputError):
            read_curriculum(path)
    with pytest.raises(InputError, match="can't be read"):
        read_curriculum(tmp_path / "none")


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Modality("m", 1, 4, 1.0, 1),
        lambda: Modality("m", 0, 5, 1.0, 1),
        lambda: Modality("m", 1, 5, 0.0, 1),
        lambda: Stage(1, 40, 1e-4, 1e-5, (Modality("m", 1, 5, 1.0, 1),)),
        lambda: Stage(1, 32, 1e-5, 1e-4, (Modality("m", 1, 5, 1.0, 1),)),
        lambda: Curriculum(()),
        lambda: Curriculum(nano_curriculum().stages, condition_dropout=1.5),
        lambda: Curriculum(nano_curriculum().stages, photo_only=0, whole_views=0, prefix_frames=0),
    ],
)
def test_impossible_curricula_are_refused(bad):
    with pytest.raises(InputError):
        bad()


def test_scaling_keeps_the_proportions():
    small = scaled(nano_curriculum(), steps=60, size=64, batch=0.01, rate=0.5, seed=7)
    whole = nano_curriculum()
    assert [s.steps for s in small.stages] == [round(60 * s.steps / whole.steps) for s in whole.stages]
    assert small.steps == 60 and small.longest == {64: 13} and small.seed == 7
    assert all(m.batch == 1 for stage in small.stages for m in stage.modalities)
    assert small.stages[0].learning_rate == nano_curriculum().stages[0].learning_rate / 2
    seeded = replace(whole, seed=5, warmup=whole.steps)
    assert scaled(seeded) == seeded and scaled(seeded, seed=6) == replace(seeded, seed=6)
    assert scaled(seeded, steps=60).warmup == 12


def test_the_estimate_counts_what_torch_counts():
    """Operations against torch's own counter, within what norms, embeddings and projections take."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    modality = Modality("m", 3, 5, 1.0, 1)
    curriculum = Curriculum((Stage(2, 64, 1e-4, 0, (modality,)),))
    cost = estimate_cost(TINY, curriculum, tflops=1)
    torch.manual_seed(0)
    model = MVP4DTransformer3DModel(**TINY)
    maps, latents = torch.zeros(1, 3, 2, 59, 8, 8), torch.randn(1, 3, 2, 16, 8, 8)
    photo = {"reference_hidden_states": latents[:, 0, :1], "reference_maps": maps[:, 0, :1]}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(latents, torch.zeros(1), maps=maps, **photo).sample.sum().backward()
    counted = counter.get_total_flops() / 1e12
    assert cost.tokens_per_sample == (16 * 7, 16 * 7) and cost.parameters == sum(p.numel() for p in model.parameters())
    assert 0.6 * counted < cost.step_tflops < counted
    np.testing.assert_allclose(cost.total_pflops * 1000, 2 * cost.step_tflops)
    np.testing.assert_allclose(cost.device_days, 2 * cost.step_tflops / 0.4 / 86400)


def test_the_large_recipe_fits_its_devices():
    from mvp4d_core.training.recipes import CONFIGS

    cost = estimate_cost(CONFIGS["cogvideox-2b"], cogvideox_curriculum(), processes=8, gradient_checkpointing=True)
    assert cost.parameters / 1e9 == pytest.approx(1.5, rel=0.1) and cost.memory_gb < 75
    assert cost.memory_gb < estimate_cost(CONFIGS["cogvideox-2b"], cogvideox_curriculum()).memory_gb
