# SPDX-License-Identifier: Apache-2.0
"""Training samples: which photo, which views and frames of a cached clip, and which of them are given clean.

Everything is drawn from a generator that the caller seeds with (seed, step, process, place in the batch), so that a run can go on anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..conditioning.maps import MAP_SLICES
from ..errors import InputError
from .curriculum import Curriculum, Modality
from .latents import CachedClip

PHOTO_CONE = np.cos(np.deg2rad(60))  # a portrait photo is taken from within this angle of where the face looks
GROUPS = ("expression", "rays", "motion")  # maps that a sample may lose, each on its own


@dataclass(frozen=True)
class Sample:
    """One sample, or a batch of them with B in front.

    Attributes:
        latents: (V, L, 16, h, w) clean.
        maps: (V, L, C, h, w), rays in the photo's axes.
        given: (V, L) bool, latents that are handed over clean.
        photos: (R, 16, h, w) clean latents of the reference pictures.
        photo_maps: (R, C, h, w), the mask channel 1.
        drop: () bool, whether all conditions are withheld.
    """

    latents: torch.Tensor
    maps: torch.Tensor
    given: torch.Tensor
    photos: torch.Tensor
    photo_maps: torch.Tensor
    drop: torch.Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> "Sample":
        """On a device, floats of a type."""
        moved = {name: tensor.to(device, dtype if tensor.is_floating_point() else None) for name, tensor in vars(self).items()}
        return Sample(**moved)


def usable(clip: CachedClip, modality: Modality) -> bool:
    """Whether a clip has the views and frames of a modality, and for stills a view more to be the photo."""
    return clip.views >= modality.clip_views and clip.latent_frames >= modality.latent_frames


def draw_sample(clip: CachedClip, modality: Modality, curriculum: Curriculum, rng: np.random.Generator) -> Sample:
    """A sample of `modality` from a clip that is `usable` for it."""
    photo_view = _photo_view(clip, rng)
    moment = int(rng.integers(len(clip.still_frames)))
    views = _target_views(clip, modality, photo_view, curriculum.own_view, rng)
    if modality.latent_frames == 1:
        still = int(rng.integers(len(clip.still_frames)))
        latents = torch.stack([clip.read("stills", view, still, still + 1) for view in views])
        maps = torch.stack([clip.read("still_maps", view, still, still + 1) for view in views])
    else:
        latents = torch.stack([clip.read("latents", view, 0, modality.latent_frames) for view in views])
        maps = torch.stack([clip.read("maps", view, 0, modality.latent_frames) for view in views])
    photos = clip.read("stills", photo_view, moment, moment + 1)
    photo_maps = clip.read("still_maps", photo_view, moment, moment + 1)
    photo_maps[:, MAP_SLICES["reference_mask"]] = 1
    turn = clip.rotations[photo_view] @ clip.rotations[0].T
    withheld = [group for group in GROUPS if rng.random() < curriculum.group_dropout]
    for target in (maps, photo_maps):
        turn_rays(target, turn)
        for group in withheld:
            target[..., MAP_SLICES[group], :, :] = 0
    given = draw_given(len(views), latents.shape[1], curriculum, rng)
    drop = torch.tensor(bool(rng.random() < curriculum.condition_dropout))
    return Sample(latents, maps, torch.from_numpy(given), photos, photo_maps, drop)


def draw_given(views: int, latent_frames: int, curriculum: Curriculum, rng: np.random.Generator) -> np.ndarray:
    """(V, L) bool, never all: nothing, some whole views, the first latent frames of every view, or both, by the curriculum's shares.

    What the sample has no room for (whole views of one, a prefix of one) is left out.
    """
    given = np.zeros((views, latent_frames), dtype=bool)
    shares = np.array(curriculum.patterns)
    pattern = rng.choice(len(shares), p=shares / shares.sum())
    if pattern in (1, 3) and views > 1:
        given[rng.permutation(views)[: rng.integers(1, max(2, views // 2 + 1))]] = True
    if pattern in (2, 3) and latent_frames > 1:
        given[:, : rng.integers(1, max(2, latent_frames // 2 + 1))] = True
    return given


def turn_rays(maps: torch.Tensor, turn: np.ndarray) -> None:
    """Turns the ray channels of maps (..., C, h, w) by a rotation (3, 3), in place."""
    rays = maps[..., MAP_SLICES["rays"], :, :]
    turned = torch.einsum("ij,...jhw->...ihw", torch.as_tensor(turn, dtype=torch.float32), rays.float())
    maps[..., MAP_SLICES["rays"], :, :] = turned.to(maps.dtype)


def collate(samples: Sequence[Sample]) -> Sample:
    """Samples of one shape as a batch."""
    return Sample(**{name: torch.stack([getattr(sample, name) for sample in samples]) for name in vars(samples[0])})


class BatchSource:
    """The batches of a run: what a step trains on follows from the curriculum's seed, the step and the process alone."""

    def __init__(self, clips: Mapping[int, Sequence[CachedClip]], curriculum: Curriculum, process: int = 0) -> None:
        """`clips` of each size in px that the curriculum has; InputError when a modality has no usable one."""
        self._curriculum, self._process = curriculum, process
        self._pools: dict[tuple[int, Modality], list[CachedClip]] = {}
        for stage in curriculum.stages:
            for modality in stage.modalities:
                pool = [clip for clip in clips.get(stage.size, ()) if usable(clip, modality)]
                if not pool:
                    raise InputError(
                        f"No clip at {stage.size} px has {modality.views} views x {modality.frames} frames for `{modality.name}` "
                        "(stills need one view more). Add such data, or take the modality out of the curriculum."
                    )
                self._pools[stage.size, modality] = pool

    def batch(self, step: int) -> Sample:
        """The batch of a step, float16 on the CPU."""
        modality = self._curriculum.modality_at(step)
        pool = self._pools[self._curriculum.stage_at(step)[1].size, modality]
        samples = []
        for place in range(modality.batch):
            rng = np.random.default_rng((self._curriculum.seed, step, self._process, place))
            samples.append(draw_sample(pool[int(rng.integers(len(pool)))], modality, self._curriculum, rng))
        return collate(samples)


def _photo_view(clip: CachedClip, rng: np.random.Generator) -> int:
    """A view that looks the face in the eyes, by its frontality; the most frontal one where none does."""
    weight = np.where(clip.frontality >= PHOTO_CONE, np.maximum(clip.frontality, 0) ** 2, 0)
    return int(rng.choice(clip.views, p=weight / weight.sum())) if weight.any() else int(np.argmax(clip.frontality))


def _target_views(clip: CachedClip, modality: Modality, photo_view: int, own_view: float, rng: np.random.Generator) -> list[int]:
    """Different views in random order. The photo's own is among those of a video at times, among stills never: it would be copied."""
    others = [int(view) for view in rng.permutation(clip.views) if view != photo_view]
    chosen = others[: modality.views]
    keeps_own = modality.latent_frames > 1 and (len(chosen) < modality.views or rng.random() < own_view)
    if keeps_own:
        chosen = [*chosen[: modality.views - 1], photo_view]
        chosen = [chosen[index] for index in rng.permutation(len(chosen))]
    return chosen
