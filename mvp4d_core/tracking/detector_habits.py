# SPDX-License-Identifier: Apache-2.0
"""How the face detector's 478 points lie off the points they stand for, measured on rendered faces whose points are known.

`tools/measure_detector_habits.py` rebuilds the file. All is told in the face's own axes, x from the right eye to the left and y down, in
distances between the eyes as they are from the front.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FormatError
from ..io import safetensors_numpy
from ..io.schema import read_as
from ..rig import ARKIT_NAMES

HABITS_FILE = Path(__file__).parent / "assets" / "detector_habits.safetensors"
SCHEMA = "mvp4d-detector-habits/1"
_TENSORS = ("mean", "own_modes", "modes", "gain", "noise")


@dataclass(frozen=True)
class DetectorHabits:
    """`mean` (L, 2) of all people; `own_modes` (L, 2, P) how people differ in it, and `modes` (L, 2, H) how frames of one person do, each
    of unit variance; `gain` (L, 2, 52) by ARKit weight 1; `noise` (L,), what remains.
    """

    mean: np.ndarray
    own_modes: np.ndarray
    modes: np.ndarray
    gain: np.ndarray
    noise: np.ndarray

    def gain_of(self, expression_names: Sequence[str]) -> np.ndarray:
        """(L, 2, E) for expressions of these names; 0 for those that are not ARKit's."""
        columns = {name: self.gain[:, :, k] for k, name in enumerate(ARKIT_NAMES)}
        return np.stack([columns.get(name, np.zeros_like(self.mean)) for name in expression_names], axis=2)


def measure_habits(errors: np.ndarray, expressions: np.ndarray, people: np.ndarray, own: int, modes: int, ridge: float) -> DetectorHabits:
    """The habits in errors (n, L, 2) of frames with `expressions` (n, 52) of `people` (n,), numbered from 0.

    What an expression does is a regression within people; the rest is split into what is a person's own in all frames and what is not, and
    each into its principal components, `own` and `modes` of them.

    Args:
        ridge: frames' worth of evidence that an expression changes nothing.
    """
    flat, frames = errors.reshape(len(errors), -1), np.bincount(people)
    own_errors, own_expressions = (_means(values, people, frames) for values in (flat, expressions))
    within, moved = flat - own_errors[people], expressions - own_expressions[people]
    gain = np.linalg.solve(moved.T @ moved + ridge * np.eye(moved.shape[1]), moved.T @ within)
    own_rest = own_errors - own_expressions @ gain
    mean = own_rest.mean(axis=0)
    own_rows = _components(own_rest - mean, own)
    rest = within - moved @ gain
    rows = _components(rest, modes)
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    left = (rest - (rest @ directions.T) @ directions).reshape(errors.shape)
    shape = errors.shape[1:]
    return DetectorHabits(
        mean=mean.reshape(shape),
        own_modes=own_rows.reshape(-1, *shape).transpose(1, 2, 0),
        modes=rows.reshape(-1, *shape).transpose(1, 2, 0),
        gain=gain.reshape(-1, *shape).transpose(1, 2, 0),
        noise=np.sqrt((left**2).mean(axis=(0, 2))),
    )


def _means(values: np.ndarray, people: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """(people, C)."""
    sums = np.zeros((len(frames), values.shape[1]))
    np.add.at(sums, people, values)
    return sums / frames[:, None]


def _components(values: np.ndarray, count: int) -> np.ndarray:
    """(count, C) the strongest directions of values (n, C), each as long as its standard deviation."""
    _, strengths, rows = np.linalg.svd(values, full_matrices=False)
    return strengths[:count, None] * rows[:count] / np.sqrt(len(values))


@functools.cache
def load_habits(path: str | Path = HABITS_FILE) -> DetectorHabits:
    """Reads what `save_habits` wrote; raises FormatError for anything else."""
    tensors, _ = read_as(path, SCHEMA, "measured habits of the face detector")
    try:
        return DetectorHabits(*(tensors[name].astype(np.float64) for name in _TENSORS))
    except KeyError as error:
        raise FormatError(f"{Path(path).name} lacks {error}. Measure the detector's habits anew.") from None


def save_habits(habits: DetectorHabits, path: str | Path, provenance: str) -> None:
    """Writes one safetensors file in half precision, atomically."""
    tensors = {name: getattr(habits, name).astype(np.float16) for name in _TENSORS}
    safetensors_numpy.write(path, tensors, {"schema": SCHEMA, "provenance": provenance})
