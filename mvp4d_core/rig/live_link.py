# SPDX-License-Identifier: Apache-2.0
"""Takes of the Live Link Face app (CSV), in and out.

A file is a header and one row a frame: `Timecode`, `BlendShapeCount` (also written `BlendshapeCount`), the weights by ARKit's names in any
order and case (`EyeBlinkLeft`, `eyeBlinkLeft`), with or without `TongueOut`, then head and eye rotation as far as the version writes them
(`HeadYaw`, `HeadPitch`, `HeadRoll`, `LeftEyeYaw` ...). Columns are found by name alone. A row whose count is 0, or that stops after it, is
a frame in which the app saw no face; it is filled from its neighbours.

Timecodes are `HH:MM:SS:FF` or `HH:MM:SS;FF` (drop frame), FF with or without a fraction of a frame. The app counts FF at its own rate,
which the file does not say: it is read off the largest FF, and `fps` overrules it. Dropped frames are filled too: the result is evenly
spaced, as finely as the rows are.

Rotations are applied roll first, then pitch, then yaw. Their signs are documented nowhere and were read off public takes. The eyes' yaw
turns to the subject's right and their pitch looks down: both go exactly against the eyeLook weights, at 0.61 radians for a weight of 1. The
head's yaw turns to the subject's left and its pitch raises the face, since the eyes of a head that sways before the phone stay on it.
Roll, taken to tilt to the subject's right shoulder, is a guess. Radians by default; some writers give degrees, or half turns (-1..1 for
-180..180 degrees).
"""

import csv
import io
import itertools
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ..errors import FormatError, InputError
from ..io.atomic import atomic_text
from ..io.limits import MIB, Limits
from ..io.reading import open_input
from ..rotations import axis_angle_to_matrix, axis_angle_to_quaternion, multiply_quaternions, quaternion_to_axis_angle
from .arkit import ARKIT_NAMES, JOINT_NAMES
from .performance import Performance

Angles = Literal["radians", "degrees", "half-turns"]
Eyes = Literal["auto", "looks", "joints"]
_LIMITS = Limits(file_bytes=512 * MIB)
_MOST_ROWS, _MOST_FPS = 1_000_000, 240.0
_UNITS: dict[str, float] = {"radians": 1.0, "degrees": math.pi / 180, "half-turns": math.pi}
_HEAD = {"neck": "Head", "left_eye": "LeftEye", "right_eye": "RightEye"}
_TURNS = ("Yaw", "Pitch", "Roll")
_EYE_SIGNS = np.array([-1.0, -1.0, 1.0])  # of the eyes' yaw, pitch and roll against the head's
_TIMECODE = re.compile(r"^(\d{1,3}):(\d{1,2}):(\d{1,2})([:;])(\d{1,3})(?:\.(\d{1,9}))?$", re.ASCII)
_RATES = (24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 90.0, 100.0, 120.0, 240.0)
_USUAL = 60.0
_COARSEST = 10.5  # frames of the timecode between rows beyond which they are gaps, not the rhythm


class _Code(NamedTuple):
    """A timecode: seconds since midnight, the frame in that second, the fraction of it, whether numbers are dropped (29.97 and 59.94)."""

    second: int
    frame: int
    part: float
    drop: bool


@dataclass(frozen=True)
class LiveLinkOptions:
    """How a take is read.

    Attributes:
        fps: frames a second that the timecode counts, found by itself when None.
        angles: unit of the rotation columns.
        eyes: what gaze becomes: `looks` keeps the eyeLook weights, `joints` the eyes' rotations instead; a face with both would look twice
            as far. `auto` takes the weights, and the rotations where no eyeLook weight moves.
        neutral: (52,) weights of the actor's face at rest, in the order of ARKIT_NAMES (see `neutral_weights`), or None.
    """

    fps: float | None = None
    angles: Angles = "radians"
    eyes: Eyes = "auto"
    neutral: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not 1 <= self.fps <= _MOST_FPS:
            raise InputError(f"A take has 1 to {_MOST_FPS:g} frames a second, got {self.fps}.")
        if self.angles not in _UNITS or self.eyes not in ("auto", "looks", "joints"):
            raise InputError(f"Angles are {', '.join(_UNITS)} and eyes auto, looks or joints; got `{self.angles}` and `{self.eyes}`.")


def load_live_link(path: str | Path, options: LiveLinkOptions | None = None) -> Performance:
    """A take as a performance with ARKit's 52 names; the head's rotation goes to the neck.

    Raises:
        FormatError: the file is not such a CSV; the message names the line.
        StorageError, InputError: as `io.reading.open_input`.
    """
    name = Path(path).name
    with open_input(path, _LIMITS) as (stream, _):
        data = stream.read()
    try:
        return parse_live_link(data.decode("utf-8-sig"), options or LiveLinkOptions())
    except UnicodeDecodeError:
        raise FormatError(f"{name} is not a Live Link Face take: it is not text.") from None
    except FormatError as error:
        raise FormatError(f"{name} is not a whole Live Link Face take: {error}") from None


def parse_live_link(text: str, options: LiveLinkOptions) -> Performance:
    """A take from the text of its CSV; see `load_live_link`."""
    columns, rows, codes = _table(text)
    rate = options.fps or _frame_rate(codes)
    seen = np.flatnonzero([row is not None for row in rows])
    if not len(seen):
        raise FormatError("no row of it has a face.")
    values = np.array([row for row in rows if row is not None])
    at = _frames_at(codes, rate) if codes else np.arange(len(rows), dtype=np.float64)
    spacing, times = _spacing(at), at[seen]
    last = round((times[-1] - times[0]) / spacing)
    if last >= _MOST_ROWS:
        raise FormatError(f"its timecodes span {last:,} frames, more than {_MOST_ROWS:,}.")
    even = times[0] + np.arange(last + 1) * spacing
    fps = rate / spacing * (1000 / 1001 if codes and codes[0].drop else 1)
    table = {name: np.interp(even, times, values[:, column]) for name, column in columns.items()}
    weights = np.stack([table.get(name.lower(), np.zeros(len(even))) for name in ARKIT_NAMES], axis=1)
    if options.neutral is not None:
        weights = calibrated(weights, options.neutral)
    rotations = np.zeros((len(even), len(JOINT_NAMES), 3))
    for joint, prefix in _HEAD.items():
        turns = np.stack([table.get((prefix + turn).lower(), np.zeros(len(even))) for turn in _TURNS], axis=1)
        rotations[:, JOINT_NAMES.index(joint)] = yaw_pitch_roll_to_axis_angle(turns * _signs(joint) * _UNITS[options.angles])
    looks = [column for column, name in enumerate(ARKIT_NAMES) if name.startswith("eyeLook")]
    by_weights = options.eyes == "looks" or (options.eyes == "auto" and bool(np.any(weights[:, looks])))
    if by_weights:
        rotations[:, [JOINT_NAMES.index(joint) for joint in ("left_eye", "right_eye")]] = 0
    else:
        weights[:, looks] = 0
    return Performance(np.clip(weights, 0, 1), rotations, np.zeros((len(even), 3)), fps, ARKIT_NAMES, JOINT_NAMES)


def save_live_link(performance: Performance, path: str | Path) -> None:
    """Writes a take that the app's readers take: 52 weights, head and eyes in radians; expressions that are not ARKit's can't be written.

    Raises:
        InputError: an expression moves that has no column, or nothing of it is ARKit's.
    """
    moving = {name for name, track in zip(performance.expression_names, performance.expression.T, strict=True) if np.any(track)}
    if moving - set(ARKIT_NAMES):
        strange = sorted(moving - set(ARKIT_NAMES))[0]
        raise InputError(
            f"A Live Link take has ARKit's expressions alone, not `{strange}`: convert the performance to the open head first."
        )
    whole = round(performance.fps)
    if abs(performance.fps - whole) > 0.1 or not 1 <= whole <= _MOST_FPS:
        raise InputError(f"A timecode counts 1 to {_MOST_FPS:g} whole frames a second, got {performance.fps:g} fps: resample it first.")
    table = [performance.expression[:, performance.expression_names.index(name)] if name in performance.expression_names
             else np.zeros(len(performance)) for name in ARKIT_NAMES]  # fmt: skip
    header = ["Timecode", "BlendShapeCount", *(name[0].upper() + name[1:] for name in ARKIT_NAMES)]
    for joint, prefix in _HEAD.items():
        header += [prefix + turn for turn in _TURNS]
        known = joint in performance.joint_names
        rotation = performance.rotations[:, performance.joint_names.index(joint)] if known else np.zeros((len(performance), 3))
        table += list((axis_angle_to_yaw_pitch_roll(rotation) * _signs(joint)).T)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    # the first row is the last frame of a second, so that the rate can be read off the shortest take
    for frame, row in enumerate(np.stack(table, axis=1), start=3600 * whole - 1):
        seconds, part = divmod(frame, whole)
        code = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{part:02d}.000"
        writer.writerow([code, len(table), *(f"{value:.7f}" for value in row)])
    atomic_text(path, stream.getvalue())


def neutral_weights(performance: Performance) -> np.ndarray:
    """(52,) the median weights of a take in which the actor rests: what calibration takes off the other takes."""
    rest = np.zeros(len(ARKIT_NAMES))
    for column, name in enumerate(ARKIT_NAMES):
        if name in performance.expression_names:
            rest[column] = np.median(performance.expression[:, performance.expression_names.index(name)])
    return rest


def calibrated(weights: np.ndarray, neutral: np.ndarray) -> np.ndarray:
    """`weights` (T, 52) with the resting face at 0 and full expressions still at 1: (w - n) / (1 - n), not below 0."""
    neutral = np.clip(np.asarray(neutral, np.float64), 0, 0.95)
    if neutral.shape != (len(ARKIT_NAMES),) or not np.isfinite(neutral).all():
        raise InputError(f"A neutral face must be {len(ARKIT_NAMES)} finite weights, got {neutral.shape}.")
    return np.clip((weights - neutral) / (1 - neutral), 0, None)


def level_head(performance: Performance) -> Performance:
    """The performance with the neck's median attitude at rest: a phone that was not held straight no longer tilts the head."""
    if "neck" not in performance.joint_names:
        return performance
    joint, rotations = performance.joint_names.index("neck"), performance.rotations.astype(np.float64)
    middle = axis_angle_to_quaternion(np.median(rotations[:, joint], axis=0)) * [1, -1, -1, -1]
    rotations[:, joint] = quaternion_to_axis_angle(multiply_quaternions(middle, axis_angle_to_quaternion(rotations[:, joint])))
    return replace(performance, rotations=rotations)


def _signs(joint: str) -> np.ndarray:
    """(3,) of yaw, pitch and roll in a take against `yaw_pitch_roll_to_axis_angle`."""
    return _EYE_SIGNS if joint.endswith("eye") else np.ones(3)


def yaw_pitch_roll_to_axis_angle(turns: np.ndarray) -> np.ndarray:
    """(..., 3) yaw, pitch, roll in radians to head space: R = R_y(yaw) R_x(-pitch) R_z(roll)."""
    zero = np.zeros(turns.shape[:-1])
    yaw, pitch, roll = (
        axis_angle_to_quaternion(np.stack(axes, axis=-1))
        for axes in ((zero, turns[..., 0], zero), (-turns[..., 1], zero, zero), (zero, zero, turns[..., 2]))
    )
    return quaternion_to_axis_angle(multiply_quaternions(yaw, multiply_quaternions(pitch, roll)))


def axis_angle_to_yaw_pitch_roll(rotations: np.ndarray) -> np.ndarray:
    """The inverse of `yaw_pitch_roll_to_axis_angle` for |pitch| < 90 degrees."""
    m = axis_angle_to_matrix(np.asarray(rotations, np.float64))
    pitch = np.arcsin(np.clip(m[..., 1, 2], -1, 1))
    return np.stack([np.arctan2(m[..., 0, 2], m[..., 2, 2]), pitch, np.arctan2(m[..., 1, 0], m[..., 1, 1])], axis=-1)


def _table(text: str) -> tuple[dict[str, int], list[list[float] | None], list[_Code] | None]:
    """Lower-case names with their columns among the numbers, the numbers of each row (None without a face), and the timecodes."""
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise FormatError(f"its commas and quotes can't be read: {error}.") from None
    if len(lines) > _MOST_ROWS:
        raise FormatError(f"it has {len(lines):,} rows, more than the {_MOST_ROWS:,} that are accepted.")
    header = [name.strip().lower() for name in lines[0]] if lines else []
    known = {name.lower() for name in ARKIT_NAMES} | {(prefix + turn).lower() for prefix in _HEAD.values() for turn in _TURNS}
    places = {name: place for place, name in enumerate(header) if name in known}
    if "jawopen" not in places or len(places) < len([name for name in header if name in known]):
        raise FormatError("its first line must name each of ARKit's expressions once, such as JawOpen.")
    rows: list[list[float] | None] = []
    codes: list[_Code] | None = [] if "timecode" in header else None
    count = next((place for place, name in enumerate(header) if name == "blendshapecount"), None)
    for number, line in enumerate(lines[1:], start=2):
        if not line or not any(cell.strip() for cell in line):
            continue
        if codes is not None:
            codes.append(_timecode(line[header.index("timecode")] if header.index("timecode") < len(line) else "", number))
        lost = all(place >= len(line) or not line[place].strip() for place in places.values())
        if lost or (count is not None and count < len(line) and line[count].strip() in ("0", "0.0")):
            rows.append(None)
            continue
        rows.append([_number(line, place, number) for place in places.values()])
    return {name: column for column, name in enumerate(places)}, rows, codes


def _number(line: list[str], place: int, number: int) -> float:
    try:
        value = float(line[place])
    except (ValueError, IndexError):
        value = math.nan
    if not abs(value) <= 1000:
        shown = line[place][:20] if place < len(line) else "nothing"
        raise FormatError(f"line {number}, column {place + 1} must be a number, got `{shown!a}`.")
    return value


def _timecode(text: str, number: int) -> _Code:
    """A timecode's parts; FormatError for what is none."""
    match = _TIMECODE.match(text.strip())
    if match is None:
        raise FormatError(f"line {number} must begin with a timecode HH:MM:SS:FF, got `{text[:20]!a}`.")
    hours, minutes, seconds, frame = (int(match.group(part)) for part in (1, 2, 3, 5))
    return _Code(hours * 3600 + minutes * 60 + seconds, frame, float(f"0.{match.group(6) or 0}"), match.group(4) == ";")


def _frame_rate(codes: list[_Code] | None) -> float:
    """The rate that the timecode counts at.

    Where a row is followed by frame 0 of the next second it was the last of its own, unless rows are missing: the largest such frame tells.
    Else it is the lowest usual rate above the largest frame; of a take within one second, as without timecodes, the app's own.
    """
    if not codes:
        return _USUAL
    turns = [code.frame for code, after in itertools.pairwise(codes) if after.frame == 0 and after.second == code.second + 1]
    largest = max(code.frame for code in codes)
    if turns and max(turns) == largest:
        return largest + 2.0 if largest + 2.0 in _RATES and largest + 1.0 not in _RATES else largest + 1.0
    if codes[0].second == codes[-1].second:
        return max(_USUAL, largest + 1.0)
    return next((rate for rate in _RATES if rate > largest), largest + 1.0)


def _frames_at(codes: list[_Code], fps: float) -> np.ndarray:
    """(T,) frames since the first, not running back; midnight in the middle of a take is passed.

    Drop frame codes leave out fps / 15 numbers at the start of each minute but every tenth.
    """
    seconds = np.array([code.second for code in codes], np.float64)
    seconds += 86400 * np.cumsum(np.diff(seconds, prepend=seconds[0]) < -43200)
    at = seconds * fps + np.array([code.frame + code.part for code in codes])
    if codes[0].drop:
        minutes = seconds // 60
        at -= round(fps / 15) * (minutes - minutes // 10)
    if np.any(np.diff(at) < 0):
        worst = int(np.argmin(np.diff(at))) + 3
        raise FormatError(f"its timecodes run back at line {worst}.")
    return at - at[0]


def _spacing(at: np.ndarray) -> float:
    """Timecode frames from row to row: 1, or 1/2, 1/3 and so on where the rows are finer than the code, or 2, 3 and so on where coarser."""
    step = float(np.median(np.diff(at))) if len(at) > 1 else 1.0
    if not 0.1 < step <= _COARSEST:
        return 1.0
    return 1 / round(1 / step) if step < 0.75 else float(round(step))
