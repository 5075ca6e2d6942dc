# SPDX-License-Identifier: Apache-2.0
"""What a training run shows to the MMVDM, in which order and how often.

The method's authors name a curriculum over monocular videos, static multi-view pictures and a smaller share of multi-view videos; we have
no numbers of theirs. Those here are ours but for CAP4D's: 1e-4, p = 0.1 for joint dropout, and the sqrt(n) rule of the noise.
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError


@dataclass(frozen=True)
class Modality:
    """One kind of sample.

    Attributes:
        name: for the log.
        views, frames: V, and F = 1 + 4k. V = 1 is a monocular video, F = 1 static multi-view.
        share: how often it is drawn, relative to the stage's other modalities.
        batch: samples a process a step.
    """

    name: str
    views: int
    frames: int
    share: float
    batch: int

    def __post_init__(self) -> None:
        if self.views < 1 or self.frames < 1 or self.frames % 4 != 1 or not self.share > 0 or self.batch < 1:
            raise InputError(
                f"The modality `{self.name}` must have views, batch and share above 0 and 1 + 4k frames; "
                f"got {self.views} x {self.frames}, batch {self.batch}, share {self.share}."
            )

    @property
    def latent_frames(self) -> int:
        """L = 1 + k."""
        return 1 + (self.frames - 1) // 4

    @property
    def clip_views(self) -> int:
        """Views that a clip must have: stills of several need another one to be the photo."""
        return self.views + (self.frames == 1 and self.views > 1)


@dataclass(frozen=True)
class Stage:
    """`steps` optimiser steps on frames of `size` px; the rate falls as a cosine from `learning_rate` to `final_learning_rate`."""

    steps: int
    size: int
    learning_rate: float
    final_learning_rate: float
    modalities: tuple[Modality, ...]

    def __post_init__(self) -> None:
        if self.steps < 1 or self.size < 16 or self.size % 16 or not self.modalities:
            raise InputError(f"A stage must have steps, modalities and a size that 16 divides, got {self.steps} steps at {self.size} px.")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise InputError(f"A stage's learning rate must not rise, got {self.learning_rate} to {self.final_learning_rate}.")


@dataclass(frozen=True)
class Curriculum:
    """A whole run.

    Attributes:
        stages: in order.
        photo_only, whole_views, prefix_frames, both: how often nothing but the photo, also whole views, also the first latent frames of
            every view, or both of these are given clean; relative to one another.
        condition_dropout: how often a sample loses all its conditions together.
        group_dropout: how often a sample loses its expression maps, and independently its ray maps, and its motion maps (ours: an ablation
            that withholds a group then stays within what the model knows).
        own_view: how often the photo's own view is among the targets of a multi-view video.
        snr_shift: SNR' = SNR / s at 13 latent frames to generate; it grows with the square root of their number.
        warmup: steps over which the rate first rises.
        weight_decay, betas, gradient_clip: of AdamW.
        ema_decay: of the averaged weights.
        seed: decides all that is random.
    """

    stages: tuple[Stage, ...]
    photo_only: float = 0.5
    whole_views: float = 0.25
    prefix_frames: float = 0.25
    both: float = 0.0
    condition_dropout: float = 0.1
    group_dropout: float = 0.05
    own_view: float = 0.25
    snr_shift: float = 3.0
    warmup: int = 500
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float = 1.0
    ema_decay: float = 0.9999
    seed: int = 0

    def __post_init__(self) -> None:
        parts = self.patterns
        if not self.stages or min(parts) < 0 or not sum(parts) > 0:
            raise InputError(f"A curriculum must have stages and shares of reference patterns, got {len(self.stages)} stages and {parts}.")
        for name in ("condition_dropout", "group_dropout", "own_view", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` of a curriculum must be in 0..1, got {getattr(self, name)}.")
        if not (self.snr_shift > 0 and self.gradient_clip > 0 and self.warmup >= 0):
            raise InputError("`snr_shift` and `gradient_clip` of a curriculum must be above 0, `warmup` not below.")

    @property
    def patterns(self) -> tuple[float, ...]:
        """The shares of the reference patterns: photo alone, whole views, a prefix, both."""
        return self.photo_only, self.whole_views, self.prefix_frames, self.both

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, Stage, int]:
        """The stage's index, the stage, and the step within it, of a `step` of the run."""
        for index, stage in enumerate(self.stages):
            if step < stage.steps:
                return index, stage, step
            step -= stage.steps
        raise InputError(f"The curriculum has {self.steps} steps, step {self.steps + step} is beyond them.")

    def learning_rate(self, step: int) -> float:
        """At a step of the run: the stage's cosine times the first warm-up."""
        _, stage, within = self.stage_at(step)
        fall = 0.5 * (1 + np.cos(np.pi * within / stage.steps))
        rate = stage.final_learning_rate + (stage.learning_rate - stage.final_learning_rate) * fall
        return float(rate * min(1.0, (step + 1) / max(1, self.warmup)))

    def modality_at(self, step: int) -> Modality:
        """The modality of a step, the same on every process."""
        modalities = self.stage_at(step)[1].modalities
        shares = np.array([m.share for m in modalities])
        rng = np.random.default_rng((self.seed, step, 0x40DA))
        return modalities[int(rng.choice(len(modalities), p=shares / shares.sum()))]

    @property
    def longest(self) -> dict[int, int]:
        """size -> the most frames a sample of that size has."""
        longest: dict[int, int] = {}
        for stage in self.stages:
            longest[stage.size] = max(longest.get(stage.size, 1), *(m.frames for m in stage.modalities))
        return longest

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Curriculum":
        """The curriculum `to_json` described; InputError for anything else."""
        try:
            stages = tuple(Stage(**{**s, "modalities": tuple(Modality(**m) for m in s["modalities"])}) for s in values["stages"])
            rest = {field.name: values[field.name] for field in fields(cls) if field.name in values and field.name != "stages"}
            if "betas" in rest:
                rest["betas"] = tuple(rest["betas"])
            return cls(stages, **rest)
        except (KeyError, TypeError) as error:
            raise InputError(f"The curriculum must have stages with modalities, and known fields; wrong or missing: {error}.") from None


def read_curriculum(path: str | Path) -> Curriculum:
    """From a JSON file, or from a run's config.json; InputError for anything else."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The curriculum {path} can't be read: {error.strerror}.") from None
    except ValueError as error:
        raise InputError(f"The curriculum {path} is not JSON: {error}.") from None
    if not isinstance(values, dict):
        raise InputError(f"The curriculum {path} must be a JSON object.")
    return Curriculum.from_json(values.get("curriculum", values))


def scaled(
    curriculum: Curriculum, *, steps: int | None = None, size: int | None = None, batch: float = 1.0, rate: float = 1.0,
    seed: int | None = None,
) -> Curriculum:  # fmt: skip
    """The curriculum with `steps` in all, frames of one `size`, batches and learning rates times a factor, and another seed; None keeps.

    A run of other `steps` warms up for a fifth of them at most.
    """
    stages = []
    for stage in curriculum.stages:
        share = 1.0 if steps is None else steps / curriculum.steps
        modalities = tuple(replace(m, batch=max(1, round(m.batch * batch))) for m in stage.modalities)
        stages.append(Stage(
            max(1, round(stage.steps * share)), size or stage.size, stage.learning_rate * rate, stage.final_learning_rate * rate, modalities
        ))  # fmt: skip
    warmup = curriculum.warmup if steps is None else min(curriculum.warmup, sum(s.steps for s in stages) // 5)
    return replace(curriculum, stages=tuple(stages), warmup=warmup, seed=curriculum.seed if seed is None else seed)


def nano_curriculum(steps: int = 8800, size: int = 128, seed: int = 0) -> Curriculum:
    """The bundled model's: about the same number of tokens in every step.

    At first many people a step, each in few views, which teaches soonest how a photo's surface goes to another view; in the last two fifths
    many views and frames together, and whole 8 x 13 blocks as sampling has them. Most blocks of a rollout are given finished views and a
    finished prefix together, so `both` comes often.
    """
    short = (
        Modality("static", 2, 1, 0.55, 18),
        Modality("monocular", 1, 13, 0.15, 10),
        Modality("multiview", 2, 9, 0.3, 8),
    )
    long = (
        Modality("static", 8, 1, 0.3, 6),
        Modality("monocular", 1, 13, 0.1, 10),
        Modality("multiview", 4, 13, 0.35, 3),
        Modality("blocks", 8, 13, 0.25, 1),
    )
    first = max(1, steps * 3 // 5)
    stages = [Stage(first, size, 1e-3, 4e-4, short)]
    if steps > first:
        stages.append(Stage(steps - first, size, 4e-4, 2e-5, long))
    return Curriculum(tuple(stages), both=0.5, snr_shift=1.0, warmup=min(200, steps), ema_decay=0.998, seed=seed)


def cogvideox_curriculum(seed: int = 0) -> Curriculum:
    """For a CogVideoX-2B start on real captures: 256 px stills and monocular videos, 256 px multi-view videos, 512 px multi-view videos.

    NeRSemble has 16 cameras: 15 views and the photo's. Batches are for one 80 GB GPU a process with gradient checkpointing; on 8
    processes the effective batch is CAP4D's 64 in the first stage.
    """
    first = Stage(60_000, 256, 1e-4, 1e-4, (Modality("monocular", 1, 49, 0.5, 8), Modality("static", 12, 1, 0.5, 8)))
    second = Stage(30_000, 256, 1e-4, 5e-5, (
        Modality("monocular", 1, 49, 0.25, 8), Modality("static", 15, 1, 0.25, 8),
        Modality("multiview", 4, 25, 0.25, 4), Modality("multiview wide", 8, 13, 0.25, 4),
    ))  # fmt: skip
    third = Stage(20_000, 512, 5e-5, 2e-5, (
        Modality("monocular", 1, 49, 0.15, 2), Modality("static", 15, 1, 0.25, 2),
        Modality("multiview", 4, 49, 0.3, 1), Modality("multiview wide", 8, 25, 0.3, 1),
    ))  # fmt: skip
    return Curriculum((first, second, third), both=0.5, warmup=1000, seed=seed)
