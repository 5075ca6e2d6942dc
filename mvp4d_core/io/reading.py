# SPDX-License-Identifier: Apache-2.0
"""Opening a file that somebody gave us: it must exist, be an ordinary file, and be no larger than the limits allow; and its digest."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from ..errors import StorageError
from .limits import DEFAULT, Limits, check_limit
from .os_errors import cannot_read

_CHUNK = 1 << 20


@contextmanager
def open_input(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> Iterator[tuple[BufferedReader, int]]:
    """Opens `path` for reading and gives `(stream, size in bytes)`.

    An `OSError` that leaves the block, such as a failing disk, becomes a `StorageError` too.

    Raises:
        StorageError: the file is missing, a folder, a device or pipe, or may not be read.
        InputError: the file is larger than `limits.file_bytes`.
    """
    path = Path(path)
    try:
        _require_file(path)
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            check_limit(path, "bytes", size, limits.file_bytes, "Make the file smaller.")
            yield stream, size
    except OSError as error:
        raise cannot_read(path, error) from error


def file_sha256(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> str:
    """SHA-256, in hexadecimal, of a file's contents. Raises as `open_input`."""
    digest = hashlib.sha256()
    with open_input(path, limits) as (stream, _):
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _require_file(path: Path) -> None:
    """Looks before opening, because opening a pipe waits for its other end."""
    try:
        mode = path.stat().st_mode
    except ValueError as error:
        raise StorageError("Cannot read a file whose name contains a null character. Correct the name.") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise StorageError(f"Cannot read {path}: it is a device or a pipe. Give an ordinary file.")
