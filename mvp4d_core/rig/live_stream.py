# SPDX-License-Identifier: Apache-2.0
"""Faces that arrive over UDP as they happen: the datagrams of Live Link Face, and OSC with ARKit's names.

Live Link Face sends, big-endian: a byte 6, the device's name and the subject's, each as a length (int32) and UTF-8, the frame time (int32
frame, float32 part of it, int32 rate and divisor), a byte that counts the values, and the values (float32): ARKit's 52 weights in
`ARKIT_NAMES`' order, then yaw, pitch and roll of head, left and right eye, radians.

OSC 1.0 messages, bundled or not: an address that ends in an ARKit name (`/face/jawOpen`, in any case) with one number, or VMC's
`/VMC/Ext/Blend/Val` with a name and a number.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import FormatError, InputError
from ..rotations import axis_angle_to_quaternion, normalize_quaternions, quaternion_to_axis_angle
from .arkit import ARKIT_NAMES
from .live_link import yaw_pitch_roll_to_axis_angle
from .performance import Performance

JOINT_NAMES = ("root", "neck")
LARGEST_DATAGRAM = 65_535  # bytes, UDP's
_VERSION, _NAME_BYTES, _DEPTH = 6, 1024, 4
_NAMES = {name.lower(): name for name in ARKIT_NAMES}
_VMC = "/vmc/ext/blend/val"
_ARGUMENTS = {"i": 4, "f": 4, "h": 8, "d": 8, "t": 8, "T": 0, "F": 0, "N": 0, "I": 0}
_LARGEST = 2.0  # a weight beyond is noise


@dataclass(frozen=True)
class LiveFace:
    """What one datagram says: `weights` by ARKit's names, as far as it names them, and `turn` (3,) axis-angle of the head, or None."""

    weights: dict[str, float] = field(default_factory=dict)
    turn: np.ndarray | None = None

    def then(self, later: "LiveFace") -> "LiveFace":
        """This face with what `later` says of it."""
        return LiveFace({**self.weights, **later.weights}, self.turn if later.turn is None else later.turn)


def parse_datagram(data: bytes) -> LiveFace:
    """The face in a datagram; FormatError for one that is of neither kind."""
    try:
        if data[:1] == bytes([_VERSION]):
            return _live_link(data)
        if data[:1] in (b"/", b"#"):
            return _osc(data, 0)
    except (struct.error, UnicodeDecodeError, IndexError):
        raise FormatError("A datagram was cut short.") from None
    raise FormatError("A datagram is neither Live Link Face's nor OSC.")


def recorded_performance(times: Sequence[float], faces: Sequence[LiveFace], fps: float) -> Performance:
    """Faces that came at `times` (T,) seconds, ascending, as evenly spaced frames, `fps` a second; each face is whole (see `then`).

    Raises:
        InputError: no face, or `fps` out of 1 to 240.
    """
    if not faces or len(times) != len(faces) or not 1 <= fps <= 240:
        raise InputError(f"A recording wants a face for each of its times and 1 to 240 fps, got {len(faces)}, {len(times)} and {fps}.")
    at = np.asarray(times, np.float64) - times[0]
    even = np.arange(int(np.floor(at[-1] * fps + 1e-6)) + 1) / fps
    weights = np.array([[face.weights.get(name, 0.0) for name in ARKIT_NAMES] for face in faces])
    turns = np.array([np.zeros(3) if face.turn is None else face.turn for face in faces])
    quats = axis_angle_to_quaternion(turns)
    quats[1:] *= np.cumprod(np.where((quats[1:] * quats[:-1]).sum(axis=1) < 0, -1, 1))[:, None]
    expression, between = (np.stack([np.interp(even, at, column) for column in table.T], axis=1) for table in (weights, quats))
    rotations = np.zeros((len(even), len(JOINT_NAMES), 3))
    rotations[:, 1] = quaternion_to_axis_angle(normalize_quaternions(between))
    return Performance(expression, rotations, np.zeros((len(even), 3)), fps, ARKIT_NAMES, JOINT_NAMES)


def _live_link(data: bytes) -> LiveFace:
    place = 1
    for _ in range(2):  # the device and the subject
        (length,) = struct.unpack_from(">i", data, place)
        place += 4
        if not 0 <= length <= _NAME_BYTES:
            raise FormatError(f"A datagram of Live Link Face has a name of {length} bytes.")
        data[place : place + length].decode("utf-8")
        place += length
    place += struct.calcsize(">ifii")
    count = data[place]
    if count < len(ARKIT_NAMES) - 1:
        raise FormatError(f"A datagram of Live Link Face has {count} values; {len(ARKIT_NAMES)} weights or more are needed.")
    values = np.array(struct.unpack_from(f">{count}f", data, place + 1), np.float64)
    if not np.isfinite(values).all():
        raise FormatError("A datagram of Live Link Face has numbers that are not finite.")
    weights = {name: _weight(value) for name, value in zip(ARKIT_NAMES, values.tolist(), strict=False)}
    turned = len(values) >= len(ARKIT_NAMES) + 3
    return LiveFace(weights, yaw_pitch_roll_to_axis_angle(values[len(ARKIT_NAMES) :][:3]) if turned else None)


def _osc(data: bytes, depth: int) -> LiveFace:
    if data.startswith(b"#bundle\0"):
        if depth >= _DEPTH:
            raise FormatError(f"An OSC bundle holds bundles more than {_DEPTH} deep.")
        face, place = LiveFace(), 16
        while place < len(data):
            (length,) = struct.unpack_from(">i", data, place)
            if not 0 < length <= len(data) - place - 4:
                raise FormatError("An OSC bundle was cut short.")
            face = face.then(_osc(data[place + 4 : place + 4 + length], depth + 1))
            place += 4 + length
        return face
    address, place = _text(data, 0)
    tags, place = _text(data, place)
    values = list(_arguments(data, tags.removeprefix(","), place))
    name = str(values[0]) if address.lower() == _VMC and values else address.rsplit("/", 1)[-1]
    numbers = [value for value in values if isinstance(value, float) and math.isfinite(value)]
    known = _NAMES.get(name.lower())
    return LiveFace({known: _weight(numbers[0])}) if known and numbers else LiveFace()


def _arguments(data: bytes, tags: str, place: int) -> Iterator[float | str | None]:
    for tag in tags:
        if tag in "sS":
            text, place = _text(data, place)
            yield text
        elif tag in "ifhd":
            (value,) = struct.unpack_from({"i": ">i", "f": ">f", "h": ">q", "d": ">d"}[tag], data, place)
            yield float(value)
            place += _ARGUMENTS[tag]
        elif tag in _ARGUMENTS:
            yield None
            place += _ARGUMENTS[tag]
        else:
            return  # of a length that is not known: what follows cannot be read


def _text(data: bytes, place: int) -> tuple[str, int]:
    """An OSC string and the place after it: ended by a zero, filled with zeros to a multiple of four bytes."""
    end = data.find(b"\0", place)
    if end < 0:
        raise FormatError("An OSC message was cut short.")
    return data[place:end].decode("utf-8"), end + 4 - (end - place) % 4


def _weight(value: float) -> float:
    return min(max(value, 0.0), _LARGEST)
