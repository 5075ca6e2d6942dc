# SPDX-License-Identifier: Apache-2.0
"""SPZ, Niantic's compressed splats, versions 2 and 3 (https://github.com/nianticlabs/spz, "File Format"): one gzip stream.

A header of 16 bytes (magic, version, number of splats, degree, fractional bits, flags), then one block an attribute: positions (24-bit
fixed point), opacities, colours (0.5 + 0.15 SH), log scales ((s + 10) 16), rotations (version 2: x, y, z in a byte each; version 3: the
largest of x, y, z, w by its number and the other three in 10 bits each), spherical harmonics (128 + 128 c, channel innermost). Its axes
are x right, y up, z back, which are head space for a viewer in front of the face; splats come and go here in file axes.

What is lost: positions are to half a micrometre for a head, log scales to 1/32 and not below -10 (0.05 mm), opacities to 1/510, degree 0
to 1/76, higher ones to 1/256 within -1..1, rotations to 0.3 degrees in version 3 and some degrees, where w is near 0, in version 2.
"""

import gzip
import os
import struct
import zlib
from io import BufferedIOBase

import numpy as np

from ..errors import FormatError, InputError
from ..io.atomic import atomic_write
from ..io.limits import DEFAULT, Limits, check_limit
from ..io.reading import open_input
from ..rotations import normalize_quaternions
from .file_space import turned
from .stored_splats import BANDS, StoredSplats, byte_logits, checked, sigmoid, to_bytes

VERSIONS = (2, 3)
_MAGIC = b"NGSP"
_HEADER = struct.Struct("<4sIIBBBB")
_HAS_EXTENSIONS = 2
_ROTATION_BYTES = {2: 3, 3: 4}
_FIXED_BYTES = 9 + 1 + 3 + 3  # position, opacity, colour, scale
_MOST_FRACTIONAL_BITS = 20
_MOST_RATIO = 1032  # deflate packs no tighter
_EXTENSION_BYTES = 1 << 20
_COLOR_SCALE = 0.15
_MAGNITUDES = 511  # of version 3's nine bits, for parts of at most sqrt(1/2)


class _Damage(ValueError):
    """Why a file is refused; becomes a `FormatError` with the file's name."""


def write_spz(path: str | os.PathLike[str], splats: StoredSplats, *, version: int = 3) -> None:
    """Writes splats (in file axes), atomically.

    Raises:
        InputError: shapes that do not agree, a value that is not finite, a position beyond 2^23 metres, or another version than 2 or 3.
        StorageError: the file cannot be written.
    """
    if version not in VERSIONS:
        raise InputError(f"`version` of an SPZ file must be 2 or 3, got {version}.")
    splats = turned(checked(splats))
    count, bands = len(splats.means), splats.shN.shape[1]
    reach = float(np.abs(splats.means).max(initial=0))
    bits = min(_MOST_FRACTIONAL_BITS, 22 - int(np.ceil(np.log2(max(reach, 1)))))
    if bits < 0:
        raise InputError(f"SPZ holds positions within {2**22:,} metres, got one at {reach:g}. Remove such splats first.")
    quats = normalize_quaternions(splats.quats)[:, [1, 2, 3, 0]]
    blocks = (
        _packed_positions(splats.means, bits),
        to_bytes(sigmoid(splats.opacity_logits) * 255),
        to_bytes(splats.sh0 * (_COLOR_SCALE * 255) + 127.5),
        to_bytes((splats.log_scales + 10) * 16),
        _packed_first_three(quats) if version == 2 else _packed_smallest_three(quats),
        to_bytes(splats.shN * 128 + 128),
    )
    header = _HEADER.pack(_MAGIC, version, count, BANDS.index(bands), bits, 0, 0)
    with atomic_write(path) as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
        packed.write(header)
        for block in blocks:
            packed.write(np.ascontiguousarray(block).tobytes())


def read_spz(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> StoredSplats:
    """Reads splats, into file axes. Raises FormatError, InputError or StorageError as `read_ply`."""
    with open_input(path, limits) as (stream, size):
        start = stream.read(8)
        stream.seek(0)
        if start[:4] == _MAGIC:
            raise FormatError(
                f"{path} is SPZ of version {int.from_bytes(start[4:8], 'little')}, packed with Zstandard; versions 2 and 3 are read.\n"
                "Save it as version 3, for example with splat-transform --spz-version 3."
            )
        try:
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return turned(_read(unpacked, path, size, limits))
        except (_Damage, gzip.BadGzipFile, EOFError, zlib.error) as error:
            reason = "it is not a whole gzip stream" if not isinstance(error, _Damage) else error
            raise FormatError(f"{path} is not a sound SPZ file: {reason}. Take a fresh copy or export it again.") from error


def _read(stream: BufferedIOBase, path: object, size: int, limits: Limits) -> StoredSplats:
    header = stream.read(_HEADER.size)
    if len(header) < _HEADER.size or header[:4] != _MAGIC:
        raise _Damage("it does not begin with `NGSP`")
    _, version, count, degree, bits, flags, _ = _HEADER.unpack(header)
    if version not in VERSIONS:
        raise _Damage(f"it is of version {version}, versions 2 and 3 are read")
    if degree >= len(BANDS) or bits > 24:
        raise _Damage(f"its header promises spherical harmonics of degree {degree} and {bits} fractional bits")
    check_limit(path, "splats", count, limits.elements, "Reduce the splats or pass wider limits.")
    sizes = [count * width for width in (9, 1, 3, 3, _ROTATION_BYTES[version], 3 * BANDS[degree])]
    if sum(sizes) > size * _MOST_RATIO:
        raise _Damage(f"its header promises {count:,} splats, more than fit in its {size:,} bytes")
    blocks = []
    for wanted in sizes:
        data = stream.read(wanted)
        if len(data) < wanted:
            raise _Damage(f"its header promises {count:,} splats, it ends within them")
        blocks.append(np.frombuffer(data, np.uint8).reshape(count, wanted // count if count else 0))
    if len(stream.read(_EXTENSION_BYTES)) and not flags & _HAS_EXTENSIONS:
        raise _Damage(f"it goes on after its {count:,} splats")
    positions, opacities, colors, scales, rotations, harmonics = blocks
    quats = _first_three(rotations.reshape(count, 3)) if version == 2 else _smallest_three(rotations.reshape(count, 4))
    return StoredSplats(
        means=_positions(positions.reshape(count, 9), bits),
        quats=np.ascontiguousarray(quats[:, [3, 0, 1, 2]]),
        log_scales=scales.reshape(count, 3) / np.float32(16) - np.float32(10),
        opacity_logits=byte_logits(opacities.reshape(count)),
        sh0=((colors.reshape(count, 3) / 255 - 0.5) / _COLOR_SCALE).astype(np.float32),
        shN=(harmonics.reshape(count, BANDS[degree], 3).astype(np.float32) - 128) / 128,
    )


def _packed_positions(means: np.ndarray, bits: int) -> np.ndarray:
    """(N, 3) metres to (N, 3, 3) bytes, little endian."""
    fixed = np.rint(means.astype(np.float64) * 2**bits).astype("<i4")
    return fixed[..., None].view(np.uint8)[..., :3]


def _positions(packed: np.ndarray, bits: int) -> np.ndarray:
    """(N, 9) bytes to (N, 3) metres."""
    wide = np.zeros((len(packed), 3, 4), np.uint8)
    wide[..., 1:] = packed.reshape(-1, 3, 3)  # in the upper bytes, so that the shift down spreads the sign
    return ((wide.view("<i4")[..., 0] >> 8) / 2**bits).astype(np.float32)


def _packed_first_three(quats: np.ndarray) -> np.ndarray:
    """(N, 4) unit xyzw to (N, 3) bytes of x, y, z where w is not negative."""
    return to_bytes(np.where(quats[:, 3:] < 0, -1, 1) * quats[:, :3] * 127.5 + 127.5)


def _first_three(packed: np.ndarray) -> np.ndarray:
    xyz = packed / np.float32(127.5) - 1
    return np.concatenate([xyz, np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1, keepdims=True)))], axis=1).astype(np.float32)


def _packed_smallest_three(quats: np.ndarray) -> np.ndarray:
    """(N, 4) unit xyzw to (N, 1) uint32: two bits for the number of the largest part, then sign and nine bits of each other one."""
    largest = np.abs(quats).argmax(axis=1)
    sign = np.take_along_axis(quats, largest[:, None], axis=1) < 0
    magnitudes = np.rint(np.minimum(np.abs(quats) * (_MAGNITUDES / np.sqrt(0.5)), _MAGNITUDES)).astype(np.uint32)
    parts = magnitudes | ((quats < 0) ^ sign).astype(np.uint32) << 9
    packed = largest.astype(np.uint32)
    for part in range(4):
        packed = np.where(largest == part, packed, packed << 10 | parts[:, part])
    return packed.astype("<u4")[:, None]


def _smallest_three(packed: np.ndarray) -> np.ndarray:
    code = np.ascontiguousarray(packed).view("<u4")[:, 0].astype(np.uint32)
    largest = code >> 30
    quats = np.zeros((len(code), 4), np.float32)
    for part in (3, 2, 1, 0):  # the last one written lies in the lowest bits
        here = largest != part
        value = (code & 511) * np.float32(np.sqrt(0.5) / _MAGNITUDES) * np.where(code & 512, -1, 1)
        quats[here, part] = value[here]
        code = np.where(here, code >> 10, code)
    rest = np.sqrt(np.maximum(0, 1 - (quats**2).sum(axis=1)))
    np.put_along_axis(quats, largest[:, None].astype(np.int64), rest[:, None], axis=1)
    return quats
