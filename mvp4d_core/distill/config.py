# SPDX-License-Identifier: Apache-2.0
"""What decides a fit. Learning rates act on triangle-space parameters; one step sees `views_per_step` pictures of one frame."""

from dataclasses import dataclass, replace

from ..errors import InputError


@dataclass(frozen=True)
class DistillConfig:
    """Settings of `distill_avatar`; the presets are this project's own, meant for two CPU cores.

    Attributes:
        splats: number of Gaussians, at least one a triangle.
        steps: optimiser steps.
        views_per_step: pictures a step, all of one frame.
        sh_degree: 0 to 3.
        heldout: part of the V x F pictures kept out of the fit, as whole views and whole frames.
        reference_every: every so many steps the photo itself is the target; 0 never.
        l1, ssim, alpha: weights of the picture terms.
        position, position_limit: weight of, and distance in triangle units beyond which, means are pulled back.
        scale, scale_limit: the same for scales in triangle units.
        opacity: weight of the term that makes opacities decide between 0 and 1.
        means_lr, means_lr_final: exponentially interpolated.
    """

    splats: int = 40000
    steps: int = 1500
    views_per_step: int = 2
    sh_degree: int = 1
    heldout: float = 0.1
    reference_every: int = 6
    l1: float = 0.8
    ssim: float = 0.2
    alpha: float = 0.2
    position: float = 0.01
    position_limit: float = 1.0
    scale: float = 0.1
    scale_limit: float = 0.6
    opacity: float = 0.001
    means_lr: float = 5e-3
    means_lr_final: float = 5e-4
    log_scales_lr: float = 1e-2
    quats_lr: float = 2e-3
    opacity_logits_lr: float = 2.5e-2
    sh0_lr: float = 5e-3
    shN_lr: float = 5e-4
    checkpoint_every: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {"splats": (1, 10**7), "steps": (1, 10**7), "views_per_step": (1, 64), "sh_degree": (0, 3), "heldout": (0, 0.5)}
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"`{name}` of a fit must be {low} to {high}, got {getattr(self, name)}.")

    @staticmethod
    def preset(quality: str) -> "DistillConfig":
        """`draft`, `standard` or `high`."""
        presets = {
            "draft": DistillConfig(),
            "standard": replace(DistillConfig(), steps=5000, sh_degree=2),
            "high": replace(DistillConfig(), splats=80000, steps=15000, sh_degree=3),
        }
        if quality not in presets:
            raise InputError(f"`quality` must be one of {', '.join(presets)}, got `{quality}`.")
        return presets[quality]
