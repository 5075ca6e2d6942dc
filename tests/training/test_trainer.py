# SPDX-License-Identifier: Apache-2.0
"""The training loop: what it learns, that a stopped run is the uninterrupted one, and what it refuses."""

import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from mvp4d_core.diffusion.guidance import ModelInput
from mvp4d_core.diffusion.schedule import add_noise, signal_power
from mvp4d_core.errors import Cancelled, FormatError, InputError, MVP4DError
from mvp4d_core.training import objective
from mvp4d_core.training.checkpoints import checkpoint_folders, load_checkpoint
from mvp4d_core.training.curriculum import Curriculum, Modality, Stage
from mvp4d_core.training.objective import sample_losses
from mvp4d_core.training.samples import BatchSource
from mvp4d_core.training.trainer import TrainSettings, train
from tests.support.toy_clips import SIZE, toy_cache, toy_transformer

MODALITIES = (Modality("static", 3, 1, 1.0, 2), Modality("monocular", 1, 5, 1.0, 2), Modality("multiview", 2, 5, 1.0, 2))
CURRICULUM = Curriculum(
    (Stage(8, SIZE, 2e-3, 1e-3, MODALITIES), Stage(6, SIZE, 1e-3, 0, MODALITIES[1:])), warmup=3, ema_decay=0.9, snr_shift=1.0, seed=3
)
PLAIN = TrainSettings(precision="fp32", log_every=2, validate_every=7, checkpoint_every=5)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return {SIZE: toy_cache(tmp_path_factory.mktemp("cache"))}


def stop_at(step):
    def progress(stage, done, total):
        if done == step:
            raise Cancelled("stop")

    return progress


def lines(run):
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in e.items() if key not in ("seconds", "steps_per_second")} for e in entries]


@pytest.mark.parametrize("stops", [(1,), (3, 9)])
def test_a_stopped_run_is_the_uninterrupted_one(clips, tmp_path, stops):
    whole = train(toy_transformer(), clips, clips, CURRICULUM, tmp_path / "whole", PLAIN)
    for step in stops:
        with pytest.raises(Cancelled):
            train(toy_transformer(), clips, clips, CURRICULUM, tmp_path / "parts", PLAIN, stop_at(step))
    # weights that a new start would have do not matter
    pieces = train(toy_transformer(seed=9), clips, clips, CURRICULUM, tmp_path / "parts", PLAIN)
    for (name, a), (_, b) in zip(whole.named_parameters(), pieces.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    last = [checkpoint_folders(tmp_path / run)[-1] for run in ("whole", "parts")]
    for file in ("weights.safetensors", "averages.safetensors", "moments.safetensors"):
        assert (last[0] / file).read_bytes() == (last[1] / file).read_bytes()
    validations = [[e for e in lines(tmp_path / run) if "validation" in e] for run in ("whole", "parts")]
    assert validations[0] == validations[1] and len(validations[0]) == 2


def test_a_killed_run_goes_on_from_its_checkpoint(clips, tmp_path):
    whole = train(toy_transformer(), clips, clips, CURRICULUM, tmp_path / "whole", PLAIN)
    with pytest.raises(Cancelled):
        train(toy_transformer(), clips, clips, CURRICULUM, tmp_path / "killed", PLAIN, stop_at(8))
    newest = checkpoint_folders(tmp_path / "killed")[-1]
    assert newest.name == "step-00000008"
    (newest / "state.json").unlink()  # as if it had been killed while it wrote
    with (tmp_path / "killed" / "log.jsonl").open("a") as log:
        log.write('{"step": 8, "lo')
    again = train(toy_transformer(), clips, clips, CURRICULUM, tmp_path / "killed", PLAIN)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert [e["step"] for e in lines(tmp_path / "killed")] == [e["step"] for e in lines(tmp_path / "whole")]


def test_it_learns(clips, tmp_path):
    stage = Stage(40, SIZE, 4e-3, 1e-3, MODALITIES)
    settings = TrainSettings(precision="bf16", log_every=10, validate_every=30, checkpoint_every=100)
    model = train(toy_transformer(), clips, clips, replace(CURRICULUM, stages=(stage,)), tmp_path, settings)
    losses = [e["loss"] for e in lines(tmp_path) if "loss" in e]
    assert losses[-1] < 0.85 * losses[0]
    assert not model.training and all(p.dtype == torch.float32 for p in model.parameters())
    assert len(checkpoint_folders(tmp_path)) == 1


def test_gradient_checkpointing_changes_nothing(clips, tmp_path):
    curriculum = replace(CURRICULUM, stages=(Stage(3, SIZE, 1e-3, 1e-3, MODALITIES),))
    plain = train(toy_transformer(), clips, clips, curriculum, tmp_path / "a", replace(PLAIN, validate_every=0))
    frugally = replace(PLAIN, validate_every=0, gradient_checkpointing=True)
    frugal = train(toy_transformer(), clips, clips, curriculum, tmp_path / "b", frugally)
    for a, b in zip(plain.parameters(), frugal.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_ctrl_c_ends_the_step_and_writes_a_checkpoint(clips, tmp_path):
    def interrupt(stage, done, total):
        if done == 4:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Cancelled, match="step 4 of 14"):
        train(toy_transformer(), clips, clips, CURRICULUM, tmp_path, PLAIN, interrupt)
    assert checkpoint_folders(tmp_path)[-1].name == "step-00000004"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_of_another_recipe_is_refused(clips, tmp_path):
    with pytest.raises(Cancelled):
        train(toy_transformer(), clips, clips, CURRICULUM, tmp_path, PLAIN, stop_at(2))
    with pytest.raises(InputError, match="curriculum"):
        train(toy_transformer(), clips, clips, replace(CURRICULUM, seed=4), tmp_path, PLAIN)


def test_a_run_of_other_clips_is_refused_and_an_older_config_accepted(clips, tmp_path):
    with pytest.raises(Cancelled):
        train(toy_transformer(), clips, clips, CURRICULUM, tmp_path, PLAIN, stop_at(1))
    others = {SIZE: [replace(clip, origin="other") for clip in clips[SIZE]]}
    with pytest.raises(InputError, match="differs in: clips"):
        train(toy_transformer(), others, clips, CURRICULUM, tmp_path, PLAIN)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    older = {key: value for key, value in config.items() if key != "clips"}
    older["curriculum"] = {key: value for key, value in config["curriculum"].items() if key != "both"}
    path.write_text(json.dumps(older))
    with pytest.raises(Cancelled):
        train(toy_transformer(), others, clips, replace(CURRICULUM, both=0.5), tmp_path, PLAIN, stop_at(2))
    assert json.loads(path.read_text())["curriculum"]["both"] == 0.5


def test_nan_ends_the_run_with_the_state_before_it(clips, tmp_path):
    model = toy_transformer()
    with torch.no_grad():
        model.proj_out.bias[0] = torch.nan
    with pytest.raises(MVP4DError, match="at step 0; begin another run"):
        train(model, clips, clips, CURRICULUM, tmp_path, PLAIN)


def test_data_without_a_modality_are_refused_before_any_work(clips, tmp_path):
    wide = replace(CURRICULUM, stages=(Stage(3, SIZE, 1e-3, 1e-3, (Modality("wide", 4, 1, 1.0, 1),)),))
    with pytest.raises(InputError, match="4 views x 1 frames for `wide`"):
        train(toy_transformer(), clips, clips, wide, tmp_path, PLAIN)
    assert not (tmp_path / "config.json").exists()


def test_damaged_and_foreign_checkpoints_are_refused(clips, tmp_path):
    with pytest.raises(Cancelled):
        train(toy_transformer(), clips, clips, CURRICULUM, tmp_path, PLAIN, stop_at(2))
    folder = checkpoint_folders(tmp_path)[-1]
    model = toy_transformer()
    averages = [p.detach().clone() for p in model.parameters()]
    assert load_checkpoint(folder, model, averages) == 2
    weights = folder / "weights.safetensors"
    original = weights.read_bytes()
    weights.write_bytes(original[:-9])
    with pytest.raises(FormatError, match="damaged"):
        load_checkpoint(folder, model, averages)
    shutil.copy(folder / "moments.safetensors", weights)
    with pytest.raises(FormatError, match="another model"):
        load_checkpoint(folder, model, averages)
    (folder / "state.json").write_text("[]")
    with pytest.raises(FormatError, match="no finished checkpoint"):
        load_checkpoint(folder, model, averages)


class Oracle(torch.nn.Module):
    """Predicts the exact velocity of known latents from the noisy ones, and keeps what it was shown."""

    def __init__(self, clean, power):
        super().__init__()
        self.clean, self.power, self.seen = clean, power.float().reshape(-1, 1, 1, 1, 1, 1), None

    def forward(self, timestep, return_dict, **inputs):
        self.seen = ModelInput(**inputs)
        signal, spread = self.power.sqrt(), (1 - self.power).sqrt()
        noise = (inputs["hidden_states"] - signal * self.clean) / spread
        return (signal * noise - spread * self.clean,)


def test_the_loss_counts_generated_latents_alone(clips):
    curriculum = replace(CURRICULUM, whole_views=1.0, photo_only=0.0, prefix_frames=0.0, condition_dropout=0.0,
                         stages=(Stage(1, SIZE, 1e-3, 1e-3, (Modality("multiview", 3, 5, 1.0, 4),)),))  # fmt: skip
    batch = BatchSource(clips, curriculum).batch(0).to(torch.device("cpu"), torch.float32)
    timesteps = torch.tensor([100, 400, 700, 998])
    wanted = ~batch.given
    power = signal_power(timesteps, wanted.sum(dim=(1, 2)), 1.0)
    oracle = Oracle(batch.latents, power)
    losses = sample_losses(oracle, batch, snr_shift=1.0, generator=torch.Generator().manual_seed(0), timesteps=timesteps)
    # the oracle is wrong where latents are given clean, right elsewhere
    assert batch.given.any() and losses.max() < 1e-5
    given = batch.given[..., None, None, None].expand_as(batch.latents)
    torch.testing.assert_close(oracle.seen.hidden_states[given], batch.latents[given], rtol=0, atol=0)
    assert (oracle.seen.maps[:, :, :, 48:49] == batch.given[..., None, None, None]).all()


def test_dropped_conditions_reach_the_model_as_zeros(clips):
    curriculum = replace(CURRICULUM, condition_dropout=1.0)
    batch = BatchSource(clips, curriculum).batch(0).to(torch.device("cpu"), torch.float32)
    oracle = Oracle(batch.latents, torch.full((len(batch.latents),), 0.5))
    sample_losses(oracle, batch, snr_shift=1.0, generator=torch.Generator().manual_seed(0))
    assert not oracle.seen.maps.any() and not oracle.seen.reference_maps.any() and not oracle.seen.reference_hidden_states.any()


def test_powers_go_to_the_device_as_float32(clips, monkeypatch):
    """Apple's devices have no float64."""
    seen = []

    def watched(clean, noise, power):
        seen.append(power.dtype)
        return add_noise(clean, noise, power)

    monkeypatch.setattr(objective, "add_noise", watched)
    batch = BatchSource(clips, CURRICULUM).batch(0).to(torch.device("cpu"), torch.float32)
    sample_losses(Oracle(batch.latents, torch.full((2,), 0.5)), batch, snr_shift=1.0, generator=torch.Generator().manual_seed(0))
    assert seen == [torch.float32]


def test_the_untrained_loss_is_the_velocity_s_power(clips):
    """An output of zero leaves E v^2 = abar + (1 - abar) E x0^2."""

    class Silent(torch.nn.Module):
        def forward(self, hidden_states, **_):
            return (torch.zeros_like(hidden_states),)

    batch = BatchSource(clips, replace(CURRICULUM, photo_only=1.0, whole_views=0.0, prefix_frames=0.0)).batch(0)
    batch = batch.to(torch.device("cpu"), torch.float32)
    count = len(batch.latents)
    timesteps = torch.full((count,), 999)  # no signal: v is minus the clean latents
    losses = sample_losses(Silent(), batch, snr_shift=1.0, generator=torch.Generator().manual_seed(0), timesteps=timesteps)
    np.testing.assert_allclose(losses, batch.latents.square().mean(dim=(1, 2, 3, 4, 5)), rtol=1e-5)
