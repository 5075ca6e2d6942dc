# SPDX-License-Identifier: Apache-2.0
"""From a voice to a face that speaks: visemes from loudness and formants, or from Rhubarb's cues; then lips, jaw, blinks and idle motion.

Without words known, vowels come from their formants (means of Peterson and Barney, 1952, moved by the height of the voice), hisses from
where their energy lies, and closed lips from the short silences within speech. It mouths plausibly; it does not read lips.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError, InputError
from ..io.limits import DEFAULT, Limits, check_limit
from ..io.reading import open_input
from .arkit import ARKIT_NAMES, JOINT_NAMES
from .arkit_map import perform_on
from .faces import CLOSING, CLOSING_VISEMES, OPENING, VISEMES, both_sides
from .head_model import HeadModel
from .idle import blink_track, gaze_track, sway_track
from .performance import Performance
from .voice import HOP, Voice, analyse_voice

NAMES = tuple(VISEMES)
_VOWELS = {"aa": (730, 1180), "E": (560, 1850), "ih": (330, 2250), "oh": (500, 880), "ou": (320, 920)}  # Hz, low voices
_LOW_VOICE, _HIGH_VOICE, _HIGHER = 120.0, 210.0, 1.16  # Hz, and how much higher formants of high voices are
_SPREAD = 0.16  # of the logarithm of a formant
_RANGE_DB = 32.0  # loudness below the loudest speech that still counts as speech
_GAP = (0.035, 0.16)  # seconds of a silence within speech that closed lips make
_LEAD, _BLEND = 0.05, 0.035  # seconds: lips prepare a sound before it is heard, and flow from one to the next
# Rhubarb Lip Sync's mouth shapes, by its documentation
RHUBARB = {"A": "PP", "B": "SS", "C": "E", "D": "aa", "E": "oh", "F": "ou", "G": "FF", "H": "nn", "X": "sil"}
_CUES, _CUE_BYTES = 200_000, 32 << 20


@dataclass(frozen=True)
class Cue:
    """A viseme of `NAMES` from `start` to `end`, seconds."""

    start: float
    end: float
    viseme: str


def visemes_of_voice(samples: np.ndarray, rate: int) -> np.ndarray:
    """(N, 15) weights of `NAMES` every `HOP` seconds, summing to 1 with "sil", of samples at `rate` Hz."""
    voice = analyse_voice(samples, rate)
    loud = _loudness_share(voice)
    weights = np.zeros((len(loud), len(NAMES)))
    column = {name: k for k, name in enumerate(NAMES)}
    hiss = np.clip((voice.hiss - 0.35) / 0.3, 0, 1) * np.clip(1.3 - voice.voiced, 0.2, 1)
    sharp = np.clip((voice.hiss_centre - 4000) / 1500, 0, 1)
    faint = np.clip(1 - loud / 0.35, 0, 1)  # the hiss of f and v is much weaker than that of s
    weights[:, column["FF"]] = hiss * faint
    weights[:, column["SS"]] = hiss * (1 - faint) * sharp
    weights[:, column["CH"]] = hiss * (1 - faint) * (1 - sharp)
    tone = 1 - hiss
    murmur = tone * np.clip(1 - loud / 0.45, 0, 1)  # nasals and what is said in passing
    weights[:, column["nn"]] = murmur
    for name, share in _vowel_shares(voice).items():
        weights[:, column[name]] = (tone - murmur) * share
    speaking = np.clip(loud / 0.12, 0, 1)
    weights *= speaking[:, None]
    closed = _closures(loud)
    weights *= 1 - closed[:, None]
    weights[:, column["PP"]] += closed
    weights[:, column["sil"]] = np.clip(1 - weights.sum(axis=1), 0, 1)
    return weights


def _loudness_share(voice: Voice) -> np.ndarray:
    """(N,) 0..1 from the quietest that counts as speech to the loudest."""
    top = np.percentile(voice.loudness, 98)
    if top < -55:  # nothing but noise
        return np.zeros(len(voice.loudness))
    floor = max(top - _RANGE_DB, float(np.percentile(voice.loudness, 5)) + 6.0 if np.ptp(voice.loudness) > 25 else top - _RANGE_DB)
    return np.clip((voice.loudness - floor) / max(top - floor, 1.0), 0, 1)


def _vowel_shares(voice: Voice) -> dict[str, np.ndarray]:
    """How much of each vowel, (N,) each, summing to 1."""
    sounding = voice.voiced > 0.5
    pitch = float(np.median(voice.pitch[sounding])) if sounding.any() else _LOW_VOICE
    higher = _HIGHER ** np.clip((pitch - _LOW_VOICE) / (_HIGH_VOICE - _LOW_VOICE), 0, 1)
    logarithm = np.log(_median_of_three(voice.formants))
    nearness = {
        name: np.exp(-0.5 * (((logarithm - np.log(np.array(place) * higher)) / _SPREAD) ** 2).sum(axis=1))
        for name, place in _VOWELS.items()
    }
    total = sum(nearness.values()) + 1e-6
    return {name: (value + 2e-7) / total for name, value in nearness.items()}


def _median_of_three(values: np.ndarray) -> np.ndarray:
    padded = np.pad(values, ((1, 1), (0, 0)), mode="edge")
    return np.median([padded[:-2], padded[1:-1], padded[2:]], axis=0)


def _closures(loud: np.ndarray) -> np.ndarray:
    """(N,) 1 in the short silences between sounds: lips that are pressed together before they let go."""
    quiet = np.concatenate([[False], loud < 0.12, [False]])
    edges = np.diff(quiet.astype(int))
    closed = np.zeros(len(loud))
    for first, last in zip(np.nonzero(edges > 0)[0], np.nonzero(edges < 0)[0], strict=True):
        if _GAP[0] <= (last - first) * HOP <= _GAP[1] and first > 0 and last < len(loud):
            closed[first:last] = 1
    return closed


def speech_performance(
    visemes: np.ndarray, step: float, *, fps: float = 25.0, seed: int = 0, strength: float = 1.0, idle: float = 1.0, head_model: HeadModel
) -> Performance:
    """A face that speaks.

    Args:
        visemes: (N, 15) weights of `NAMES` every `step` seconds, as `visemes_of_voice` or `visemes_of_cues` gives.
        seed: of blinks, gaze and the head's idle motion.
        strength: of lips and jaw; 1 as people speak.
        idle: of gaze and the head's motion; 0 leaves the head and eyes still, and the lids open.
        head_model: that speaks; one without ARKit's expressions with what comes nearest (see `perform_on`).

    Raises:
        InputError: settings out of range.
    """
    if not (1 <= fps <= 240 and 0 <= strength <= 2 and 0 <= idle <= 3):
        raise InputError(f"`fps` must be 1..240, `strength` 0..2 and `idle` 0..3, got {fps}, {strength} and {idle}.")
    times = np.arange(max(1, int(np.ceil(len(visemes) * step * fps - 1e-6)))) / fps
    heard = (np.arange(len(visemes)) + 0.5) * step - _LEAD
    blended = _blended(visemes, _BLEND / step)
    tracks = np.stack([np.interp(times, heard, column) for column in blended.T], axis=1)
    column = {name: k for k, name in enumerate(ARKIT_NAMES)}
    expression = np.zeros((len(times), len(ARKIT_NAMES)))
    for name, track in zip(NAMES, tracks.T, strict=True):
        for full, weight in both_sides(VISEMES[name], strength).items():
            expression[:, column[full]] += weight * track
    closed = np.clip(tracks[:, [NAMES.index(name) for name in CLOSING_VISEMES]].sum(axis=1), 0, 1)
    expression[:, [column[name] for name in OPENING]] *= 1 - CLOSING * closed[:, None]
    rotations = np.zeros((len(times), len(JOINT_NAMES), 3))
    if idle:
        _idle(expression, rotations, times, 1 - tracks[:, 0], np.random.default_rng(seed), idle)
    performance = Performance(np.clip(expression, 0, 1), rotations, np.zeros((len(times), 3)), fps, ARKIT_NAMES, JOINT_NAMES)
    return perform_on(performance, head_model)


def _blended(values: np.ndarray, steps: float) -> np.ndarray:
    """Gaussian means over `steps` standard deviations."""
    reach = max(1, int(np.ceil(3 * steps)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / steps) ** 2)
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel / kernel.sum(), mode="valid") for column in padded.T], axis=1)


def _idle(
    expression: np.ndarray, rotations: np.ndarray, times: np.ndarray, speaking: np.ndarray, rng: np.random.Generator, amount: float
) -> None:
    """Blinks, gaze, breath; brows and head that go along with the voice."""
    column = {name: k for k, name in enumerate(ARKIT_NAMES)}
    lids = blink_track(times, rng, 2.8)
    gaze, sway = gaze_track(times, rng), sway_track(times, rng)
    steps = max(1.0, 0.25 / max(times[1] - times[0], 1e-3)) if len(times) > 1 else 1.0
    stress = _blended(speaking[:, None], steps)[:, 0] - _blended(speaking[:, None], 3 * steps)[:, 0]
    for side in ("Left", "Right"):
        expression[:, column["eyeBlink" + side]] = lids
        expression[:, column["browOuterUp" + side]] += 0.4 * amount * np.clip(stress, 0, 1)
    expression[:, column["browInnerUp"]] += 0.5 * amount * np.clip(stress, 0, 1)
    neck, eyes = JOINT_NAMES.index("neck"), [JOINT_NAMES.index("left_eye"), JOINT_NAMES.index("right_eye")]
    rotations[:, neck] = amount * sway
    rotations[:, neck, 0] += amount * np.deg2rad(6) * stress
    rotations[:, eyes, :2] = amount * gaze[:, None]


def visemes_of_cues(cues: Sequence[Cue], step: float = HOP) -> np.ndarray:
    """(N, 15) weights of `NAMES` every `step` seconds; silence where no cue is."""
    end = max((cue.end for cue in cues), default=step)
    weights = np.zeros((max(1, int(np.ceil(end / step - 1e-9))), len(NAMES)))
    times = (np.arange(len(weights)) + 0.5) * step
    for cue in cues:
        weights[(times >= cue.start) & (times < cue.end)] = np.eye(len(NAMES))[NAMES.index(cue.viseme)]
    weights[weights.sum(axis=1) == 0, 0] = 1
    return weights


def read_rhubarb(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> list[Cue]:
    """The cues of Rhubarb Lip Sync, exported as TSV or JSON.

    Raises:
        FormatError: neither of these, times that fall, or mouth shapes that Rhubarb has not.
        InputError: larger than the limits.
        StorageError: the file is missing or cannot be read.
    """
    with open_input(path, limits) as (stream, size):
        check_limit(path, "bytes", size, _CUE_BYTES, "Cut it into shorter pieces.")
        data = stream.read()
    try:
        text = data.decode("utf-8-sig")
        rows = _json_rows(text) if text.lstrip().startswith("{") else _tsv_rows(text)
        return _checked_cues(rows)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError(f"{path} has no mouth cues of Rhubarb as TSV or JSON ({error}). Export it anew with -f json.") from None


def is_rhubarb(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> bool:
    """Whether a file that others use as well, as JSON, holds Rhubarb's cues; raises as `open_input`."""
    with open_input(path, limits) as (stream, _):
        return b'"mouthCues"' in stream.read(_CUE_BYTES)


def _json_rows(text: str) -> list[tuple[float, float, str]]:
    return [(float(cue["start"]), float(cue["end"]), str(cue["value"])) for cue in json.loads(text)["mouthCues"]]


def _tsv_rows(text: str) -> list[tuple[float, float, str]]:
    """Each line has a start and a shape that lasts until the next line's; the last marks the end."""
    lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    if any(len(line) != 2 for line in lines):
        raise ValueError("a line is not a time, a tab and a shape")
    starts = [float(line[0]) for line in lines]
    return [(start, end, line[1].strip()) for start, end, line in zip(starts, [*starts[1:], *starts[-1:]], lines, strict=True)]


def _checked_cues(rows: list[tuple[float, float, str]]) -> list[Cue]:
    if not 1 <= len(rows) <= _CUES:
        raise ValueError(f"{len(rows)} cues, 1 to {_CUES} are accepted")
    last = 0.0
    for start, end, shape in rows:
        if not (last - 1e-3 <= start <= end <= 36_000):
            raise ValueError(f"a cue from {start} to {end} s after {last} s")
        if shape not in RHUBARB:
            raise ValueError(f"the mouth shape {shape[:10]!r}, which is none of A to H and X")
        last = end
    return [Cue(start, end, RHUBARB[shape]) for start, end, shape in rows]
