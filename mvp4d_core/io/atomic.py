# SPDX-License-Identifier: Apache-2.0
"""Writes that happen as a whole or not at all.

The bytes go to a temporary file in the folder of the target, are flushed to the disk, and take the target's name in one step. Whatever
happens before that step (an error, Ctrl-C, a kill, a power cut) leaves the old file as it was. The temporary file goes away with any
exception; only a killed process leaves one behind, and `is_temporary` knows it by its name.
"""

import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import StorageError
from .os_errors import cannot_write

_PREFIX = ".mvp4d-unfinished-"


def is_temporary(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is the unfinished file of a write in progress or of a killed process. Readers of folders skip such files."""
    return Path(path).name.startswith(_PREFIX)


def remove_temporaries(folder: Path) -> None:
    """Deletes what killed processes left in `folder` itself. Only for a folder into which nothing is being written."""
    for path in filter(is_temporary, folder.glob(".*")):
        path.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Gives a binary file; what was written to it becomes `path` when the block ends without an exception.

    Raises:
        StorageError: the disk is full or failing, or the folder is missing or may not be written.
    """
    with atomic_path(path, ".part") as temporary, temporary.open("xb") as file:
        yield file


@contextmanager
def atomic_path(path: str | os.PathLike[str], suffix: str | None = None) -> Iterator[Path]:
    """Gives the name of a file that does not exist yet, for writers that want a name (video encoders, Blender).

    What the block left under that name becomes `path` when the block ends without an exception.

    Args:
        path: the file to write. A link is followed, and the permissions of an existing file are kept.
        suffix: ending of the temporary name, for writers that choose the format by it; that of `path` when not given.

    Raises:
        StorageError: as `atomic_write`, or the block left no file.
    """
    target = _resolve(Path(path))
    temporary = target.with_name(f"{_PREFIX}{secrets.token_hex(8)}{target.suffix if suffix is None else suffix}")
    try:
        yield temporary
        _flush_file(temporary)
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
        _flush_folder(target.parent)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        raise cannot_write(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` as UTF-8 with the line ends it has."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def atomic_json(path: str | os.PathLike[str], value: object) -> None:
    """Writes `value` as indented JSON. A number that is not finite raises `ValueError`, because JSON has none."""
    atomic_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _resolve(path: Path) -> Path:
    """The ordinary file that `path` means, existing or not, in a folder that exists."""
    try:
        target = path.resolve()
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        folder = target.parent
        if not folder.is_dir():
            raise StorageError(f"Cannot write {path}: the folder {folder} does not exist. Create it first.")
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "a device or a pipe"
            raise StorageError(f"Cannot write {path}: it is {kind}. Give the name of an ordinary file.")
    except OSError as error:
        raise cannot_write(path, error) from error
    except RuntimeError as error:  # how Python before 3.13 reports a circle of links
        raise cannot_write(path, OSError(errno.ELOOP, str(error))) from error
    except ValueError as error:
        raise StorageError("Cannot write a file whose name contains a null character. Correct the name.") from error
    return target


def _flush_file(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Makes the new name outlive a power cut. Windows and some network disks cannot flush a folder, and need not."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
