# SPDX-License-Identifier: Apache-2.0
"""The small VAE's training at toy size: it learns, it goes on exactly where it stopped, and it refuses what cannot work."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX

from mvp4d_core.diffusion.autoencoding import encode_videos
from mvp4d_core.errors import Cancelled, FormatError, InputError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.training.checkpoints import LOG, checkpoint_folders
from mvp4d_core.training.vae import VAEConfig, build_vae, judge_vae, learning_rate, train_vae
from tests.support.asserts import assert_arrays_close

CONFIG = VAEConfig(
    block_out_channels=(4, 8, 8, 8), norm_num_groups=4, size=32, frames=9, early=((16, 1, 3), (16, 9, 1)), late=((32, 1, 2),), steps=6,
    warmup=2, bfloat16=False, log_every=2, checkpoint_every=2,
)  # fmt: skip


def moving_blobs(count: int, seed: int) -> np.ndarray:
    """(count, 9, 32, 32, 3) uint8: soft discs that drift over white."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    videos = []
    for _ in range(count):
        centre, drift, color = rng.uniform(10, 22, 2), rng.uniform(-0.5, 0.5, 2), rng.uniform(0, 0.8, 3)
        at = [np.hypot(x - centre[0] - t * drift[0], y - centre[1] - t * drift[1]) for t in range(9)]
        cover = np.clip(9 - np.stack(at), 0, 1)[..., None]
        videos.append(np.rint(255 * (1 - cover * (1 - color))).astype(np.uint8))
    return np.stack(videos)


VIDEOS, HELDOUT = moving_blobs(5, 0), moving_blobs(2, 1)


def stop_after(steps: int):
    def progress(stage: str, done: int, total: int) -> None:
        if stage == "train VAE" and done >= steps:
            raise Cancelled("Stopped.")

    return progress


def state(vae: AutoencoderKLCogVideoX) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in vae.state_dict().items()}


def test_a_run_that_was_stopped_ends_as_the_uninterrupted_one(tmp_path):
    whole = train_vae(VIDEOS, CONFIG, tmp_path / "whole", heldout=HELDOUT)
    for at in (1, 2):
        with pytest.raises(Cancelled):
            train_vae(VIDEOS, CONFIG, tmp_path / "parts", heldout=HELDOUT, progress=stop_after(at))
    parts = train_vae(VIDEOS, CONFIG, tmp_path / "parts", heldout=HELDOUT)
    for name, wanted in state(whole).items():
        assert_arrays_close(state(parts)[name], wanted, name=name)
    assert parts.config.latents_mean == whole.config.latents_mean and parts.config.latents_std == whole.config.latents_std


def test_ctrl_c_ends_the_step_and_keeps_it(tmp_path):
    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Cancelled, match="step 3 of 6"):
        train_vae(VIDEOS, CONFIG, tmp_path, heldout=HELDOUT, progress=interrupt)
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == ["step-00000002", "step-00000003"]


def test_it_learns_and_its_folder_loads_in_diffusers(tmp_path):
    config = replace(CONFIG, steps=60, learning_rate=3e-3, late=CONFIG.early)
    untrained, *_ = judge_vae(build_vae(config).eval(), HELDOUT)
    vae = train_vae(VIDEOS, config, tmp_path, heldout=HELDOUT)
    figures, _, deviation = judge_vae(vae, HELDOUT)
    assert figures["heldout_psnr"] > untrained["heldout_psnr"] + 3
    again = AutoencoderKLCogVideoX.from_pretrained(tmp_path / "vae")
    for name, wanted in state(vae).items():
        assert_arrays_close(state(again)[name], wanted, name=name)
    assert again.config.scaling_factor == 1
    assert_arrays_close(np.array(again.config.latents_std), deviation.numpy(), rtol=1e-6)
    scaled = encode_videos(again, torch.from_numpy(HELDOUT).float() / 255)
    stills = encode_videos(again, torch.from_numpy(HELDOUT[:, :1]).float() / 255)
    both = torch.cat([scaled.transpose(1, 2).flatten(2), stills.transpose(1, 2).flatten(2)], dim=2).transpose(0, 1).flatten(1)
    assert_arrays_close(both.mean(dim=1).numpy(), np.zeros(16), atol=1e-3)
    assert_arrays_close(both.std(dim=1).numpy(), np.ones(16), atol=1e-3)
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines[-1]["heldout_psnr"] == pytest.approx(figures["heldout_psnr"]) and lines[-2]["step"] == config.steps


def test_the_figures_are_those_of_the_pictures():
    vae = build_vae(CONFIG).eval()
    figures, *_ = judge_vae(vae, HELDOUT)
    errors = []
    with torch.no_grad():
        for video in HELDOUT:
            pixels = torch.from_numpy(video.astype(np.float64)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
            latents = vae.encode(pixels).latent_dist.mode()
            decoded = vae.decode(latents).sample.double().numpy().clip(-1, 1)
            errors.append(((decoded - pixels.double().numpy()) ** 2).mean() / 4)
    assert figures["heldout_psnr"] == pytest.approx(-10 * np.log10(np.mean(errors)), abs=1e-4)


def test_the_rate_rises_then_falls():
    rates = [learning_rate(1.0, step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and int(np.argmax(rates)) == 9
    assert all(np.diff(rates[9:]) < 0) and rates[-1] < 0.06


@pytest.mark.parametrize(
    "wrong",
    [{"frames": 5}, {"size": 20}, {"early": ((20, 1, 1),)}, {"late": ((64, 1, 1),)}, {"early": ()}, {"steps": 0}, {"late": ((16, 5, 1),)}],
)
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(InputError):
        replace(CONFIG, **wrong)


def test_videos_of_another_size_and_other_runs_are_refused(tmp_path):
    with pytest.raises(InputError, match="videos"):
        train_vae(VIDEOS[:, :, :16], CONFIG, tmp_path, heldout=HELDOUT)
    train_vae(VIDEOS, replace(CONFIG, steps=1), tmp_path, heldout=HELDOUT)
    for videos, config in ((VIDEOS, CONFIG), (255 - VIDEOS, replace(CONFIG, steps=1))):
        with pytest.raises(InputError, match="differs in"):
            train_vae(videos, config, tmp_path, heldout=HELDOUT)
    weights = checkpoint_folders(tmp_path)[-1] / "weights.safetensors"
    tensors, _ = safetensors_numpy.read(weights)
    safetensors_numpy.write(weights, {**tensors, "encoder.conv_in.conv.bias": np.zeros(3, np.float32)}, {})
    with pytest.raises(FormatError, match=r"encoder\.conv_in\.conv\.bias"):
        train_vae(VIDEOS, replace(CONFIG, steps=1), tmp_path, heldout=HELDOUT)
