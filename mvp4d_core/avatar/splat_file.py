# SPDX-License-Identifier: Apache-2.0
"""`.splat`, the 32 bytes a splat of web viewers (https://github.com/antimatter15/splat), without header.

Three float32 of position, three float32 of scale (linear), four bytes of red, green, blue and opacity, and four bytes of the quaternion
wxyz, where 128 + 128 q stands for q. Colour is that of degree 0: what changes with the view is left out. Positions and scales are exact;
colours and opacity are to 1/510, quaternion parts to 1/256.
"""

import os

import numpy as np

from ..errors import FormatError
from ..io.atomic import atomic_write
from ..io.limits import DEFAULT, Limits, check_limit
from ..io.reading import open_input
from ..rotations import normalize_quaternions
from .harmonics import SH_C0
from .stored_splats import StoredSplats, byte_logits, checked, first_bad, sigmoid, to_bytes

_ROW = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)])
_TINY_SCALE = 1e-12  # stands for a scale of 0, whose logarithm files cannot hold


def write_splat(path: str | os.PathLike[str], splats: StoredSplats) -> None:
    """Writes splats, atomically; the largest and most opaque come first, so that viewers which draw while they load show the shape early.

    Raises:
        InputError: shapes that do not agree, a value that is not finite, or a scale beyond float32.
        StorageError: the file cannot be written.
    """
    splats = checked(splats)
    with np.errstate(over="ignore"):
        scales = np.exp(splats.log_scales)
    opacities = sigmoid(splats.opacity_logits)
    table = np.zeros(len(splats.means), _ROW)
    table["means"] = splats.means
    table["scales"] = checked(splats._replace(log_scales=scales)).log_scales
    table["rgba"][:, :3] = to_bytes((0.5 + SH_C0 * splats.sh0) * 255)
    table["rgba"][:, 3] = to_bytes(opacities * 255)
    table["quats"] = to_bytes(normalize_quaternions(splats.quats) * 128 + 128)
    with np.errstate(over="ignore"):
        order = np.argsort(-opacities * scales.prod(axis=1, dtype=np.float64), kind="stable")
    with atomic_write(path) as file:
        file.write(table[order].tobytes())


def read_splat(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> StoredSplats:
    """Reads splats of degree 0. Raises FormatError, InputError or StorageError as `read_ply`."""
    with open_input(path, limits) as (stream, size):
        if size % _ROW.itemsize:
            raise FormatError(f"{path} is not a sound .splat file: it has {size:,} bytes, no multiple of {_ROW.itemsize}. Export it again.")
        check_limit(path, "splats", size // _ROW.itemsize, limits.elements, "Reduce the splats or pass wider limits.")
        table = np.frombuffer(stream.read(size), _ROW, count=size // _ROW.itemsize)
    quats = (table["quats"].astype(np.float32) - 128) / 128
    for name, sound in (
        ("position that is not finite", np.isfinite(table["means"])),
        ("scale that is negative or not finite", np.isfinite(table["scales"]) & (table["scales"] >= 0)),
        ("rotation of length zero", quats.any(axis=1, keepdims=True)),
    ):
        if not sound.all():
            bad = first_bad(np.where(sound, 0.0, np.nan))
            raise FormatError(f"{path} is not a sound .splat file: splat {bad} has a {name}. Take a fresh copy or export it again.")
    return StoredSplats(
        means=table["means"].astype(np.float32),
        quats=quats,
        log_scales=np.log(np.maximum(table["scales"], np.float32(_TINY_SCALE))),
        opacity_logits=byte_logits(table["rgba"][:, 3]),
        sh0=((table["rgba"][:, :3] / np.float32(255) - np.float32(0.5)) / np.float32(SH_C0)).astype(np.float32),
        shN=np.zeros((len(table), 0, 3), np.float32),
    )
