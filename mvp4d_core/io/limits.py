# SPDX-License-Identifier: Apache-2.0
"""How large a file may be before a reader refuses it.

A reader checks what a file *says* about its size against these caps, and against the size the file has, before it allocates anything of
that size. Whoever trusts a file can pass wider limits.
"""

from dataclasses import dataclass

from ..errors import InputError

MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Limits:
    """The caps of the readers. Each is inclusive."""

    file_bytes: int = 8 * GIB
    """Size of any file."""
    header_bytes: int = 4 * MIB
    """Size of a safetensors or PLY header."""
    elements: int = 20_000_000
    """Splats of a file."""
    array_bytes: int = 4 * GIB
    """Arrays that are unpacked from one .npz archive."""
    pixels: int = 120_000_000
    """Width times height of a picture, and of one frame of a video."""
    video_pixels: int = 400_000_000
    """Width times height times frames of a video that is read as a whole (12 bytes each in memory)."""


DEFAULT = Limits()


def check_limit(path: object, what: str, value: int, most: int, cure: str) -> None:
    """Raises `InputError` when `value` is larger than `most`; the message names the file, `what` is counted, and the cure."""
    if value > most:
        raise InputError(f"{path} has {value:,} {what}, more than the {most:,} that are accepted. {cure}")
