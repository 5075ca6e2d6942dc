# SPDX-License-Identifier: Apache-2.0
"""Safetensors files that say in their metadata what they are."""

from pathlib import Path

import numpy as np

from ..errors import FormatError
from . import safetensors_numpy

_SHOWN = 40  # characters of a strange schema that a message repeats


def read_as(path: str | Path, schema: str, kind: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a file whose metadata says `schema`; FormatError, naming the `kind` of file wanted, for any other."""
    tensors, metadata = safetensors_numpy.read(path)
    found = metadata.get("schema", "none")
    if found != schema:
        raise FormatError(f"{Path(path).name} is not {kind} of this version: its schema must be `{schema}`, got `{found[:_SHOWN]}`.")
    return tensors, metadata
