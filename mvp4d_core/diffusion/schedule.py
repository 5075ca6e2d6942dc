# SPDX-License-Identifier: Apache-2.0
"""Noise levels and solvers: v-prediction with zero terminal SNR, two SNR shifts, trailing steps.

With abar the signal power of a timestep, x = sqrt(abar) x0 + sqrt(1 - abar) noise and v = sqrt(abar) noise - sqrt(1 - abar) x0, so that
x0 = sqrt(abar) x - sqrt(1 - abar) v holds at every timestep, the last one (abar = 0, pure noise) included. The table is that of
CogVideoX-2B: scaled-linear betas 0.00085..0.012 over 1000 timesteps, SNR / shift, then the terminal SNR set to zero (Lin et al. 2023,
algorithm 1). Its own shift is 3; on top comes sqrt(n / 13) for n latent frames to generate, CAP4D's rule. That 13 (one CogVideoX clip) is
where the rule starts to count is our choice.
"""

import math
from functools import lru_cache
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from torch import Tensor

from ..errors import FormatError, InputError

Solver = Literal["ddim", "dpm"]

BASE_SHIFT = 3.0
CLIP_LATENTS = 13  # latent frames of one CogVideoX clip, which BASE_SHIFT was chosen for
TIMESTEPS = 1000
_ORDERS: dict[str, int] = {"ddim": 1, "dpm": 2}


def base_scheduler(snr_shift_scale: float = BASE_SHIFT) -> CogVideoXDDIMScheduler:
    """The scheduler a pipeline folder holds: CogVideoX-2B's configuration, with the shift for a single clip."""
    return CogVideoXDDIMScheduler(
        num_train_timesteps=TIMESTEPS, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=True, prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True,
        snr_shift_scale=snr_shift_scale,
    )  # fmt: skip


def check_scheduler(scheduler: object) -> None:
    """Raises `FormatError` for a scheduler of another kind of model: noise prediction, or a terminal SNR that is not zero."""
    wanted = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "num_train_timesteps": TIMESTEPS}
    config = getattr(scheduler, "config", {})
    for name, value in wanted.items():
        if config.get(name) != value:
            raise FormatError(f"The scheduler has {name} = {config.get(name)!r}, not {value!r}: it belongs to another model than MVP4D.")


def snr_shift(base: float, generated_latents: int) -> float:
    """`base * sqrt(n / 13)`: what the SNR is divided by when n latent frames are generated together, over all views.

    More latents of one scene tell more about each other, so the same noise hides less of it.
    """
    if generated_latents < 1:
        raise InputError(f"There must be at least one latent frame to generate, got {generated_latents}.")
    return base * math.sqrt(generated_latents / CLIP_LATENTS)


@lru_cache(maxsize=256)
def alphas_cumprod(shift: float) -> Tensor:
    """The signal powers (1000,) float64 on the CPU, from nearly 1 at timestep 0 to exactly 0 at 999. Not to be written to."""
    return base_scheduler(shift).alphas_cumprod


def signal_power(timesteps: Tensor, generated_latents: Tensor, base: float = BASE_SHIFT) -> Tensor:
    """The signal power of each sample of a training batch.

    Args:
        timesteps: (B,) integers in 0..999.
        generated_latents: (B,) how many latent frames of each sample are to be generated.
        base: the shift for a single clip (`snr_shift_scale`).

    Returns:
        (B,) float64 on the device of `timesteps`.
    """
    pairs = zip(timesteps.tolist(), generated_latents.tolist(), strict=True)
    powers = [alphas_cumprod(snr_shift(base, count))[timestep] for timestep, count in pairs]
    return torch.stack(powers).to(timesteps.device)


def add_noise(clean: Tensor, noise: Tensor, power: Tensor) -> Tensor:
    """The noisy latents (B, ...) of clean ones at signal powers (B,)."""
    signal, spread = _amplitudes(power, clean)
    return signal * clean + spread * noise


def velocity(clean: Tensor, noise: Tensor, power: Tensor) -> Tensor:
    """What the model learns to predict, (B, ...), at signal powers (B,)."""
    signal, spread = _amplitudes(power, clean)
    return signal * noise - spread * clean


def draw_noise(shape: tuple[int, ...], generator: torch.Generator | int) -> Tensor:
    """Standard normal float32 from a CPU generator (or its seed), so that a seed means the same noise for every device and dtype."""
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    elif generator.device.type != "cpu":
        raise InputError(f"Noise is drawn on the CPU, the generator is on {generator.device}: use torch.Generator().manual_seed(seed).")
    return torch.randn(shape, generator=generator, dtype=torch.float32)


class Step(NamedTuple):
    """Both are shaped as the sample, float32."""

    prev_sample: Tensor  # the sample at the next, less noisy timestep
    pred_original_sample: Tensor  # the clean latents as this step sees them


class VelocitySolver:
    """Solves the probability-flow equation of a v-prediction model, with the manners of a diffusers scheduler.

    Order 1 is DDIM, order 2 DPM-Solver++(2M) (Lu et al. 2022). Both are deterministic and written without log-SNRs, so the first step (no
    signal) and the last (no noise) are exact; they take first-order steps there. Steps follow the visited timesteps themselves, so any
    number of steps ends at clean latents, which diffusers' CogVideoX schedulers do for divisors of 1000 alone.
    """

    def __init__(self, powers: Tensor, order: int) -> None:
        """`powers` (1000,) as `alphas_cumprod` gives; `order` 1 or 2."""
        self._powers = powers
        self._order = order
        self.timesteps = torch.empty(0, dtype=torch.int64)

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Trailing timesteps, 999 first, and a fresh history.

        Raises:
            InputError: not a number of steps in 1..1000.
        """
        if not isinstance(num_inference_steps, int) or not 1 <= num_inference_steps <= len(self._powers):
            raise InputError(f"num_inference_steps must be a whole number from 1 to {len(self._powers)}, got {num_inference_steps}.")
        spaced = len(self._powers) * (1 - np.arange(num_inference_steps) / num_inference_steps)
        visited = np.round(spaced).astype(np.int64) - 1
        self.timesteps = torch.from_numpy(visited).to(device)
        powers = [*self._powers[torch.from_numpy(visited)].tolist(), 1.0]
        self._signal = [math.sqrt(power) for power in powers]
        self._spread = [math.sqrt(1 - power) for power in powers]
        self._index_of = {int(timestep): index for index, timestep in enumerate(visited)}
        self._previous: Tensor | None = None

    def step(self, model_output: Tensor, timestep: Tensor | int, sample: Tensor) -> Step:
        """From the sample at `timestep` and the predicted v there to the next timestep; call it once for each of `timesteps`, in order."""
        index = self._index_of[int(timestep)]
        signal, spread = self._signal[index], self._spread[index]
        sample = sample.float()
        clean = signal * sample - spread * model_output.float()
        kept = self._spread[index + 1] / spread
        blend = self._second_order_blend(index)
        target = clean if blend == 0 or self._previous is None else clean + blend * (clean - self._previous)
        self._previous = clean
        return Step(kept * sample + (self._signal[index + 1] - kept * signal) * target, clean)

    def _second_order_blend(self, index: int) -> float:
        """h / (2 h_previous) in half log-SNR: how far the clean latents are extrapolated; 0 where a neighbour is pure signal or noise."""
        if self._order == 1 or index < 2 or index + 2 == len(self._signal):
            return 0.0
        before, now, after = (math.log(self._signal[i] / self._spread[i]) for i in (index - 1, index, index + 1))
        return (after - now) / (2 * (now - before))


def make_scheduler(solver: Solver, shift: float, base: CogVideoXDDIMScheduler | None = None) -> VelocitySolver:
    """A solver on the table of `base` (CogVideoX-2B's when not given) with the total SNR shift, e.g. `snr_shift(3.0, views * latents)`.

    Raises:
        InputError: an unknown solver.
        FormatError: `base` is not a v-prediction scheduler with zero terminal SNR.
    """
    if solver not in _ORDERS:
        raise InputError(f"solver must be one of {', '.join(_ORDERS)}, got {solver!r}.")
    if base is None:
        return VelocitySolver(alphas_cumprod(shift), _ORDERS[solver])
    check_scheduler(base)
    shifted = cast(CogVideoXDDIMScheduler, CogVideoXDDIMScheduler.from_config(base.config, snr_shift_scale=shift))
    return VelocitySolver(shifted.alphas_cumprod, _ORDERS[solver])


def _amplitudes(power: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(power) and sqrt(1 - power), broadcast over the trailing dimensions of `like` and in its dtype."""
    power = power.to(like.device).reshape(-1, *[1] * (like.ndim - 1))
    return power.sqrt().to(like.dtype), (1 - power).sqrt().to(like.dtype)
