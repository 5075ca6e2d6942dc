# SPDX-License-Identifier: Apache-2.0
"""Clips on disk: one folder a clip, whatever data set it came from.

view_00.mp4, view_01.mp4, ...     the frames, H.264 4:4:4
alpha_00.mp4, ...                 the coverage, as grey pictures
clip.safetensors                  cameras, performance, shape, offsets, pixels inside the original picture
clip.json                         names and sizes; written last, so that a folder without it is unfinished
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ..cameras import Camera, crop_camera
from ..errors import FormatError, InputError
from ..io import safetensors_numpy
from ..io.atomic import atomic_text, remove_temporaries
from ..io.folders import make_folder
from ..io.schema import read_as
from ..io.video import CLOSE, LOSSLESS, video_frames, write_video
from ..rig import Performance, performance_to_tensors
from .clip import Clip

SCHEMA = "mvp4d-clip/1"
MARKER = "clip.json"
ARRAYS = "clip.safetensors"
MOST_VIEWS, MOST_FRAMES = 1000, 100_000
_JSON_BYTES = 1 << 20


@dataclass(frozen=True)
class ClipSource:
    """A clip that can be had.

    Attributes:
        name: unique in a run.
        identity: of the person, unique in a run.
        load: gives it with frames of a size in px.
        holes: what is known to be missing, one line each; a source with holes cannot be loaded.
        views, frames: that the clip will have; None where only loading it can tell.
        made_of: what tells this clip from another of its name: its files, or the settings it is made with.
    """

    name: str
    identity: str
    load: Callable[[int], Clip]
    holes: tuple[str, ...] = ()
    views: int | None = None
    frames: int | None = None
    made_of: str = ""


def save_clip(clip: Clip, folder: str | Path, *, lossless: bool = False) -> None:
    """Writes a clip's folder; `lossless` keeps every pixel's value at about five times the size."""
    folder = Path(folder)
    make_folder(folder)
    (folder / MARKER).unlink(missing_ok=True)
    remove_temporaries(folder)
    views, frames, height, width = clip.frames.shape[:4]
    fps, quality = clip.performance.fps, LOSSLESS if lossless else CLOSE
    for view in range(views):
        write_video(folder / f"view_{view:02d}.mp4", clip.frames[view], fps, quality=quality)
        write_video(folder / f"alpha_{view:02d}.mp4", np.repeat(clip.alphas[view][..., None], 3, axis=-1), fps, quality=quality)
    tensors = {
        "K": np.stack([camera.K for camera in clip.cameras]),
        "camera_from_world": np.stack([camera.camera_from_world for camera in clip.cameras]),
        **performance_to_tensors(clip.performance)[0],
        "shape": clip.shape,
        "offsets": clip.offsets,
    }
    if clip.inside is not None:
        tensors["inside"] = np.asarray(clip.inside, dtype=bool)
    safetensors_numpy.write(folder / ARRAYS, tensors, {"schema": SCHEMA})
    description = {
        "schema": SCHEMA, "name": clip.name, "source": clip.source, "head_digest": clip.head_digest,
        "views": views, "frames": frames, "height": height, "width": width, "fps": clip.performance.fps,
        "expression_names": clip.performance.expression_names, "joint_names": clip.performance.joint_names,
    }  # fmt: skip
    atomic_text(folder / MARKER, json.dumps(description, indent=2))


def load_clip(folder: str | Path) -> Clip:
    """Reads what `save_clip` wrote.

    Raises:
        FormatError: unfinished, damaged, or of other sizes than it says.
    """
    folder = Path(folder)
    about = _description(folder)
    tensors, _ = read_as(folder / ARRAYS, SCHEMA, "a clip's arrays")
    views, frames, height, width = (about[key] for key in ("views", "frames", "height", "width"))
    try:
        cameras = tuple(Camera(K, m, width, height) for K, m in zip(tensors["K"], tensors["camera_from_world"], strict=True))
        performance = Performance(
            tensors["expression"], tensors["rotations"], tensors["translation"],
            float(about["fps"]), tuple(about["expression_names"]), tuple(about["joint_names"]),
        )  # fmt: skip
        if len(cameras) != views or len(performance) != frames:
            raise InputError(f"it says {views} views x {frames} frames, and has {len(cameras)} cameras and {len(performance)} poses")
        pictures = [_read_video(folder / f"view_{view:02d}.mp4", (frames, height, width)) for view in range(views)]
        alphas = [_read_video(folder / f"alpha_{view:02d}.mp4", (frames, height, width))[..., 0] for view in range(views)]
        return Clip(
            frames=np.stack(pictures), alphas=np.stack(alphas), cameras=cameras, inside=tensors.get("inside"), performance=performance,
            shape=tensors["shape"], offsets=tensors["offsets"],
            head_digest=about["head_digest"], name=about["name"], source=about["source"],
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError, InputError) as error:
        raise FormatError(f"{folder} is a damaged clip: {error}. Make it again.") from None


def stored_clips(folder: str | Path) -> Iterator[ClipSource]:
    """The clips in the sub-folders of a folder, by name; what a clip lacks stands among its holes.

    Clips of one person are told by what stands before the first ` ` or `/` of the clip's name.
    """

    def load(clip: Path, size: int) -> Clip:
        return resize_clip(load_clip(clip), size)

    for marker in sorted(Path(folder).glob(f"*/{MARKER}")):
        clip = marker.parent
        try:
            about = _description(clip)
        except FormatError as error:
            yield ClipSource(clip.name, clip.name, partial(load, clip), (str(error),))
            continue
        identity = f"{about['source']} {about['name'].replace('/', ' ').split(' ')[0]}"
        sizes = sorted([file.name, file.stat().st_size] for file in clip.iterdir() if file.is_file())
        yield ClipSource(
            clip.name, identity, partial(load, clip), tuple(_holes(clip, about["views"])),
            views=about["views"], frames=about["frames"], made_of=json.dumps([about, sizes]),
        )  # fmt: skip


def resize_clip(clip: Clip, size: int) -> Clip:
    """The clip with frames of `size` x `size` px, each the mean of the pixels it covers; a clip is square."""
    height, width = clip.frames.shape[2:4]
    if height != width or height < size:
        raise InputError(f"The clip {clip.name} must be square and at least {size} px, got {width} x {height}. Prepare it again, larger.")
    if height == size:
        return clip
    import torch

    def shrink(array: np.ndarray) -> np.ndarray:
        """(N, H, W, D) in the same type."""
        pixels = torch.as_tensor(array).permute(0, 3, 1, 2).float()
        small = torch.nn.functional.interpolate(pixels, size=(size, size), mode="area")
        return small.permute(0, 2, 3, 1).round().numpy().astype(array.dtype)

    box = np.array([0, 0, width, height])
    return replace(
        clip,
        frames=np.stack([shrink(view) for view in clip.frames]),
        alphas=np.stack([shrink(view[..., None])[..., 0] for view in clip.alphas]),
        cameras=tuple(crop_camera(camera, box, size, size) for camera in clip.cameras),
        inside=None if clip.inside is None else shrink(clip.inside[..., None].astype(np.uint8))[..., 0].astype(bool),
    )


def _holes(folder: Path, views: int) -> Iterator[str]:
    wanted = [ARRAYS, *(f"{kind}_{view:02d}.mp4" for view in range(views) for kind in ("view", "alpha"))]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        yield f"{folder} lacks {', '.join(missing[:3])}{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}."


def _description(folder: Path) -> dict[str, Any]:
    """clip.json, its sizes checked."""
    path = folder / MARKER
    try:
        if path.stat().st_size > _JSON_BYTES:
            raise ValueError("it is too large")
        about = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(about, dict) or about.get("schema") != SCHEMA:
            raise ValueError(f"its schema must be `{SCHEMA}`")
        for key, most in (("views", MOST_VIEWS), ("frames", MOST_FRAMES), ("height", 4096), ("width", 4096)):
            if type(about.get(key)) is not int or not 1 <= about[key] <= most:
                raise ValueError(f"`{key}` must be 1 to {most}")
        for key in ("name", "source", "head_digest"):
            if not isinstance(about.get(key), str):
                raise ValueError(f"`{key}` must be a text")
        return about
    except FileNotFoundError:
        raise FormatError(f"{folder} holds no finished clip ({MARKER} is missing); make it again.") from None
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} does not describe a clip: {str(error)[:100]}.") from None


def _read_video(path: Path, wanted: tuple[int, int, int]) -> np.ndarray:
    """(F, H, W, 3) uint8 of the wanted sizes."""
    with closing(video_frames(path)) as stream:
        frames = list(islice(stream, wanted[0] + 1))
    found = (len(frames), *frames[0].shape[:2]) if frames else (0, 0, 0)
    if found != wanted:
        raise FormatError(
            f"{path} must have {wanted[0]} frames of {wanted[2]} x {wanted[1]} px, got {found[0]}{'+' * (found[0] > wanted[0])} "
            f"of {found[2]} x {found[1]}."
        )
    return np.stack(frames)
