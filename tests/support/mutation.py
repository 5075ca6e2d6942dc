# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile variants of a good file, and what every reader owes them."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mvp4d_core.errors import MVP4DError

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (b"0", b"-1", b"1000000000000", b"99999999999999999999", b"nan", b"inf", b"1e999", b"null", b"{}", b"[", b'"', b"\\", b"\n", b"\0")


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """`data` after one to four random changes, most of them in its first kilobyte, where headers are."""
    result = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        reach = len(result) if rng.random() < 0.3 else min(len(result), 1024)
        position = int(rng.integers(reach)) if reach else 0
        length = int(rng.integers(1, 17))
        kind = rng.integers(8)
        if kind == 0:
            result[position : position + 1] = bytes([int(rng.integers(256))])
        elif kind == 1 and result:
            result[min(position, len(result) - 1)] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            del result[position : position + length]
        elif kind == 3:
            result[position:position] = result[position : position + length]
        elif kind == 4:
            del result[int(rng.integers(len(result) + 1)) :]
        elif kind == 5:
            width = int(rng.choice([1, 2, 4, 8]))
            extreme = _EXTREMES[int(rng.integers(len(_EXTREMES)))] % 256**width
            result[position : position + width] = extreme.to_bytes(width, "little" if rng.random() < 0.5 else "big")
        elif kind == 6:
            result[position : position + length] = _WORDS[int(rng.integers(len(_WORDS)))]
        else:
            result += rng.bytes(length)
    return bytes(result)


def assert_refuses_cleanly(
    read: Callable[[Path], object], sound: bytes, path: Path, cases: int, seed: int = 0, seconds: float = 1.0
) -> int:
    """Reads `cases` mutations of `sound` from `path`: only errors of ours may escape, with a message of at most two lines, and soon.

    Returns how many were refused; the others are files that are still readable.
    """
    rng = np.random.default_rng(seed)
    refused = 0
    for case in range(cases):
        damaged = mutate(sound, rng)
        path.write_bytes(damaged)
        start = time.process_time()  # not the clock on the wall: other processes may be busy
        try:
            read(path)
        except MVP4DError as error:
            refused += 1
            assert 10 < len(str(error)) < 800 and str(error).count("\n") <= 1, str(error)
        except Exception as error:
            raise AssertionError(f"case {case} of seed {seed} lets {type(error).__name__} escape: {error}") from error
        took = time.process_time() - start
        assert took < seconds, f"case {case} of seed {seed} takes {took:.2f} s of processor time"
    return refused


def peak_memory(action: Callable[[], object]) -> int:
    """The most bytes that Python and numpy hold at once during `action` beyond what they held before. Errors of ours are expected."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        try:
            action()
        except MVP4DError:
            pass
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
