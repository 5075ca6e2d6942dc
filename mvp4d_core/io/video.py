# SPDX-License-Identifier: Apache-2.0
"""Videos from and to files. Needs PyAV, so it is no part of the ground floor; PyAV is imported when a video is read or written."""

import errno
import importlib
import operator
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from ..errors import FormatError, InputError, MissingAssetError
from ..progress import Progress, silent
from .atomic import atomic_path
from .images import to_bytes
from .limits import DEFAULT, Limits, check_limit
from .reading import open_input

_CODEC = "libx264"
_QUALITY = {"crf": "16", "preset": "medium"}
_BT709 = 1  # the code of the colour primaries, the transfer curve and the matrix alike in ITU-T H.273
_LIMITED_RANGE = 1
_UNSPECIFIED_MATRIX = 2
_HD_HEIGHT = 720

# Containers only: playlists would make the reader open the files and addresses that they name.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"


def write_video(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float, progress: Progress = silent) -> None:
    """Writes an H.264 MP4 (yuv420p, BT.709, playable while it loads), atomically.

    Args:
        path: a name that ends in `.mp4`.
        frames: (H, W, 3) float images in 0..1, sRGB, all of one size; they are taken one at a time. H.264 wants even sizes: an odd one
            gains a row or column that repeats the last.
        fps: frames a second.
        progress: told `("write video", done, total)`; total is 0 when `frames` has no length.

    Raises:
        InputError: no frames, frames of another shape or with values that are not finite, or a size that H.264 lacks.
        StorageError: the file cannot be written.
        MissingAssetError: PyAV or its H.264 encoder is missing.
    """
    if not os.fspath(path).lower().endswith(".mp4"):
        raise InputError(f"Videos are written as MP4, got the name {os.fspath(path)!r}. Let it end in .mp4.")
    if not 0 < fps <= 1000:
        raise InputError(f"`fps` must be in 0..1000, got {fps}. Use 25 or 30 for example.")
    av = _pyav()
    if _CODEC not in av.codecs_available:
        raise MissingAssetError(f"This PyAV has no H.264 encoder ({_CODEC}). Install the wheel from PyPI: pip install --force-reinstall av")
    total = operator.length_hint(frames)
    images = _even_frames(frames)
    first = next(images, None)
    if first is None:
        raise InputError("A video needs a frame, `frames` has none. Render at least one.")
    with atomic_path(path, ".mp4") as temporary:
        try:
            _encode(av, temporary, first, images, fps, total, progress)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise InputError(f"H.264 cannot hold {first.shape[1]} x {first.shape[0]} pixels at {fps:g} fps ({error}).") from error


def read_video(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> tuple[np.ndarray, float]:
    """Reads all frames of an MP4, MOV, MKV, WebM, AVI or TS file, upright.

    Returns:
        The frames (T, H, W, 3), float32 in 0..1, sRGB, and the frames a second (the mean where the rate varies).

    Raises:
        FormatError: not a video of these kinds, or a corrupt or truncated one.
        InputError: a frame of more than `limits.pixels`, or altogether more than `limits.video_pixels`.
        StorageError: the file is missing or cannot be read.
        MissingAssetError: PyAV is not installed.
    """
    av = _pyav()
    with open_input(path, limits) as (stream, _):
        try:
            frames, fps = _decode(av, stream, path, limits)
        except (av.error.FFmpegError, OSError, ValueError, OverflowError, ZeroDivisionError) as error:
            if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError) and error.errno != errno.EINVAL:
                raise  # the disk's; EINVAL is a jump to where no file can have a byte
            reason = getattr(error, "strerror", None) or str(error)[:120] or type(error).__name__
            raise FormatError(f"{path} is not a sound video ({reason}). Use MP4, MOV, MKV, WebM or AVI, or take a fresh copy.") from error
    video = np.zeros((len(frames), *frames[0].shape), np.float32)
    for index, frame in enumerate(frames):
        np.divide(frame, 255, out=video[index], dtype=np.float32)
    return video, fps


def _pyav() -> ModuleType:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise MissingAssetError("Videos need the package av (PyAV), which is not installed. Run: pip install av") from error


def _even_frames(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames as uint8 of one even size."""
    size = None
    for index, frame in enumerate(frames):
        size = frame.shape if size is None else size
        if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise InputError(f"Frame {index} must be (H, W, 3), got {frame.shape}. Pass colour images.")
        if frame.shape != size:
            raise InputError(f"Frame {index} is {frame.shape}, the first is {size}. Give every frame the same size.")
        odd = (frame.shape[0] % 2, frame.shape[1] % 2)
        yield np.pad(to_bytes(frame, f"Frame {index}"), ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")


def _encode(av: ModuleType, path: Path, first: np.ndarray, rest: Iterator[np.ndarray], fps: float, total: int, progress: Progress) -> None:
    progress("write video", 0, total)
    with av.open(str(path), "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(_CODEC, rate=Fraction(fps).limit_denominator(1001), options=dict(_QUALITY))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
        codec.color_range = _LIMITED_RANGE
        for done, image in enumerate(chain([first], rest), start=1):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format="yuv420p", src_color_range="JPEG", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            container.mux(stream.encode(frame))
            progress("write video", done, total)
        container.mux(stream.encode())


def _decode(av: ModuleType, file: BinaryIO, path: object, limits: Limits) -> tuple[list[np.ndarray], float]:
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    with av.open(file, container_options=options) as container:
        if not container.streams.video:
            raise FormatError(f"{path} has no picture track. Give a file with video.")
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        if stream.codec_context is None or not rate:
            raise FormatError(f"{path} has a picture track of unknown kind or rate. Convert it to MP4 (H.264) first.")
        _check_size(path, stream.codec_context, 0, limits)
        frames: list[np.ndarray] = []
        for frame in _sound_frames(container, stream, path):
            _check_size(path, frame, len(frames), limits)
            frames.append(_upright_rgb(frame))
            if frames[-1].shape != frames[0].shape:
                raise FormatError(f"{path} changes its picture size at frame {len(frames) - 1}. Convert it to one size first.")
        if not frames:
            raise FormatError(f"{path} has no frame that can be decoded. Take a fresh copy of it.")
        return frames, float(rate)


def _sound_frames(container: Any, stream: Any, path: object) -> Iterator[Any]:
    """The frames as they are decoded. The decoder would paint over what is missing, so damage ends the reading."""
    for number, packet in enumerate(container.demux(stream)):
        frames = packet.decode()
        if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
            raise FormatError(f"{path} is damaged or cut off near frame {number}. Take a fresh copy of it.")
        yield from frames


def _check_size(path: object, picture: Any, frames_before: int, limits: Limits) -> None:
    pixels = picture.width * picture.height
    check_limit(path, "pixels a frame", pixels, limits.pixels, "Scale the video down first.")
    check_limit(path, "pixels in all frames", pixels * (frames_before + 1), limits.video_pixels, "Shorten the video or scale it down.")


def _upright_rgb(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8. A frame that does not name its colour matrix has that of its size: BT.709 for HD, BT.601 below."""
    hd = frame.colorspace == _UNSPECIFIED_MATRIX and frame.height >= _HD_HEIGHT
    rgb = frame.reformat(format="rgb24", src_colorspace="ITU709" if hd else None, dst_color_range="JPEG").to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))
