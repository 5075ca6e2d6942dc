# SPDX-License-Identifier: Apache-2.0
"""PSNR, SSIM and MS-SSIM against scikit-image and pytorch-msssim."""

import math

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as msssim_ms_ssim
from pytorch_msssim import ssim as msssim_ssim
from skimage import data, metrics

from mvp4d_core.errors import InputError
from mvp4d_core.evaluation.agreement import foreground_psnr
from mvp4d_core.evaluation.metrics import ms_ssim, psnr, ssim, ssim_map


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.as_tensor(data.astronaut()[::4, ::4] / 255.0)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=image.dtype)
    return (image + 0.1 * noise).clamp(0, 1), image


def test_psnr_is_scikit_images():
    noisy, image = pair()
    assert float(psnr(noisy, image)) == pytest.approx(metrics.peak_signal_noise_ratio(image.numpy(), noisy.numpy(), data_range=1), abs=1e-9)
    assert math.isinf(psnr(image, image))


def test_psnr_in_a_mask_sees_the_mask_alone():
    noisy, image = pair()
    mask = torch.zeros(image.shape[:2], dtype=torch.bool)
    mask[10:50, 20:60] = True
    expected = metrics.peak_signal_noise_ratio(image.numpy()[10:50, 20:60], noisy.numpy()[10:50, 20:60], data_range=1)
    assert float(psnr(noisy, image, mask)) == pytest.approx(expected, abs=1e-9)
    assert foreground_psnr(noisy.numpy(), image.numpy(), mask.numpy() * 1.0) == pytest.approx(expected, abs=1e-4)


def test_ssim_is_two_other_libraries():
    noisy, image = pair()
    ours = float(ssim(noisy, image))
    theirs = msssim_ssim(noisy.permute(2, 0, 1)[None], image.permute(2, 0, 1)[None], data_range=1.0)
    assert ours == pytest.approx(float(theirs), abs=1e-5)  # it builds its window in float32
    full = metrics.structural_similarity(
        noisy.numpy(),
        image.numpy(),
        channel_axis=-1,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )[1]
    assert ours == pytest.approx(float(full[5:-5, 5:-5].mean()), abs=1e-7)


def test_ssim_gradient():
    a = torch.rand(1, 13, 12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    b = torch.rand(1, 13, 12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(lambda x: ssim_map(x, b).mean(), a)


def test_ssim_of_equal_pictures_is_one():
    image = torch.as_tensor(np.random.default_rng(0).random((2, 16, 16, 3)))
    assert float(ssim(image, image)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.4])
def test_ms_ssim_is_another_librarys(noise):
    image = torch.as_tensor(data.astronaut()[:176, 100:308] / 255.0)  # sides that halve evenly
    made = torch.stack([image, (image + noise * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)])
    target = torch.stack([image, image])
    theirs = msssim_ms_ssim(made.movedim(-1, 1), target.movedim(-1, 1), data_range=1.0, size_average=False)
    np.testing.assert_allclose(ms_ssim(made, target), theirs, atol=1e-5)


def test_ms_ssim_takes_odd_sides_and_refuses_small_ones():
    image = torch.as_tensor(data.astronaut()[None, :161, :177] / 255.0)
    assert float(ms_ssim(image, image)[0]) == pytest.approx(1.0, abs=1e-12)
    assert 0 <= float(ms_ssim(1 - image, image)[0]) < 0.3
    with pytest.raises(InputError, match="161 px"):
        ms_ssim(image[:, :160], image[:, :160])
