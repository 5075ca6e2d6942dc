# SPDX-License-Identifier: Apache-2.0
"""The One Euro filter (Casiez, Roussel and Vogel, CHI 2012): still where a face is still, without lag where it is quick.

The cut-off frequency of a low pass rises with speed, cutoff = min_cutoff + beta |speed|, so that tremor goes and blinks stay.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError
from ..rotations import axis_angle_to_quaternion, quaternion_to_axis_angle
from .performance import Performance

# what closes within a few frames is left alone by default: a smoothed blink never quite shuts
QUICK = ("eyeBlinkLeft", "eyeBlinkRight")


@dataclass(frozen=True)
class Smoothing:
    """How much is smoothed.

    Attributes:
        min_cutoff: Hz at rest; lower is stiller.
        weight_beta: Hz more for a weight that goes from 0 to 1 within a second.
        rotation_beta: Hz more for each radian a second.
        translation_beta: Hz more for each metre a second.
        speed_cutoff: Hz of the filter on the speed itself.
        spared: expressions that stay as they are.
    """

    min_cutoff: float = 1.5
    weight_beta: float = 4.0
    rotation_beta: float = 8.0
    translation_beta: float = 60.0
    speed_cutoff: float = 1.0
    spared: tuple[str, ...] = QUICK

    def __post_init__(self) -> None:
        numbers = (self.min_cutoff, self.speed_cutoff, self.weight_beta, self.rotation_beta, self.translation_beta)
        if not all(0 <= number <= 1e4 for number in numbers) or min(numbers[:2]) <= 0:
            raise InputError(f"Smoothing needs cut-offs above 0 Hz and betas of 0 or more, up to 10,000; got {numbers}.")


def smoothing(min_cutoff: float, responsiveness: float = 1.0) -> Smoothing:
    """A smoothing with this cut-off at rest (Hz), and every beta `responsiveness` times the usual."""
    usual = Smoothing()
    weight, rotation, translation = (responsiveness * b for b in (usual.weight_beta, usual.rotation_beta, usual.translation_beta))
    return Smoothing(min_cutoff, weight, rotation, translation)


def one_euro(values: np.ndarray, fps: float, min_cutoff: float = 1.0, beta: float = 0.0, speed_cutoff: float = 1.0) -> np.ndarray:
    """(T, ...) `values` filtered along the first axis, each number by itself; frame t depends on frames 0..t alone."""
    values = np.asarray(values, np.float64)
    result = np.empty_like(values)
    result[0], speed = values[0], np.zeros_like(values[0])
    speed_share = _share(speed_cutoff, fps)
    for t in range(1, len(values)):
        speed = speed + speed_share * ((values[t] - values[t - 1]) * fps - speed)
        result[t] = result[t - 1] + _share(min_cutoff + beta * np.abs(speed), fps) * (values[t] - result[t - 1])
    return result


def smooth_performance(performance: Performance, smoothing: Smoothing | None = None) -> Performance:
    """The performance filtered forwards and then backwards, which takes away the lag that a live filter has.

    Rotations are filtered as quaternions of one hemisphere; expressions of `smoothing.spared` are not touched.
    """
    how = smoothing or Smoothing()
    quats = axis_angle_to_quaternion(performance.rotations.astype(np.float64))
    flips = np.where((quats[1:] * quats[:-1]).sum(axis=-1, keepdims=True) < 0, -1.0, 1.0)
    quats[1:] *= np.cumprod(flips, axis=0)
    expression = _both_ways(performance.expression, performance.fps, how, how.weight_beta)
    spared = [column for column, name in enumerate(performance.expression_names) if name in how.spared]
    expression[:, spared] = performance.expression[:, spared]
    quats = _both_ways(quats, performance.fps, how, 2 * how.rotation_beta)  # a quaternion's entries move half as fast as its angle
    return replace(
        performance,
        expression=expression,
        rotations=quaternion_to_axis_angle(quats / np.linalg.norm(quats, axis=-1, keepdims=True)),
        translation=_both_ways(performance.translation, performance.fps, how, how.translation_beta),
    )


def _both_ways(values: np.ndarray, fps: float, how: Smoothing, beta: float) -> np.ndarray:
    forwards = one_euro(values, fps, how.min_cutoff, beta, how.speed_cutoff)
    return one_euro(forwards[::-1], fps, how.min_cutoff, beta, how.speed_cutoff)[::-1].copy()


def _share(cutoff: np.ndarray | float, fps: float) -> np.ndarray | float:
    """How much of the news a first order low pass takes in a frame: 1 / (1 + fps / (2 pi cutoff))."""
    return 1 / (1 + fps / (2 * np.pi * cutoff))
