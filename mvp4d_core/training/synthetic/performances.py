# SPDX-License-Identifier: Apache-2.0
"""Random performances: speech, blinks, gaze, brows, smiles, strong faces and head turns, smooth in time."""

import numpy as np

from ...rig import HeadModel, Performance
from .noise import wander

BOTH = ("Left", "Right")
# faces people pull, by ARKIT names without a side where both sides take part
MOODS: tuple[dict[str, float], ...] = (
    {"mouthSmile": 0.9, "cheekSquint": 0.6, "mouthDimple": 0.3, "eyeSquint": 0.3},
    {"mouthSmile": 1.0, "jawOpen": 0.3, "mouthUpperUp": 0.4, "cheekSquint": 0.8, "eyeSquint": 0.5},
    {"jawOpen": 0.9, "eyeWide": 0.8, "browInnerUp": 0.9, "browOuterUp": 0.9},
    {"browDown": 0.9, "noseSneer": 0.7, "mouthFrown": 0.5, "eyeSquint": 0.6, "mouthPress": 0.4},
    {"mouthFrown": 0.8, "browInnerUp": 0.9, "mouthShrugLower": 0.5},
    {"mouthPucker": 1.0, "eyeSquint": 0.2},
    {"mouthFunnel": 0.9, "jawOpen": 0.3},
    {"cheekPuff": 0.9, "mouthPress": 0.3},
    {"mouthUpperUp": 0.9, "mouthLowerDown": 0.9, "jawOpen": 0.15, "mouthStretch": 0.5},
    {"jawOpen": 0.6, "tongueOut": 0.9},
    {"mouthRollLower": 0.8, "mouthRollUpper": 0.8},
    {"mouthStretch": 0.9, "browInnerUp": 0.6, "eyeWide": 0.5},
)
SYLLABLES = ({"jawOpen": 0.45}, {"mouthFunnel": 0.5, "jawOpen": 0.2}, {"mouthPucker": 0.6}, {"mouthStretch": 0.3, "jawOpen": 0.25},
             {"mouthUpperUp": 0.25, "mouthLowerDown": 0.3, "jawOpen": 0.12}, {"mouthClose": 0.1, "mouthPress": 0.3},
             {"mouthRollLower": 0.35, "jawOpen": 0.05})  # fmt: skip


def random_performance(rng: np.random.Generator, model: HeadModel, frames: int, fps: float, motion: float = 1.0) -> Performance:
    """`frames` poses of someone who talks, looks around and pulls faces. `motion` scales head turns and travel; 0 keeps the root still."""
    names = {name: k for k, name in enumerate(model.expression_names)}
    expression = np.zeros((frames, len(names)))
    start = rng.uniform(0, 1)  # some clips are calm, some lively, some extreme
    liveliness = rng.choice([0.35, 0.8, 1.15], p=[0.25, 0.5, 0.25])

    def add(name: str, track: np.ndarray, lopsided: float = 0.0) -> None:
        for side, factor in zip(BOTH, (1 - max(0, lopsided), 1 + min(0, lopsided)), strict=True):
            if name + side in names:
                expression[:, names[name + side]] += track * factor
        if name in names:
            expression[:, names[name]] += track

    for _ in range(rng.integers(1, 3)):  # moods that swell and fade
        mood = MOODS[rng.integers(len(MOODS))]
        strength = liveliness * rng.uniform(0.2, 1.0)
        envelope = strength * np.clip(0.5 + 0.8 * wander(rng, frames, fps, rng.uniform(0.3, 1.2), 1)[:, 0], 0, 1)
        lopsided = rng.choice([0.0, rng.uniform(-0.6, 0.6)])
        for name, weight in mood.items():
            add(name, weight * envelope, lopsided)
    if start < 0.75:  # speech: syllables follow each other in a fifth of a second
        voices = np.clip(wander(rng, frames, fps, rng.uniform(0.16, 0.3), len(SYLLABLES)) * 1.2 - 0.35, 0, 1.3) * rng.uniform(0.4, 1.1)
        for column, shape in enumerate(SYLLABLES):
            for name, weight in shape.items():
                add(name, weight * voices[:, column])
    details = np.clip(wander(rng, frames, fps, 0.5, len(names)) - 1.1, 0, 1) * 0.7 * liveliness  # single muscles now and then
    expression += details * np.array([name not in ("mouthClose", "tongueOut") and "eye" not in name for name in names])
    brows = wander(rng, frames, fps, 0.5, 2) * 0.5 * liveliness
    for name in ("browInnerUp", "browOuterUp"):
        add(name, np.clip(brows[:, 0] + 0.2 * brows[:, 1], 0, 1))
    add("browDown", np.clip(-brows[:, 0], 0, 1))
    rotations = np.zeros((frames, len(model.joint_names), 3))
    _look(rng, expression, rotations, model, names, fps)
    _blink(rng, expression, names, fps)
    _turn(rng, rotations, model, fps, motion)
    translation = wander(rng, frames, fps, 1.5, 3) * [0.006, 0.004, 0.006] * motion
    limits = np.array([0.9 if name in ("jawOpen", "tongueOut") else 1.0 for name in names])
    expression = np.clip(expression, 0, limits)
    if "mouthClose" in names and "jawOpen" in names:  # lips can close no farther than the jaw is open
        close = names["mouthClose"]
        expression[:, close] = np.minimum(expression[:, close], expression[:, names["jawOpen"]])
    return Performance(expression, rotations, translation, fps, model.expression_names, model.joint_names)


def _look(
    rng: np.random.Generator, expression: np.ndarray, rotations: np.ndarray, model: HeadModel, names: dict[str, int], fps: float
) -> None:
    """Gaze that jumps and rests."""
    frames = len(expression)
    where = rng.normal(size=(frames + 1, 2)) * np.deg2rad([5, 10])
    jumps = np.cumsum(rng.random(frames) < 1.3 / fps)
    held = where[jumps]
    gaze = np.stack([np.convolve(np.pad(held[:, k], 2, mode="edge"), [0.1, 0.2, 0.4, 0.2, 0.1], mode="valid") for k in range(2)], axis=1)
    gaze = np.clip(gaze, -np.deg2rad([14, 25]), np.deg2rad([14, 25]))
    if rng.random() < 0.7:  # eyes that turn in their joints, as tracked portraits have them, and lids that go along
        for joint in ("left_eye", "right_eye"):
            if joint in model.joint_names:
                rotations[:, model.joint_names.index(joint), :2] = gaze
        weights = {"eyeBlink": (gaze[:, 0], 0.45), "eyeWide": (-gaze[:, 0], 0.5)}
        signs = {name: (track, track, scale) for name, (track, scale) in weights.items()}
    else:  # or by ARKIT's looks
        signs = {"eyeLookDown": (gaze[:, 0], gaze[:, 0], 1.0), "eyeLookUp": (-gaze[:, 0], -gaze[:, 0], 1.0),
                 "eyeLookOut": (gaze[:, 1], -gaze[:, 1], 1.0), "eyeLookIn": (-gaze[:, 1], gaze[:, 1], 1.0)}  # fmt: skip
    for name, (left, right, scale) in signs.items():
        for side, track in zip(BOTH, (left, right), strict=True):
            if name + side in names:
                expression[:, names[name + side]] += scale * np.clip(track / np.deg2rad(25), 0, 1)


def _blink(rng: np.random.Generator, expression: np.ndarray, names: dict[str, int], fps: float) -> None:
    """Lids close within a tenth of a second, every other second: more often than people do, to learn it from short clips."""
    frames = len(expression)
    times = np.arange(frames) / fps
    track = np.zeros(frames)
    for moment in rng.uniform(-0.15, frames / fps + 0.15, size=rng.poisson((frames / fps + 0.3) / 2)):
        track = np.maximum(track, np.clip(1.5 - np.abs(times - moment) / 0.08, 0, 1))
    for side in BOTH:
        if "eyeBlink" + side in names:
            column = names["eyeBlink" + side]
            expression[:, column] = np.maximum(expression[:, column], track)


def _turn(rng: np.random.Generator, rotations: np.ndarray, model: HeadModel, fps: float, motion: float) -> None:
    """The neck turns, and with some people the root too."""
    frames = len(rotations)
    pose = rng.normal(size=3) * np.deg2rad([5, 10, 4])
    sway = wander(rng, frames, fps, rng.uniform(0.6, 1.6), 3) * np.deg2rad([5, 9, 3]) * rng.uniform(0.4, 1.4)
    bound = np.deg2rad([22, 38, 15])
    turn = np.clip((pose + sway) * motion, -bound, bound)
    if "neck" in model.joint_names:
        rotations[:, model.joint_names.index("neck")] = turn
    if motion > 0 and rng.random() < 0.5:
        rotations[:, 0] = wander(rng, frames, fps, 1.5, 3) * np.deg2rad([2, 5, 2]) * motion
