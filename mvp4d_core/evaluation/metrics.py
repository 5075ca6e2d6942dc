# SPDX-License-Identifier: Apache-2.0
"""Image metrics on torch tensors: PSNR; SSIM after Wang et al., "Image quality assessment" (2004); MS-SSIM after Wang et al., "Multi-scale
structural similarity" (2003).

Images are (..., H, W, C) in 0..1. SSIM uses the paper's window (11 x 11 Gaussian, sigma 1.5) and constants (K1 = 0.01, K2 = 0.03), windows
wholly inside the picture, population covariance.
"""

import torch
from torch.nn import functional

from ..errors import InputError

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM, from the finest scale to the coarsest
MS_SSIM_LEAST_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1) + 1  # pixels: below it no window fits the coarsest scale


def psnr(image: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB over the pixels where `mask` (..., H, W) is true, all of them by default; infinite when equal."""
    squared = (image - target).square()
    mean = squared.mean() if mask is None else squared[mask].mean()
    return -10 * torch.log10(mean)


def ssim_map(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """SSIM at every window of images (B, H, W, C): (B, C, H - 10, W - 10). Differentiable in `image`."""
    luminance, structure = _ssim_terms(image.movedim(-1, 1), target.movedim(-1, 1))
    return luminance * structure


def ssim(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean SSIM of images (B, H, W, C) or (H, W, C)."""
    if image.ndim == 3:
        image, target = image[None], target[None]
    return ssim_map(image, target).mean()


def ms_ssim(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """MS-SSIM of each of B images (B, H, W, C): (B,), by channel and then averaged.

    Each scale halves the last one by means of 2 x 2 pixels. Means below zero count as zero, because a power of them has no value.

    Raises:
        InputError: a side under `MS_SSIM_LEAST_SIDE` pixels, where the five scales of the definition don't exist.
    """
    if min(image.shape[1:3]) < MS_SSIM_LEAST_SIDE:
        raise InputError(f"MS-SSIM wants pictures of at least {MS_SSIM_LEAST_SIDE} px a side, got {image.shape[2]} x {image.shape[1]} px.")
    a, b = image.movedim(-1, 1), target.movedim(-1, 1)
    product = torch.ones(a.shape[:2], dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        luminance, structure = _ssim_terms(a, b)
        similar = luminance * structure if scale == len(SCALE_WEIGHTS) - 1 else structure
        product = product * similar.mean(dim=(2, 3)).clamp(min=0) ** weight
        a, b = (functional.avg_pool2d(x, 2, ceil_mode=True) for x in (a, b))
    return product.mean(dim=1)


def _ssim_terms(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The luminance term, and the contrast and structure terms' product, of images (B, C, H, W): (B, C, H - 10, W - 10) each."""
    channels = a.shape[1]
    offsets = torch.arange(WINDOW, dtype=a.dtype, device=a.device) - WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    window = window / window.sum()
    stacked = torch.cat([a, b, a * a, b * b, a * b], dim=1)
    kernel = window.expand(5 * channels, 1, WINDOW)
    blurred = functional.conv2d(stacked, kernel[:, :, :, None], groups=5 * channels)
    blurred = functional.conv2d(blurred, kernel[:, :, None, :], groups=5 * channels)
    mean_a, mean_b, square_a, square_b, product = blurred.split(channels, dim=1)
    variance_a, variance_b, covariance = square_a - mean_a**2, square_b - mean_b**2, product - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return luminance, (2 * covariance + C2) / (variance_a + variance_b + C2)
