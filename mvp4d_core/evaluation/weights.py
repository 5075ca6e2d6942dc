# SPDX-License-Identifier: Apache-2.0
"""Weights of other people's networks, in files that a user has: safetensors, or the state dict that torch saved."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch

from ..errors import FormatError
from ..io import safetensors_numpy
from ..io.limits import GIB, Limits
from ..io.reading import file_sha256
from ..io.torch_files import load_torch

WEIGHTS_LIMITS = Limits(file_bytes=2 * GIB)


def read_weights(paths: Iterable[str | Path]) -> dict[str, torch.Tensor]:
    """The tensors of some files together, by name; a later file wins.

    A name that ends in `.safetensors` is read as such. Any other file goes through torch's reader of bare tensors (`weights_only`), which
    runs no code of the file; a dictionary in which the state dict is called `state_dict`, `model` or `extractor` is opened.

    Raises:
        FormatError: a file that is neither, or is damaged.
        InputError, StorageError: as `open_input`.
    """
    tensors: dict[str, torch.Tensor] = {}
    for path in map(Path, paths):
        tensors |= _read_safetensors(path) if path.suffix == ".safetensors" else _read_state_dict(path)
    return tensors


def renamed(tensors: dict[str, torch.Tensor], pattern: str, replacement: str) -> dict[str, torch.Tensor]:
    """The tensors whose names the regular expression matches from the start, under their new names."""
    return {re.sub(pattern, replacement, name): tensor for name, tensor in tensors.items() if re.match(pattern, name)}


def file_digest(path: str | Path) -> str:
    """The first twelve digits of a file's SHA-256, by which a report names the weights."""
    return file_sha256(path, WEIGHTS_LIMITS)[:12]


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    tensors, _ = safetensors_numpy.read(path, limits=WEIGHTS_LIMITS)
    return {name: torch.from_numpy(array) for name, array in tensors.items() if array.dtype.kind == "f"}


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    found = load_torch(path, WEIGHTS_LIMITS)
    for wrapper in ("state_dict", "model", "extractor"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not any(isinstance(value, torch.Tensor) for value in found.values()):
        raise FormatError(f"{path} holds no state dict, but {type(found).__name__}. Give a .safetensors or a state dict.")
    return {str(name): value for name, value in found.items() if isinstance(value, torch.Tensor) and value.is_floating_point()}
