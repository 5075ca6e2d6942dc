# SPDX-License-Identifier: Apache-2.0
"""Performances by name, written in ARKit's names: faces that come and go, action units one by one, speech, gaze, nod, shake, idling."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..errors import InputError
from .arkit import ARKIT_NAMES, JOINT_NAMES
from .easing import ease
from .faces import ACTION_UNITS, CLOSING, CLOSING_VISEMES, EXPRESSIONS, OPENING, VISEMES, Face, both_sides
from .idle import blink_track, gaze_track, sway_track
from .motion_limits import limit_performance
from .performance import Performance

_NECK, _EYES = JOINT_NAMES.index("neck"), [JOINT_NAMES.index("left_eye"), JOINT_NAMES.index("right_eye")]
_COLUMN = {name: column for column, name in enumerate(ARKIT_NAMES)}
MOST_SECONDS = 3600.0

# "Good morning. How are you today? It is lovely to see you." as (viseme, seconds)
_SENTENCE: tuple[tuple[str, float], ...] = (
    ("sil", 0.25), ("kk", 0.08), ("ou", 0.13), ("DD", 0.07), ("PP", 0.1), ("oh", 0.17), ("RR", 0.08), ("nn", 0.08), ("ih", 0.1),
    ("nn", 0.12), ("sil", 0.35), ("kk", 0.07), ("aa", 0.14), ("ou", 0.12), ("aa", 0.1), ("RR", 0.09), ("ih", 0.06), ("ou", 0.17),
    ("DD", 0.07), ("ou", 0.07), ("DD", 0.08), ("E", 0.18), ("ih", 0.12), ("sil", 0.4), ("ih", 0.1), ("DD", 0.06), ("ih", 0.08),
    ("SS", 0.1), ("nn", 0.08), ("aa", 0.15), ("FF", 0.1), ("nn", 0.07), ("ih", 0.11), ("DD", 0.07), ("ou", 0.09), ("SS", 0.11),
    ("ih", 0.17), ("ou", 0.22), ("sil", 0.45),
)  # fmt: skip
# seconds and (x, y) degrees: up, down, left, right, then around the corners
_GAZE = ((0, (0, 0)), (0.3, (0, 0)), (0.5, (-15, 0)), (1.1, (-15, 0)), (1.3, (0, 0)), (1.6, (0, 0)), (1.8, (20, 0)), (2.4, (20, 0)),
         (2.6, (0, 0)), (2.9, (0, 0)), (3.1, (0, 28)), (3.7, (0, 28)), (4.0, (0, -28)), (4.6, (0, -28)), (4.9, (-14, -20)),
         (5.3, (-14, 20)), (5.7, (14, 20)), (6.1, (14, -20)), (6.5, (0, 0)), (7, (0, 0)))  # fmt: skip
# seconds and degrees
_NOD = ((0, 0), (0.25, -3), (0.6, 14), (0.95, -4), (1.3, 11), (1.65, -2), (1.95, 6), (2.4, 0), (2.6, 0))
_SHAKE = ((0, 0), (0.3, 20), (0.75, -20), (1.2, 18), (1.65, -16), (2.05, 9), (2.5, 0), (2.7, 0))
_UNIT, _UNIT_GAP = 0.9, 0.15  # seconds an action unit lasts, and rest after it
_LOOKS = (("AU61", (0, 25)), ("AU62", (0, -25)), ("AU63", (-15, 0)), ("AU64", (20, 0)))
_TURNS = (("AU51", (0, 30, 0)), ("AU52", (0, -30, 0)), ("AU53", (-18, 0, 0)), ("AU54", (18, 0, 0)), ("AU55", (0, 0, -15)),
          ("AU56", (0, 0, 15)))  # fmt: skip


def library_names() -> dict[str, str]:
    """Every performance of the library with what it shows, clips first."""
    return {name: text for name, (_, _, text) in _CLIPS.items()} | {name: "a face that comes, stays and goes" for name in EXPRESSIONS}


def library_performance(name: str, *, fps: float = 24.0, seconds: float | None = None, seed: int = 0, strength: float = 1.0) -> Performance:
    """A performance of the library, in ARKit's 52 names and the joints of `JOINT_NAMES`; `perform_on` brings it to any head.

    Args:
        name: one of `library_names`.
        fps: 1 to 240 frames a second.
        seconds: how long; a clip's own length by default. Speech, range of motion and gestures keep their pace only at that.
        seed: of blinks and idle motion.
        strength: 0 to 2, multiplies faces.

    Raises:
        InputError: an unknown name, or a number out of range.
    """
    if name not in _CLIPS and name not in EXPRESSIONS:
        raise InputError(f"The library has no `{name}`; it has {', '.join(library_names())}.")
    if not 1 <= fps <= 240 or not 0 <= strength <= 2 or not (seconds is None or 0 < seconds <= MOST_SECONDS):
        raise InputError(f"A clip takes 1 to 240 fps, 0 to 2 strength, up to {MOST_SECONDS:g} s; got {fps}, {strength}, {seconds}.")
    draw, own, _ = _CLIPS.get(name, (lambda stage: _face(stage, EXPRESSIONS[name]), 3.0, ""))
    length = own if seconds is None else seconds
    frames = max(1, round(length * fps))
    paced = draw in (_motion, _speak, _sweep, _nod, _shake)
    stage = _Stage(np.arange(frames) / fps * (own / length if paced else 1.0), np.random.default_rng(seed), strength)
    draw(stage)
    still = np.zeros((frames, 3), np.float32)
    return limit_performance(Performance(stage.expression, stage.rotations, still, fps, ARKIT_NAMES, JOINT_NAMES))


def library_face(name: str, strength: float = 1.0) -> Performance:
    """A named face as a performance of one frame; InputError for a name that is not one of `EXPRESSIONS`."""
    if name not in EXPRESSIONS:
        raise InputError(f"The library has no face `{name}`; it has {', '.join(EXPRESSIONS)}.")
    stage = _Stage(np.zeros(1), np.random.default_rng(0), strength)
    stage.add(EXPRESSIONS[name], np.ones(1))
    return limit_performance(Performance(stage.expression, stage.rotations, np.zeros((1, 3)), 24.0, ARKIT_NAMES, JOINT_NAMES))


def arkit_faces(faces: Sequence[Mapping[str, float]]) -> Performance:
    """One frame for each of some faces, told by ARKit's full names; the joints stay at rest. InputError for other names."""
    expression = np.zeros((len(faces), len(ARKIT_NAMES)))
    for frame, weights in enumerate(faces):
        for name, weight in weights.items():
            if name not in _COLUMN:
                raise InputError(f"`{name}` is none of ARKit's 52 expressions.")
            expression[frame, _COLUMN[name]] = weight
    still = np.zeros((len(faces), len(JOINT_NAMES), 3))
    return Performance(expression, still, still[:, 0], 24.0, ARKIT_NAMES, JOINT_NAMES)


def motion_units() -> list[tuple[str, float]]:
    """The action units of the clip `range_of_motion` in its order, each with the second of its peak."""
    names = [*ACTION_UNITS, *(name for name, _ in _LOOKS + _TURNS)]
    return [(name, k * (_UNIT + _UNIT_GAP) + _UNIT / 2) for k, name in enumerate(names)]


class _Stage:
    """A clip being drawn: `times` (T,) seconds, `expression` (T, 52), `rotations` (T, 5, 3), which the drawing functions add to."""

    def __init__(self, times: np.ndarray, rng: np.random.Generator, strength: float) -> None:
        self.times, self.rng, self.strength = times, rng, strength
        self.expression = np.zeros((len(times), len(ARKIT_NAMES)))
        self.rotations = np.zeros((len(times), len(JOINT_NAMES), 3))

    def add(self, face: Face, track: np.ndarray) -> None:
        """Adds a face at the clip's strength times a track (T,)."""
        for name, weight in both_sides(face).items():
            self.expression[:, _COLUMN[name]] += weight * self.strength * track

    def blink(self, track: np.ndarray) -> None:
        """Closes the lids over whatever they do."""
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            column = _COLUMN[name]
            self.expression[:, column] = np.maximum(self.expression[:, column], track)
            self.expression[:, _COLUMN[name.replace("Blink", "Wide")]] *= 1 - track

    def look(self, gaze: np.ndarray) -> None:
        """Turns the eyes by `gaze` (T, 2) radians; upper lids go along with looks up and down."""
        self.rotations[:, _EYES, :2] += gaze[:, None]
        down = gaze[:, 0] / np.deg2rad(25)
        for lids, share in (("eyeBlink", 0.4 * np.clip(down, 0, 1)), ("eyeWide", 0.7 * np.clip(-down, 0, 1))):
            for side in ("Left", "Right"):
                self.expression[:, _COLUMN[lids + side]] += share


def _face(stage: _Stage, face: Face) -> None:
    """Comes within half a second, lives a little, goes within the last third of a second or so."""
    end = stage.times[-1] if len(stage.times) > 1 else 1.0
    rise = min(0.45, 0.3 * end)
    track = ease(stage.times, [(0, 0), (rise, 1), (end - rise, 0.92), (end, 0)])
    stage.add(face, track)
    stage.rotations[:, _NECK] += sway_track(stage.times, stage.rng) * track[:, None]
    stage.blink(blink_track(stage.times, stage.rng))


def _motion(stage: _Stage) -> None:
    for (name, peak), turn in zip(motion_units(), [None] * len(ACTION_UNITS) + [turn for _, turn in _LOOKS + _TURNS], strict=True):
        start, end = peak - _UNIT / 2, peak + _UNIT / 2
        track = ease(stage.times, [(start, 0), (start + 0.3, 1), (end - 0.3, 1), (end, 0)])
        if turn is None:
            stage.add(ACTION_UNITS[name][1], track)
        elif len(turn) == 2:
            stage.look(track[:, None] * np.deg2rad(turn))
        else:
            stage.rotations[:, _NECK] += track[:, None] * np.deg2rad(turn)


def _speak(stage: _Stage) -> None:
    """Visemes that overlap their neighbours, as lips prepare the next sound; closed lips win over an open jaw."""
    start = 0.0
    for viseme, length in _SENTENCE:
        lead, lag = 0.06, 0.08
        track = ease(stage.times, [(start - lead, 0), (start + 0.4 * length, 1), (start + 0.6 * length, 1), (start + length + lag, 0)])
        if viseme in CLOSING_VISEMES:
            stage.expression[:, [_COLUMN[name] for name in OPENING]] *= 1 - CLOSING * track[:, None]
        stage.add(VISEMES[viseme], track)
        start += length
    beats = ((0, 0), (0.6, 2.5), (1.1, -1), (1.8, 3), (2.4, -1.5), (3.2, 1), (3.9, 3.5), (4.6, 0), (5, 0))
    stage.rotations[:, _NECK, 0] += np.deg2rad(ease(stage.times, beats))
    stage.add({"browInnerUp": 0.35, "browOuterUp": 0.3}, ease(stage.times, [(1.5, 0), (1.9, 1), (2.5, 1), (2.9, 0)]))
    stage.add({"mouthSmile": 0.25, "cheekSquint": 0.12}, ease(stage.times, [(2.8, 0), (3.6, 1), (4.6, 1), (5, 0.2)]))
    stage.rotations[:, _NECK] += sway_track(stage.times, stage.rng)
    stage.blink(blink_track(stage.times, stage.rng, 2.4))


def _sweep(stage: _Stage) -> None:
    stage.look(np.deg2rad(np.stack([ease(stage.times, [(t, angles[axis]) for t, angles in _GAZE]) for axis in range(2)], axis=1)))


def _nod(stage: _Stage) -> None:
    stage.rotations[:, _NECK, 0] += np.deg2rad(ease(stage.times, _NOD))
    stage.add({"mouthSmile": 0.15}, ease(stage.times, [(0, 0), (0.5, 1), (2, 1), (2.6, 0)]))
    stage.blink(ease(stage.times, [(0.35, 0), (0.45, 1), (0.5, 1), (0.68, 0)]))


def _shake(stage: _Stage) -> None:
    stage.rotations[:, _NECK, 1] += np.deg2rad(ease(stage.times, _SHAKE))
    stage.blink(ease(stage.times, [(0.4, 0), (0.5, 1), (0.55, 1), (0.72, 0)]))


def _idle(stage: _Stage) -> None:
    stage.look(gaze_track(stage.times, stage.rng))
    stage.rotations[:, _NECK] += sway_track(stage.times, stage.rng)
    stage.blink(blink_track(stage.times, stage.rng))


_CLIPS: dict[str, tuple[Callable[[_Stage], None], float, str]] = {
    "range_of_motion": (_motion, len(motion_units()) * (_UNIT + _UNIT_GAP), "FACS action units one after the other, gaze, head turns"),
    "speech": (_speak, 5.0, "a spoken greeting: visemes, brows, beats of the head, blinks"),
    "gaze_sweep": (_sweep, 7.0, "eyes up, down, left, right and around, lids going along"),
    "nod": (_nod, 2.6, "yes"),
    "shake": (_shake, 2.7, "no"),
    "idle": (_idle, 10.0, "blinks, small looks, breath and drift, by the seed"),
}
