# SPDX-License-Identifier: Apache-2.0
"""Finished blocks of a rollout on disk: what lets a killed generation continue.

Each block is one safetensors file with the frames it made, written atomically. Its metadata holds a key of everything that decides the run;
a block of another key, or a damaged one, counts as not made.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import FormatError
from ..io import safetensors_numpy
from ..io.atomic import remove_temporaries
from ..io.folders import make_folder
from ..io.schema import read_as

SCHEMA = "mvp4d-block/1"
_CHUNK = 1 << 22


class BlockStore:
    """The blocks of one run in one folder; `key` is the run's, from `digest_of`."""

    def __init__(self, folder: Path, key: str) -> None:
        make_folder(folder)
        remove_temporaries(folder)
        self._folder, self._key = folder, key

    def load(self, index: int, shape: tuple[int, ...]) -> np.ndarray | None:
        """Block `index` as uint8 frames of `shape`, or None where it is still to be made."""
        path = self._path(index)
        if not path.is_file():
            return None
        try:
            tensors, metadata = read_as(path, SCHEMA, "a finished block")
        except FormatError:
            return None
        frames = tensors.get("frames")
        if metadata.get("key") != self._key or frames is None or frames.dtype != np.uint8 or frames.shape != shape:
            return None
        return frames

    def save(self, index: int, frames: np.ndarray) -> None:
        """Keeps the uint8 frames of block `index`, atomically."""
        safetensors_numpy.write(self._path(index), {"frames": frames}, {"schema": SCHEMA, "key": self._key})

    def _path(self, index: int) -> Path:
        return self._folder / f"block_{index:04d}.safetensors"


def remove_blocks(folder: Path) -> None:
    """Deletes the blocks in `folder`, for when the video they made is kept elsewhere, and the folder where nothing else is in it."""
    if not folder.is_dir():
        return
    remove_temporaries(folder)
    for path in folder.glob("block_*.safetensors"):
        path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def digest_of(parts: object) -> str:
    """SHA-256, in hexadecimal, of nested dicts, lists and tuples of JSON values, arrays and bytes.

    Raises:
        TypeError: anything else, whose text might not tell two values apart.
    """
    whole = hashlib.sha256()
    for piece in _pieces(parts):
        whole.update(hashlib.sha256(piece).digest())
    return whole.hexdigest()


def files_digest(folder: Path) -> str:
    """SHA-256, in hexadecimal, of the names and contents of the files in a folder and those below it."""
    whole = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                content.update(chunk)
        whole.update(hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest() + content.digest())
    return whole.hexdigest()


def _pieces(parts: object) -> Iterator[bytes]:
    if isinstance(parts, dict):
        yield from _pieces([["dict", len(parts)], *sorted(parts.items())])
    elif isinstance(parts, list | tuple):
        yield f"list {len(parts)}".encode()
        for part in parts:
            yield from _pieces(part)
    elif isinstance(parts, np.ndarray):
        yield f"array {parts.dtype.str} {parts.shape}".encode()
        yield np.ascontiguousarray(parts).tobytes()
    elif isinstance(parts, bytes):
        yield b"bytes"
        yield parts
    else:
        yield json.dumps(parts).encode()
