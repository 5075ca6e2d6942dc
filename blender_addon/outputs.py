# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that Blender writes: a whole one or none. Blender cuts them short without a word when the disk is full, so each is looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy

from mvp4d_core.errors import StorageError
from mvp4d_core.io.atomic import atomic_path

_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"  # the last chunk, the same in every PNG


@contextmanager
def written_by_blender(path: str | Path, suffix: str) -> Iterator[str]:
    """Gives the name of a temporary file for one of Blender's operators; it becomes `path` when it turns out whole.

    Args:
        suffix: `.blend`, `.png`, `.mp4` or `.webm`.

    Raises:
        StorageError: the operator failed, or what it wrote is incomplete.
    """
    with atomic_path(path, suffix) as temporary:
        try:
            yield str(temporary)
        except RuntimeError as error:  # how bpy reports an operator's error
            reason = str(error).strip().splitlines()[-1].removeprefix("Error: ")
            raise StorageError(f"Blender could not make {path}: {reason}") from None
        if temporary.exists() and not _CHECKS[suffix](temporary):
            raise StorageError(
                f"Cannot write {path}: Blender left it incomplete, as on a full disk. Free some space or choose another folder."
            )


def _is_whole_blend(path: Path) -> bool:
    try:
        with bpy.data.libraries.load(str(path)):  # reads the directory, which comes last
            return True
    except OSError:
        return False


def _is_whole_png(path: Path) -> bool:
    return path.read_bytes().endswith(_PNG_END)


def _is_whole_mp4(path: Path) -> bool:
    """An MP4 is a row of boxes (ISO/IEC 14496-12, 4.2); the index `moov` is written when all else is."""
    size, position, kinds = path.stat().st_size, 0, set()
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            kinds.add(head[4:8])
            position += max(length, 8)
    return position == size and b"moov" in kinds


def _is_whole_webm(path: Path) -> bool:
    """A WebM is an EBML head and one segment, whose size is written last and reaches to the end (RFC 8794, 4 and 6)."""
    data = path.read_bytes()
    position = 0
    for kind in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        start = position + len(kind)
        if data[position:start] != kind or start >= len(data) or not data[start]:
            return False
        width = 9 - data[start].bit_length()  # the leading zeros of the first byte tell how many follow
        size = int.from_bytes(data[start : start + width], "big") - (1 << 7 * width)
        position = start + width + size
    return position == len(data)


_CHECKS = {".blend": _is_whole_blend, ".png": _is_whole_png, ".mp4": _is_whole_mp4, ".webm": _is_whole_webm}
