# SPDX-License-Identifier: Apache-2.0
"""The synthetic head studio: a seed becomes a clip of a person nobody has met, with exact tracks."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ...cameras import Camera
from ...errors import InputError
from ...rig import HeadModel, Performance
from ..clip import Clip
from .beards import grow_beard
from .glasses import put_on_glasses
from .hair import grow_hair
from .identity import draw_identity, identity_of
from .lights import random_background, random_lights
from .noise import named_rng
from .outcrops import random_window
from .performances import random_performance
from .scenes import Scene, build_scene, render_frame
from .skins import beard_zone, paint_skin, worn_texture
from .stage import stage_for
from .torch_renderer import render_frames
from .viewpoints import random_cameras
from .worn import joined, nothing

SOURCE = "synthetic"
BACKGROUNDS = ("white", "random")


@dataclass(frozen=True)
class StudioSettings:
    """How clips are made.

    Attributes:
        fps: frames a second of the performances.
        supersample: samples a pixel along each axis.
        atlas: texels along a side of the skin, or None for three times the picture's side, 256 to 1024.
        motion: scale of head turns and travel.
        jitter: scale of the random changes of cameras: distance, field of view, crop.
        outcrops: how many of `render_clip`'s views show a picture that ends within the crop, 0..1.
        threads: that work side by side on the CPU; the pictures do not depend on it.
        device: `cpu` for the numba kernels, or a torch device such as `cuda`, on which pictures agree with the CPU's but for rounding.
    """

    fps: float = 24.0
    supersample: int = 2
    atlas: int | None = None
    motion: float = 1.0
    jitter: float = 1.0
    outcrops: float = 0.25
    threads: int = 1
    device: str = "cpu"


def scene(
    seed: int,
    *,
    head_model: HeadModel,
    frames: int = 13,
    size: int = 128,
    split: str = "train",
    settings: StudioSettings | None = None,
    performance: Performance | None = None,
) -> Scene:
    """The exact geometry, surfaces and lights of the clip that `render_clip` makes from the same seed, split, frames and size.

    With a `performance` of the head model, the same person in the same light does that instead, and `frames` does not count.
    """
    settings = settings or StudioSettings()
    if not 1 <= frames <= 1000 or not 16 <= size <= 2048:
        raise InputError(f"A clip must have 1 to 1000 frames of 16 to 2048 px, got {frames} of {size} px.")
    person = draw_identity(identity_of(seed, split), head_model)
    stage = stage_for(head_model, settings.atlas or int(np.clip(3 * size, 256, 1024)))
    rest = head_model.v_template + head_model.shapedirs @ person.shape
    masks = {name: head_model.region_mask(name).astype(np.float32) for name in head_model.regions}
    zone = beard_zone(person, stage.landmarks, head_model.v_template, masks)
    parts = (grow_hair(person, head_model, rest), grow_beard(person, head_model, rest, zone), put_on_glasses(person, head_model, rest))
    return build_scene(
        person,
        stage,
        performance=performance
        or random_performance(named_rng("performance", person.key), head_model, frames, settings.fps, settings.motion),
        lights=random_lights(named_rng("lights", person.key), person.skin),
        skin_texture=paint_skin(person, stage),
        worn=joined([nothing(len(head_model.joint_names)), *(part for part in parts if part is not None)]),
        worn_texture=worn_texture(person, named_rng("strands", person.key)),
        threads=settings.threads,
    )


def render_clip(
    seed: int,
    *,
    head_model: HeadModel,
    settings: StudioSettings | None = None,
    views: int = 4,
    frames: int = 13,
    size: int = 128,
    preset: int = 120,
    background: str = "white",
    split: str = "train",
) -> Clip:
    """A clip of `views` static cameras times `frames`; the same seed gives the same bytes with any number of threads.

    Args:
        seed: any whole number; each stands for another person, performance, light and set of cameras.
        preset: degrees the cameras cover: 60, 120, 180 or 360. The first camera always sees the face.
        background: `white`, or `random` for walls, gradients and blotches, one a view.
        split: `train` or `heldout`; no person is in both.

    Raises:
        InputError: sizes, counts or names that are not possible.
    """
    settings = settings or StudioSettings()
    if background not in BACKGROUNDS:
        raise InputError(f"`background` must be {' or '.join(BACKGROUNDS)}, got {background!r}.")
    place = scene(seed, head_model=head_model, frames=frames, size=size, split=split, settings=settings)
    cameras = random_cameras(place, named_rng("cameras", place.person.key), views, size, preset, settings.jitter)
    rng = named_rng("background", place.person.key)
    walls = [np.ones(3, np.float32) if background == "white" else random_background(rng, size) for _ in range(views)]
    windows = [random_window(named_rng("outcrops", place.person.key, view), size, settings.outcrops) for view in range(views)]
    return shoot(place, cameras, walls, windows, settings=settings, name=f"{split}-{seed}")


def shoot(
    place: Scene,
    cameras: Sequence[Camera],
    walls: Sequence[np.ndarray] | None = None,
    windows: Sequence[np.ndarray] | None = None,
    *,
    settings: StudioSettings | None = None,
    name: str = SOURCE,
) -> Clip:
    """The clip of a scene from any cameras of one square size.

    Args:
        walls: behind the person, (3,) or (H, W, 3) a camera; white by default.
        windows: (H, W) a camera, which part of each pixel lies within the original picture; all of it by default. Beyond, all is white and
            empty, as `conditioning.resample_photo` leaves it.
    """
    settings = settings or StudioSettings()
    walls = walls or [np.ones(3, np.float32)] * len(cameras)
    views, frames, size = len(cameras), len(place.performance), cameras[0].height
    windows = windows or [np.ones((size, size), np.float32)] * views
    inside = np.stack(windows) > 0.5
    pictures = np.zeros((views, frames, size, size, 3), np.uint8)
    alphas = np.zeros((views, frames, size, size), np.uint8)

    def keep(view: int, frame: int, image: np.ndarray, alpha: np.ndarray) -> None:
        picture = image + (1 - alpha)[..., None] * walls[view]
        within = windows[view]
        pictures[view, frame] = np.rint(np.clip(picture * within[..., None] + (1 - within)[..., None], 0, 1) * 255)
        alphas[view, frame] = np.rint(alpha * within * 255)

    def one(job: int) -> None:
        view, frame = divmod(job, frames)
        keep(view, frame, *render_frame(place, cameras[view], frame, supersample=settings.supersample))

    if settings.device != "cpu":
        for view, camera in enumerate(cameras):
            images, coverage = render_frames(place, camera, range(frames), device=settings.device, supersample=settings.supersample)
            for frame in range(frames):
                keep(view, frame, images[frame], coverage[frame])
    else:
        with ThreadPoolExecutor(settings.threads) as pool:
            list(pool.map(one, range(views * frames)))
    return Clip(
        frames=pictures,
        alphas=alphas,
        cameras=tuple(cameras),
        inside=None if inside.all() else inside,
        performance=place.performance,
        shape=place.person.shape,
        offsets=np.zeros_like(place.rig.v_template),
        head_digest=place.head_digest,
        name=name,
        source=SOURCE,
    )
