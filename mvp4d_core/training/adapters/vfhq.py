# SPDX-License-Identifier: Apache-2.0
"""VFHQ (Xie et al. 2022): interviews, one uncalibrated camera, cropped around a face.

Certain: a clip is named Clip+<video>+P<person>+C<clip>+F<first>-<last>, and its meta file of that name (.txt) has lines `FPS <number>`,
`H <pixels>`, `W <pixels>` and `CROP <x0> <y0> <x1> <y1>`. The authors publish meta files, and the cropped frames as pictures:

    <folder>/**/<clip>/<number>.png      numbered as the files sort

Less certain: the depth of those folders, so they are searched. A clip as <clip>.mp4, as download tools cut it, is read as well. Mattes and
the camera's K have to come with the track (ours): <tracks>/<clip>.safetensors with K for the cropped pictures, <tracks>/<clip>/alpha.mp4.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from ...cameras import Camera
from ...errors import FormatError
from ...io.images import read_image
from ...io.video import video_frames
from ...rig import HeadModel
from ..store import ClipSource
from .captures import Frames, View, pieces, video_size, with_mattes
from .tracks import load_track

NAME = "vfhq"
_PICTURES = (".png", ".jpg", ".jpeg")


def read_vfhq(folder: Path, tracks: Path, head_model: HeadModel) -> Iterator[ClipSource]:
    """The clips of all interviews."""
    for path in sorted(folder.rglob("Clip+*")):
        if not (path.is_dir() or path.suffix == ".mp4"):
            continue
        name = path.name.removesuffix(".mp4")
        parts = name.split("+")
        identity = "+".join(parts[1:3]) if len(parts) >= 3 else name
        track, mattes = tracks / f"{name}.safetensors", tracks / name / "alpha.mp4"
        holes = [] if mattes.is_file() else [f"its mattes {mattes} are missing."]
        if path.is_dir() and not _pictures(path):
            holes.append(f"{path} has no pictures.")
        yield from pieces(name, identity, NAME, track, holes, partial(_views, path, track, mattes), head_model, 1)


def _views(path: Path, track: Path, mattes: Path) -> list[View]:
    K = load_track(track).K
    if K is None:
        raise FormatError(f"{track} has no K: a track of one uncalibrated camera must hold its intrinsics.")
    if path.is_dir():
        height, width = read_image(_pictures(path)[0])[0].shape[:2]
        frames = partial(_frames, path, mattes)
    else:
        height, width = video_size(path)
        frames = partial(with_mattes, path, mattes)
    return [View(Camera(K, np.eye(4), width, height), np.zeros(5), frames)]


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES)


def _frames(folder: Path, mattes: Path, wanted: Sequence[int]) -> Frames:
    files = _pictures(folder)
    if wanted[-1] >= len(files):
        raise FormatError(f"{folder} has {len(files)} pictures, its track goes to number {wanted[-1]}. Take a fresh copy of it.")
    with closing(video_frames(mattes, wanted)) as alphas:
        for number, alpha in zip(wanted, alphas, strict=False):
            yield np.rint(read_image(files[number])[0] * 255).astype(np.uint8), alpha[..., 0]
