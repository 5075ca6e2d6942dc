# SPDX-License-Identifier: Apache-2.0
"""Numpy's .npz archives and .npy files from strangers: no pickle, and nothing is unpacked before its size is known and accepted."""

import math
import os
import zipfile
import zlib
from collections.abc import Collection, Mapping
from typing import IO

import numpy as np
from numpy.lib import format as npy

from ..errors import FormatError
from .atomic import atomic_write
from .limits import DEFAULT, Limits, check_limit
from .reading import open_input

_KINDS = "biuf"  # booleans and numbers
_LAST_CHARACTER = 0x10FFFF
_HEADER_CHARACTERS = 10_000
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class _Damage(ValueError):
    """Why an archive is refused; becomes a `FormatError` with the file's name."""


def read_npz(
    path: str | os.PathLike[str], wanted: Collection[str], limits: Limits = DEFAULT, *, texts: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """The arrays of `wanted` names that the archive has, and of `texts`, which may hold numpy's strings; others are not looked at.

    Raises:
        FormatError: no archive, a damaged one, or a wanted array that is no table of numbers.
        InputError: more than `limits.array_bytes` altogether, or a file of more than `limits.file_bytes`.
        StorageError: the file is missing or cannot be read.
    """
    with open_input(path, limits) as (stream, _):
        try:
            with zipfile.ZipFile(stream) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename.endswith(".npy")}
                chosen = {name: members[name] for name in (*wanted, *texts) if name in members}
                total = sum(info.file_size for info in chosen.values())
                check_limit(path, "bytes in its arrays", total, limits.array_bytes, "Keep fewer frames.")
                return {name: _read_member(archive, info, name in texts) for name, info in chosen.items()}
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OverflowError, KeyError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise FormatError(f"{path} is not a sound .npz archive: {reason}. Take a fresh copy or export it again.") from error


def read_npy(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> np.ndarray:
    """The numbers of one .npy file.

    Raises:
        FormatError: another kind of file, a damaged one, or one that holds no table of numbers.
        InputError: more than `limits.array_bytes`, or a file of more than `limits.file_bytes`.
        StorageError: the file is missing or cannot be read.
    """
    with open_input(path, limits) as (stream, size):
        check_limit(path, "bytes in its array", size, limits.array_bytes, "Keep fewer frames.")
        try:
            return _read_array(stream, "the array", size, False)
        except (ValueError, EOFError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise FormatError(f"{path} is not a sound .npy file: {reason}. Take a fresh copy or export it again.") from error


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed archive, atomically."""
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array(member, np.asarray(array, order="C"), allow_pickle=False)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, may_be_text: bool) -> np.ndarray:
    with archive.open(info) as member:
        return _read_array(member, repr(info.filename[:60]), info.file_size, may_be_text)


def _read_array(member: IO[bytes], name: str, size: int, may_be_text: bool) -> np.ndarray:
    version = npy.read_magic(member)
    if version not in _READERS:
        raise _Damage(f"{name} is of the unknown version {version}")
    try:
        shape, by_columns, dtype = _READERS[version](member, max_header_size=_HEADER_CHARACTERS)  # pyright: ignore[reportCallIssue]
    except Exception as error:  # the header is a Python literal, and on nonsense its parsers raise nearly every built-in exception
        raise _Damage(f"{name} has no header that numpy knows ({type(error).__name__})") from error
    is_text = may_be_text and dtype.kind == "U" and dtype.itemsize > 0
    if dtype.kind not in _KINDS and not is_text:
        raise _Damage(f"{name} holds {str(dtype)[:40]}, not numbers")
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != size - member.tell():
        raise _Damage(f"{name} promises {str(shape)[:60]} of {dtype}, which is not its size")
    data = member.read()
    if is_text and (np.frombuffer(data, np.dtype("u4").newbyteorder(dtype.byteorder)) > _LAST_CHARACTER).any():
        raise _Damage(f"{name} holds numbers that are no characters")
    array = np.frombuffer(data, dtype, count=math.prod(shape))
    return array.reshape(shape, order="F" if by_columns else "C").copy()
