# SPDX-License-Identifier: Apache-2.0
"""3D Gaussian splats as PLY, the exchange file that every splat viewer opens.

One element `vertex` with scalar properties: position `x y z`, `f_dc_0..2` and `f_rest_*` (spherical harmonics, channel by channel: all
coefficients of red, then green, then blue), `opacity` (logit), `scale_0..2` (natural logarithm) and `rot_0..3` (quaternion wxyz, of any
length but zero). `nx ny nz` are zeros that old viewers want. The numbers are taken as they are: which space they are in is the caller's
affair.
"""

import os

import numpy as np

from ..io.limits import DEFAULT, Limits, check_limit
from . import ply_tables
from .ply_tables import Damage, Element
from .stored_splats import StoredSplats, checked, first_bad

_REST_COUNTS = {0: 0, 9: 3, 24: 8, 45: 15}
_MEANS = ("x", "y", "z")
_NORMALS = ("nx", "ny", "nz")
_SH0 = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALES = ("scale_0", "scale_1", "scale_2")
_QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
_REQUIRED = (*_MEANS, *_SH0, "opacity", *_SCALES, *_QUATS)


def write_ply(
    path: str | os.PathLike[str],
    means: np.ndarray,
    quats: np.ndarray,
    log_scales: np.ndarray,
    opacity_logits: np.ndarray,
    sh0: np.ndarray,
    shN: np.ndarray,
) -> None:
    """Writes N splats as binary little-endian PLY, atomically. Shapes as in `StoredSplats`.

    Raises:
        InputError: shapes that do not agree, or a value that is not finite.
        StorageError: the file cannot be written.
    """
    table = splat_table(StoredSplats(means, quats, log_scales, opacity_logits, sh0, shN))
    ply_tables.write_tables(path, {"vertex": table})


def splat_table(splats: StoredSplats, *, normals: bool = True, more: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """The rows of the element `vertex`, all columns float32; `more` adds columns at the end. Raises InputError as `write_ply`."""
    splats = checked(splats)
    count, rest = len(splats.means), splats.shN.shape[1] * 3
    parts = {
        _MEANS: splats.means,
        **({_NORMALS: np.zeros_like(splats.means)} if normals else {}),
        _SH0: splats.sh0,
        tuple(_rest_names(rest)): splats.shN.transpose(0, 2, 1).reshape(count, rest),
        ("opacity",): splats.opacity_logits[:, None],
        _SCALES: splats.log_scales,
        _QUATS: splats.quats,
        **{(name,): column[:, None] for name, column in (more or {}).items()},
    }
    return ply_tables.rows([name for names in parts for name in names], np.concatenate(list(parts.values()), axis=1))


def read_ply(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> StoredSplats:
    """Reads splats from a PLY file: ASCII or binary of either byte order, properties in any order, further ones ignored.

    Raises:
        FormatError: truncated, corrupt or hostile data, a column that is missing, or a value that is not finite.
        InputError: more splats than `limits.elements` or more bytes than `limits.file_bytes`.
        StorageError: the file is missing or cannot be read.
    """
    with ply_tables.opened(path, "splat PLY file", limits) as file:
        before = file.index("vertex")
        vertex = file.elements[before]
        check_columns(vertex)
        ply_tables.check_promise(file, before)
        check_limit(path, "splats", vertex.count, limits.elements, "Reduce the splats or pass wider limits.")
        return splats_of(ply_tables.read_table(file, 0, before))


def check_columns(vertex: Element) -> None:
    """`Damage` unless the element has the columns of splats."""
    missing = [name for name in _REQUIRED if name not in vertex.properties]
    if missing:
        raise Damage(f"it is not a Gaussian splat file, the columns {', '.join(missing)} are missing")
    rest = _rest_count(vertex.properties)
    if rest not in _REST_COUNTS or not vertex.properties.keys() >= set(_rest_names(rest)):
        raise Damage(f"it has {rest} f_rest columns, it must have f_rest_0 and so on, 0, 9, 24 or 45 of them")


def splats_of(table: np.ndarray) -> StoredSplats:
    """The splats in the rows of an element whose columns were checked; `Damage` where a value is not finite or a rotation is zero."""
    rest = _rest_count(table.dtype.names or ())
    shN = ply_tables.columns(table, _rest_names(rest)).reshape(len(table), 3, _REST_COUNTS[rest]).transpose(0, 2, 1)
    splats = StoredSplats(
        means=ply_tables.columns(table, _MEANS),
        quats=ply_tables.columns(table, _QUATS),
        log_scales=ply_tables.columns(table, _SCALES),
        opacity_logits=ply_tables.columns(table, ("opacity",))[:, 0],
        sh0=ply_tables.columns(table, _SH0),
        shN=np.ascontiguousarray(shN),
    )
    for name, array in zip(splats._fields, splats, strict=True):
        if not np.isfinite(array).all():
            raise Damage(f"splat {first_bad(array)} has a value in `{name}` that is not finite")
    lengths = np.abs(splats.quats).max(axis=1, initial=0)
    if not lengths.all():
        raise Damage(f"splat {int(np.argmin(lengths))} has a rotation of length zero")
    return splats


def _rest_names(count: int) -> list[str]:
    return [f"f_rest_{index}" for index in range(count)]


def _rest_count(names: dict[str, str] | tuple[str, ...]) -> int:
    return sum(name.startswith("f_rest_") for name in names)
