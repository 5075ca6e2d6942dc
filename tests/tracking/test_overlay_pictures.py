# SPDX-License-Identifier: Apache-2.0
"""Frames of a driving video with their track, for those who judge it."""

from pathlib import Path

import numpy as np
import pytest

from mvp4d_core.cameras import orbit_camera
from mvp4d_core.io.video import LOSSLESS, write_video
from mvp4d_core.rig import library_performance
from mvp4d_core.tracking.video import VideoTrack
from mvp4d_core.tracking.video_overlay import draw_track, overlay_pictures

FRAMES, HEIGHT, WIDTH = 7, 90, 120


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def video(frames: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    write_video(path, frames, 10.0, quality=LOSSLESS)
    return path


@pytest.fixture(scope="module")
def track() -> VideoTrack:
    points = np.random.default_rng(1).uniform(10, 80, (FRAMES, 478, 2)).astype(np.float32)
    camera = orbit_camera(0, 0, target=np.zeros(3), distance=1, fov_y=0.5, width=WIDTH, height=HEIGHT)
    seen = np.ones(FRAMES, bool)
    return VideoTrack(library_performance("nod", fps=10, seconds=FRAMES / 10), camera, np.zeros(1), seen, (), 1.0, points, ())


def test_frames_are_evenly_spread_and_drawn_on(video: Path, track: VideoTrack, frames: np.ndarray) -> None:
    pictures = overlay_pictures(video, track, 3)
    assert pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures, [draw_track(frames[number], track, number) for number in (0, 3, 6)])


def test_no_more_frames_than_there_are_and_none_too_high(video: Path, track: VideoTrack) -> None:
    assert overlay_pictures(video, track, 99, most_height=45).shape == (FRAMES, 45, 60, 3)
