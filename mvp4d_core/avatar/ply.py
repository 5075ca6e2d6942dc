# SPDX-License-Identifier: Apache-2.0
"""3D Gaussian splats as PLY, the exchange file that every splat viewer opens.

One element `vertex` with scalar properties: position `x y z`, `f_dc_0..2` and `f_rest_*` (spherical harmonics, channel by channel: all
coefficients of red, then green, then blue), `opacity` (logit), `scale_0..2` (natural logarithm) and `rot_0..3` (quaternion wxyz, of any
length but zero). `nx ny nz` are zeros that old viewers want. The numbers are taken as they are: which space they are in is the caller's
affair.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import islice
from typing import NamedTuple

import numpy as np

from ..errors import FormatError, InputError
from ..io.atomic import atomic_write
from ..io.limits import DEFAULT, Limits, check_limit
from ..io.reading import open_input


class StoredSplats(NamedTuple):
    """N splats as files store them, all float32; K is 0, 3, 8 or 15 for spherical harmonics of degree 0 to 3."""

    means: np.ndarray  # (N, 3)
    quats: np.ndarray  # (N, 4) wxyz, not normalised
    log_scales: np.ndarray  # (N, 3)
    opacity_logits: np.ndarray  # (N,)
    sh0: np.ndarray  # (N, 3)
    shN: np.ndarray  # (N, K, 3)


_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_FORMATS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_REST_COUNTS = {0: 0, 9: 3, 24: 8, 45: 15}
_COUNT = re.compile(r"[0-9]{1,18}")

_MEANS = ("x", "y", "z")
_NORMALS = ("nx", "ny", "nz")
_SH0 = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALES = ("scale_0", "scale_1", "scale_2")
_QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
_REQUIRED = (*_MEANS, *_SH0, "opacity", *_SCALES, *_QUATS)


@dataclass
class _Element:
    name: str
    count: int
    properties: dict[str, str]  # name -> numpy type code without byte order
    has_list: bool = False


class _Damage(ValueError):
    """Why a file is refused; becomes a `FormatError` with the file's name."""


def write_ply(
    path: str | os.PathLike[str],
    means: np.ndarray,
    quats: np.ndarray,
    log_scales: np.ndarray,
    opacity_logits: np.ndarray,
    sh0: np.ndarray,
    shN: np.ndarray,
) -> None:
    """Writes N splats as binary little-endian PLY, atomically. Shapes as in `StoredSplats`.

    Raises:
        InputError: shapes that do not agree, or a value that is not finite.
        StorageError: the file cannot be written.
    """
    splats = _checked(StoredSplats(means, quats, log_scales, opacity_logits, sh0, shN))
    count, rest = len(splats.means), splats.shN.shape[1] * 3
    names = [*_MEANS, *_NORMALS, *_SH0, *_rest_names(rest), "opacity", *_SCALES, *_QUATS]
    table = np.concatenate(
        [
            splats.means,
            np.zeros_like(splats.means),
            splats.sh0,
            splats.shN.transpose(0, 2, 1).reshape(count, rest),
            splats.opacity_logits[:, None],
            splats.log_scales,
            splats.quats,
        ],
        axis=1,
    )
    properties = "".join(f"property float {name}\n" for name in names)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{properties}end_header\n"
    with atomic_write(path) as file:
        file.write(header.encode("ascii"))
        file.write(table.astype("<f4", copy=False).tobytes())


def read_ply(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> StoredSplats:
    """Reads splats from a PLY file: ASCII or binary of either byte order, properties in any order, further ones ignored.

    Raises:
        FormatError: truncated, corrupt or hostile data, a column that is missing, or a value that is not finite.
        InputError: more splats than `limits.elements` or more bytes than `limits.file_bytes`.
        StorageError: the file is missing or cannot be read.
    """
    with open_input(path, limits) as (stream, size):
        try:
            byte_order, elements = _read_header(stream, min(size, limits.header_bytes))
            vertex, before = _find_vertex(elements)
            rest = _check_columns(vertex)
            check_promise, read_table = (_check_bytes, _read_binary) if byte_order else (_check_rows, _read_ascii)
            check_promise(elements, before, size - stream.tell())
            check_limit(path, "splats", vertex.count, limits.elements, "Reduce the splats or pass wider limits.")
            return _splats_from(read_table(stream, byte_order, elements, before), rest)
        except _Damage as damage:
            raise FormatError(f"{path} is not a sound splat PLY file: {damage}. Take a fresh copy or export it again.") from damage


def _checked(splats: StoredSplats) -> StoredSplats:
    """The columns as float32, or an error that names the one that is wrong."""
    count = len(splats.means)
    bands = np.shape(splats.shN)[1] if np.ndim(splats.shN) == 3 else None
    shapes = [(count, 3), (count, 4), (count, 3), (count,), (count, 3), (count, bands, 3)]
    for name, array, shape in zip(splats._fields, splats, shapes, strict=True):
        if np.shape(array) != shape:
            raise InputError(f"`{name}` must be {shape} for {count} splats, got {np.shape(array)}.")
        if not np.isfinite(array).all():
            raise InputError(f"`{name}` must be finite, splat {_first_bad(array)} is not. Remove such splats first.")
    if bands not in _REST_COUNTS.values():
        raise InputError(f"`shN` must have 0, 3, 8 or 15 coefficients, got {bands}. Use spherical harmonics of degree 0 to 3.")
    return StoredSplats(*(np.asarray(array, np.float32) for array in splats))


def _first_bad(array: np.ndarray) -> int:
    """Index of the first splat with a value that is not finite."""
    return int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))


def _rest_names(count: int) -> list[str]:
    return [f"f_rest_{index}" for index in range(count)]


def _read_header(stream: BufferedIOBase, most: int) -> tuple[str, list[_Element]]:
    """The byte order ("" for ASCII) and the elements; leaves the stream at the first byte of the data."""
    if stream.readline(8).rstrip(b"\r\n") != b"ply":
        raise _Damage("it does not begin with `ply`")
    byte_order, elements = None, []
    while True:
        line = stream.readline(most)
        if stream.tell() > most or not line.endswith(b"\n"):
            raise _Damage(f"its header has no `end_header` within {most:,} bytes")
        words = line.decode("latin-1").split()
        match words:
            case ["end_header"]:
                break
            case ["comment" | "obj_info", *_]:
                continue
            case ["format", name, "1.0"] if name in _FORMATS and byte_order is None:
                byte_order = _FORMATS[name]
            case ["element", name, count]:
                elements.append(_Element(name, _parse_count(name, count), {}))
            case ["property", *declaration] if elements:
                _add_property(elements[-1], declaration)
            case _:
                raise _Damage(f"its header has the line {' '.join(words)[:60]!r}")
    if byte_order is None:
        raise _Damage("its header names no format")
    return byte_order, elements


def _parse_count(name: str, count: str) -> int:
    if not _COUNT.fullmatch(count):
        raise _Damage(f"the count of element {name!r} is {count[:30]!r}")
    return int(count)


def _add_property(element: _Element, declaration: list[str]) -> None:
    match declaration:
        case [kind, name] if kind in _TYPES:
            code = _TYPES[kind]
        case ["list", length, kind, name] if length in _TYPES and kind in _TYPES:
            code = ""
            element.has_list = True
        case _:
            raise _Damage(f"element {element.name!r} has the property {' '.join(declaration)[:60]!r}")
    if name in element.properties:
        raise _Damage(f"element {element.name!r} has the property {name!r} twice")
    element.properties[name] = code


def _find_vertex(elements: list[_Element]) -> tuple[_Element, int]:
    """The splats' element and how many elements lie before it."""
    positions = [index for index, element in enumerate(elements) if element.name == "vertex"]
    if len(positions) != 1:
        raise _Damage(f"it has {len(positions)} elements named `vertex`, it must have one")
    before = positions[0]
    for element in elements[: before + 1]:
        if element.has_list:
            raise _Damage(f"element {element.name!r} has a list property; splats have none, and nothing with lists may precede them")
    return elements[before], before


def _check_columns(vertex: _Element) -> int:
    """How many `f_rest_*` columns there are, once every needed column is there."""
    missing = [name for name in _REQUIRED if name not in vertex.properties]
    if missing:
        raise _Damage(f"it is not a Gaussian splat file, the columns {', '.join(missing)} are missing")
    rest = sum(name.startswith("f_rest_") for name in vertex.properties)
    if rest not in _REST_COUNTS or not vertex.properties.keys() >= set(_rest_names(rest)):
        raise _Damage(f"it has {rest} f_rest columns, it must have f_rest_0 and so on, 0, 9, 24 or 45 of them")
    return rest


def _check_bytes(elements: list[_Element], before: int, available: int) -> None:
    """The sizes of all elements must add up to what follows the header, as far as they are known."""
    known = elements[: before + 1] if any(element.has_list for element in elements) else elements
    needed = sum(element.count * _row_dtype(element, "<").itemsize for element in known)
    if needed > available or (known is elements and needed != available):
        raise _Damage(f"its header promises {needed:,} bytes and {available:,} follow")


def _check_rows(elements: list[_Element], before: int, available: int) -> None:
    """Every number takes two bytes at least, itself and a space or line end, which the last one may lack."""
    needed = 2 * sum(element.count * max(len(element.properties), 1) for element in elements[: before + 1]) - 1
    if needed > available:
        raise _Damage(f"its header promises {elements[before].count:,} splats, more than fit in the {available:,} bytes that follow")


def _row_dtype(element: _Element, byte_order: str) -> np.dtype:
    return np.dtype([(name, byte_order + code) for name, code in element.properties.items() if code])


def _read_binary(stream: BufferedIOBase, byte_order: str, elements: list[_Element], before: int) -> np.ndarray:
    """The table of splats, a structured array."""
    stream.seek(sum(element.count * _row_dtype(element, byte_order).itemsize for element in elements[:before]), os.SEEK_CUR)
    table = np.zeros(elements[before].count, _row_dtype(elements[before], byte_order))
    if stream.readinto(table.view(np.uint8).data) != table.nbytes:
        raise _Damage("it ends within the splats")
    return table


def _read_ascii(stream: BufferedIOBase, _: str, elements: list[_Element], before: int) -> np.ndarray:
    """The table of splats, a structured array of float64. Every row is a line."""
    for _row in range(sum(element.count for element in elements[:before])):
        stream.readline()
    count, names = elements[before].count, list(elements[before].properties)
    if count == 0:
        return np.zeros(0, [(name, "f8") for name in names])
    try:
        rows = np.loadtxt(_lines(stream, count), np.float64, comments=None, ndmin=2)
    except (ValueError, OverflowError) as error:
        raise _Damage(f"its splats are not rows of numbers ({error})") from error
    if rows.shape != (count, len(names)):
        raise _Damage(f"its header promises {count:,} rows of {len(names)} numbers, it has {rows.shape[0]:,} of {rows.shape[1]}")
    return np.ascontiguousarray(rows).view([(name, "f8") for name in names])[:, 0]


def _lines(stream: BufferedIOBase, count: int) -> Iterator[str]:
    for row, line in enumerate(islice(stream, count)):
        if line.isspace():
            raise ValueError(f"row {row} is empty")
        yield line.decode("latin-1")


def _splats_from(table: np.ndarray, rest: int) -> StoredSplats:
    columns = {name: _columns(table, names) for name, names in (("means", _MEANS), ("quats", _QUATS), ("log_scales", _SCALES))}
    opacity_logits = _columns(table, ("opacity",))[:, 0]
    shN = _columns(table, _rest_names(rest)).reshape(len(table), 3, _REST_COUNTS[rest]).transpose(0, 2, 1)
    splats = StoredSplats(**columns, opacity_logits=opacity_logits, sh0=_columns(table, _SH0), shN=np.ascontiguousarray(shN))
    for name, array in zip(splats._fields, splats, strict=True):
        if not np.isfinite(array).all():
            raise _Damage(f"splat {_first_bad(array)} has a value in `{name}` that is not finite")
    lengths = np.abs(splats.quats).max(axis=1, initial=0)
    if not lengths.all():
        raise _Damage(f"splat {int(np.argmin(lengths))} has a rotation of length zero")
    return splats


def _columns(table: np.ndarray, names: tuple[str, ...] | list[str]) -> np.ndarray:
    """The named columns side by side, float32 (N, len(names)). What float32 cannot hold becomes infinite, for the check that follows."""
    result = np.zeros((len(table), len(names)), np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for position, name in enumerate(names):
            result[:, position] = table[name]
    return result
