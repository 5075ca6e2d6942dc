# SPDX-License-Identifier: Apache-2.0
"""The loss on held-out clips, of the same samples with the same noise at the same timesteps every time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..diffusion.schedule import TIMESTEPS
from ..errors import InputError
from .curriculum import Curriculum
from .latents import CachedClip
from .objective import sample_losses
from .samples import Sample, collate, draw_sample, usable

SAMPLES = 8  # of each modality, at as many timesteps
_SEED = 1_000_003


class Validation:
    """Fixed batches for every stage of a curriculum; all conditions are present."""

    def __init__(self, clips: Mapping[int, Sequence[CachedClip]], curriculum: Curriculum) -> None:
        """Held-out `clips` by size; InputError when a modality has no usable one."""
        self._curriculum = curriculum
        plain = replace(curriculum, condition_dropout=0.0, group_dropout=0.0, photo_only=1.0, whole_views=0.0, prefix_frames=0.0, both=0.0)
        self._batches: dict[tuple[int, str], list[Sample]] = {}
        for index, stage in enumerate(curriculum.stages):
            for modality in stage.modalities:
                pool = [clip for clip in clips.get(stage.size, ()) if usable(clip, modality)]
                if not pool:
                    raise InputError(f"No held-out clip at {stage.size} px serves `{modality.name}`. Hold out more, or validate never.")
                samples = [
                    draw_sample(pool[number % len(pool)], modality, plain, np.random.default_rng((_SEED, number)))
                    for number in range(SAMPLES)
                ]
                self._batches[index, modality.name] = [collate([sample]) for sample in samples]

    def losses(self, transformer: nn.Module, step: int, device: torch.device) -> dict[str, float]:
        """Mean loss of each modality of the stage that `step` ends in, and `mean` over them."""
        stage, _, _ = self._curriculum.stage_at(min(step, self._curriculum.steps - 1))
        losses: dict[str, list[float]] = {}
        for (index, name), batches in self._batches.items():
            if index != stage:
                continue
            for number, batch in enumerate(batches):
                timestep = torch.tensor([int((number + 0.5) / SAMPLES * TIMESTEPS)])
                generator = torch.Generator().manual_seed(_SEED + number)
                loss = sample_losses(
                    transformer, batch.to(device, torch.float32),
                    snr_shift=self._curriculum.snr_shift, generator=generator, timesteps=timestep,
                )  # fmt: skip
                losses.setdefault(name, []).append(loss.item())
        means = {name: round(float(np.mean(values)), 6) for name, values in losses.items()}
        return {**means, "mean": round(float(np.mean(list(means.values()))), 6)}
