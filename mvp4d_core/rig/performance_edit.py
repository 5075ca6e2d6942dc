# SPDX-License-Identifier: Apache-2.0
"""Cutting and mixing performances: resample, trim, retime, loop, join, mix, scale, mirror. Rotations go by quaternions, the short way."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..rotations import axis_angle_to_quaternion, multiply_quaternions, normalize_quaternions, quaternion_to_axis_angle
from .arkit import ARKIT_NAMES, mirror_name
from .performance import Performance

MOST_FRAMES = 1_000_000


def duration(performance: Performance) -> float:
    """Seconds: every frame is shown for one frame's time."""
    return len(performance) / performance.fps


def sample(performance: Performance, at: np.ndarray, fps: float) -> Performance:
    """The performance at frames `at` (N,), which may lie between frames and beyond the ends (held there), as `fps` frames a second."""
    at = np.clip(at, 0, len(performance) - 1)
    before = np.minimum(at.astype(int), max(0, len(performance) - 2))
    after = np.minimum(before + 1, len(performance) - 1)
    return replace(_between(performance.select(before), performance.select(after), at - before), fps=fps)


def resample(performance: Performance, fps: float) -> Performance:
    """The same motion at another number of frames a second; InputError for one outside 1..1000."""
    if not 1 <= fps <= 1000:
        raise InputError(f"`fps` must be 1 to 1000, got {fps}.")
    frames = _bounded(round(duration(performance) * fps))
    return sample(performance, np.arange(frames) * performance.fps / fps, fps)


def retime(performance: Performance, speed: float) -> Performance:
    """The same frames a second, `speed` (0.01 to 100) times as fast."""
    if not 0.01 <= speed <= 100:
        raise InputError(f"`speed` must be 0.01 to 100, got {speed}.")
    frames = _bounded(round(len(performance) / speed))
    return sample(performance, np.arange(frames) * speed, performance.fps)


def trim(performance: Performance, start: float = 0.0, end: float | None = None) -> Performance:
    """The frames shown from `start` to `end` seconds (the performance's own end by default); InputError when none is left."""
    first = round(start * performance.fps) if 0 <= start < 1e9 else -1
    last = len(performance) if end is None else round(end * performance.fps) if 0 <= end < 1e9 else -1
    if not 0 <= first < min(last, len(performance)):
        raise InputError(f"A cut must keep a frame of the {duration(performance):.3g} s there are, got {start} to {end} s.")
    return performance.select(slice(first, last))


def concatenate(performances: Sequence[Performance], blend: float = 0.0) -> Performance:
    """One after the other, at the first one's frame rate, each pair overlapping by `blend` seconds in which one fades into the next.

    Expressions and joints are the union of all; what one lacks is at rest in it.
    """
    if not performances:
        raise InputError("There must be at least one performance to join, got none.")
    if not 0 <= blend <= 60:
        raise InputError(f"`blend` must be 0 to 60 seconds, got {blend}.")
    fps = performances[0].fps
    parts = _common([p if p.fps == fps else resample(p, fps) for p in performances])
    joined = parts[0]
    for part in parts[1:]:
        overlap = min(round(blend * fps), len(joined), len(part))
        fade = _smooth(np.arange(1, overlap + 1) / (overlap + 1))
        pieces = [joined.select(slice(0, len(joined) - overlap))] if overlap < len(joined) else []
        if overlap:
            pieces.append(_between(joined.select(slice(len(joined) - overlap, None)), part.select(slice(0, overlap)), fade))
        pieces += [part.select(slice(overlap, None))] if overlap < len(part) else []
        joined = _stacked(pieces)
    return joined


def loop(performance: Performance, times: int, blend: float = 0.25) -> Performance:
    """`times` (1 to 1000) repetitions without a seam: the last `blend` seconds of each fade into the beginning, which shortens each by
    as much; the end of the result leads into its own beginning."""
    if not 1 <= times <= 1000 or not 0 <= blend <= 60:
        raise InputError(f"A loop takes 1 to 1000 times and a blend of 0 to 60 s, got {times} and {blend}.")
    overlap = min(round(blend * performance.fps), len(performance) // 2)
    body = len(performance) - overlap
    _bounded(body * times)
    if not overlap:
        return performance.select(np.tile(np.arange(body), times))
    fade = _smooth(np.arange(1, overlap + 1) / (overlap + 1))
    head = _between(performance.select(slice(body, None)), performance.select(slice(0, overlap)), fade)
    return _stacked([head, performance.select(slice(overlap, body))] * times if overlap < body else [head] * times)


def mix(first: Performance, second: Performance, amount: float = 0.5) -> Performance:
    """`first` where `amount` is 0, `second` where it is 1, between them in between; as long as the longer, the shorter held at its end."""
    if not 0 <= amount <= 1:
        raise InputError(f"`amount` must be 0 to 1, got {amount}.")
    one, other = _side_by_side(first, second)
    return _between(one, other, np.full(len(one), amount))


def layer(base: Performance, top: Performance, amount: float = 1.0) -> Performance:
    """`amount` (0 to 2) of `top` added to `base`: weights and translations add, rotations of a joint follow one another (top first)."""
    if not 0 <= amount <= 2:
        raise InputError(f"`amount` must be 0 to 2, got {amount}.")
    one, other = _side_by_side(base, top)
    turned = multiply_quaternions(axis_angle_to_quaternion(one.rotations), axis_angle_to_quaternion(other.rotations * np.float32(amount)))
    return replace(
        one,
        expression=one.expression + amount * other.expression,
        rotations=quaternion_to_axis_angle(turned),
        translation=one.translation + amount * other.translation,
    )


def scale(performance: Performance, amount: float) -> Performance:
    """Weights, angles and travel times `amount` (0 to 4): a calmer or livelier performance."""
    if not 0 <= amount <= 4:
        raise InputError(f"`amount` must be 0 to 4, got {amount}.")
    parts = {name: getattr(performance, name) * np.float32(amount) for name in ("expression", "rotations", "translation")}
    return replace(performance, **parts)


def mirror(performance: Performance) -> Performance:
    """Left and right exchanged, as in a looking glass: names by their sides, turns to the left become turns to the right.

    Raises:
        InputError: an expression moves whose name does not say what its mirror image is.
    """
    names, joints = performance.expression_names, performance.joint_names
    for name, track in zip(names, performance.expression.T, strict=True):
        if np.any(track) and (name not in ARKIT_NAMES or mirror_name(name) not in names):
            raise InputError(
                f"`{name}` has no mirror image by name: bring the performance to ARKit's names first (mvp4d performance convert)."
            )
    columns = [names.index(mirror_name(name)) if mirror_name(name) in names else k for k, name in enumerate(names)]
    mirrored = {name: _other_joint(name) for name in joints}
    rows = [joints.index(mirrored[name]) if mirrored[name] in joints else k for k, name in enumerate(joints)]
    # a reflection in x keeps turns around x and reverses the others; travel along x reverses
    return replace(
        performance,
        expression=performance.expression[:, columns],
        rotations=performance.rotations[:, rows] * np.array([1, -1, -1], np.float32),
        translation=performance.translation * np.array([-1, 1, 1], np.float32),
    )


def _other_joint(name: str) -> str:
    for side, other in (("left", "right"), ("right", "left")):
        if name.startswith(side):
            return other + name.removeprefix(side)
    return name


def _between(first: Performance, second: Performance, part: np.ndarray) -> Performance:
    """Frame by frame between two performances of the same names and length; `part` (T,) is 0 at the first."""
    weight = np.asarray(part, np.float64)[:, None]
    one, other = (axis_angle_to_quaternion(p.rotations.astype(np.float64)) for p in (first, second))
    cosine = (one * other).sum(axis=-1, keepdims=True)
    other, cosine = np.where(cosine < 0, -other, other), np.minimum(np.abs(cosine), 1)
    angle = np.arccos(cosine)
    near = angle < 1e-6
    sine = np.where(near, 1, np.sin(angle))
    share = weight[..., None]
    left = np.where(near, 1 - share, np.sin((1 - share) * angle) / sine)
    right = np.where(near, share, np.sin(share * angle) / sine)
    return replace(
        first,
        expression=first.expression * (1 - weight) + second.expression * weight,
        rotations=quaternion_to_axis_angle(normalize_quaternions(left * one + right * other)),
        translation=first.translation * (1 - weight) + second.translation * weight,
    )


def _common(performances: Sequence[Performance]) -> list[Performance]:
    """The same performances over the union of their expressions and joints, in the order of their first appearance."""
    names = tuple(dict.fromkeys(name for p in performances for name in p.expression_names))
    joints = tuple(dict.fromkeys(name for p in performances for name in p.joint_names))
    widened = []
    for p in performances:
        expression, rotations = np.zeros((len(p), len(names)), np.float32), np.zeros((len(p), len(joints), 3), np.float32)
        expression[:, [names.index(name) for name in p.expression_names]] = p.expression
        rotations[:, [joints.index(name) for name in p.joint_names]] = p.rotations
        widened.append(Performance(expression, rotations, p.translation, p.fps, names, joints))
    return widened


def _side_by_side(first: Performance, second: Performance) -> list[Performance]:
    """Both over the same names, at the first one's rate, as long as the longer."""
    parts = _common([first, second if second.fps == first.fps else resample(second, first.fps)])
    frames = np.arange(max(len(part) for part in parts))
    return [part.select(np.minimum(frames, len(part) - 1)) for part in parts]


def _stacked(parts: Sequence[Performance]) -> Performance:
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ("expression", "rotations", "translation")}
    _bounded(len(joined["expression"]))
    return replace(parts[0], **joined)


def _smooth(part: np.ndarray) -> np.ndarray:
    return part * part * (3 - 2 * part)


def _bounded(frames: int) -> int:
    if frames > MOST_FRAMES:
        raise InputError(f"A performance may have {MOST_FRAMES:,} frames, this would have {frames:,}. Trim it or lower its frame rate.")
    return max(1, frames)
