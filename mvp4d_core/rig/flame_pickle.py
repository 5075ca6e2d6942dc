# SPDX-License-Identifier: Apache-2.0
"""The one door through which FLAME's pickles come in: an interpreter of a small part of the format that can run nothing.

FLAME is handed out as a Python 2 pickle of numpy, scipy and chumpy objects. Python's own unpickler calls what a file names; this one never
does. `scan` walks the whole file first and refuses any opcode, length, memo index or name that such files do not need; then `_build` puts
together plain dictionaries and `Record`s, which are names with arguments, and `array_of` reads numbers out of those records after checking
their sizes. Memory is bounded by the file's size and by `OPERATIONS`. The opcodes are those of Python's `pickletools`.
"""

import codecs
import math
import os
import struct
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.lib import format as npy

from ..errors import FormatError, MVP4DError
from ..io.limits import DEFAULT, MIB, Limits
from ..io.reading import open_input

OPERATIONS = 200_000
FILE_BYTES = 192 * MIB
_DENSE = 50_000_000  # numbers of a sparse table once it is dense
_LINE = 4096  # bytes of a line that is not a string
_SHORT = 256  # bytes up to which an old string may be a name

_ARRAY, _DTYPE, _SCALAR, _BUFFER, _CODEC, _OLD, _NEW = "ndarray", "dtype", "scalar", "frombuffer", "encode", "reconstructor", "newobj"
_CH, _SET, _OBJECT = "chumpy", "set", "object"
_MATRICES = ("csc_matrix", "csr_matrix", "coo_matrix")
_NAMES = {
    "numpy ndarray": _ARRAY, "numpy dtype": _DTYPE, "_codecs encode": _CODEC, "chumpy.ch Ch": _CH, "chumpy Ch": _CH,
    **{f"numpy.{core}.multiarray {name}": kind for core in ("core", "_core")
       for name, kind in (("_reconstruct", "reconstruct"), ("scalar", _SCALAR))},
    **{f"numpy.{core}.numeric _frombuffer": _BUFFER for core in ("core", "_core")},
    **{f"{module} {name}": kind for module in ("copy_reg", "copyreg") for name, kind in (("_reconstructor", _OLD), ("__newobj__", _NEW))},
    **{f"{module} {name}": kind for module in ("__builtin__", "builtins") for name, kind in (("set", _SET), ("object", _OBJECT))},
    **{f"scipy.sparse.{module} {kind}": kind for kind in _MATRICES for module in (kind[:3], "_" + kind[:3])},
}  # fmt: skip

# opcode -> how its argument lies in the file: a struct format, a length's format before bytes, "line", "lines", or nothing
_FIXED = {0x80: "<B", 0x95: "<Q", ord("J"): "<i", ord("K"): "<B", ord("M"): "<H", ord("G"): ">d", ord("q"): "<B", ord("r"): "<I",
          ord("h"): "<B", ord("j"): "<I"}  # fmt: skip
_COUNTED = {
    ord("T"): "<I",
    ord("U"): "<B",
    ord("X"): "<I",
    0x8C: "<B",
    0x8D: "<Q",
    ord("B"): "<I",
    ord("C"): "<B",
    0x8E: "<Q",
    0x96: "<Q",
    0x8A: "<B",
}
_LINES = {ord(c): 1 for c in "ILFSVpg"} | {ord("c"): 2}
_BARE = {*b".N})(]tldsuae01Rb", 0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8F, 0x90, 0x93, 0x94}
_DTYPES = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"} | {"b1"}


class _Refused(ValueError):
    """Why a file is refused; becomes a `FormatError` with the file's name."""


@dataclass
class Record:
    """An object that a file asks for, not made: `kind` of `_NAMES`, `arguments`, and the `state` it would be given."""

    kind: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


@dataclass(frozen=True)
class _Name:
    kind: str


def read_pickled_tables(path: str | os.PathLike[str], wanted: Collection[str], limits: Limits = DEFAULT) -> dict[str, np.ndarray]:
    """The tables of numbers of `wanted` names that a pickled dictionary, or a .npy with one inside, holds. Nothing in it is executed.

    Dense arrays, chumpy's and scipy's sparse ones (made dense) are tables; other values of these names are left out.

    Raises:
        FormatError: not such a file, damaged, or one that asks for anything but tables.
        InputError: more than 192 MiB.
        StorageError: the file is missing or cannot be read.
    """
    with open_input(path, replace(limits, file_bytes=min(limits.file_bytes, FILE_BYTES))) as (stream, _):
        return tables_of(stream.read(), wanted, str(path))


def tables_of(data: bytes, wanted: Collection[str], name: str) -> dict[str, np.ndarray]:
    """`read_pickled_tables` of a file's bytes; `name` is for messages."""
    try:
        if data[:6] == b"\x93NUMPY":
            data = _inside_npy(data)
        content = _build(scan(data), len(data))
        if isinstance(content, Record) and content.kind == _ARRAY:  # numpy's wrapping of a dictionary
            content = _items_of(content)[0]
        if not isinstance(content, dict):
            raise _Refused(f"it holds a {type(content).__name__.lower()}, not a dictionary")
        found = {key: content[key] for key in wanted if key in content}
        return {key: array_of(value) for key, value in found.items() if _is_table(value)}
    except MVP4DError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error, MemoryError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise FormatError(f"{name} is not a sound pickle of FLAME's: {reason}. Nothing of it was run; download it again.") from None


def scan(data: bytes) -> list[tuple[int, Any]]:
    """(opcode, argument) of every operation up to the end of the pickle; raises ValueError at the first that is not allowed."""
    view, position, operations = memoryview(data), 0, []
    while True:
        if position >= len(data):
            raise _Refused("it ends early")
        opcode, start = data[position], position
        argument, position = _argument(data, view, opcode, position + 1)
        if opcode in b"pqrghj":
            index = int(bytes(argument)) if opcode in b"pg" else argument
            if not 0 <= index < OPERATIONS:
                raise _Refused(f"memo {index} at byte {start} is out of range")
            argument = index
        elif opcode == ord("c"):
            argument = _name(*(bytes(part).decode("ascii", "replace") for part in argument))
        operations.append((opcode, argument))
        if opcode == ord("."):
            return operations
        if len(operations) > OPERATIONS:
            raise _Refused(f"it has more than {OPERATIONS:,} operations")


def _argument(data: bytes, view: memoryview, opcode: int, position: int) -> tuple[Any, int]:
    """The argument of `opcode` that lies at `position`, and where the next operation lies."""
    if opcode in _BARE:
        return None, position
    if opcode in _FIXED:
        (value,) = struct.unpack_from(_FIXED[opcode], data, position)
        return value, position + struct.calcsize(_FIXED[opcode])
    if opcode in _COUNTED:
        (length,) = struct.unpack_from(_COUNTED[opcode], data, position)
        position += struct.calcsize(_COUNTED[opcode])
        if length > len(data) - position:
            raise _Refused(f"{length:,} bytes are promised at byte {position}, and {len(data) - position:,} are left")
        return view[position : position + length], position + length
    if opcode not in _LINES:
        raise _Refused(f"opcode {opcode:#04x} at byte {position - 1} has no place in it")
    parts = []
    for _ in range(_LINES[opcode]):
        end = data.find(b"\n", position)
        if end < 0 or (end - position > _LINE and opcode not in b"SV"):
            raise _Refused(f"the line at byte {position} does not end")
        parts.append(view[position:end])
        position = end + 1
    return parts if opcode == ord("c") else parts[0], position


def _name(module: str, name: str) -> _Name:
    asked = f"{module} {name}"
    if asked not in _NAMES:
        raise _Refused(f"it asks for `{asked[:60].replace(' ', '.')}`, which no FLAME file needs")
    return _Name(_NAMES[asked])


def _build(operations: list[tuple[int, Any]], size: int) -> Any:
    """What the operations put together; at most `size` bytes of text are re-encoded on the way."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    budget = size

    def since_mark() -> list[Any]:
        first = marks.pop()
        taken = stack[first:]
        del stack[first:]
        return taken

    for opcode, argument in operations:
        code = chr(opcode)
        if code == ".":
            return stack[-1]
        if opcode in (0x80, 0x95):
            continue
        if code == "(":
            marks.append(len(stack))
        elif code in "pqr" or opcode == 0x94:
            memo[len(memo) if opcode == 0x94 else argument] = stack[-1]
        elif code in "ghj":
            stack.append(memo[argument])
        elif code in "0":
            stack.pop()
        elif code == "1":
            since_mark()
        elif code in "tld":
            items = since_mark()
            stack.append(tuple(items) if code == "t" else items if code == "l" else _filled({}, items))
        elif opcode in (0x85, 0x86, 0x87):
            count = opcode - 0x84
            items = tuple(stack[len(stack) - count :])
            del stack[len(stack) - len(items) :]
            stack.append(items)
        elif code in "su":
            items = since_mark() if code == "u" else [stack.pop(-2), stack.pop()]
            _filled(stack[-1], items)
        elif code in "ae" or opcode == 0x90:
            items = [stack.pop()] if code == "a" else since_mark()
            if not isinstance(stack[-1], list):
                raise _Refused("it appends to what is no list")
            stack[-1].extend(items)
        elif code == "R" or opcode == 0x81:
            arguments, made = stack.pop(), stack.pop()
            made, used = _reduced(made, arguments, budget)
            budget -= used
            stack.append(made)
        elif code == "b":
            state = stack.pop()
            if not isinstance(stack[-1], Record):
                raise _Refused("it gives a state to what has none")
            stack[-1].state = state
        elif opcode == 0x93:
            name, module = stack.pop(), stack.pop()
            stack.append(_name(str(module), str(name)))
        else:
            stack.append(_literal(opcode, argument))
    raise _Refused("it has no end")


def _filled(table: Any, items: list[Any]) -> dict[Any, Any]:
    """Puts keys and values, by turns, into a dictionary. Keys are texts or whole numbers, whose hashing is cheap."""
    if not isinstance(table, dict) or len(items) % 2:
        raise _Refused("it fills what is no dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | int):
            raise _Refused("a key of it is neither a text nor a number")
        table[key] = value
    return table


def _literal(opcode: int, argument: Any) -> Any:
    """The value of an operation that pushes one."""
    code = chr(opcode)
    if code in "JKMGBC" or opcode in (0x8E, 0x96):
        return argument
    if code in "XV" or opcode in (0x8C, 0x8D):
        return bytes(argument).decode("raw-unicode-escape" if code == "V" else "utf-8", "replace" if code == "V" else "surrogatepass")
    if code in "TU":
        return bytes(argument).decode("latin-1") if len(argument) <= _SHORT else argument
    if code == "S":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python 2 did not write
            raw = codecs.escape_decode(argument[1:-1])[0]
        return raw.decode("latin-1") if len(raw) <= _SHORT else raw
    if code in "IL":
        text = bytes(argument).decode("ascii").rstrip("L")
        if len(text) > 20:
            raise _Refused("a whole number of it is too long")
        return {"01": True, "00": False}.get(text, None) if text in ("01", "00") else int(text)
    if opcode == 0x8A:
        if len(argument) > 16:
            raise _Refused("a whole number of it is too long")
        return int.from_bytes(argument, "little", signed=True)
    if code == "F":
        return float(bytes(argument))
    simple = {"N": None, "\x88": True, "\x89": False}
    if code in simple:
        return simple[code]
    if code == "c":
        return argument
    return {"}": dict, "]": list, ")": tuple, "\x8f": list}[code]()


def _reduced(made: Any, arguments: Any, budget: int) -> tuple[Any, int]:
    """The record, or re-encoded text, of a call that a file asks for, and the bytes that re-encoding took."""
    if not isinstance(made, _Name) or not isinstance(arguments, tuple):
        raise _Refused("it calls what is no name")
    if made.kind == _CODEC:
        text, coding = arguments
        if str(coding) not in ("latin1", "latin-1") or not isinstance(text, str) or len(text) > budget:
            raise _Refused("it re-encodes text in a way that no array needs")
        return text.encode("latin-1"), len(text)
    if made.kind in (_OLD, _NEW) and arguments and isinstance(arguments[0], _Name):
        return Record(arguments[0].kind), 0
    if made.kind == "reconstruct":
        return Record(_ARRAY), 0
    if made.kind in (_OLD, _NEW):
        raise _Refused("it makes an object of no class")
    return Record(made.kind, arguments), 0


def _is_table(value: Any) -> bool:
    if isinstance(value, Record) and value.kind == _CH:
        return isinstance(value.state, dict) and _is_table(value.state.get("x"))
    if isinstance(value, Record) and value.kind == _ARRAY:
        return not (isinstance(value.state, tuple) and len(value.state) == 5 and _is_object(value.state[2]))
    return (isinstance(value, Record) and value.kind in (*_MATRICES, _SCALAR, _BUFFER)) or (
        isinstance(value, int | float) and not isinstance(value, bool)
    )


def array_of(value: Any) -> np.ndarray:
    """The numbers of a record, read-only; sparse ones are made dense. Raises ValueError where sizes, types or indices do not agree."""
    if isinstance(value, int | float):
        return np.asarray(value)
    if not isinstance(value, Record):
        raise _Refused("a table of it is no array")
    if value.kind == _CH:
        return array_of(value.state["x"])
    if value.kind in _MATRICES:
        return _dense(value.kind, value.state)
    if value.kind == _SCALAR:
        return _numbers((), value.arguments[0], False, value.arguments[1])
    if value.kind == _BUFFER:
        data, dtype, shape, order = value.arguments
        return _numbers(shape, dtype, order == "F", data)
    if value.kind != _ARRAY or not isinstance(value.state, tuple) or len(value.state) != 5:
        raise _Refused("an array of it lacks its content")
    _, shape, dtype, by_columns, data = value.state
    return _numbers(shape, dtype, bool(by_columns), data)


def _numbers(shape: Any, dtype: Any, by_columns: bool, data: Any) -> np.ndarray:
    if not (isinstance(dtype, Record) and dtype.kind == _DTYPE and dtype.arguments):
        raise _Refused("an array of it has no type")
    code = str(dtype.arguments[0]).lstrip("<>|=")
    order = dtype.state[1] if isinstance(dtype.state, tuple) and len(dtype.state) > 1 else "<"
    if code not in _DTYPES or order not in ("<", ">", "|", "="):
        raise _Refused(f"an array of it is of the type `{code[:20]}`, not of numbers")
    if not (isinstance(shape, tuple) and len(shape) <= 8 and all(isinstance(side, int) and 0 <= side < 2**40 for side in shape)):
        raise _Refused("an array of it has no proper shape")
    raw = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | memoryview) or math.prod(shape) * int(code[1:]) != len(raw):
        raise _Refused(f"an array of it promises {str(shape)[:40]} of {code}, which is not its size")
    numbers = np.frombuffer(raw, np.dtype(code).newbyteorder("<" if order in "|=" else order))
    return numbers.reshape(shape, order="F" if by_columns else "C")


def _dense(kind: str, state: Any) -> np.ndarray:
    """(rows, columns) float64 of a sparse matrix's state. Entries of one place add up, as scipy has it."""
    if not isinstance(state, dict):
        raise _Refused("a sparse table of it lacks its content")
    shape = state.get("_shape", state.get("shape"))
    if not (isinstance(shape, tuple) and len(shape) == 2 and all(isinstance(side, int) and side >= 0 for side in shape)):
        raise _Refused("a sparse table of it has no proper shape")
    if math.prod(shape) > _DENSE:
        raise _Refused(f"a sparse table of it, {shape[0]} x {shape[1]}, is too large")
    values = array_of(state["data"])
    if kind == "coo_matrix":
        rows, columns = map(array_of, state["coords"] if "coords" in state else (state["row"], state["col"]))
    else:
        inner, starts = array_of(state["indices"]), array_of(state["indptr"]).astype(np.int64)
        outer = shape[0] if kind == "csr_matrix" else shape[1]
        counts = np.diff(starts)
        if starts.shape != (outer + 1,) or starts[0] != 0 or (counts < 0).any() or starts[-1] != inner.size:
            raise _Refused("a sparse table of it has rows that do not fit together")
        long = np.repeat(np.arange(outer), counts)
        rows, columns = (long, inner) if kind == "csr_matrix" else (inner, long)
    if not (values.ndim == rows.ndim == columns.ndim == 1 and len(values) == len(rows) == len(columns)):
        raise _Refused("a sparse table of it has columns of different lengths")
    for index, side in ((rows, shape[0]), (columns, shape[1])):
        if index.dtype.kind not in "iu" or (index.size and (index.min() < 0 or index.max() >= side)):
            raise _Refused("a sparse table of it has an index out of range")
    dense = np.zeros(shape)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities may meet; a head refuses what comes of it
        np.add.at(dense, (rows, columns), values)
    return dense


def _is_object(dtype: Any) -> bool:
    return isinstance(dtype, Record) and dtype.kind == _DTYPE and bool(dtype.arguments) and str(dtype.arguments[0]).lstrip("|")[:1] == "O"


def _items_of(array: Record) -> list[Any]:
    """What an array of Python objects holds."""
    if isinstance(array.state, tuple) and len(array.state) == 5 and _is_object(array.state[2]):
        items = array.state[4]
        if isinstance(items, list) and items:
            return items
    raise _Refused("it holds an array, not a dictionary")


def _inside_npy(data: bytes) -> bytes:
    """The pickle behind the header of a .npy file of Python objects."""
    stream = BytesIO(data)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise _Refused(f"its .npy version {version} is unknown")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    try:
        _, _, dtype = header(stream, max_header_size=10_000)  # pyright: ignore[reportCallIssue]
    except Exception as error:  # the header is a Python literal, and on nonsense its parsers raise nearly every built-in exception
        raise _Refused(f"its .npy header is unreadable ({type(error).__name__})") from error
    if not dtype.hasobject:
        raise _Refused("it holds an array of numbers, not a dictionary")
    return data[stream.tell() :]
