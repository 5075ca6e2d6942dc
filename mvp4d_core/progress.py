# SPDX-License-Identifier: Apache-2.0
"""One progress and cancel protocol for the command line, ComfyUI and Blender.

A progress is called as `progress(stage, done, total)`; it may draw a bar, and it may raise `errors.Cancelled` to stop the work there.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Progress = Callable[[str, int, int], None]
Item = TypeVar("Item")


def silent(stage: str, done: int, total: int) -> None:
    """The progress that shows nothing and never cancels."""


def steps(items: Iterable[Item], stage: str, total: int, progress: Progress) -> Iterator[Item]:
    """Yields `items`, telling `progress` before the first and after each one."""
    progress(stage, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress(stage, done, total)
