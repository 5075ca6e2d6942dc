# SPDX-License-Identifier: Apache-2.0
"""A driving video with what was tracked in it drawn over it, to judge the track by."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..io.video import frame_times, video_frames, write_video
from ..progress import Progress, silent, steps
from . import landmark_sets as sets
from .video import VideoTrack

_RINGS = (
    (sets.FACE_OVAL, True), (sets.LEFT_EYE, True), (sets.RIGHT_EYE, True), (sets.OUTER_LIPS, True), (sets.INNER_LIPS, True),
    (sets.LEFT_IRIS[1:], True), (sets.RIGHT_IRIS[1:], True), (sets.LEFT_BROW[:5], False), (sets.RIGHT_BROW[:5], False),
    (sets.NOSE_BRIDGE, False), (sets.NOSE_BASE, False),
)  # fmt: skip
_LINE, _BAR, _TRACK, _LOST = "#ffb000", "#00d0ff", "#30343a", "#e5006d"
_SHOWN = ("eyeBlinkLeft", "eyeBlinkRight", "browInnerUp", "browDownLeft", "jawOpen", "mouthSmileLeft", "mouthSmileRight", "mouthPucker")


def draw_track(picture: np.ndarray, track: VideoTrack, frame: int) -> np.ndarray:
    """(H, W, 3) uint8: a frame with the fitted head's lines and bars of the weights that tell most; a red frame where no face was seen."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    height, width = picture.shape[:2]
    unit = max(1, height // 360)
    if track.seen[frame]:
        points = track.points[frame]
        for ring, closed in _RINGS:
            members = [*ring, ring[0]] if closed else list(ring)
            draw.line([tuple(point) for point in points[members].tolist()], fill=_LINE, width=unit)
    else:
        draw.rectangle((0, 0, width - 1, height - 1), outline=_LOST, width=4 * unit)
    names = track.performance.expression_names
    for row, name in enumerate(name for name in _SHOWN if name in names):
        weight = float(np.clip(track.performance.expression[frame, names.index(name)], 0, 1))
        x, y, length = 6 * unit, (6 + 9 * row) * unit, 60 * unit
        draw.rectangle((x, y, x + length, y + 6 * unit), fill=_TRACK)
        draw.rectangle((x, y, x + round(length * weight), y + 6 * unit), fill=_BAR)
        draw.text((x + length + 3 * unit, y - unit), name, fill="white", stroke_fill="black", stroke_width=1, font_size=8 * unit)
    return np.asarray(image)


def overlay_pictures(
    video: str | Path, track: VideoTrack, count: int, *, most_height: int = 512, progress: Progress = silent
) -> np.ndarray:
    """`count` frames of the video, or all, evenly spread and with its track: (N, H, W, 3) uint8, no higher than `most_height` px.

    Raises as `io.video.video_frames`.
    """
    times = frame_times(video)
    last = len(track.performance) - 1
    chosen = np.unique(np.linspace(0, len(times) - 1, min(count, len(times))).round().astype(int)).tolist()
    pictures = []
    decoded = zip(chosen, video_frames(video, chosen), strict=False)
    for number, picture in steps(decoded, "draw overlay", len(chosen), progress):
        drawn = Image.fromarray(draw_track(picture, track, min(last, round(times[number] * track.performance.fps))))
        drawn.thumbnail((drawn.width, most_height))
        pictures.append(np.asarray(drawn))
    return np.stack(pictures)


def write_overlay(video: str | Path, track: VideoTrack, path: str | Path, *, progress: Progress = silent) -> None:
    """Writes the video with its track, atomically. Raises as `io.video.video_frames` and `io.video.write_video`."""

    def drawn() -> Iterator[np.ndarray]:
        last = len(track.performance) - 1
        for moment, picture in zip(frame_times(video), video_frames(video), strict=False):
            yield draw_track(picture, track, min(last, round(moment * track.performance.fps)))

    write_video(path, drawn(), track.performance.fps, progress)
