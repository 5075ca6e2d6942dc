# SPDX-License-Identifier: Apache-2.0
"""Videos from and to files. Needs PyAV, so it is no part of the ground floor; PyAV is imported when a video is read or written."""

import errno
import importlib
import operator
import os
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import FormatError, InputError, MissingAssetError
from ..progress import Progress, silent
from .atomic import atomic_path
from .images import to_bytes
from .limits import DEFAULT, Limits, check_limit
from .reading import open_input

_BT709 = 1  # the code of the colour primaries, the transfer curve and the matrix alike in ITU-T H.273
_LIMITED_RANGE = 1
_UNSPECIFIED_MATRIX = 2
_HD_HEIGHT = 720

# Containers only: playlists would make the reader open the files and addresses that they name.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"


@dataclass(frozen=True)
class Quality:
    """How closely a video keeps the frames, and as which kind of file.

    `codec` is FFmpeg's name of an encoder, `pixels` its pixel format and `options` its settings, as name=value pairs.
    """

    name: str
    ending: str
    codec: str
    pixels: str
    options: tuple[str, ...]

    @property
    def halves_colour(self) -> bool:
        """Whether 2 x 2 pixels share a colour, which wants even sizes."""
        return "420" in self.pixels

    @property
    def has_alpha(self) -> bool:
        """Whether frames have an alpha channel, beside straight colour."""
        return self.pixels.startswith("yuva")


PLAYABLE = Quality("H.264", ".mp4", "libx264", "yuv420p", ("crf=16", "preset=medium"))  # what every player shows
CLOSE = Quality("H.264", ".mp4", "libx264", "yuv444p", ("crf=8", "preset=medium"))  # for eyes of networks: every pixel keeps its own colour
LOSSLESS = Quality("H.264", ".mp4", "libx264rgb", "rgb24", ("crf=0", "preset=fast"))  # every pixel's value, at about five times the size
# for editing programs: DaVinci Resolve, Premiere, After Effects, Final Cut
PRORES_4444 = Quality("ProRes 4444", ".mov", "prores_ks", "yuva444p10le", ("profile=4444", "vendor=apl0", "alpha_bits=16"))
# for web pages: Chrome, Edge and Firefox show it over the page
VP9_ALPHA = Quality("VP9", ".webm", "libvpx-vp9", "yuva420p", ("crf=18", "b=0", "row-mt=1", "cpu-used=4", "auto-alt-ref=0"))
WITH_ALPHA = {quality.ending: quality for quality in (PRORES_4444, VP9_ALPHA)}


def write_video(
    path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float, progress: Progress = silent, *, quality: Quality = PLAYABLE
) -> None:
    """Writes a video (BT.709; MP4 and MOV playable while they load), atomically.

    Args:
        path: a name with the quality's ending.
        frames: (H, W, 3) images, or (H, W, 4) with straight alpha where the quality has it, float in 0..1 or uint8, sRGB, all of one size;
            they are taken one at a time. Where the quality wants even sizes, an odd one gains a row or column that repeats the last.
        fps: frames a second.
        progress: told `("write video", done, total)`; total is 0 when `frames` has no length.
        quality: `PLAYABLE`, `CLOSE`, `LOSSLESS`, `PRORES_4444` or `VP9_ALPHA`.

    Raises:
        InputError: no frames, frames of another shape or with values that are not finite, or a size that the codec lacks.
        StorageError: the file cannot be written.
        MissingAssetError: PyAV or its encoder is missing.
    """
    if not os.fspath(path).lower().endswith(quality.ending):
        raise InputError(f"A video in {quality.name} wants another name than {os.fspath(path)!r}. Let it end in {quality.ending}.")
    if not 0 < fps <= 1000:
        raise InputError(f"`fps` must be in 0..1000, got {fps}. Use 25 or 30 for example.")
    av = _pyav()
    if quality.codec not in av.codecs_available:
        raise MissingAssetError(
            f"This PyAV has no {quality.name} encoder ({quality.codec}). Install the wheel from PyPI: pip install --force-reinstall av"
        )
    total = operator.length_hint(frames)
    images = _frames_to_encode(frames, quality)
    first = next(images, None)
    if first is None:
        raise InputError("A video needs a frame, `frames` has none. Render at least one.")
    with atomic_path(path, quality.ending) as temporary:
        try:
            _encode(av, temporary, first, images, fps, quality, total, progress)
        except av.error.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            raise InputError(f"{quality.name} cannot hold {first.shape[1]} x {first.shape[0]} pixels at {fps:g} fps ({error}).") from error


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
    frames: list[np.ndarray] = []
    with _opened(path, limits) as (container, stream):
        fps = float(stream.average_rate or stream.guessed_rate)
        for frame in _sound_frames(container, stream, path, limits):
            pixels = frame.width * frame.height * (len(frames) + 1)
            check_limit(path, "pixels in all frames", pixels, limits.video_pixels, "Shorten the video or scale it down.")
            frames.append(_upright_rgb(frame))
    if not frames:
        raise FormatError(f"{path} has no frame that can be decoded. Take a fresh copy of it.")
    video = np.zeros((len(frames), *frames[0].shape), np.float32)
    for index, frame in enumerate(frames):
        np.divide(frame, 255, out=video[index], dtype=np.float32)
    return video, fps


def video_frames(
    path: str | os.PathLike[str], wanted: Collection[int] | None = None, limits: Limits = DEFAULT
) -> Generator[np.ndarray, None, None]:
    """The frames of a video one at a time, upright, (H, W, 3) uint8; of `wanted` numbers alone where they are given, in rising order.

    The others up to the last wanted one are decoded and dropped; of numbers beyond the end there is nothing. Raises as `read_video`, while
    it is iterated over; `limits.video_pixels` is not asked for.
    """
    last = None if wanted is None else max(wanted, default=-1)
    chosen = None if wanted is None else set(wanted)
    if last is not None and last < 0:
        return
    with _opened(path, limits) as (container, stream):
        for number, frame in enumerate(_sound_frames(container, stream, path, limits)):
            if chosen is None or number in chosen:
                yield _upright_rgb(frame)
            if number == last:
                return


def frame_times(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> np.ndarray:
    """When each frame of a video is shown, (T,) float64 seconds since the first, rising; read off the container, no frame is decoded.

    Phones and webcams change their rate as the light changes, so differences need not be equal. Where the file does not tell, its mean
    rate does. Raises as `read_video`.
    """
    with _opened(path, limits) as (container, stream):
        shown = [packet.pts for packet in container.demux(stream) if packet.size]
        rate = float(stream.average_rate or stream.guessed_rate)
        if not shown or any(moment is None for moment in shown) or len(set(shown)) < len(shown):
            return np.arange(len(shown)) / rate
        ticks = np.sort(np.array(shown, np.float64))
        return (ticks - ticks[0]) * float(stream.time_base)


def _pyav() -> ModuleType:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise MissingAssetError("Videos need the package av (PyAV), which is not installed. Run: pip install av") from error


def _frames_to_encode(frames: Iterable[np.ndarray], quality: Quality) -> Iterator[np.ndarray]:
    """The frames as uint8 of one size, an even one if need be."""
    size, channels, even = None, 4 if quality.has_alpha else 3, quality.halves_colour
    for index, frame in enumerate(frames):
        size = frame.shape if size is None else size
        if frame.ndim != 3 or frame.shape[2] != channels or 0 in frame.shape:
            what = "images with colour and alpha" if quality.has_alpha else "colour images"
            raise InputError(f"Frame {index} must be (H, W, {channels}), got {frame.shape}. Pass {what}.")
        if frame.shape != size:
            raise InputError(f"Frame {index} is {frame.shape}, the first is {size}. Give every frame the same size.")
        image = frame if frame.dtype == np.uint8 else to_bytes(frame, f"Frame {index}")
        odd = (frame.shape[0] % 2, frame.shape[1] % 2) if even else (0, 0)
        yield np.pad(image, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")


def _encode(
    av: ModuleType, path: Path, first: np.ndarray, rest: Iterator[np.ndarray], fps: float, quality: Quality, total: int, progress: Progress
) -> None:
    progress("write video", 0, total)
    options = dict(option.split("=", 1) for option in quality.options)
    rgb, given = quality.pixels == "rgb24", "rgba" if quality.has_alpha else "rgb24"
    muxing = {} if quality.ending == ".webm" else {"movflags": "+faststart"}
    with av.open(str(path), "w", format=quality.ending[1:], container_options=muxing) as container:
        stream = container.add_stream(quality.codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = quality.pixels
        if not rgb:
            codec = stream.codec_context
            codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
            codec.color_range = _LIMITED_RANGE
        for done, image in enumerate(chain([first], rest), start=1):
            frame = av.VideoFrame.from_ndarray(image, format=given)
            if not rgb:
                frame = frame.reformat(format=quality.pixels, src_color_range="JPEG", dst_colorspace="ITU709", dst_color_range="MPEG")
            container.mux(stream.encode(frame))
            progress("write video", done, total)
        container.mux(stream.encode())


@contextmanager
def _opened(path: str | os.PathLike[str], limits: Limits) -> Iterator[tuple[Any, Any]]:
    """The container and its picture track; what goes wrong with them inside the block becomes one of our errors."""
    av = _pyav()
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    with open_input(path, limits) as (file, _):
        try:
            with av.open(file, container_options=options) as container:
                if not container.streams.video:
                    raise FormatError(f"{path} has no picture track. Give a file with video.")
                stream = container.streams.video[0]
                if stream.codec_context is None or not (stream.average_rate or stream.guessed_rate):
                    raise FormatError(f"{path} has a picture track of unknown kind or rate. Convert it to MP4 (H.264) first.")
                yield container, stream
        except (av.error.FFmpegError, OSError, ValueError, OverflowError, ZeroDivisionError) as error:
            if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError) and error.errno != errno.EINVAL:
                raise  # the disk's; EINVAL is a jump to where no file can have a byte
            reason = getattr(error, "strerror", None) or str(error)[:120] or type(error).__name__
            raise FormatError(f"{path} is not a sound video ({reason}). Use MP4, MOV, MKV, WebM or AVI, or take a fresh copy.") from error


def _sound_frames(container: Any, stream: Any, path: object, limits: Limits) -> Iterator[Any]:
    """The frames as they are decoded, all of one size. The decoder would paint over what is missing, so damage ends the reading."""
    _check_size(path, stream.codec_context, limits)
    size, count = None, 0
    for number, packet in enumerate(container.demux(stream)):
        frames = packet.decode()
        if packet.is_corrupt or any(frame.is_corrupt for frame in frames):
            raise FormatError(f"{path} is damaged or cut off near frame {number}. Take a fresh copy of it.")
        for frame in frames:
            _check_size(path, frame, limits)
            size = size or (frame.width, frame.height)
            if (frame.width, frame.height) != size:
                raise FormatError(f"{path} changes its picture size at frame {count}. Convert it to one size first.")
            yield frame
            count += 1


def _check_size(path: object, picture: Any, limits: Limits) -> None:
    check_limit(path, "pixels a frame", picture.width * picture.height, limits.pixels, "Scale the video down first.")


def _upright_rgb(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8. A frame that does not name its colour matrix has that of its size: BT.709 for HD, BT.601 below."""
    hd = frame.colorspace == _UNSPECIFIED_MATRIX and frame.height >= _HD_HEIGHT
    rgb = frame.reformat(format="rgb24", src_colorspace="ITU709" if hd else None, dst_color_range="JPEG").to_ndarray()
    return np.ascontiguousarray(np.rot90(rgb, round(frame.rotation / 90)))
