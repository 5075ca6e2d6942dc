# SPDX-License-Identifier: Apache-2.0
"""WAV files (RIFF and RF64): whole numbers of 8 to 32 bits and floats, any number of channels. Read with numpy alone."""

import os
import struct
from io import BufferedReader

import numpy as np

from ..errors import FormatError
from .limits import DEFAULT, Limits, check_limit
from .reading import open_input

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_KINDS = {(_PCM, 8): "u1", (_PCM, 16): "<i2", (_PCM, 24): "u1", (_PCM, 32): "<i4", (_FLOAT, 32): "<f4", (_FLOAT, 64): "<f8"}
_SAMPLES = 400_000_000  # two hours at 48 kHz in one channel
_RATES = (4000, 400_000)  # Hz
_UNKNOWN = 0xFFFFFFFF  # the size of a file that was still being written, or that an RF64 tells elsewhere
_CURE = "Convert it to WAV, for example: ffmpeg -i IN -ac 1 -ar 16000 OUT.wav"


def read_wav(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> tuple[np.ndarray, int]:
    """Reads a WAV file.

    Returns:
        The mean of its channels (N,) float32, full scale at -1..1, and the samples a second.

    Raises:
        FormatError: not a WAV file, one of another coding, a truncated or damaged one.
        InputError: larger than the limits.
        StorageError: the file is missing or cannot be read.
    """
    with open_input(path, limits) as (stream, size):
        head = stream.read(12)
        if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            raise FormatError(f"{path} is not a WAV file. {_CURE}")
        layout = None
        while True:
            chunk = stream.read(8)
            if len(chunk) < 8:
                raise FormatError(f"{path} has no sound: it ends before its samples. Take a fresh copy of it.")
            name, length = chunk[:4], struct.unpack("<I", chunk[4:])[0]
            left = size - stream.tell()
            if name == b"data":
                if layout is None:
                    raise FormatError(f"{path} has samples before their format. {_CURE}")
                if length > left and not (length == _UNKNOWN and left):
                    raise FormatError(f"{path} is cut off: {length:,} bytes of sound were announced, {left:,} are there. Copy it again.")
                return _samples(path, stream, min(length, left), layout)
            if length > left:
                raise FormatError(f"{path} is damaged: a part of {length:,} bytes goes beyond its end. Take a fresh copy of it.")
            if name == b"fmt ":
                layout = _layout(path, stream.read(min(length, 64)))
                stream.seek(max(0, length - 64) + length % 2, os.SEEK_CUR)
            else:
                stream.seek(length + length % 2, os.SEEK_CUR)


def _layout(path: object, data: bytes) -> tuple[int, int, int, int]:
    """Coding, bits, channels and rate."""
    if len(data) < 16:
        raise FormatError(f"{path} has a format of {len(data)} bytes, at least 16 are needed. {_CURE}")
    coding, channels, rate, _, block, bits = struct.unpack("<HHIIHH", data[:16])
    if coding == _EXTENSIBLE and len(data) >= 26:
        coding = struct.unpack("<H", data[24:26])[0]
    if (coding, bits) not in _KINDS or not 1 <= channels <= 64 or block != channels * bits // 8:
        raise FormatError(f"{path} has sound of coding {coding} with {bits} bits in {channels} channels, which is not supported. {_CURE}")
    if not _RATES[0] <= rate <= _RATES[1]:
        raise FormatError(f"{path} has {rate} samples a second, {_RATES[0]} to {_RATES[1]} are accepted. {_CURE}")
    return coding, bits, channels, rate


def _samples(path: object, stream: BufferedReader, length: int, layout: tuple[int, int, int, int]) -> tuple[np.ndarray, int]:
    coding, bits, channels, rate = layout
    count = length // (channels * bits // 8)
    check_limit(path, "samples", count * channels, _SAMPLES, "Cut it into shorter pieces.")
    if not count:
        raise FormatError(f"{path} has no sound in it. Give a recording.")
    raw = np.frombuffer(stream.read(count * channels * bits // 8), _KINDS[coding, bits])
    if bits == 24:
        bytes_ = raw.reshape(-1, 3).astype(np.int32)
        values = (bytes_[:, 0] << 8 | bytes_[:, 1] << 16 | bytes_[:, 2] << 24).astype(np.float32) / np.float32(2**31)
    elif coding == _PCM:
        values = (raw.astype(np.float32) - (128 if bits == 8 else 0)) / np.float32(2 ** (bits - 1))
    else:
        values = raw.astype(np.float32)
    if not np.isfinite(values).all():
        raise FormatError(f"{path} has samples that are not finite. Export it again.")
    return values.reshape(-1, channels).mean(axis=1), rate
