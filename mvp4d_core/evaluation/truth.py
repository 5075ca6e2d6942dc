# SPDX-License-Identifier: Apache-2.0
"""Pictures that an avatar should give: a multi-view video, a clip of training data, or a held-out synthetic person drawn afresh."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..cameras import Camera
from ..errors import FormatError, InputError
from ..generate.multiview import MARKER as VIDEO_MARKER
from ..generate.multiview import MultiViewVideo, load_multiview
from ..rig import HeadModel, Performance, head_model_digest, personalize
from ..training.clip import Clip
from ..training.store import MARKER as CLIP_MARKER
from ..training.store import load_clip
from ..training.synthetic.noise import named_rng
from ..training.synthetic.studio import StudioSettings, scene, shoot
from ..training.synthetic.viewpoints import random_cameras
from .heldout import SPLIT, check_heldout

_WHITE = 250  # of 255, from which a pixel outside the matte counts as white background


@dataclass(frozen=True)
class Truth:
    """V static cameras times F frames of a person.

    Attributes:
        name: for reports.
        frames: (V, F, H, W, 3) uint8, display-referred sRGB on white.
        alphas: (V, F, H, W) uint8, coverage of the person.
        cameras: V, of one size.
        views: the numbers of the cameras where they come from.
        performance: F frames.
        rig: the person's own head, where it is known, as in clips with tracks on the head model in use.
        provenance: of a generated video.
        notes: what a reader of the figures has to know, a line each.
    """

    name: str
    frames: np.ndarray
    alphas: np.ndarray
    cameras: tuple[Camera, ...]
    views: tuple[int, ...]
    performance: Performance
    rig: HeadModel | None = None
    provenance: dict[str, str] | None = None
    notes: tuple[str, ...] = ()

    def select(self, views: Sequence[int] | None, every: int) -> "Truth":
        """Some of the views, and one of `every` frames, which then are that much fewer a second.

        Raises:
            InputError: a view that is not there, or `every` below 1.
        """
        chosen = tuple(range(len(self.cameras))) if views is None else tuple(views)
        if not chosen or min(chosen) < 0 or max(chosen) >= len(self.cameras) or len(set(chosen)) < len(chosen):
            got = ", ".join(map(str, chosen)) or "none"
            raise InputError(f"`views` must be different numbers of 0 to {len(self.cameras) - 1}, got {got}.")
        if every < 1:
            raise InputError(f"`every` must be at least 1, got {every}.")
        performance = self.performance.select(slice(None, None, every))
        return replace(
            self,
            frames=self.frames[list(chosen), ::every],
            alphas=self.alphas[list(chosen), ::every],
            cameras=tuple(self.cameras[view] for view in chosen),
            views=tuple(self.views[view] for view in chosen),
            performance=replace(performance, fps=performance.fps / every),
        )


def load_truth(folder: str | Path, head_model: HeadModel) -> Truth:
    """The multi-view video or the clip in a folder.

    Raises:
        FormatError: neither, or damaged.
    """
    folder = Path(folder)
    if (folder / CLIP_MARKER).is_file():
        return truth_of_clip(load_clip(folder), head_model)
    if not (folder / VIDEO_MARKER).is_file():
        raise FormatError(
            f"{folder} holds no finished multi-view video ({VIDEO_MARKER}) and no clip ({CLIP_MARKER}). Give a folder of one."
        )
    return truth_of_video(load_multiview(folder), str(folder))


def truth_of_video(video: MultiViewVideo, name: str) -> Truth:
    """A multi-view video as truth, all of its views and frames."""
    frames, notes = _on_white(video.frames, video.alphas)
    cameras = video.plan.cameras
    return Truth(
        name, frames, video.alphas, cameras, tuple(range(len(cameras))), video.plan.performance, provenance=video.provenance, notes=notes
    )


def truth_of_clip(clip: Clip, head_model: HeadModel) -> Truth:
    """A clip as truth; its person's head is known where the clip was tracked on `head_model`."""
    frames, notes = _on_white(clip.frames, clip.alphas)
    known = clip.head_digest == head_model_digest(head_model)
    rig = personalize(head_model, clip.shape, clip.offsets) if known else None
    views = tuple(range(len(clip.cameras)))
    return Truth(clip.name, frames, clip.alphas, clip.cameras, views, clip.performance, rig=rig, notes=notes)


def draw_truth(
    seed: int, *, head_model: HeadModel, views: int = 4, frames: int = 13, preset: int = 120, size: int = 256, threads: int = 1
) -> Truth:
    """A held-out person of the synthetic studio, with the cameras and the performance of `heldout_case`.

    Raises:
        InputError: counts or sizes the studio refuses.
    """
    if seed < 0:
        raise InputError(f"A person's number must be 0 or more, got {seed}.")
    check_heldout(range(seed, seed + 1))
    place = scene(seed, head_model=head_model, frames=frames, size=size, split=SPLIT)
    _, *cameras = random_cameras(place, named_rng("cameras", place.person.key), views + 1, size, preset)
    clip = shoot(place, cameras, settings=StudioSettings(threads=threads), name=f"{SPLIT}-{seed}")
    return truth_of_clip(clip, head_model)


def _on_white(frames: np.ndarray, alphas: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """The frames (V, F, H, W, 3), with white in place of a background they show."""
    outside = alphas == 0
    if not outside.any() or (frames[outside].min(axis=-1) >= _WHITE).mean() > 0.99:
        return frames, ()
    white = frames.copy()
    for view, frame in np.ndindex(frames.shape[:2]):
        alpha = alphas[view, frame, ..., None] / np.float32(255)
        white[view, frame] = np.rint(frames[view, frame] * alpha + 255 * (1 - alpha))
    return white, ("The background of the truth was replaced by white through its matte.",)
