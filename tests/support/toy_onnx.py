# SPDX-License-Identifier: Apache-2.0
"""A small ONNX network written byte by byte: a face laid flat, times a matrix. Fields by number as in onnx.proto3."""

from pathlib import Path

import numpy as np

_FLOAT, _INT_ATTRIBUTE = 1, 2


def write_linear_network(path: Path, matrix: np.ndarray, side: int = 112) -> None:
    """A network from (1, 3, side, side) to (1, D) with weights `matrix` (3 side^2, D)."""
    flatten = _node("Flatten", ("face",), "flat") + _field(5, _field(1, b"axis") + _number(3, 1) + _number(20, _INT_ATTRIBUTE))
    product = _node("MatMul", ("flat", "matrix"), "vector")
    dims = b"".join(_number(1, size) for size in matrix.shape)
    tensor = dims + _number(2, _FLOAT) + _field(8, b"matrix") + _field(9, matrix.astype("<f4").tobytes())
    graph = _field(1, flatten) + _field(1, product) + _field(2, b"toy") + _field(5, tensor)
    graph += _field(11, _value("face", (1, 3, side, side))) + _field(12, _value("vector", (1, matrix.shape[1])))
    path.write_bytes(_number(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, 13)))


def _node(kind: str, inputs: tuple[str, ...], output: str) -> bytes:
    return b"".join(_field(1, name.encode()) for name in inputs) + _field(2, output.encode()) + _field(4, kind.encode())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_field(1, _number(1, size)) for size in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _number(1, _FLOAT) + _field(2, dims)))


def _field(number: int, payload: bytes) -> bytes:
    """A message, text or bytes."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*result, value])
