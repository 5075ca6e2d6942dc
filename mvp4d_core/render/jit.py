# SPDX-License-Identifier: Apache-2.0
"""How the CPU kernels of this package are compiled and driven.

Kernels are plain loops over a range `[first, last)` that release the GIL, so an ordinary thread pool runs them side by side. Numba's own
`parallel=True` is avoided on purpose: its work queue aborts the process on concurrent use and its OpenMP layer after a fork.
"""

import functools
import itertools
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from numba import njit

from ..errors import InputError

# Contraction and reassociation let LLVM vectorise; NaN and infinity keep their meaning, so comparisons with them stay reliable.
MAX_THREADS = 1024
FASTMATH = {"contract", "nsz", "arcp", "reassoc"}


def kernel(function: Callable) -> Callable:
    """Compiles on first call, releases the GIL, and keeps the machine code on disk where numba finds a writable folder for it."""
    # Cached code imports its module by name, and ComfyUI imports a clone under a name of its own: each name gets files of its own.
    function.__qualname__ = f"{function.__qualname__}_{zlib.crc32(function.__module__.encode()):08x}"
    options: dict[str, Any] = {"nogil": True, "fastmath": FASTMATH, "error_model": "numpy", "boundscheck": False}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to cache in: compile anew in each process
        return njit(**options)(function)


def inlined(function: Callable) -> Callable:
    """A helper that becomes part of each kernel that calls it."""
    return njit(inline="always")(function)


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


@functools.cache
def _helpers(count: int) -> ThreadPoolExecutor:
    """Threads that stay, because a system takes milliseconds to spread new ones over its cores."""
    return ThreadPoolExecutor(count, thread_name_prefix="render")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # the threads do not survive a fork


@dataclass(frozen=True)
class Team:
    """The calling thread and `threads - 1` helpers that share a range.

    The caller works too and never waits for a helper that has not begun, so a busy pool costs speed and cannot deadlock.
    """

    threads: int

    def run(self, kernel: Callable, count: int, *arguments: Any, grain: int = 1024) -> None:
        """Calls `kernel(first, last, *arguments)` on pieces of `range(count)` of at least `grain` items."""
        pieces = max(1, min(count // grain, 4 * self.threads)) if self.threads > 1 else 1
        self.run_pieces(kernel, [count * i // pieces for i in range(pieces + 1)], *arguments)

    def run_pieces(self, kernel: Callable, cuts: list[int], *arguments: Any) -> None:
        """Calls `kernel(first, last, *arguments)` on the pieces between successive cuts."""
        pieces = list(itertools.pairwise(cuts))
        queue: SimpleQueue = SimpleQueue()
        for piece in pieces:
            queue.put(piece)

        def work() -> None:
            while True:
                try:
                    first, last = queue.get_nowait()
                except Empty:
                    return
                kernel(first, last, *arguments)

        count = min(self.threads, len(pieces)) - 1
        futures = [_helpers(self.threads - 1).submit(work) for _ in range(count)]
        try:
            work()
        finally:
            for future in futures:
                if not future.cancel():
                    future.result()


def team(threads: int | None = None) -> Team:
    """A team of that many threads, or of all usable cores."""
    threads = usable_cores() if threads is None else threads
    if not 1 <= threads <= MAX_THREADS:
        raise InputError(f"`threads` must be from 1 to {MAX_THREADS}, got {threads}.")
    return Team(threads)
