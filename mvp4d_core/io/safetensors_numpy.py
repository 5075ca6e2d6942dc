# SPDX-License-Identifier: Apache-2.0
"""Safetensors files in numpy alone.

A file is the header's length (8 bytes, little endian), the header (JSON), and the tensors, row-major and little endian, without gaps
(https://github.com/huggingface/safetensors). Nothing in it can run code or name another file.

`read` takes the files that the official numpy reader takes and refuses what it refuses, and is stricter in three points: no name may
occur twice in an object of the header, a tensor is described by an object with a dtype string (serde's other spellings are refused), and
the header is at most `limits.header_bytes` long. bfloat16, float8 and smaller types are refused, as numpy has none. `write` produces
the official writer's bytes, with the metadata in alphabetical order.
"""

import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..errors import FormatError, InputError
from .atomic import atomic_write
from .limits import DEFAULT, Limits, check_limit
from .reading import open_input

# In the order in which tensors lie in a file: by falling alignment, as the official writer sorts them.
_DTYPES = {
    "U64": np.dtype("<u8"), "I64": np.dtype("<i8"), "F64": np.dtype("<f8"), "C64": np.dtype("<c8"),
    "F32": np.dtype("<f4"), "U32": np.dtype("<u4"), "I32": np.dtype("<i4"),
    "F16": np.dtype("<f2"), "U16": np.dtype("<u2"), "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"), "U8": np.dtype("u1"), "BOOL": np.dtype("?"),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ORDER = {name: position for position, name in enumerate(_DTYPES)}

_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_MAX_DEPTH = 127
_USIZE = 2**64
_JSON_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_JSON_STRING = re.compile(rb'"[^"]*"?')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Damage(ValueError):
    """Why a header is refused; becomes a `FormatError` with the file's name."""


@dataclass(frozen=True)
class _Entry:
    name: str
    dtype: np.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def read(source: str | os.PathLike[str] | bytes, *, limits: Limits = DEFAULT) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file, or the bytes of one.

    Returns:
        The tensors by name, in the file's order, each a writable array of its own, and the metadata (empty when there is none).

    Raises:
        FormatError: truncated, corrupt or hostile data, or a data type that numpy lacks.
        InputError: more bytes than `limits.file_bytes`.
        StorageError: the file is missing or cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        size = memoryview(source).nbytes
        check_limit("The data", "bytes", size, limits.file_bytes, "Make it smaller.")
        return _read_stream(io.BytesIO(source), size, "the data", limits)
    with open_input(source, limits) as (stream, size):
        return _read_stream(stream, size, str(source), limits)


def write(path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Writes `tensors` and `metadata`, atomically. The same content gives the same bytes, in whatever order it comes.

    Raises:
        InputError: a name or a text that is not a string, or a data type that the format lacks.
        StorageError: the file cannot be written.
    """
    pieces = _pieces(tensors, metadata)
    with atomic_write(path) as file:
        for piece in pieces:
            file.write(piece)


def to_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """What `write` would put in a file."""
    return b"".join(_pieces(tensors, metadata))


def _pieces(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None) -> list[bytes | memoryview]:
    """The parts of a file in their order."""
    header: dict[str, Any] = {_METADATA: dict(sorted(_check_texts(metadata).items()))} if metadata else {}
    arrays = {name: _stored(name, array) for name, array in tensors.items()}
    order = sorted(arrays, key=lambda name: (_ORDER[_NAMES[arrays[name].dtype]], name))
    offset = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = _encode_header(header)
    return [len(text).to_bytes(_LENGTH_BYTES, "little"), text, *(arrays[name].reshape(-1).view(np.uint8).data for name in order)]


def _check_texts(metadata: Mapping[str, str]) -> Mapping[str, str]:
    for key, text in metadata.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise InputError(f"`metadata` must map strings to strings, got {key!r}: {type(text).__name__}. Turn it into text first.")
    return metadata


def _stored(name: str, array: np.ndarray) -> np.ndarray:
    """`array` as the file holds it: little endian and row-major."""
    if not isinstance(name, str) or name == _METADATA:
        raise InputError(f"A tensor's name must be a string other than {_METADATA!r}, got {name!r}. Choose another name.")
    dtype = np.asarray(array).dtype.newbyteorder("<")
    if dtype not in _NAMES:
        raise InputError(f"Tensor {name!r} has dtype {dtype}, which the format lacks. Convert it to one of {', '.join(map(str, _NAMES))}.")
    return np.asarray(array, dtype=dtype, order="C")


def _encode_header(header: dict[str, Any]) -> bytes:
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"))
    try:
        encoded = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(f"Names and metadata must be valid Unicode, got {text[error.start]!r}. Remove that character.") from error
    return encoded + b" " * (-len(encoded) % _LENGTH_BYTES)


def _read_stream(stream: io.BufferedIOBase, size: int, label: str, limits: Limits) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        header = _read_header(stream, size, limits.header_bytes)
        metadata = _parse_metadata(header.pop(_METADATA, None))
        entries = sorted((_parse_entry(name, info) for name, info in header.items()), key=lambda entry: (entry.begin, entry.end))
        _check_layout(entries, size - stream.tell())
        return {entry.name: _read_tensor(stream, entry) for entry in entries}, metadata
    except _Damage as damage:
        raise FormatError(f"{label} is not a sound safetensors file: {damage}. Take a fresh copy of it.") from damage


def _read_header(stream: io.BufferedIOBase, size: int, most: int) -> dict[str, Any]:
    if size < _LENGTH_BYTES:
        raise _Damage(f"it has {size} bytes, too few for a header")
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    if length > size - _LENGTH_BYTES:
        raise _Damage(f"its header should have {length:,} bytes and only {size - _LENGTH_BYTES:,} follow")
    if length > most:
        raise _Damage(f"its header has {length:,} bytes, more than the {most:,} that are accepted")
    text = stream.read(length)
    _check_depth(text)
    try:
        header = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_parse_integer,
            parse_float=_parse_float,
            parse_constant=_refuse_constant,
        )
        if _SURROGATE.search(text):  # half a surrogate pair has no UTF-8
            json.dumps(header, ensure_ascii=False).encode("utf-8")
    except UnicodeError as error:
        raise _Damage("its header is not valid UTF-8") from error
    except json.JSONDecodeError as error:
        raise _Damage(f"its header is not valid JSON ({error.msg} at character {error.pos})") from error
    if not isinstance(header, dict):
        raise _Damage("its header is not a JSON object")
    return header


def _check_depth(text: bytes) -> None:
    """Refuses nesting that could exhaust the stack of a JSON parser, before one sees it."""
    characters = np.frombuffer(_JSON_STRING.sub(b"", _JSON_ESCAPE.sub(b"", text)), np.uint8)
    opening = (characters == ord("[")) | (characters == ord("{"))
    closing = (characters == ord("]")) | (characters == ord("}"))
    steps = opening.astype(np.int8) - closing.astype(np.int8)
    if steps.size and np.cumsum(steps, dtype=np.int32).max() > _MAX_DEPTH:
        raise _Damage(f"its header is nested deeper than {_MAX_DEPTH} levels")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise _Damage(f"its header has the name {name!r} twice")
        result[name] = value
    return result


def _parse_integer(text: str) -> int | float:
    """Integers beyond 64 bits and minus zero count as floating point, as in the official reader."""
    if len(text) > len(str(_USIZE)):
        return _parse_float(text)
    return -0.0 if text == "-0" else int(text)


def _parse_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Damage(f"its header has a number out of range, {text[:20]}")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise _Damage(f"its header has {text}, which is not JSON")


def _parse_metadata(metadata: object) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _Damage(f"its {_METADATA} is not an object of strings")
    return metadata


def _parse_entry(name: str, info: object) -> _Entry:
    if not isinstance(info, dict):
        raise _Damage(f"tensor {name!r} is described by a {type(info).__name__}, not an object")
    dtype, shape, offsets = info.get("dtype"), _sizes(info.get("shape")), _sizes(info.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise _Damage(f"tensor {name!r} has dtype {dtype!r}, accepted are {', '.join(_DTYPES)}")
    if shape is None:
        raise _Damage(f"tensor {name!r} has no valid shape")
    if offsets is None or len(offsets) != 2:
        raise _Damage(f"tensor {name!r} has no valid data_offsets")
    return _Entry(name, _DTYPES[dtype], tuple(shape), *offsets)


def _sizes(values: object) -> list[int] | None:
    """`values` when they are a list of what fits an unsigned 64-bit integer, and nothing that merely equals one, such as true."""
    return values if isinstance(values, list) and all(type(value) is int and 0 <= value < _USIZE for value in values) else None


def _check_layout(entries: list[_Entry], available: int) -> None:
    """The tensors follow one another without gap or overlap, each has the size of its shape, and together they are the data."""
    position = 0
    for entry in entries:
        if entry.begin != position or entry.end < entry.begin:
            raise _Damage(f"tensor {entry.name!r} lies at {entry.begin}..{entry.end}, it should begin at {position}")
        needed = 1
        for factor in (*entry.shape, entry.dtype.itemsize * 8):
            needed *= factor
            if needed >= _USIZE:
                raise _Damage(f"tensor {entry.name!r} has an impossible shape")
        if entry.end - entry.begin != needed // 8:
            raise _Damage(f"tensor {entry.name!r} has {entry.end - entry.begin} bytes, its shape needs {needed // 8}")
        position = entry.end
    if position != available:
        raise _Damage(f"its tensors take {position:,} bytes and {available:,} follow the header")


def _read_tensor(stream: io.BufferedIOBase, entry: _Entry) -> np.ndarray:
    try:
        array = np.zeros(entry.shape, entry.dtype)
    except ValueError as error:  # more dimensions than numpy has, or an empty array with a side beyond its range
        raise _Damage(f"tensor {entry.name!r} has a shape that numpy refuses ({error})") from error
    raw = array.reshape(-1).view(np.uint8)
    if stream.readinto(raw.data) != raw.size:
        raise _Damage(f"it ends within tensor {entry.name!r}")
    return raw.reshape(array.shape) != 0 if entry.dtype == np.bool_ else array
