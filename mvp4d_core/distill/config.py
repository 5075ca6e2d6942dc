# SPDX-License-Identifier: Apache-2.0
"""What decides a fit. Learning rates act on triangle-space parameters; one step sees `views_per_step` pictures of one frame."""

from dataclasses import dataclass, replace

from ..errors import InputError

DEFORMATIONS = ("none", "linear", "unet")


@dataclass(frozen=True)
class DistillConfig:
    """Settings of `distill_avatar`; the presets are this project's own.

    Attributes:
        splats: the most Gaussians there may be, at least one a triangle.
        initial: the share of them that the fit begins with; densification adds the others.
        steps: optimiser steps.
        views_per_step: pictures a step, all of one frame; in coarse steps as many times more as the pictures are smaller.
        coarse: (until which share of the steps, how many times smaller pictures are), in order; after them they have their own size.
        sh_degree: 0 to 3.
        remesh: texels a side of the UV mesh that Gaussians ride on (see `uv_remesh`); 0 keeps the head's own.
        deformation: `none`, `linear` or `unet` (see `deformation.py`); the last ends as `linear` after `unet_until` of the steps.
        unet_channels: of the U-Net's first level.
        densify_every, densify_from, densify_until: steps between densifications, and their first and last share of the steps.
        growth: the share of Gaussians that may become two at once; they are split from `split_size` triangle units on, else cloned.
        heldout: part of the V x F pictures kept out of the fit, as whole views and whole frames.
        reference_every: every so many steps the photo itself is the target; 0 never.
        l1, ssim, alpha: weights of the picture terms.
        lpips, lpips_from, lpips_full: weight of LPIPS where the fit is given a network; it grows from 0 to that between these shares of the
            steps, and counts for pictures of full size.
        position, position_limit: weight of, and distance in triangle units beyond which, means are pulled back.
        scale, scale_limit: the same for scales in triangle units.
        opacity: weight of the term that makes opacities decide between 0 and 1.
        roughness, corrections: weights of the deformation's differences along edges and of its size, both squared and in `UNIT`s.
        neck, appearance: weights of the squared neck rotations (radians) and colour codes that a frame may have of its own, to take up what
            a generator didn't keep still; they are not part of the avatar. 0 leaves them out.
        means_lr, means_lr_final: exponentially interpolated. Those of the deformation, the neck and the appearance fall alike.
    """

    splats: int = 40000
    initial: float = 1.0
    steps: int = 1500
    views_per_step: int = 2
    coarse: tuple[tuple[float, int], ...] = ()
    sh_degree: int = 1
    remesh: int = 0
    deformation: str = "none"
    unet_channels: int = 64
    unet_until: float = 0.8
    densify_every: int = 0
    densify_from: float = 0.1
    densify_until: float = 0.6
    growth: float = 0.1
    split_size: float = 0.25
    heldout: float = 0.1
    reference_every: int = 6
    l1: float = 0.8
    ssim: float = 0.2
    alpha: float = 0.2
    lpips: float = 0.1
    lpips_from: float = 0.1
    lpips_full: float = 0.6
    position: float = 0.01
    position_limit: float = 1.0
    scale: float = 0.1
    scale_limit: float = 0.6
    opacity: float = 0.001
    roughness: float = 0.05
    corrections: float = 1e-3
    neck: float = 0.0
    appearance: float = 0.0
    means_lr: float = 5e-3
    means_lr_final: float = 5e-4
    log_scales_lr: float = 1e-2
    quats_lr: float = 2e-3
    opacity_logits_lr: float = 2.5e-2
    sh0_lr: float = 5e-3
    shN_lr: float = 5e-4
    deformation_lr: float = 2e-2
    unet_lr: float = 1e-4
    neck_lr: float = 1e-4
    appearance_lr: float = 1e-3
    checkpoint_every: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "splats": (1, 10**7), "steps": (1, 10**7), "views_per_step": (1, 64), "sh_degree": (0, 3), "heldout": (0, 0.5),
            "initial": (0.05, 1), "remesh": (0, 1024), "unet_channels": (1, 256), "unet_until": (0, 1), "densify_every": (0, 10**6),
            "densify_from": (0, 1), "densify_until": (0, 1), "growth": (0, 1), "lpips": (0, 100),
            "lpips_from": (0, 1), "lpips_full": (0, 1),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise InputError(f"`{name}` of a fit must be {low} to {high}, got {getattr(self, name)}.")
        if self.deformation not in DEFORMATIONS:
            raise InputError(f"`deformation` of a fit must be one of {', '.join(DEFORMATIONS)}, got `{self.deformation}`.")
        ends = [share for share, _ in self.coarse]
        if ends != sorted(ends) or not all(0 <= share <= 1 and factor in (1, 2, 4, 8) for share, factor in self.coarse):
            raise InputError(f"`coarse` of a fit must have rising shares of the steps and factors of 1, 2, 4 or 8, got {self.coarse}.")

    def factor_at(self, step: int) -> int:
        """How many times smaller than their own size the pictures of a step are."""
        return next((factor for share, factor in self.coarse if step < share * self.steps), 1)

    def lpips_at(self, step: int) -> float:
        """The weight of LPIPS at a step."""
        part, low, high = step / self.steps, self.lpips_from, self.lpips_full
        grown = float(part >= high) if high <= low else min(1.0, max(0.0, (part - low) / (high - low)))
        return self.lpips * grown if self.factor_at(step) == 1 else 0.0

    def densifies_after(self, step: int) -> bool:
        """Whether Gaussians are added and taken away after a step."""
        part = (step + 1) / self.steps
        return self.densify_every > 0 and (step + 1) % self.densify_every == 0 and self.densify_from <= part <= self.densify_until

    @staticmethod
    def preset(quality: str) -> "DistillConfig":
        """`draft`, `standard` or `high`; the first two are meant for two CPU cores, the last for a GPU."""
        begin = replace(
            DistillConfig(), initial=0.6, densify_every=100, coarse=((0.05, 4), (0.15, 2)), deformation="linear", checkpoint_every=150
        )
        presets = {
            "draft": begin,
            "standard": replace(begin, steps=4000, sh_degree=2, densify_every=200),
            "high": replace(begin, splats=100000, steps=15000, views_per_step=4, sh_degree=3, densify_every=500),
        }
        if quality not in presets:
            raise InputError(f"`quality` must be one of {', '.join(presets)}, got `{quality}`.")
        return presets[quality]
