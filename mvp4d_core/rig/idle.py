# SPDX-License-Identifier: Apache-2.0
"""What a face does while it does nothing: blinks, small jumps of the eyes, breath, a head that is never quite still. All by a seed."""

import numpy as np

from .easing import ease

_BLINK_EVERY = 3.6  # seconds between blinks of somebody at rest, on average (about 17 a minute)
_CLOSING, _SHUT, _OPENING = 0.09, 0.04, 0.17  # seconds
_FIXATION = 1.1  # seconds the eyes rest between small jumps, on average
_SACCADE = 0.04  # seconds a jump takes


def blink_track(times: np.ndarray, rng: np.random.Generator, every: float = _BLINK_EVERY) -> np.ndarray:
    """(T,) 0..1 closure of the lids at `times` (T,) seconds: quick to close, slower to open, log-normal intervals of mean `every`."""
    moments, moment = [], float(times[0]) + every * rng.uniform(0.15, 0.6)
    while moment < times[-1] - _CLOSING - _SHUT - _OPENING:
        moments.append(moment)
        moment += max(0.6, every * rng.lognormal(-0.125, 0.5))
    track = np.zeros(len(times))
    for start in moments:
        shut = start + _CLOSING
        track = np.maximum(track, ease(times, [(start, 0), (shut, 1), (shut + _SHUT, 1), (shut + _SHUT + _OPENING, 0)]))
    return track


def gaze_track(times: np.ndarray, rng: np.random.Generator, spread_degrees: float = 3.0) -> np.ndarray:
    """(T, 2) radians around x and y: the eyes rest at places near straight ahead and jump between them."""
    knots, place, moment = [(float(times[0]), np.zeros(2))], np.zeros(2), float(times[0])
    while moment < times[-1]:
        moment += max(0.25, rng.exponential(_FIXATION))
        knots.append((moment, place))
        place = rng.normal(size=2) * np.deg2rad(spread_degrees) * [0.6, 1.0]
        knots.append((moment + _SACCADE, place))
        moment += _SACCADE
    return np.stack([ease(times, [(t, v[axis]) for t, v in knots]) for axis in range(2)], axis=1)


def sway_track(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(T, 3) radians of the neck: breath every four seconds or so, and drifts of several periods that never quite repeat."""
    breath = rng.uniform(3.4, 4.6)
    drift = np.zeros((len(times), 3))
    for period in (2.9, 5.3, 8.7, 13.1):
        phase = rng.uniform(0, 2 * np.pi, 3)
        drift += rng.uniform(0.15, 0.45, 3) * np.sin(2 * np.pi * times[:, None] / (period * rng.uniform(0.85, 1.2)) + phase)
    drift[:, 0] += 0.35 * np.sin(2 * np.pi * times / breath)
    return np.deg2rad(drift * [1.0, 1.4, 0.6])
