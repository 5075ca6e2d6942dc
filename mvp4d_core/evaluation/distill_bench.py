# SPDX-License-Identifier: Apache-2.0
"""How well and how fast a fit learns a person whose every picture is known: `mvp4d bench distill`.

The person is one of the studio's held-out people with manners of their own (`synthetic/manners.py`): the fit gets true videos, the true
shape and exact tracks in the generic rig's directions, so what it must find out is skin, hair, light and how this face moves.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..avatar import GaussianAvatar
from ..cameras import Camera
from ..conditioning import ViewPlan, fitting_frames
from ..distill import DistillConfig, distill_avatar
from ..generate import MultiViewVideo
from ..progress import Progress, silent
from ..render.avatar import render_splats
from ..render.splats import warm_up
from ..rig import HeadModel, Performance, showcase_performance
from ..tracking.reference import Reference
from ..training.synthetic.manners import with_manners
from ..training.synthetic.noise import named_rng
from ..training.synthetic.performances import random_performance
from ..training.synthetic.scenes import Scene
from ..training.synthetic.studio import StudioSettings, scene, shoot
from ..training.synthetic.viewpoints import random_cameras
from .heldout import SPLIT, take_photo
from .metrics import ms_ssim, psnr, ssim

VIEWS, FRAMES, PRESET = 8, 25, 180
HELD_VIEWS, HELD_FRAMES = 3, 12
FIRST_SEED = 500  # held-out seeds that no other figure uses
LOOK_EVERY = 100  # steps between looks at the clock
GOAL_DB = 30.0


@dataclass(frozen=True)
class KnownPerson:
    """`video` to fit and its `reference`; and what the fit never sees: other views of its frames, other expressions in its views."""

    reference: Reference
    video: MultiViewVideo
    other_views: MultiViewVideo
    other_expressions: MultiViewVideo


def known_person(
    number: int, head_model: HeadModel, *, views: int = VIEWS, frames: int = FRAMES, size: int = 256, threads: int = 2
) -> KnownPerson:
    """The `number`-th person, with pictures of `size` px."""
    seed = FIRST_SEED + number
    rng = named_rng("known person", seed)
    mannered = with_manners(head_model, rng)
    settings = StudioSettings(atlas=1024, threads=threads)
    seen = fitting_frames(showcase_performance(head_model), head_model, frames)
    unseen = random_performance(rng, head_model, 4 * HELD_FRAMES, 24.0, motion=0.3).select(slice(0, None, 4))
    places = [_scene(seed, mannered, performance, size, settings) for performance in (seen, unseen)]
    photographer, *cameras = random_cameras(places[0], rng, 1 + views + HELD_VIEWS, size, PRESET, jitter=0.5)

    def film(place: Scene, cameras: list[Camera]) -> MultiViewVideo:
        clip = shoot(place, cameras, settings=settings)
        return MultiViewVideo(clip.frames, clip.alphas, ViewPlan(tuple(cameras), place.performance, PRESET), {"generator": "truth"})

    return KnownPerson(
        reference=take_photo(places[0], photographer, head_model, f"{SPLIT}-{seed}"),
        video=film(places[0], cameras[:views]),
        other_views=film(places[0], cameras[views:]),
        other_expressions=film(places[1], cameras[:views]),
    )


def bench_distill(
    config: DistillConfig,
    *,
    head_model: HeadModel,
    people: int = 1,
    views: int = VIEWS,
    frames: int = FRAMES,
    size: int = 256,
    threads: int = 2,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fits people with `config`, and once more without its deformation.

    Args:
        views, frames, size: of the videos that are fitted.

    Returns:
        Means over the people: `heldout_view_psnr`, `heldout_expression_psnr` and the like for SSIM and MS-SSIM, of whole pictures on white;
        `deformation_gain_db`, how much of the second PSNR is the deformation's, None for a fit without one; `seconds` a fit;
        `seconds_to_30_db` of held-out views, None where a fit doesn't get there; `splats`.
    """
    warm_up(progress)
    results = []
    for number in range(people):
        person = known_person(number, head_model, views=views, frames=frames, size=size, threads=threads)
        result = fit_and_judge(person, config, head_model=head_model, device=device, progress=progress)
        if config.deformation != "none":
            stiff = fit_and_judge(person, replace(config, deformation="none"), head_model=head_model, device=device, progress=progress)
            result["deformation_gain_db"] = result["heldout_expression_psnr"] - stiff["heldout_expression_psnr"]
        results.append(result)
    names = ("heldout_view_psnr", "heldout_view_ssim", "heldout_view_ms_ssim", "heldout_expression_psnr", "heldout_expression_ssim",
             "heldout_expression_ms_ssim", "deformation_gain_db", "seconds", "seconds_to_30_db", "splats")  # fmt: skip
    return {name: _mean([result.get(name) for result in results]) for name in names} | {"people": people}


def fit_and_judge(
    person: KnownPerson, config: DistillConfig, *, head_model: HeadModel, device: torch.device | str = "cpu", progress: Progress = silent
) -> dict[str, Any]:
    """One fit and its figures; looking at the clock's pictures does not count as time of the fit."""
    watch = _Watch(person.other_views, device)
    avatar = distill_avatar(
        person.video, person.reference, replace(config, heldout=0.0), head_model=head_model, device=device, progress=progress, on_step=watch
    )
    result: dict[str, Any] = {"seconds": watch.seconds(), "seconds_to_30_db": watch.reached, "splats": len(avatar)}
    for name, video in (("view", person.other_views), ("expression", person.other_expressions)):
        figures = compare(avatar, video, device)
        result |= {f"heldout_{name}_{metric}": value for metric, value in figures.items()}
    return result


def compare(avatar: GaussianAvatar, video: MultiViewVideo, device: torch.device | str = "cpu", every: int = 1) -> dict[str, float]:
    """Mean PSNR, SSIM and MS-SSIM of all pictures, or those of each `every`-th frame, whole and on white."""
    found: list[tuple[float, float, float]] = []
    for frame in range(0, len(video.plan.performance), every):
        images, _ = render_splats(avatar.pose(video.plan.performance[frame]), video.plan.cameras, device=device)
        for image, true in zip(torch.from_numpy(images), torch.from_numpy(video.frames[:, frame]).float() / 255, strict=True):
            found.append((float(psnr(image, true)), float(ssim(image, true)), float(ms_ssim(image[None], true[None])[0])))
    return dict(zip(("psnr", "ssim", "ms_ssim"), np.mean(found, axis=0).tolist(), strict=True))


class _Watch:
    """An `on_step` that stops the clock when held-out views reach `GOAL_DB`."""

    def __init__(self, video: MultiViewVideo, device: torch.device | str) -> None:
        self._video, self._device = video, device
        self._started, self._looking = time.perf_counter(), 0.0
        self.reached: float | None = None

    def __call__(self, done: int, avatar: Callable[[], GaussianAvatar]) -> None:
        if self.reached is None and done % LOOK_EVERY == 0:
            before = time.perf_counter()
            if compare(avatar(), self._video, self._device, every=5)["psnr"] >= GOAL_DB:
                self.reached = before - self._started - self._looking
            self._looking += time.perf_counter() - before

    def seconds(self) -> float:
        """Since the start, without the looking."""
        return time.perf_counter() - self._started - self._looking


def _scene(seed: int, mannered: HeadModel, performance: Performance, size: int, settings: StudioSettings) -> Scene:
    return scene(seed, head_model=mannered, size=size, split=SPLIT, settings=settings, performance=performance)


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if len(present) == len(values) else None
