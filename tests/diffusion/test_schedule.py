# SPDX-License-Identifier: Apache-2.0
"""Noise levels and solvers against float64 formulas, exact solutions and diffusers' own schedulers."""

import itertools
import math

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.diffusion.schedule import (
    add_noise,
    alphas_cumprod,
    base_scheduler,
    draw_noise,
    make_scheduler,
    signal_power,
    snr_shift,
    velocity,
)
from mvp4d_core.errors import FormatError, InputError
from tests.support.asserts import assert_arrays_close


def table(shift: float) -> np.ndarray:
    """The published formulas in numpy: scaled-linear betas, SNR / shift, zero terminal SNR."""
    alphas = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    snr = alphas / (1 - alphas) / shift
    root = np.sqrt(snr / (1 + snr))
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def solve(solver: str, steps: int, predict, noise: torch.Tensor, shift: float = 3.0) -> torch.Tensor:
    scheduler = make_scheduler(solver, shift)
    scheduler.set_timesteps(steps)
    sample = noise
    for timestep in scheduler.timesteps:
        sample = scheduler.step(predict(sample.double(), float(table(shift)[timestep])), timestep, sample).prev_sample
    return sample


def gaussian(mean: float, deviation: float):
    """The exact v of data N(mean, deviation^2)."""

    def predict(sample: torch.Tensor, power: float) -> torch.Tensor:
        signal, spread = math.sqrt(power), math.sqrt(1 - power)
        total = power * deviation**2 + spread**2
        clean = mean + signal * deviation**2 / total * (sample - signal * mean)
        noise = spread / total * (sample - signal * mean)
        return signal * noise - spread * clean

    return predict


@pytest.mark.parametrize("shift", [1.0, 3.0, 8.5])
def test_table_is_the_published_one_and_ends_without_signal(shift):
    powers = alphas_cumprod(shift)
    assert_arrays_close(powers, table(shift), atol=1e-12)
    assert powers.dtype == torch.float64 and powers[-1] == 0 and (powers.diff() < 0).all()
    shifted = alphas_cumprod(shift)[:-1] / (1 - alphas_cumprod(shift)[:-1])
    assert (shifted <= alphas_cumprod(1.0)[:-1] / (1 - alphas_cumprod(1.0)[:-1]) + 1e-9).all()


def test_shift_convention():
    assert snr_shift(3.0, 13) == 3.0
    assert snr_shift(3.0, 52) == pytest.approx(6.0)
    assert snr_shift(1.0, 1) == pytest.approx(13**-0.5)
    with pytest.raises(InputError, match="at least one latent frame"):
        snr_shift(3.0, 0)


def test_training_takes_its_noise_from_the_solvers_table():
    timesteps, counts = torch.tensor([0, 500, 999]), torch.tensor([13, 104, 26])
    powers = signal_power(timesteps, counts)
    assert_arrays_close(powers, [table(3 * math.sqrt(n / 13))[t] for t, n in zip(timesteps, counts, strict=True)], atol=1e-12)
    assert powers[2] == 0


def test_velocity_convention():
    generator = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(3, 2, 5, generator=generator).double(), torch.randn(3, 2, 5, generator=generator).double()
    power = alphas_cumprod(3.0)[[0, 400, 999]]
    noisy, v = add_noise(clean, noise, power), velocity(clean, noise, power)
    reference = base_scheduler()
    reference.alphas_cumprod = reference.alphas_cumprod.double()
    steps = torch.tensor([0, 400, 999])
    assert_arrays_close(noisy, reference.add_noise(clean, noise, steps), atol=1e-12)
    assert_arrays_close(v, reference.get_velocity(clean, noise, steps), atol=1e-12)
    signal, spread = power.sqrt()[:, None, None], (1 - power).sqrt()[:, None, None]
    assert_arrays_close(signal * noisy - spread * v, clean, atol=1e-12, name="x0")
    assert torch.equal(noisy[2], noise[2]) and torch.equal(v[2], -clean[2])
    assert add_noise(clean.float(), noise.float(), power).dtype == torch.float32


@given(steps=st.integers(1, 1000))
@settings(max_examples=60)
def test_steps_are_trailing_and_distinct(steps):
    scheduler = make_scheduler("ddim", 3.0)
    scheduler.set_timesteps(steps)
    visited = scheduler.timesteps.tolist()
    assert len(visited) == steps and visited[0] == 999 and visited[-1] >= 0
    assert all(a > b for a, b in itertools.pairwise(visited))
    if 1000 % steps == 0:
        reference = base_scheduler()
        reference.set_timesteps(steps)
        assert visited == reference.timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 4, 20, 50])
def test_ddim_is_diffusers_where_that_is_exact(steps):
    noise, predict = draw_noise((64,), 0), gaussian(0.3, 0.7)
    reference = base_scheduler()
    reference.set_timesteps(steps)
    expected = noise.double()
    for timestep in reference.timesteps:
        expected = reference.step(predict(expected, float(table(3.0)[timestep])), timestep, expected).prev_sample
    assert_arrays_close(solve("ddim", steps, predict, noise), expected, atol=2e-6)


def test_second_order_is_diffusers_multistep_rule():
    """CogVideoX's DPM scheduler is the stochastic twin: with its noise at 0 and its mean known, the extrapolated clean latents agree."""
    steps = 10
    reference = CogVideoXDPMScheduler.from_config(base_scheduler().config)
    reference.set_timesteps(steps)
    scheduler = make_scheduler("dpm", 3.0)
    scheduler.set_timesteps(steps)
    for index in range(2, steps - 1):
        now, before = reference.timesteps[index], reference.timesteps[index - 1]
        powers = reference.alphas_cumprod[now], reference.alphas_cumprod[now - 100], reference.alphas_cumprod[before]
        h, r, _, _ = reference.get_variables(*powers)
        assert scheduler._second_order_blend(index) == pytest.approx(float(reference.get_mult(h, r, *powers)[3]), rel=1e-9)


@pytest.mark.parametrize("solver", ["ddim", "dpm"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("shift", [3.0, 12.0])
def test_a_single_point_is_found_in_any_number_of_steps(solver, steps, shift):
    result = solve(solver, steps, gaussian(1.7, 0.0), draw_noise((64,), 1), shift)
    assert_arrays_close(result, np.full(64, 1.7), atol=2e-6)


def test_first_and_last_steps_are_exact_without_signal_or_noise():
    noise = draw_noise((8,), 2)
    scheduler = make_scheduler("dpm", 3.0)
    scheduler.set_timesteps(4)
    step = scheduler.step(torch.full((8,), -0.5), 999, noise)
    assert torch.equal(step.pred_original_sample, torch.full((8,), 0.5))
    power = table(3.0)[749]
    assert_arrays_close(step.prev_sample, math.sqrt(power) * 0.5 + math.sqrt(1 - power) * noise.double(), atol=1e-6)


def test_solvers_converge_on_the_exact_solution_and_the_second_order_does_so_faster():
    """A Gaussian's probability flow keeps (x - mean) / deviation; from pure noise that is the noise itself."""
    noise = draw_noise((256,), 3)
    for mean, deviation in ((0.0, 1.0), (0.4, 0.5)):
        exact = mean + deviation * noise.double()
        worst = {
            solver: [float((solve(solver, steps, gaussian(mean, deviation), noise) - exact).abs().max()) for steps in (25, 50, 100, 200)]
            for solver in ("ddim", "dpm")
        }
        for errors, fall in ((worst["ddim"], 0.65), (worst["dpm"], 0.55)):
            assert all(finer < fall * coarser for coarser, finer in itertools.pairwise(errors))
        assert all(second < first for first, second in zip(worst["ddim"], worst["dpm"], strict=True))
        assert worst["dpm"][-1] < 0.6 * worst["ddim"][-1]


def test_a_step_count_that_does_not_divide_1000_ends_clean():
    """diffusers' own DDIM steps by 1000 // n and stops one timestep short of clean at 7 steps; ours does not."""
    noise = draw_noise((64,), 4)
    reference = base_scheduler()
    reference.set_timesteps(7)
    sample = noise.double()
    for timestep in reference.timesteps:
        sample = reference.step(gaussian(1.0, 0.0)(sample, float(table(3.0)[timestep])), timestep, sample).prev_sample
    assert float((sample - 1).abs().max()) > 1e-3
    assert_arrays_close(solve("ddim", 7, gaussian(1.0, 0.0), noise), np.ones(64), atol=2e-6)


def test_noise_depends_on_the_seed_alone():
    assert torch.equal(draw_noise((2, 3), 5), draw_noise((2, 3), torch.Generator().manual_seed(5)))
    assert not torch.equal(draw_noise((2, 3), 5), draw_noise((2, 3), 6))
    assert draw_noise((2, 3), 5).dtype == torch.float32 and draw_noise((2, 3), 5).device.type == "cpu"


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(InputError, match="from 1 to 1000"):
        make_scheduler("dpm", 3.0).set_timesteps(steps)


def test_schedulers_of_other_models_and_unknown_solvers_are_refused():
    with pytest.raises(InputError, match="ddim, dpm"):
        make_scheduler("euler", 3.0)
    with pytest.raises(FormatError, match="prediction_type = 'epsilon'"):
        make_scheduler("ddim", 3.0, DDIMScheduler())
    with pytest.raises(FormatError, match="rescale_betas_zero_snr"):
        make_scheduler("ddim", 3.0, CogVideoXDDIMScheduler(prediction_type="v_prediction"))
    assert_arrays_close(make_scheduler("ddim", 6.0, base_scheduler(3.0))._powers, alphas_cumprod(6.0))
