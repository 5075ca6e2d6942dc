# SPDX-License-Identifier: Apache-2.0
"""MATLAB's level 5 MAT-files, as `scipy.io.savemat` writes them: real numeric arrays, and nothing else of what such files can hold.

Layout: a header of 128 bytes whose last four are the version 0x0100 and `IM` in the writer's byte order; then elements of a tag (type and
length in bytes) and data padded to 8 bytes. A tag with a non-zero upper half is of the small form, its data in the tag's second half.
An array (type 14) holds its flags, dimensions (column-major), name and real part; type 15 is an element packed with zlib.
Source: MathWorks, "MAT-File Format", R2021a, chapter 1.
"""

import math
import os
import struct
import zlib
from collections.abc import Collection

import numpy as np

from ..errors import FormatError
from .limits import DEFAULT, Limits, check_limit
from .reading import open_input

_HEADER, _MATRIX, _PACKED = 128, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = range(6, 16)  # mxDOUBLE_CLASS to mxUINT64_CLASS
_COMPLEX = 0x08
_LEAD = 4096  # bytes in which flags, dimensions and name must lie


class _Damage(ValueError):
    """Why a file is refused; becomes a `FormatError` with the file's name."""


def read_mat(path: str | os.PathLike[str], wanted: Collection[str], limits: Limits = DEFAULT) -> dict[str, np.ndarray]:
    """The real numeric arrays of `wanted` names that the file has; others are not unpacked.

    Raises:
        FormatError: another kind of file, or a damaged one.
        InputError: more than `limits.array_bytes` altogether, or a file of more than `limits.file_bytes`.
        StorageError: the file is missing or cannot be read.
    """
    found: dict[str, np.ndarray] = {}
    with open_input(path, limits) as (stream, size):
        check_limit(path, "bytes", size, limits.array_bytes, "Keep fewer frames.")
        data = memoryview(stream.read())
        try:
            order, position, left = _byte_order(data), _HEADER, limits.array_bytes
            while position < len(data):
                kind, body, position = _element(data, position, order)
                named = _array(body, kind, order, wanted, left) if kind in (_MATRIX, _PACKED) else None
                if named is not None:
                    found[named[0]] = named[1]
                    left -= named[1].nbytes
        except (_Damage, struct.error, zlib.error) as error:
            raise FormatError(f"{path} is not a sound MAT-file of level 5: {error}. Save it again, or as .npz.") from error
    return found


def _byte_order(data: memoryview) -> str:
    mark = bytes(data[126:128])
    if mark not in (b"IM", b"MI"):
        raise _Damage("it does not begin with such a file's header")
    return "<" if mark == b"IM" else ">"


def _element(data: memoryview, position: int, order: str) -> tuple[int, memoryview, int]:
    """Type, data, and where the next element begins."""
    (word,) = struct.unpack_from(f"{order}I", data, position)
    if word >> 16:
        kind, length, start, after = word & 0xFFFF, word >> 16, position + 4, position + 8
        if length > 4:
            raise _Damage("a small element is longer than its tag")
    else:
        kind, (length,), start = word, struct.unpack_from(f"{order}I", data, position + 4), position + 8
        after = start + length + (0 if kind == _PACKED else -length % 8)
    if start + length > len(data):
        raise _Damage("it is cut off")
    return kind, data[start : start + length], after


def _array(body: memoryview, kind: int, order: str, wanted: Collection[str], most: int) -> tuple[str, np.ndarray] | None:
    """Name and array of an element, or None where it is not wanted or holds something else than real numbers."""
    lead = body
    if kind == _PACKED:
        lead = memoryview(zlib.decompressobj().decompress(body, _LEAD))
        (kind,) = struct.unpack_from(f"{order}I", lead, 0)
        if kind != _MATRIX:
            return None
        lead = lead[8:]
    _, flags, position = _element(lead, 0, order)
    (word,) = struct.unpack_from(f"{order}I", flags, 0)
    _, sides, position = _element(lead, position, order)
    _, name, position = _element(lead, position, order)
    title = bytes(name).decode("latin-1")
    if title not in wanted or word & 0xFF not in _CLASSES or (word >> 8) & _COMPLEX:
        return None
    shape = np.frombuffer(sides, f"{order}i4", count=len(sides) // 4).tolist()
    count = math.prod(shape)
    if any(side < 0 for side in shape) or 8 * count > most:
        raise _Damage(f"`{title}` promises {str(shape)[:60]} numbers, which is more than it can hold or than is accepted")
    if lead is not body and lead.obj is not body.obj:
        room = 8 + position + 8 * count + 16
        body = memoryview(zlib.decompressobj().decompress(body, room))[8:]
    stored, numbers, _ = _element(body, position, order)
    code = _NUMBERS.get(stored)
    if code is None or len(numbers) != count * np.dtype(code).itemsize:
        raise _Damage(f"`{title}` has not the {count} numbers of its shape")
    return title, np.frombuffer(numbers, order + code).reshape(shape, order="F").astype(code, order="C")
