# SPDX-License-Identifier: Apache-2.0
"""Training of a small causal video VAE of CogVideoX's class, for `nano`.

A real MMVDM takes CogVideoX-2B's own VAE, frozen. That one has 215 million weights and 512 px in mind; `nano` runs on a laptop's processor,
so it brings its own, of the same class and layout: /8 in space, /4 in time after the first frame, 16 channels.

Everything random in step i comes from (seed, i), so a continued run is the uninterrupted one.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from torch import nn

from ..diffusion.blocks import digest_of
from ..errors import Cancelled, InputError, MVP4DError
from ..progress import Progress, silent, steps
from ..rig import HeadModel
from .checkpoints import append_log, checkpoint_folders, claim_run, cut_log, load_checkpoint, save_checkpoint
from .stopping import stop_requests
from .synthetic.studio import StudioSettings, render_clip


@dataclass(frozen=True)
class VAEConfig:
    """The recipe. All values are ours.

    Attributes:
        block_out_channels, layers_per_block, norm_num_groups: of `AutoencoderKLCogVideoX`; four blocks, so that a latent is 8 px wide.
        size: pixels a side of the clips.
        frames: of a video, 1 + 8k: the VAE decodes odd numbers of latent frames alone.
        early, late: what takes turns in the first and in the second half of the steps, each (pixels a side, frames, clips a step). Small
            crops of many people teach faster; whole pictures come late, because the norms see a picture's size.
        steps, learning_rate, warmup: AdamW; the rate rises over `warmup` steps and falls as a cosine.
        edges: weight of the absolute error of neighbouring pixels' differences, beside that of the pixels.
        kl: weight of the mean divergence a latent number.
        ema: decay of the averaged weights, which are the ones kept.
        bfloat16: multiply in bfloat16; weights stay float32.
    """

    block_out_channels: tuple[int, ...] = (16, 32, 64, 128)
    layers_per_block: int = 1
    norm_num_groups: int = 8
    size: int = 128
    frames: int = 9
    early: tuple[tuple[int, int, int], ...] = ((64, 1, 32), (64, 9, 4))
    late: tuple[tuple[int, int, int], ...] = ((128, 1, 8), (64, 9, 4), (128, 9, 1))
    steps: int = 3000
    learning_rate: float = 1.2e-3
    warmup: int = 100
    edges: float = 0.5
    kl: float = 1e-4
    ema: float = 0.998
    bfloat16: bool = True
    seed: int = 0
    log_every: int = 20
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        factor = 2 ** (len(self.block_out_channels) - 1)
        for side, frames, clips in (*self.early, *self.late):
            if side % factor or not 0 < side <= self.size or frames % 8 != 1 or frames > self.frames or clips < 1:
                raise InputError(
                    f"Batches of a VAE run must have a side of a multiple of {factor} up to {self.size} px and 1 + 8k frames up to "
                    f"{self.frames}, got {side} px, {frames} frames, {clips} clips."
                )
        if self.size % factor or self.frames % 8 != 1 or self.steps < 1 or not (self.early and self.late):
            raise InputError(f"A VAE run must have steps, batches, 1 + 8k frames and a size that {factor} divides; got {self}.")


def build_vae(config: VAEConfig) -> AutoencoderKLCogVideoX:
    """An untrained VAE of the recipe's sizes."""
    blocks = len(config.block_out_channels)
    sizes: dict[str, Any] = {  # diffusers declares tuples of one
        "down_block_types": ("CogVideoXDownBlock3D",) * blocks,
        "up_block_types": ("CogVideoXUpBlock3D",) * blocks,
        "block_out_channels": config.block_out_channels,
    }
    return AutoencoderKLCogVideoX(
        **sizes,
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        latent_channels=16,
        sample_height=config.size,
        sample_width=config.size,
        scaling_factor=1.0,
    )


def train_vae(
    videos: np.ndarray,
    config: VAEConfig,
    folder: str | Path,
    *,
    heldout: np.ndarray,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> AutoencoderKLCogVideoX:
    """Trains on videos and leaves the averaged VAE in `folder/vae`; the folder is a run's (`checkpoints.py`).

    A run that was stopped continues from its last checkpoint, with the same result.

    Args:
        videos: (N, F, S, S, 3) uint8, F and S those of `config`.
        heldout: (M, F, S, S, 3) uint8 of other people, for the figures and the latents' scale.

    Raises:
        InputError: videos of another size, or a folder with a run of another recipe.
        FormatError: the folder's last checkpoint is damaged.
        MVP4DError: the loss became NaN.
        Cancelled: from `progress`, Ctrl-C or SIGTERM; the steps so far are kept.
    """
    for name, array in (("videos", videos), ("heldout", heldout)):
        if array.dtype != np.uint8 or array.ndim != 5 or array.shape[1:] != (config.frames, config.size, config.size, 3) or not len(array):
            wanted = f"uint8 (N, {config.frames}, {config.size}, {config.size}, 3)"
            raise InputError(f"`{name}` of a VAE run must be {wanted}, got {array.dtype} {array.shape}.")
    folder = Path(folder)
    claim_run(folder, {"vae": asdict(config), "videos": digest_of(videos)})
    torch.manual_seed(config.seed)
    vae = build_vae(config).train()
    nn.Module.to(vae, device)  # diffusers' own `to` is for its loaders
    parameters = list(vae.parameters())
    averages = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, config.learning_rate, betas=(0.9, 0.99), weight_decay=1e-4)
    before = checkpoint_folders(folder)
    start = load_checkpoint(before[-1], vae, averages, optimizer) if before else 0
    cut_log(folder, start)
    started, recent = time.perf_counter(), []

    def save(step: int) -> None:
        save_checkpoint(folder, step, vae, averages, optimizer)

    done = start
    with stop_requests() as stop, _kept(lambda: save(done)):
        for step in steps(range(start, config.steps), "train VAE", config.steps - start, progress):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config.learning_rate, step, config.steps, config.warmup)
            terms = _step(vae, videos, config, step, torch.device(device))
            loss = terms["pixels"] + config.edges * terms["edges"] + config.kl * terms["kl"]
            if not torch.isfinite(loss):
                raise MVP4DError(f"The VAE's loss became {loss.item()} at step {step}; lower `learning_rate` and train again.")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            decay = min(config.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                for average, parameter in zip(averages, parameters, strict=True):
                    average.lerp_(parameter, 1 - decay)
            done = step + 1
            recent.append({name: value.item() for name, value in terms.items()})
            if done % config.log_every == 0 or done == config.steps:
                means = {name: float(np.mean([r[name] for r in recent])) for name in recent[0]}
                append_log(folder, {"step": done, **means, "seconds": round(time.perf_counter() - started, 1)})
                recent.clear()
            if done % config.checkpoint_every == 0:
                save(done)
            if stop.is_set():
                raise Cancelled(f"Stopped at step {done} of {config.steps}; the same command continues.")
    save(done)
    with torch.no_grad():
        for parameter, average in zip(parameters, averages, strict=True):
            parameter.copy_(average)
    vae.eval()
    figures, mean, deviation = judge_vae(vae, heldout)
    # a head on white has the same latents nearly everywhere: about their own mean and deviation they say much more at the same noise
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=deviation.tolist())
    vae.save_pretrained(folder / "vae")
    append_log(folder, {"step": done, **figures})
    return vae


@contextmanager
def _kept(save: Callable[[], None]) -> Iterator[None]:
    """Saves when one of our own errors ends the block: they are raised between steps, so the state is whole."""
    try:
        yield
    except MVP4DError:
        save()
        raise


def learning_rate(peak: float, step: int, total: int, warmup: int) -> float:
    """A linear rise over `warmup` steps, then half a cosine down to a twentieth of the peak."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    fall = 0.5 * (1 + np.cos(np.pi * step / total))
    return peak * rise * (0.05 + 0.95 * fall)


@torch.no_grad()
def judge_vae(vae: AutoencoderKLCogVideoX, videos: np.ndarray) -> tuple[dict[str, float], torch.Tensor, torch.Tensor]:
    """PSNR in dB of videos (M, F, S, S, 3) uint8 through the VAE, whole and as their first frames alone; the mean and the deviation (C,) of
    their raw latents."""
    errors: dict[str, list[float]] = {"heldout_psnr": [], "heldout_still_psnr": []}
    latents_seen = []
    for video in videos:
        for name, frames in (("heldout_psnr", video), ("heldout_still_psnr", video[:1])):
            pixels = _tensor(frames[None], vae.device)
            latents = vae.encode(pixels, return_dict=False)[0].mode()
            latents_seen.append(latents.transpose(0, 1).flatten(1))
            error = (decoded(vae, latents).clamp(-1, 1) - pixels) / 2
            errors[name].append(error.square().mean().item())
    seen = torch.cat(latents_seen, dim=1)
    return {name: float(-10 * np.log10(np.mean(values))) for name, values in errors.items()}, seen.mean(dim=1), seen.std(dim=1)


def decoded(vae: AutoencoderKLCogVideoX, latents: torch.Tensor) -> torch.Tensor:
    """(B, 3, F, H, W), about -1..1, of raw latents (B, 16, L, h, w)."""
    (pictures,) = vae.decode(latents, return_dict=False)
    return pictures


def _step(vae: AutoencoderKLCogVideoX, videos: np.ndarray, config: VAEConfig, step: int, device: torch.device) -> dict[str, torch.Tensor]:
    """The loss terms of one step's batch."""
    rng = np.random.default_rng((config.seed, step))
    kinds = config.early if step < config.steps // 2 else config.late
    side, frames, count = kinds[step % len(kinds)]
    clips = []
    for index in rng.integers(len(videos), size=count):
        top, left = rng.integers(config.size - side + 1, size=2)
        start = rng.integers(config.frames - frames + 1)
        clip = videos[index, start : start + frames, top : top + side, left : left + side]
        clips.append(_varied(clip.astype(np.float32) / 255, rng))
    pixels = torch.as_tensor(np.stack(clips), device=device).permute(0, 4, 1, 2, 3) * 2 - 1
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    with torch.autocast(device.type, torch.bfloat16, enabled=config.bfloat16):
        posterior = vae.encode(pixels, return_dict=False)[0]
        noise = torch.randn(posterior.mean.shape, generator=generator).to(device)
        pictures = decoded(vae, (posterior.mean + posterior.std * noise).float())
    error, mean, log_variance = pictures.float() - pixels, posterior.mean.float(), posterior.logvar.float()
    return {
        "pixels": error.abs().mean(),
        "edges": error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean(),
        "kl": 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(),
    }


def _varied(clip: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A clip (F, H, W, 3) in 0..1, mirrored half of the time, and half of the time in other colours: photos have more than the heads do."""
    if rng.random() < 0.5:
        clip = clip[:, :, ::-1]
    if rng.random() < 0.5:
        mix = np.eye(3) + rng.normal(scale=0.15, size=(3, 3))
        mix /= mix.sum(axis=1, keepdims=True)  # white stays white
        clip = np.clip(clip @ mix.astype(np.float32), 0, 1) ** np.float32(rng.uniform(0.7, 1.4))
    return np.ascontiguousarray(clip, dtype=np.float32)


def _tensor(videos: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """(N, F, H, W, 3) uint8 to (N, 3, F, H, W) in -1..1."""
    return torch.as_tensor(videos, device=device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def studio_videos(
    split: str, people: int, config: VAEConfig, head_model: HeadModel, progress: Progress = silent, *, device: str = "cpu"
) -> np.ndarray:
    """Two videos (F, S, S, 3) uint8 from around each of the studio's first `people` of a split: (2 people, F, S, S, 3)."""
    form = {"views": 2, "frames": config.frames, "size": config.size, "preset": 360, "split": split}
    settings = StudioSettings(outcrops=0.0, device=device)

    def videos(seed: int) -> np.ndarray:
        return render_clip(seed, head_model=head_model, settings=settings, **form).frames

    with ThreadPoolExecutor(os.cpu_count() if device == "cpu" else 1) as pool:
        return np.concatenate(list(steps(pool.map(videos, range(people)), "render people", people, progress)))
