# SPDX-License-Identifier: Apache-2.0
"""The terms of the fit: L1 and SSIM on the picture, L1 on alpha, hinges on position and scale, and a push of opacities away from 1/2.

The position and scale hinges are GaussianAvatars' (Qian et al. 2024, equations 7 and 8) as means over the Gaussians; the weights are ours.
"""

import torch

from ..evaluation.metrics import ssim_map
from .config import DistillConfig


def picture_terms(
    images: torch.Tensor, alphas: torch.Tensor, target: torch.Tensor, target_alphas: torch.Tensor, config: DistillConfig
) -> dict[str, torch.Tensor]:
    """Weighted terms of rendered (C, H, W, 3) and (C, H, W, 1) against their targets."""
    return {
        "l1": config.l1 * (images - target).abs().mean(),
        "ssim": config.ssim * (1 - ssim_map(images, target).mean()),
        "alpha": config.alpha * (alphas - target_alphas).abs().mean(),
    }


def regularisers(means: torch.Tensor, scales: torch.Tensor, opacities: torch.Tensor, config: DistillConfig) -> dict[str, torch.Tensor]:
    """Weighted terms on local means (N, 3), local scales (N, 3), both in triangle units, and opacities (N,)."""
    return {
        "position": config.position * (means.norm(dim=-1) - config.position_limit).clamp(min=0).mean(),
        "scale": config.scale * (scales - config.scale_limit).clamp(min=0).mean(),
        "opacity": config.opacity * (opacities * (1 - opacities)).mean(),
    }
