# SPDX-License-Identifier: Apache-2.0
"""glTF 2.0 in one binary file (GLB): arrays in, accessors out. Which meshes they make up is the caller's affair."""

import json
import os
import struct
from typing import Any

import numpy as np

from ..io.atomic import atomic_write

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
_COMPONENTS = {"int8": 5120, "uint8": 5121, "int16": 5122, "uint16": 5123, "uint32": 5125, "float32": 5126}
_KINDS: dict[tuple[int, ...], str] = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
_HEADER, _CHUNK = struct.Struct("<4sII"), struct.Struct("<I4s")


class Container:
    """The arrays and the JSON of one file under way. `document` is glTF's; its lists are filled by the caller."""

    def __init__(self, generator: str) -> None:
        self.document: dict[str, Any] = {"asset": {"version": "2.0", "generator": generator}, "accessors": [], "bufferViews": []}
        self._data = bytearray()

    def add(self, name: str, entry: dict[str, Any]) -> int:
        """Appends an entry to one of the document's lists; gives its index."""
        entries = self.document.setdefault(name, [])
        entries.append(entry)
        return len(entries) - 1

    def bytes_view(self, data: bytes, target: int | None = None) -> int:
        """A buffer view of its own, at a multiple of four bytes."""
        self._data += bytes(-len(self._data) % 4)
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": len(data)}
        self._data += data
        return self.add("bufferViews", view if target is None else {**view, "target": target})

    def accessor(self, array: np.ndarray, *, target: int | None = None, bounds: bool = False, normalized: bool = False) -> int:
        """An array (N, ...) of numbers, vectors of 2 to 4 or 4 x 4 matrices; matrices are stored by columns, as glTF wants.

        Args:
            target: `ARRAY_BUFFER` for vertices, `ELEMENT_ARRAY_BUFFER` for triangles.
            bounds: say the smallest and the largest value of each component, which positions and times must have.
            normalized: integers stand for 0..1 or -1..1.
        """
        stored = np.swapaxes(array, 1, 2) if array.ndim == 3 else array
        accessor = {
            "bufferView": self.bytes_view(np.ascontiguousarray(stored, array.dtype.newbyteorder("<")).tobytes(), target),
            "componentType": _COMPONENTS[array.dtype.name],
            "count": len(array),
            "type": _KINDS[array.shape[1:]],
        }
        if bounds:
            accessor |= {"min": np.atleast_1d(array.min(axis=0)).tolist(), "max": np.atleast_1d(array.max(axis=0)).tolist()}
        return self.add("accessors", accessor | ({"normalized": True} if normalized else {}))

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, atomically."""
        data = bytes(self._data) + bytes(-len(self._data) % 4)
        document = {**self.document, "buffers": [{"byteLength": len(data)}]}
        text = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("utf-8")
        text += b" " * (-len(text) % 4)
        length = _HEADER.size + 2 * _CHUNK.size + len(text) + len(data)
        with atomic_write(path) as file:
            file.write(_HEADER.pack(b"glTF", 2, length))
            file.write(_CHUNK.pack(len(text), b"JSON") + text)
            file.write(_CHUNK.pack(len(data), b"BIN\0") + data)
