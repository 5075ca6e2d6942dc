# SPDX-License-Identifier: Apache-2.0
"""WAV files, against the standard library's writer, and damaged."""

import struct
import wave

import numpy as np
import pytest

from mvp4d_core.errors import FormatError, InputError, MVP4DError, StorageError
from mvp4d_core.io.audio import read_wav
from mvp4d_core.io.limits import Limits

RATE = 16000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(1600) / RATE)


def whole_numbers(path, values: np.ndarray, bits: int, channels: int = 1) -> None:
    """Written by the standard library."""
    width = bits // 8
    scaled = np.round(np.repeat(values[:, None], channels, axis=1) * (2 ** (bits - 1) - 1)).astype(np.int64)
    raw = (
        (scaled + 128).astype(np.uint8).tobytes() if bits == 8 else scaled.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(RATE)
        file.writeframes(raw)


def chunks(*parts: tuple[bytes, bytes]) -> bytes:
    body = b"WAVE" + b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def layout(coding: int, bits: int, channels: int = 1, rate: int = RATE, extra: bytes = b"") -> tuple[bytes, bytes]:
    block = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", coding, channels, rate, rate * block, block, bits) + extra


@pytest.mark.parametrize(("bits", "channels"), [(8, 1), (16, 1), (16, 2), (24, 2), (32, 1)])
def test_whole_numbers_are_read_as_they_were_written(tmp_path, bits, channels):
    whole_numbers(tmp_path / "a.wav", TONE, bits, channels)
    samples, rate = read_wav(tmp_path / "a.wav")
    assert rate == RATE and samples.dtype == np.float32 and samples.shape == TONE.shape
    assert np.abs(samples - TONE).max() < 2.5 / 2 ** (min(bits, 24) - 1)


def test_floats_extensible_formats_and_odd_chunks(tmp_path):
    data = TONE.astype("<f4").tobytes()
    extensible = layout(0xFFFE, 32, extra=struct.pack("<HHIH", 22, 32, 4, 3) + b"\0" * 14)
    for name, parts in {"plain": [layout(3, 32)], "extensible": [extensible], "listed": [(b"LIST", b"odd"), layout(3, 32)]}.items():
        (tmp_path / name).write_bytes(chunks(*parts, (b"data", data)))
        assert np.abs(read_wav(tmp_path / name)[0] - TONE).max() < 1e-7


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "not a WAV"),
        (b"RIFF\0\0\0\0AVI LIST", "not a WAV"),
        (chunks(layout(1, 16)), "no sound"),
        (chunks((b"data", b"1234")), "before their format"),
        (chunks(layout(85, 16), (b"data", b"1234")), "coding 85"),
        (chunks(layout(1, 16, rate=7), (b"data", b"1234")), "7 samples"),
        (chunks(layout(1, 16), (b"data", b"")), "no sound in it"),
        (chunks(layout(3, 32), (b"data", np.float32(np.nan).tobytes())), "not finite"),
        (chunks(layout(1, 16), (b"data", b"0" * 100))[:-50], "cut off"),
        (chunks((b"fmt ", b"123")), "format of 3 bytes"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, data, word):
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(FormatError, match=word) as caught:
        read_wav(tmp_path / "a.wav")
    assert "\n" not in str(caught.value)


def test_limits_and_missing_files(tmp_path):
    whole_numbers(tmp_path / "a.wav", TONE, 16)
    with pytest.raises(InputError, match="bytes"):
        read_wav(tmp_path / "a.wav", Limits(file_bytes=100))
    with pytest.raises(StorageError):
        read_wav(tmp_path / "missing.wav")


def test_mutated_files_raise_our_errors_alone(tmp_path):
    rng = np.random.default_rng(0)
    whole = chunks((b"LIST", b"x" * 9), layout(1, 16, 2), (b"data", bytes(400)))
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            data[rng.integers(len(data))] = rng.integers(256)
        (tmp_path / "a.wav").write_bytes(bytes(data[: rng.integers(1, len(data) + 1)]))
        try:
            samples, _ = read_wav(tmp_path / "a.wav")
            assert np.isfinite(samples).all()
        except MVP4DError:
            pass
