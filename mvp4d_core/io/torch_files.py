# SPDX-License-Identifier: Apache-2.0
"""Files that torch saved, read without running anything in them. Needs torch, which is imported when a file is read.

Torch's reader of bare tensors (`weights_only`) knows no classes but its own and those named here, and those are inert: an array of
numpy's comes out as what the file says about it, and its numbers are checked and copied here, so numpy's own unpickling never runs.
"""

import math
import warnings
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FormatError, MissingAssetError
from .limits import DEFAULT, MIB, Limits, check_limit
from .reading import open_input

_NUMERIC = "biuf"
_DEPTH, _ENTRIES = 5, 100_000
_PICKLE_BYTES = 64 * MIB


def load_torch(path: str | Path, limits: Limits = DEFAULT, *, arrays: bool = False) -> Any:
    """What torch saved: tensors, numbers and texts in plain containers.

    Args:
        arrays: numpy's arrays may be among them, inert, for `torch_arrays` to open; and the format that torch wrote before version 1.6,
            in which sizes can only be believed, is refused.

    Raises:
        FormatError: another kind of file, a damaged one, or one that holds other things.
        InputError, StorageError: as `open_input`.
        MissingAssetError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingAssetError(f"{path} was saved by torch, which is not installed. Run: pip install 'mvp4d[torch]'") from error
    inert: list[Any] = [(stub, name) for name, stub in _inert().items()]
    known = torch.serialization.safe_globals(inert) if arrays else nullcontext()
    with open_input(path, limits) as (stream, size), warnings.catch_warnings(), known:
        warnings.simplefilter("ignore")  # torch's, about formats of long ago
        try:
            if arrays:
                _check_archive(stream, size)
            return torch.load(stream, map_location="cpu", weights_only=True)  # noqa: TID251
        except Exception as error:  # damaged pickles and archives raise nearly every built-in exception
            refused = type(error).__name__ == "UnpicklingError"  # torch's text would advise to trust the file
            reason = "it holds more than tensors, or is damaged" if refused else " ".join(str(error).split())[:100] or type(error).__name__
            raise FormatError(f"{path} holds no tensors that can be read ({reason}). Save it again as a state dict of tensors.") from None


def torch_arrays(path: str | Path, limits: Limits = DEFAULT) -> dict[str, np.ndarray]:
    """The tensors, arrays and numbers in a file's dictionaries, by name; in nested ones the names are joined by `/`.

    Raises: as `load_torch`, and InputError for more than `limits.array_bytes` altogether.
    """
    found: dict[str, np.ndarray] = {}
    left = [("", load_torch(path, limits, arrays=True), 0)]
    seen = total = 0
    while left:
        name, value, depth = left.pop()
        seen += 1
        if seen > _ENTRIES:
            raise FormatError(f"{path} has more than {_ENTRIES:,} entries; it is no track. Export it again.")
        if isinstance(value, dict):
            if depth < _DEPTH:
                left += [(f"{name}/{key}" if name else key, item, depth + 1) for key, item in value.items() if isinstance(key, str)]
            continue
        size = _bytes_of(value)
        if size is not None:
            total += size
            check_limit(path, "bytes in its arrays", total, limits.array_bytes, "Keep fewer frames.")
            try:
                found[name] = _opened(value)
            except (ValueError, TypeError, OverflowError, RuntimeError) as error:
                reason = " ".join(str(error).split())[:100]
                raise FormatError(f"`{name[:60]}` of {path} is no sound array ({reason}). Export it again.") from None
    return found


class _Dtype:
    """What a file says about a numpy dtype: its code, as `f4`, and its byte order."""

    def __init__(self, code: object = "", *_: object) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else ""

    def real(self) -> np.dtype:
        """The dtype; ValueError where it is not one of plain numbers."""
        if not isinstance(self.code, str) or len(self.code) > 3 or self.code[:1] not in _NUMERIC or self.order not in ("<", ">", "|", "="):
            raise ValueError("it does not hold plain numbers")
        dtype = np.dtype(self.code)
        return dtype.newbyteorder(self.order) if self.order in "<>" else dtype


class _Array:
    """What a file says about a numpy array."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def real(self) -> np.ndarray:
        """The array; ValueError where shape, type and bytes do not agree."""
        if not isinstance(self.state, tuple) or len(self.state) != 5:
            raise ValueError("it says nothing")
        _, shape, dtype, by_columns, data = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or not isinstance(shape, tuple):
            raise ValueError("it does not hold plain numbers")
        if not all(type(side) is int and side >= 0 for side in shape) or math.prod(shape) * dtype.real().itemsize != len(data):
            raise ValueError("its shape is not that of its bytes")
        return np.frombuffer(data, dtype.real()).reshape(shape, order="F" if by_columns else "C").copy()


def _reconstructed(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: object, data: object = b"") -> _Array:
    array = _Array()
    array.state = (1, (), dtype, False, data)
    return array


def _inert() -> dict[str, Any]:
    """The names under which numpy's arrays are pickled, of versions 1 and 2, and what stands for them."""
    names: dict[str, Any] = {"numpy.ndarray": _Array, "numpy.dtype": _Dtype}
    for core in ("numpy.core", "numpy._core"):
        names |= {f"{core}.multiarray._reconstruct": _reconstructed, f"{core}.multiarray.scalar": _scalar}
    return names


def _check_archive(stream: Any, size: int) -> None:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if sum(info.file_size for info in members) > size or any(info.compress_type != zipfile.ZIP_STORED for info in members):
            raise ValueError("its parts are packed, which torch never does")
        if any(info.file_size > _PICKLE_BYTES for info in members if info.filename.endswith(".pkl")):
            raise ValueError("its table of contents is too large")
    stream.seek(0)


def _bytes_of(value: Any) -> int | None:
    """How much memory a value would take as an array, or None for what is none."""
    if isinstance(value, bool | int | float):
        return 8
    if isinstance(value, _Array):
        return len(value.state[4]) if isinstance(value.state, tuple) and len(value.state) == 5 and isinstance(value.state[4], bytes) else 0
    if type(value).__module__.split(".")[0] == "torch" and hasattr(value, "element_size"):
        return value.numel() * value.element_size()
    if isinstance(value, list | tuple) and len(value) <= _ENTRIES and value and all(type(item) in (int, float) for item in value):
        return 8 * len(value)
    return None


def _opened(value: Any) -> np.ndarray:
    if isinstance(value, _Array):
        return value.real()
    if hasattr(value, "detach"):
        value = value.detach()
        return (value.float() if value.is_floating_point() else value).cpu().contiguous().numpy()
    return np.asarray(value, dtype=np.float64)
