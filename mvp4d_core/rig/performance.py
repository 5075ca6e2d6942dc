# SPDX-License-Identifier: Apache-2.0
"""What an actor does: expressions, joint rotations and head motion over time, and the file that holds it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FormatError, InputError
from ..io import safetensors_numpy
from ..io.schema import read_as
from .head_model import HeadModel

SCHEMA = "mvp4d-performance/1"
_TENSORS = ("expression", "rotations", "translation")
_TEXTS = ("expression_names", "joint_names", "fps")


@dataclass(frozen=True)
class Parameters:
    """One frame: `expression` (E,) weights, `rotations` (J, 3) axis-angle radians, `translation` (3,) metres."""

    expression: np.ndarray
    rotations: np.ndarray
    translation: np.ndarray


@dataclass(frozen=True)
class Performance:
    """T frames.

    Attributes:
        expression: (T, E) float32 weights, named by `expression_names`.
        rotations: (T, J, 3) float32 axis-angle radians, each relative to the parent joint, named by `joint_names`.
        translation: (T, 3) float32 metres.
        fps: frames a second.
    """

    expression: np.ndarray
    rotations: np.ndarray
    translation: np.ndarray
    fps: float
    expression_names: tuple[str, ...]
    joint_names: tuple[str, ...]

    def __post_init__(self) -> None:
        frames = len(self.expression)
        wanted = {
            "expression": (frames, len(self.expression_names)),
            "rotations": (frames, len(self.joint_names), 3),
            "translation": (frames, 3),
        }
        for name, shape in wanted.items():
            array = np.asarray(getattr(self, name), dtype=np.float32)
            if array.shape != shape or not np.isfinite(array).all():
                raise InputError(f"`{name}` of a performance must be finite and {shape}, got {array.shape}.")
            object.__setattr__(self, name, array)
        if frames < 1 or not 0 < self.fps <= 1000:
            raise InputError(f"A performance must have a frame and 0 < fps <= 1000, got {frames} frames at {self.fps} fps.")

    def __len__(self) -> int:
        return len(self.expression)

    def __getitem__(self, frame: int) -> Parameters:
        return Parameters(self.expression[frame], self.rotations[frame], self.translation[frame])

    def select(self, frames: np.ndarray | slice | list[int]) -> "Performance":
        """The chosen frames, in the order given."""
        return Performance(
            self.expression[frames], self.rotations[frames], self.translation[frames], self.fps, self.expression_names, self.joint_names
        )


def rest_parameters(model: HeadModel) -> Parameters:
    """The neutral face, looking straight ahead."""
    return Parameters(
        np.zeros(len(model.expression_names), np.float32), np.zeros((len(model.joint_names), 3), np.float32), np.zeros(3, np.float32)
    )


def single_frame(parameters: Parameters, model: HeadModel, fps: float = 24.0) -> Performance:
    """A performance of one frame."""
    expression, rotations, translation = parameters.expression[None], parameters.rotations[None], parameters.translation[None]
    return Performance(expression, rotations, translation, fps, model.expression_names, model.joint_names)


def retarget(performance: Performance, model: HeadModel) -> Performance:
    """The performance with the expressions and joints of `model`, matched by name; those the performance lacks stay at rest."""
    common = [name for name in model.expression_names if name in performance.expression_names]
    if not common and not set(model.joint_names) & set(performance.joint_names):
        raise InputError(f"The performance shares no expression and no joint with the head `{model.name}`; retarget it first.")
    expression = np.zeros((len(performance), len(model.expression_names)), np.float32)
    for name in common:
        expression[:, model.expression_names.index(name)] = performance.expression[:, performance.expression_names.index(name)]
    rotations = np.zeros((len(performance), len(model.joint_names), 3), np.float32)
    for joint, name in enumerate(model.joint_names):
        if name in performance.joint_names:
            rotations[:, joint] = performance.rotations[:, performance.joint_names.index(name)]
    return Performance(expression, rotations, performance.translation, performance.fps, model.expression_names, model.joint_names)


def performance_to_tensors(performance: Performance) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors and the texts of a performance, as files hold them."""
    return {name: getattr(performance, name) for name in _TENSORS}, {name: json.dumps(getattr(performance, name)) for name in _TEXTS}


def performance_from_tensors(tensors: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> Performance:
    """The inverse of `performance_to_tensors`; raises FormatError for anything missing or malformed."""
    try:
        parsed = {name: json.loads(texts[name]) for name in _TEXTS}
        return Performance(
            **{name: tensors[name] for name in _TENSORS},
            fps=float(parsed["fps"]),
            expression_names=tuple(parsed["expression_names"]),
            joint_names=tuple(parsed["joint_names"]),
        )
    except KeyError as error:
        raise FormatError(f"it lacks {error}.") from None
    except (ValueError, TypeError, OverflowError, RecursionError, InputError) as error:
        raise FormatError(str(error)) from None


def save_performance(performance: Performance, path: str | Path) -> None:
    """Writes one safetensors file, atomically."""
    tensors, texts = performance_to_tensors(performance)
    safetensors_numpy.write(path, tensors, {"schema": SCHEMA, **texts})


def load_performance(path: str | Path) -> Performance:
    """Reads what `save_performance` wrote; raises FormatError for anything else."""
    tensors, metadata = read_as(path, SCHEMA, "a performance")
    try:
        return performance_from_tensors(tensors, metadata)
    except FormatError as error:
        raise FormatError(f"{Path(path).name} is a damaged performance: {error}") from None
