# SPDX-License-Identifier: Apache-2.0
"""What the operating system refused, said as one `StorageError` that names the cure."""

import errno
from pathlib import Path

from ..errors import StorageError

_READING = {
    errno.ENOENT: "there is no such file. Check the name and the folder.",
    errno.EISDIR: "it is a folder. Give the file inside it.",
    errno.EACCES: "you may not read it. Change its permissions or copy it where you may.",
    errno.EPERM: "you may not read it. Change its permissions or copy it where you may.",
    errno.EIO: "the disk reports a read error. Copy the file from its source again, to another disk.",
}

_WRITING = {
    errno.ENOSPC: "the disk is full. Free some space or choose another folder.",
    errno.EFBIG: "the file would be larger than this disk or account allows. Choose another folder.",
    errno.EROFS: "the disk is read-only. Choose another folder.",
    errno.EACCES: "you may not write there, or another program has the file open. Close that program or choose another folder.",
    errno.EPERM: "you may not write there. Choose another folder.",
    errno.ENOENT: "its folder does not exist. Create the folder first.",
    errno.EISDIR: "it is a folder. Give a file name inside it.",
    errno.EIO: "the disk reports a write error. Choose another disk.",
}
if hasattr(errno, "EDQUOT"):
    _WRITING[errno.EDQUOT] = "your share of the disk is used up. Free some space or choose another folder."

_BOTH = {
    errno.ENOTDIR: "a part of the path is a file, not a folder. Correct the path.",
    errno.ENAMETOOLONG: "the name is too long. Choose a shorter one.",
    errno.ELOOP: "its links lead in a circle. Give the path of the file itself.",
}


def cannot_read(path: Path, error: OSError) -> StorageError:
    """The error to raise when reading `path` failed with `error`."""
    return StorageError(f"Cannot read {path}: {_reason(_READING, error)}")


def cannot_write(path: Path, error: OSError) -> StorageError:
    """The error to raise when writing `path` failed with `error`. The file that was there before is untouched."""
    return StorageError(f"Cannot write {path}: {_reason(_WRITING, error)}")


def _reason(known: dict[int, str], error: OSError) -> str:
    if error.errno in known:
        return known[error.errno]
    if error.errno in _BOTH:
        return _BOTH[error.errno]
    return f"{error.strerror or error}. Try another disk or folder."
