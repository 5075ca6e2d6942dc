# SPDX-License-Identifier: Apache-2.0
"""PLY files as tables: elements of scalar properties, in ASCII or binary of either byte order."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import islice

import numpy as np

from ..errors import FormatError
from ..io.atomic import atomic_write
from ..io.limits import DEFAULT, Limits
from ..io.reading import open_input

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_WRITTEN = {"i1": "char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint", "f4": "float", "f8": "double"}
_FORMATS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_COUNT = re.compile(r"[0-9]{1,18}")


class Damage(ValueError):
    """Why a file is refused; becomes a `FormatError` with the file's name."""


@dataclass
class Element:
    """One element of the header: `properties` maps names to numpy type codes without byte order, "" for lists."""

    name: str
    count: int
    properties: dict[str, str]
    has_list: bool = False


@dataclass(frozen=True)
class PlyFile:
    """An open file whose header has been read: `byte_order` is "" for ASCII, `available` the bytes that follow the header."""

    stream: BufferedIOBase
    byte_order: str
    elements: list[Element]
    available: int

    def index(self, name: str) -> int:
        """Where the one element of that name stands; nothing with lists may stand before it."""
        positions = [index for index, element in enumerate(self.elements) if element.name == name]
        if len(positions) != 1:
            raise Damage(f"it has {len(positions)} elements named `{name}`, it must have one")
        for element in self.elements[: positions[0] + 1]:
            if element.has_list:
                raise Damage(f"element {element.name!r} has a list property; splats have none, and nothing with lists may precede them")
        return positions[0]


@contextmanager
def opened(path: str | os.PathLike[str], kind: str, limits: Limits) -> Iterator[PlyFile]:
    """The file with its header read. `Damage` raised inside becomes a `FormatError` that says the file is not a sound `kind`."""
    with open_input(path, limits) as (stream, size):
        try:
            byte_order, elements = _read_header(stream, min(size, limits.header_bytes))
            yield PlyFile(stream, byte_order, elements, size - stream.tell())
        except Damage as damage:
            raise FormatError(f"{path} is not a sound {kind}: {damage}. Take a fresh copy or export it again.") from damage


def contents(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> dict[str, tuple[str, ...]]:
    """The names of the elements and of their properties. Raises as `opened`."""
    with opened(path, "PLY file", limits) as file:
        return {element.name: tuple(element.properties) for element in file.elements}


def check_promise(file: PlyFile, last: int) -> None:
    """`Damage` unless the file is long enough for its elements up to number `last`, as its header promises."""
    (_check_bytes if file.byte_order else _check_rows)(file.elements, last, file.available)


def read_table(file: PlyFile, first: int, index: int) -> np.ndarray:
    """Element `index` as a structured array (float64 columns in ASCII files), where the stream stands at element `first`.

    Elements between them are skipped. The caller has checked the promise and the limits.
    """
    skipped = file.elements[first:index]
    if file.byte_order:
        return _read_binary(file.stream, file.byte_order, skipped, file.elements[index])
    return _read_ascii(file.stream, skipped, file.elements[index])


def columns(table: np.ndarray, names: tuple[str, ...] | list[str]) -> np.ndarray:
    """The named columns side by side, float32 (N, len(names)). What float32 cannot hold becomes infinite, for the check that follows."""
    result = np.zeros((len(table), len(names)), np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for position, name in enumerate(names):
            result[:, position] = table[name]
    return result


def rows(names: tuple[str, ...] | list[str], values: np.ndarray, code: str = "f4") -> np.ndarray:
    """(N, len(names)) values as a structured array of little-endian `code` columns: the inverse of `columns`."""
    dtype = np.dtype([(name, f"<{code}") for name in names])
    return np.ascontiguousarray(values, dtype=f"<{code}").view(dtype)[:, 0]


def write_tables(path: str | os.PathLike[str], tables: Mapping[str, np.ndarray]) -> None:
    """Writes structured arrays of scalar columns as the elements of a binary little-endian file, atomically.

    Raises:
        StorageError: the file cannot be written.
    """
    lines = ["ply", "format binary_little_endian 1.0"]
    for name, table in tables.items():
        lines.append(f"element {name} {len(table)}")
        lines += [f"property {_WRITTEN[table.dtype[column].str[1:]]} {column}" for column in table.dtype.names or ()]
    with atomic_write(path) as file:
        file.write("\n".join([*lines, "end_header\n"]).encode("ascii"))
        for table in tables.values():
            file.write(np.ascontiguousarray(table).view(np.uint8).data)


def _read_header(stream: BufferedIOBase, most: int) -> tuple[str, list[Element]]:
    """The byte order and the elements; leaves the stream at the first byte of the data."""
    if stream.readline(8).rstrip(b"\r\n") != b"ply":
        raise Damage("it does not begin with `ply`")
    byte_order, elements = None, []
    while True:
        line = stream.readline(most)
        if stream.tell() > most or not line.endswith(b"\n"):
            raise Damage(f"its header has no `end_header` within {most:,} bytes")
        words = line.decode("latin-1").split()
        match words:
            case ["end_header"]:
                break
            case ["comment" | "obj_info", *_]:
                continue
            case ["format", name, "1.0"] if name in _FORMATS and byte_order is None:
                byte_order = _FORMATS[name]
            case ["element", name, count]:
                elements.append(Element(name, _parse_count(name, count), {}))
            case ["property", *declaration] if elements:
                _add_property(elements[-1], declaration)
            case _:
                raise Damage(f"its header has the line {' '.join(words)[:60]!r}")
    if byte_order is None:
        raise Damage("its header names no format")
    return byte_order, elements


def _parse_count(name: str, count: str) -> int:
    if not _COUNT.fullmatch(count):
        raise Damage(f"the count of element {name[:60]!r} is {count[:30]!r}")
    return int(count)


def _add_property(element: Element, declaration: list[str]) -> None:
    match declaration:
        case [kind, name] if kind in _TYPES:
            code = _TYPES[kind]
        case ["list", length, kind, name] if length in _TYPES and kind in _TYPES:
            code = ""
            element.has_list = True
        case _:
            raise Damage(f"element {element.name[:60]!r} has the property {' '.join(declaration)[:60]!r}")
    if name in element.properties:
        raise Damage(f"element {element.name[:60]!r} has the property {name[:60]!r} twice")
    element.properties[name] = code


def _check_bytes(elements: list[Element], last: int, available: int) -> None:
    """The sizes of all elements must add up to what follows the header, as far as they are known."""
    known = elements[: last + 1] if any(element.has_list for element in elements) else elements
    needed = sum(element.count * _row_dtype(element, "<").itemsize for element in known)
    if needed > available or (known is elements and needed != available):
        raise Damage(f"its header promises {needed:,} bytes and {available:,} follow")


def _check_rows(elements: list[Element], last: int, available: int) -> None:
    """Every number takes two bytes at least, itself and a space or line end, which the last one may lack."""
    needed = 2 * sum(element.count * max(len(element.properties), 1) for element in elements[: last + 1]) - 1
    if needed > available:
        raise Damage(f"its header promises {elements[last].count:,} rows, more than fit in the {available:,} bytes that follow")


def _row_dtype(element: Element, byte_order: str) -> np.dtype:
    return np.dtype([(name, byte_order + code) for name, code in element.properties.items() if code])


def _read_binary(stream: BufferedIOBase, byte_order: str, skipped: list[Element], element: Element) -> np.ndarray:
    stream.seek(sum(each.count * _row_dtype(each, byte_order).itemsize for each in skipped), os.SEEK_CUR)
    table = np.zeros(element.count, _row_dtype(element, byte_order))
    if table.nbytes and stream.readinto(table.view(np.uint8).data) != table.nbytes:
        raise Damage(f"it ends within the element {element.name[:60]!r}")
    return table


def _read_ascii(stream: BufferedIOBase, skipped: list[Element], element: Element) -> np.ndarray:
    """Every row is a line."""
    for _row in range(sum(each.count for each in skipped)):
        stream.readline()
    count, names = element.count, list(element.properties)
    if count == 0:
        return np.zeros(0, [(name, "f8") for name in names])
    try:
        table = np.loadtxt(_lines(stream, count), np.float64, comments=None, ndmin=2)
    except (ValueError, OverflowError) as error:
        raise Damage(f"its element {element.name[:60]!r} is not rows of numbers ({error})") from error
    if table.shape != (count, len(names)):
        raise Damage(f"its header promises {count:,} rows of {len(names)} numbers, it has {table.shape[0]:,} of {table.shape[1]}")
    return np.ascontiguousarray(table).view([(name, "f8") for name in names])[:, 0]


def _lines(stream: BufferedIOBase, count: int) -> Iterator[str]:
    for row, line in enumerate(islice(stream, count)):
        if line.isspace():
            raise ValueError(f"row {row} is empty")
        yield line.decode("latin-1")
