# SPDX-License-Identifier: Apache-2.0
"""NeRSemble, version 2 (Kirschstein et al. 2023): 16 calibrated cameras.

The layout is that of the authors' download tool, `nersemble-data`, and certain:

    <folder>/<participant, 3 digits>/calibration/camera_params.json      world_2_cam: serial -> 4 x 4, OpenCV axes, metres;
                                        intrinsics 3 x 3, one for all cameras, at 3208 x 2200 px (upright: 2200 wide)
    <folder>/<participant>/sequences/<sequence>/images/cam_<serial>.mp4

Pixel centres are taken at +0.5 in their intrinsics, which they do not state; the difference is half a source pixel. Their colour correction
matrices are not applied. The data set has no mattes in this layout: a grey video a camera is expected beside the track (ours):

    <tracks>/<participant>_<sequence>.safetensors,  <tracks>/<participant>_<sequence>/alpha_<serial>.mp4
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...cameras import Camera
from ...errors import FormatError
from ...rig import HeadModel
from ..store import ClipSource
from .captures import View, pieces, video_size, with_mattes

NAME = "nersemble"
WIDTH = 2200  # pixels of the pictures that the intrinsics are for
NOT_HEADS = ("BACKGROUND",)  # sequences without a person


def read_nersemble(folder: Path, tracks: Path, head_model: HeadModel) -> Iterator[ClipSource]:
    """The clips of all participants' sequences."""
    for images in sorted(folder.glob("*/sequences/*/images")):
        sequence, person = images.parent.name, images.parents[2]
        if sequence in NOT_HEADS:
            continue
        name = f"{person.name}_{sequence}"
        videos = sorted(images.glob("cam_*.mp4"))
        calibration = person / "calibration" / "camera_params.json"
        holes = [f"{images} has no cam_<serial>.mp4."] if not videos else []
        if not calibration.is_file():
            holes.append(f"its calibration {calibration} is missing.")
        mattes = [tracks / name / f"alpha_{_serial(video)}.mp4" for video in videos]
        missing = [matte for matte in mattes if not matte.is_file()]
        if missing:
            holes.append(f"it lacks {len(missing)} of {len(mattes)} mattes, such as {missing[0]}.")
        views = partial(_views, calibration, videos, mattes)
        yield from pieces(name, person.name, NAME, tracks / f"{name}.safetensors", holes, views, head_model, len(videos))


def _views(calibration: Path, videos: Sequence[Path], mattes: Sequence[Path]) -> list[View]:
    try:
        stored = json.loads(calibration.read_text(encoding="utf-8"))
        poses = {serial: np.array(matrix, dtype=np.float64) for serial, matrix in stored["world_2_cam"].items()}
        K = np.array(stored["intrinsics"], dtype=np.float64)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{calibration} holds no NeRSemble calibration ({error}). Take a fresh copy of it.") from None
    views = []
    for video, matte in zip(videos, mattes, strict=True):
        serial = _serial(video)
        if serial not in poses:
            raise FormatError(f"{calibration} lacks the camera {serial} of {video.name}. Take a fresh copy of it.")
        height, width = video_size(video)
        scaled = np.diag([width / WIDTH, width / WIDTH, 1]) @ K
        views.append(View(Camera(scaled, poses[serial], width, height), np.zeros(5), partial(with_mattes, video, matte)))
    return views


def _serial(video: Path) -> str:
    return video.stem.removeprefix("cam_")
