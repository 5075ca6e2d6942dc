# SPDX-License-Identifier: Apache-2.0
"""The arrays that other people's trackers leave: in .npz, .mat, safetensors or torch files, in folders of .npy, one file for all frames
or one for each.
"""

import re
from collections.abc import Collection
from pathlib import Path

from ...errors import FormatError, InputError, StorageError
from ...io import safetensors_numpy
from ...io.limits import DEFAULT, Limits, check_limit
from ...io.mat import read_mat
from ...io.npz import read_npy, read_npz
from ...io.torch_files import torch_arrays
from ...tracks.tables import Arrays

TORCH_ENDINGS = (".frame", ".pt", ".pth", ".tar")
ENDINGS = (".npz", ".mat", ".safetensors", *TORCH_ENDINGS)
_MOST_FRAMES = 100_000


def read_arrays(path: Path, wanted: Collection[str], limits: Limits = DEFAULT) -> list[Arrays]:
    """The arrays of `wanted` names: one table for a file; for a folder one for each of its files or folders, in the order of their numbers.

    A folder of .npy files is one table, each array named as its file.

    Raises:
        FormatError: a damaged file, or tables that do not hold the same arrays.
        InputError: an ending that is not known, an empty folder, or more than the limits.
        StorageError: a file is missing or cannot be read.
    """
    if not path.is_dir():
        return [_read_file(path, wanted, limits)]
    entries = sorted((entry for entry in path.iterdir() if not entry.name.startswith(".")), key=lambda entry: natural(entry.name))
    if any(entry.suffix == ".npy" and entry.stem in wanted for entry in entries):
        return [{entry.stem: read_npy(entry, limits) for entry in entries if entry.suffix == ".npy" and entry.stem in wanted}]
    frames = [entry for entry in entries if entry.suffix.lower() in ENDINGS]
    if not frames:
        frames = [entry for entry in entries if entry.is_dir() and any(file.suffix == ".npy" for file in entry.iterdir())]
    if not frames:
        raise InputError(f"{path} holds no files of a tracker ({', '.join(ENDINGS)}, .npy). Give the file, or the folder of its frames.")
    check_limit(path, "frames", len(frames), _MOST_FRAMES, "Split the folder.")
    tables: list[Arrays] = []
    total = 0
    for frame in frames:
        tables += read_arrays(frame, wanted, limits) if frame.is_dir() else [_read_file(frame, wanted, limits)]
        total += sum(array.nbytes for array in tables[-1].values())
        check_limit(path, "bytes in its arrays", total, limits.array_bytes, "Keep fewer frames.")
        if tables[-1].keys() != tables[0].keys():
            raise FormatError(f"{frame} holds not the same arrays as {frames[0].name}. Keep the files of one track in a folder.")
    return tables


def natural(name: str) -> list[tuple[int, str]]:
    """A key by which `frame2` comes before `frame10`."""
    return [(int(part), "") if part.isdecimal() and len(part) < 19 else (-1, part) for part in re.split(r"([0-9]+)", name)]


def _read_file(path: Path, wanted: Collection[str], limits: Limits) -> Arrays:
    ending = path.suffix.lower()
    if ending not in ENDINGS and ending != ".npy" and path.exists():
        raise InputError(f"`{path.name}` is of no kind that trackers leave: {', '.join(ENDINGS)}, or a folder of them.")
    if not path.exists():
        raise StorageError(f"Cannot read {path}: no such file or folder. Correct the path.")
    if ending == ".npz":
        return read_npz(path, wanted, limits)
    if ending == ".npy":
        return {path.stem: read_npy(path, limits)}
    if ending == ".mat":
        return read_mat(path, wanted, limits)
    if ending == ".safetensors":
        arrays = safetensors_numpy.read(path, limits=limits)[0]
    else:
        arrays = torch_arrays(path, limits)
    return {name: array for name, array in arrays.items() if name in wanted and array.dtype.kind in "biuf"}
