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
from ..cameras import Camera, orbit_camera
from ..conditioning import ViewPlan, fitting_frames, frame_camera, head_centre
from ..conditioning.view_plan import DISTANCE, view_directions
from ..distill import DistillConfig, distill_avatar
from ..errors import MissingAssetError
from ..generate import MultiViewVideo
from ..io.images import to_bytes
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
from ..training.synthetic.viewpoints import bounds, random_cameras
from .heldout import SPLIT, take_photo
from .jod import VideoJod
from .metrics import ms_ssim, psnr, ssim

VIEWS, FRAMES, PRESET = 8, 25, 180
HELD_DIRECTIONS = np.deg2rad([(-48.0, 12.0), (-14.0, -11.0), (33.0, 9.0)])  # azimuth and elevation of views between those that are fitted
HELD_FRAMES = 12
CLIP = 48  # frames of acting, of which the strongest face is held out
FIRST_SEED = 510  # held-out seeds that no other figure uses, and no setting was chosen on
LOOK_EVERY = 100  # steps between looks at the clock
GOAL_DB = 30.0
METRICS = ("psnr", "ssim", "ms_ssim", "jod")


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
    places = [_scene(seed, mannered, performance, size, settings) for performance in (seen, _strong_faces(rng, head_model))]
    (photographer,) = random_cameras(places[0], rng, 1, size, PRESET, jitter=0.5)
    cameras, others = (_around(places[0], directions, size) for directions in (view_directions(PRESET, views), HELD_DIRECTIONS))

    def film(place: Scene, cameras: list[Camera]) -> MultiViewVideo:
        clip = shoot(place, cameras, settings=settings)
        return MultiViewVideo(clip.frames, clip.alphas, ViewPlan(tuple(cameras), place.performance, PRESET), {"generator": "truth"})

    return KnownPerson(
        reference=take_photo(places[0], photographer, head_model, f"{SPLIT}-{seed}"),
        video=film(places[0], cameras),
        other_views=film(places[0], others),
        other_expressions=film(places[1], cameras),
    )


def ablations(config: DistillConfig) -> dict[str, DistillConfig]:
    """A fit's settings, and the same with one part taken away or exchanged; parts that it does not have are left out."""
    variants = {
        "as it is": config,
        "no deformation": replace(config, deformation="none"),
        "U-Net deformation": replace(config, deformation="unet"),
        "no densification": replace(config, densify_every=0, initial=1.0),
        "no coarse steps": replace(config, coarse=()),
        "head's own mesh" if config.remesh else "remeshed head": replace(config, remesh=0 if config.remesh else 128),
    }
    return {name: variant for name, variant in variants.items() if variant is config or variant != config}


def bench_distill(
    config: DistillConfig,
    *,
    head_model: HeadModel,
    people: int = 1,
    views: int = VIEWS,
    frames: int = FRAMES,
    size: int = 256,
    threads: int = 2,
    ablation: bool = False,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fits people with `config`, and once more without its deformation.

    Args:
        views, frames, size: of the videos that are fitted.
        ablation: fit all of `ablations`.

    Returns:
        Means over the people: `heldout_view_psnr`, `heldout_expression_psnr` and the like for SSIM, MS-SSIM and JOD, of whole pictures on
        white; `deformation_gain_db`, how much of the second PSNR is the deformation's, None for a fit without one; `seconds` a fit;
        `seconds_to_30_db` of held-out views, None where a fit doesn't get there; `splats`. `absent` has the reason for a figure that can't
        be measured, `ablation` these means for each variant.
    """
    warm_up(progress)
    every = ablations(config)
    variants = every if ablation else {name: every[name] for name in ("as it is", "no deformation") if name in every}
    jod, absent = _jod(device)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for number in range(people):
        person = known_person(number, head_model, views=views, frames=frames, size=size, threads=threads)
        for name, variant in variants.items():
            results[name].append(fit_and_judge(person, variant, head_model=head_model, jod=jod, device=device, progress=progress))
    means = {name: {key: _mean([result[key] for result in found]) for key in found[0]} for name, found in results.items()}
    whole, judged = means["as it is"], "heldout_expression_psnr"
    stiff = results.get("no deformation", [])
    gain = _mean([found[judged] - other[judged] for found, other in zip(results["as it is"], stiff, strict=False)])
    return whole | {"deformation_gain_db": gain, "people": people, "absent": absent} | ({"ablation": means} if ablation else {})


def fit_and_judge(
    person: KnownPerson,
    config: DistillConfig,
    *,
    head_model: HeadModel,
    jod: VideoJod | None = None,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> dict[str, Any]:
    """One fit and its figures; looking at the clock's pictures does not count as time of the fit."""
    watch = _Watch(person.other_views, device)
    avatar = distill_avatar(
        person.video, person.reference, replace(config, heldout=0.0), head_model=head_model, device=device, progress=progress, on_step=watch
    )
    result: dict[str, Any] = {"seconds": watch.seconds(), "seconds_to_30_db": watch.reached, "splats": len(avatar)}
    for name, video in (("view", person.other_views), ("expression", person.other_expressions)):
        figures = compare(avatar, video, device, jod=jod)
        result |= {f"heldout_{name}_{metric}": figures.get(metric) for metric in METRICS}
    return result


def compare(
    avatar: GaussianAvatar, video: MultiViewVideo, device: torch.device | str = "cpu", *, every: int = 1, jod: VideoJod | None = None
) -> dict[str, float]:
    """Means over all pictures or each `every`-th frame's: PSNR, SSIM, MS-SSIM and, where it is measured, JOD of a picture by itself."""
    found: list[tuple[float, ...]] = []
    for frame in range(0, len(video.plan.performance), every):
        images, _ = render_splats(avatar.pose(video.plan.performance[frame]), video.plan.cameras, device=device)
        for picture, shown in zip(images, video.frames[:, frame], strict=True):
            image, true = torch.from_numpy(picture), torch.from_numpy(shown).float() / 255
            scores = [float(psnr(image, true)), float(ssim(image, true)), float(ms_ssim(image[None], true[None])[0])]
            found.append((*scores, jod(to_bytes(picture, "A picture")[None], shown[None], 0.0)) if jod else tuple(scores))
    return dict(zip(METRICS if jod else METRICS[:3], np.mean(found, axis=0).tolist(), strict=True))


def _jod(device: torch.device | str) -> tuple[VideoJod | None, dict[str, str]]:
    """What measures JOD, or the reason why nothing does."""
    try:
        return VideoJod(device), {}
    except MissingAssetError as error:
        return None, {"jod": str(error)}


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


def _strong_faces(rng: np.random.Generator, head_model: HeadModel) -> Performance:
    """Faces that were not fitted: of each of `HELD_FRAMES` clips of acting the one with the largest expression."""
    clips = [random_performance(rng, head_model, CLIP, 24.0, motion=0.3) for _ in range(HELD_FRAMES)]
    faces = [clip.select([int(np.linalg.norm(clip.expression, axis=1).argmax())]) for clip in clips]
    expression, rotations, translation = (
        np.concatenate([getattr(face, name) for face in faces]) for name in ("expression", "rotations", "translation")
    )
    return Performance(expression, rotations, translation, 24.0, head_model.expression_names, head_model.joint_names)


def _around(place: Scene, directions: np.ndarray, size: int) -> list[Camera]:
    """Cameras as a plan has them, cropped to the head with its hair."""
    target, points = head_centre(place.rig), bounds(place)
    orbits = [
        orbit_camera(azimuth, elevation, target=target, distance=DISTANCE, fov_y=np.deg2rad(20), width=size, height=size)
        for azimuth, elevation in directions
    ]
    return [frame_camera(orbit, points, size) for orbit in orbits]


def _scene(seed: int, mannered: HeadModel, performance: Performance, size: int, settings: StudioSettings) -> Scene:
    return scene(seed, head_model=mannered, size=size, split=SPLIT, settings=settings, performance=performance)


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present and len(present) == len(values) else None
