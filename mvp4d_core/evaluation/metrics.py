# SPDX-License-Identifier: Apache-2.0
"""Image metrics on torch tensors: PSNR, and SSIM after Wang et al., "Image quality assessment" (2004).

Images are (..., H, W, C) in 0..1. SSIM uses the paper's window (11 x 11 Gaussian, sigma 1.5) and constants (K1 = 0.01, K2 = 0.03), windows
wholly inside the picture, population covariance.
"""

import torch
from torch.nn import functional

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def psnr(image: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB over the pixels where `mask` (..., H, W) is true, all of them by default; infinite when equal."""
    squared = (image - target).square()
    mean = squared.mean() if mask is None else squared[mask].mean()
    return -10 * torch.log10(mean)


def ssim_map(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """SSIM at every window of images (B, H, W, C): (B, C, H - 10, W - 10). Differentiable in `image`."""
    a, b = image.movedim(-1, 1), target.movedim(-1, 1)
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
    return luminance * (2 * covariance + C2) / (variance_a + variance_b + C2)


def ssim(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean SSIM of images (B, H, W, C) or (H, W, C)."""
    if image.ndim == 3:
        image, target = image[None], target[None]
    return ssim_map(image, target).mean()
