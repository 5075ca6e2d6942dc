# SPDX-License-Identifier: Apache-2.0
"""JSON of sliders, in and out, and MediaPipe's blendshapes as JSON.

Read are:

- one face: `{"jawOpen": 0.5, "mouthSmileLeft": 0.3}`;
- frames: a list of such faces, or `{"fps": 24, "frames": [...]}`; a frame may hold `"joints": {"neck": [x, y, z]}` in degrees and
  `"translation": [x, y, z]` in metres; `"expressions": {...}` may hold its weights apart;
- results of MediaPipe's face landmarker, one or a list: `{"faceBlendshapes": [{"categories": [{"categoryName": ..., "score": ...}]}],
  "facialTransformationMatrixes": [...]}`, in the spelling of its web or Python API. The first face counts; its matrix turns the neck; a
  frame without a face repeats the one before.

Written is the second form, with its schema.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FormatError
from ..io.atomic import atomic_text
from ..io.limits import MIB, Limits
from ..io.reading import open_input
from ..rotations import matrix_to_quaternion, nearest_rotation, quaternion_to_axis_angle
from .arkit import ARKIT_NAMES, JOINT_NAMES
from .performance import Performance

SCHEMA = "mvp4d-sliders/1"
_LIMITS = Limits(file_bytes=256 * MIB)
_MOST_FRAMES, _MOST_NAMES = 200_000, 2000
_BLENDSHAPES = ("faceBlendshapes", "face_blendshapes", "blendshapes")
_MATRICES = ("facialTransformationMatrixes", "facial_transformation_matrixes", "transformation_matrix")
_IGNORED = ("_neutral",)
_Frame = tuple[dict[str, float], dict[str, list[float]], list[float]]


def load_slider_json(path: str | Path, fps: float = 24.0) -> Performance:
    """A performance from any of the layouts above; `fps` where the file does not say.

    Raises:
        FormatError: the file is none of them; the message names the frame.
        StorageError, InputError: as `io.reading.open_input`.
    """
    name = Path(path).name
    with open_input(path, _LIMITS) as (stream, _):
        data = stream.read()
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_unique)
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise FormatError(f"{name} is not a JSON of sliders: it is not JSON, or names something twice.") from None
    try:
        return performance_from_sliders(value, fps)
    except FormatError as error:
        raise FormatError(f"{name} is not a JSON of sliders: {error}") from None


def performance_from_sliders(value: Any, fps: float = 24.0) -> Performance:
    """A performance from parsed JSON (see above); FormatError for anything else."""
    listed = value
    if isinstance(value, dict) and "frames" in value:
        if value.get("schema", SCHEMA) != SCHEMA:
            raise FormatError(f"its schema must be `{SCHEMA}`, got `{str(value['schema'])[:40]}`.")
        listed, fps = value["frames"], _number(value.get("fps", fps), "`fps`")
    frames = listed if isinstance(listed, list) else [listed]
    if not 1 <= len(frames) <= _MOST_FRAMES:
        raise FormatError(f"it must have 1 to {_MOST_FRAMES:,} frames, got {len(frames):,}.")
    if not 0 < fps <= 1000:
        raise FormatError(f"`fps` must be above 0 and at most 1000, got {fps}.")
    parsed: list[_Frame] = []
    for number, frame in enumerate(frames):
        parsed.append(_frame(frame, f"frame {number}", parsed[-1] if parsed else ({}, {}, [0.0, 0.0, 0.0])))
    names = dict.fromkeys(name for weights, _, _ in parsed for name in weights)
    joints = dict.fromkeys([*JOINT_NAMES, *(name for _, turns, _ in parsed for name in turns)])
    if len(names) > _MOST_NAMES or len(joints) > _MOST_NAMES:
        raise FormatError(f"it may name {_MOST_NAMES} sliders, got {max(len(names), len(joints))}.")
    ordered = ARKIT_NAMES + tuple(name for name in names if name not in ARKIT_NAMES) if set(names) & set(ARKIT_NAMES) else tuple(names)
    if len(parsed) * (len(ordered) + 3 * len(joints)) > 100_000_000:
        raise FormatError("it has too many frames for so many sliders.")
    expression = np.array([[weights.get(name, 0.0) for name in ordered] for weights, _, _ in parsed]).reshape(len(parsed), -1)
    rotations = np.array([[turns.get(name, (0.0, 0.0, 0.0)) for name in joints] for _, turns, _ in parsed])
    travel = np.array([place for _, _, place in parsed])
    return Performance(expression, np.deg2rad(rotations), travel, fps, ordered, tuple(joints))


def sliders_from_performance(performance: Performance) -> dict[str, Any]:
    """The second form of the layouts above; what is at rest is left out of a frame."""
    frames = []
    for frame in range(len(performance)):
        now = performance[frame]
        entry: dict[str, Any] = {
            name: round(float(weight), 6) for name, weight in zip(performance.expression_names, now.expression, strict=True) if weight
        }
        degrees = np.rad2deg(now.rotations)
        joints = {name: [round(float(angle), 5) for angle in turn]
                  for name, turn in zip(performance.joint_names, degrees, strict=True) if np.any(turn)}  # fmt: skip
        if joints:
            entry["joints"] = joints
        if np.any(now.translation):
            entry["translation"] = [round(float(metres), 7) for metres in now.translation]
        frames.append(entry)
    return {"schema": SCHEMA, "fps": float(performance.fps), "frames": frames}


def save_slider_json(performance: Performance, path: str | Path) -> None:
    """Writes a JSON of sliders, one frame a line, atomically."""
    value = sliders_from_performance(performance)
    lines = ",\n".join(json.dumps(frame, ensure_ascii=False, allow_nan=False) for frame in value["frames"])
    atomic_text(path, f'{{"schema": {json.dumps(SCHEMA)}, "fps": {value["fps"]!r}, "frames": [\n{lines}\n]}}\n')


def _frame(frame: Any, where: str, before: _Frame) -> _Frame:
    """Weights, joints (degrees) and translation (metres) of one frame of any layout."""
    if not isinstance(frame, dict):
        raise FormatError(f"{where} must be a table of names and numbers, got {type(frame).__name__}.")
    shapes = next((frame[key] for key in _BLENDSHAPES if key in frame), None)
    if shapes is not None:
        matrices = next((frame[key] for key in _MATRICES if key in frame), None)
        weights = _categories(shapes, where)
        if weights is None:
            return before
        return weights, _neck(matrices, where), [0.0, 0.0, 0.0]
    rest = {key: value for key, value in frame.items() if key not in ("joints", "translation", "expressions")}
    weights = rest | frame["expressions"] if isinstance(frame.get("expressions"), dict) else rest
    joints = frame.get("joints", {})
    if not isinstance(joints, dict):
        raise FormatError(f"`joints` of {where} must be a table, got {type(joints).__name__}.")
    turns = {name: _three(turn, f"joint `{name[:40]!a}` of {where}") for name, turn in joints.items()}
    return _weights(weights, where), turns, _three(frame.get("translation", [0, 0, 0]), f"`translation` of {where}")


def _weights(table: Mapping[str, Any], where: str) -> dict[str, float]:
    return {name: _number(value, f"`{name[:40]!a}` of {where}") for name, value in table.items() if name not in _IGNORED}


def _categories(shapes: Any, where: str) -> dict[str, float] | None:
    """The weights of the first face, a table of names or a list of categories, alone or in a list of faces; None where there is none."""
    if isinstance(shapes, list) and shapes and not _is_category(shapes[0]):
        shapes = shapes[0]
    if isinstance(shapes, dict) and "categories" in shapes:
        shapes = shapes["categories"]
    if shapes is None or shapes == []:
        return None
    if isinstance(shapes, dict):
        return _weights(shapes, where)
    if not isinstance(shapes, list) or not all(_is_category(entry) for entry in shapes):
        raise FormatError(f"the blendshapes of {where} must be categories with a name and a score.")
    table = {str(entry.get("categoryName", entry.get("category_name"))): entry.get("score") for entry in shapes}
    return _weights(table, where)


def _is_category(entry: Any) -> bool:
    return isinstance(entry, dict) and ("categoryName" in entry or "category_name" in entry)


def _neck(matrices: Any, where: str) -> dict[str, list[float]]:
    """The neck's turn in degrees from MediaPipe's 4x4 matrix of the first face: x to the subject's left, y up, z out of the face, as ours.

    A web result holds `rows`, `columns` and 16 numbers column by column; Python's holds four rows.
    """
    if isinstance(matrices, list) and matrices and (isinstance(matrices[0], dict) or np.ndim(_numbers(matrices)) == 3):
        matrices = matrices[0]
    if matrices is None or matrices == []:
        return {}
    by_columns = isinstance(matrices, dict)
    numbers = _numbers(matrices.get("data") if by_columns else matrices)
    if numbers.size != 16 or not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e6:
        raise FormatError(f"the transformation matrix of {where} must be 4 by 4 numbers.")
    linear = (numbers.reshape(4, 4).T if by_columns else numbers.reshape(4, 4))[:3, :3]
    if np.linalg.norm(linear, -2) < 1e-6 or np.linalg.det(linear) < 0:  # the least stretch, and a mirror
        raise FormatError(f"the transformation matrix of {where} must be a rotation with a scale.")
    return {"neck": np.rad2deg(quaternion_to_axis_angle(matrix_to_quaternion(nearest_rotation(linear)))).tolist()}


def _numbers(value: Any) -> np.ndarray:
    try:
        return np.asarray(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        return np.zeros(0)


def _three(value: Any, where: str) -> list[float]:
    if not isinstance(value, list) or len(value) != 3:
        raise FormatError(f"{where} must be three numbers.")
    return [_number(part, where) for part in value]


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e5 or not math.isfinite(value):
        raise FormatError(f"{where} must be a number, got {str(value)[:20]!a}.")
    return float(value)


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name stands twice")
    return table
