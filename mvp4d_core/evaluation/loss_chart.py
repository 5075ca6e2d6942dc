# SPDX-License-Identifier: Apache-2.0
"""How a fit's loss fell, as a picture."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 132, 40, 44
_INK, _FAINT, _GRID = (32, 36, 44), (110, 116, 128), (228, 230, 236)
_SMOOTH, _LEAST = 0.04, 12  # of the steps, and how many at least, over which a curve is averaged
_LEAST_SHARE = 0.004  # of the whole, that a term reaches somewhere to get a curve of its own
_DECADES = 4  # shown below the highest value
# told apart also by who sees no red or no green (Okabe and Ito, 2008)
_COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233), (150, 140, 20))
_TOTAL = "sum"


def draw_losses(done: Sequence[int], terms: Mapping[str, Sequence[float]], title: str = "Loss of the fit") -> np.ndarray:
    """Curves of a loss and of its weighted terms over the steps, the vertical axis logarithmic: (HEIGHT, WIDTH, 3) float32 in 0..1.

    Args:
        done: (T,) rising step numbers; none where a fit went on from its very end, which gives an empty chart.
        terms: name to (T,) values of 0 or more. Terms that are nearly nothing all the time have no curve; the sum counts them.
    """
    steps = np.asarray(done if len(done) else [0], np.float64)
    tracks = {name: np.maximum(np.asarray(values, np.float64), 0) for name, values in terms.items() if len(done)}
    total = np.sum(list(tracks.values()), axis=0) if tracks else np.zeros_like(steps)
    shown = {_TOTAL: total} | {name: track for name, track in tracks.items() if track.max() > _LEAST_SHARE * total.max()}
    smooth = {name: _smoothed(track) for name, track in shown.items()}
    high = max(float(max(smooth[_TOTAL].max(), np.quantile(total, 0.99))), 1e-9)
    positive = np.concatenate([track[track > 0] for track in smooth.values()] or [np.ones(1)])
    low = max(float(positive.min()) if positive.size else high / 10, high / 10**_DECADES)
    low, high = _round_down(low), _round_up(high)
    picture = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white")  # drawn twice as large, then shrunk: smooth edges
    pen = _Pen(picture, float(steps[0]), float(steps[-1]), low, high)
    pen.axes(title)
    pen.line(steps, total, (*_FAINT,), 1, faint=True)
    for index, (name, track) in reversed(list(enumerate(smooth.items()))):
        pen.line(steps, track, _INK if name == _TOTAL else _COLOURS[(index - 1) % len(_COLOURS)], 5 if name == _TOTAL else 3)
    pen.legend({name: float(track[-1]) for name, track in smooth.items()})
    return np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS), np.float32) / 255


class _Pen:
    """Draws in units of steps and loss onto a picture of twice the chart's size."""

    def __init__(self, picture: Image.Image, first: float, last: float, low: float, high: float) -> None:
        self._draw = ImageDraw.Draw(picture)
        self._first, self._last = first, max(last, first + 1)
        self._low, self._high = low, high
        self._font, self._bold = ImageFont.load_default(22), ImageFont.load_default(28)

    def axes(self, title: str) -> None:
        draw = self._draw
        draw.text((2 * _LEFT, 14), title, fill=_INK, font=self._bold)
        for value in _rungs(self._low, self._high):
            y = self._down(value)
            draw.line([(2 * _LEFT, y), (2 * (WIDTH - _RIGHT), y)], fill=_GRID, width=2)
            draw.text((2 * _LEFT - 12, y), f"{value:g}", fill=_FAINT, font=self._font, anchor="rm")
        for value in _marks(self._first, self._last):
            draw.text((self._across(value), 2 * (HEIGHT - _BOTTOM) + 12), f"{value:,.0f}", fill=_FAINT, font=self._font, anchor="ma")
        draw.text((2 * (WIDTH - _RIGHT), 2 * HEIGHT - 12), "steps", fill=_FAINT, font=self._font, anchor="rs")

    def line(self, steps: np.ndarray, values: np.ndarray, colour: tuple[int, ...], width: int, *, faint: bool = False) -> None:
        colour = tuple(170 + c // 3 for c in colour) if faint else colour
        points = [(self._across(step), self._down(value)) for step, value in zip(steps, values, strict=True)]
        if len(points) == 1:
            (x, y), r = points[0], width + 1
            self._draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
        self._draw.line(points, fill=colour, width=width, joint="curve")

    def legend(self, ends: Mapping[str, float]) -> None:
        for index, (name, value) in enumerate(ends.items()):
            colour = _INK if name == _TOTAL else _COLOURS[(index - 1) % len(_COLOURS)]
            left, y = 2 * (WIDTH - _RIGHT) + 24, 2 * _TOP + 10 + 46 * index
            self._draw.line([(left, y), (left + 30, y)], fill=colour, width=5)
            self._draw.text((left + 40, y), f"{name} {value:.2g}", fill=_INK, font=self._font, anchor="lm")

    def _across(self, step: float) -> float:
        return 2 * (_LEFT + (step - self._first) / (self._last - self._first) * (WIDTH - _LEFT - _RIGHT))

    def _down(self, value: float) -> float:
        part = math.log(max(value, self._low) / self._low) / math.log(self._high / self._low)
        return 2 * (HEIGHT - _BOTTOM - min(part, 1.0) * (HEIGHT - _TOP - _BOTTOM))


def _smoothed(track: np.ndarray) -> np.ndarray:
    """The mean over a window around each value, of which the ends see a half."""
    half = max(round(_SMOOTH * len(track) / 2), min(_LEAST // 2, len(track) // 8))
    sums = np.concatenate([[0.0], np.cumsum(track)])
    places = np.arange(len(track))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(track))
    return np.maximum((sums[last] - sums[first]) / (last - first), 0)


def _rungs(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade within a range, or of many decades the 1 alone."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= value * 1.0001)


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return min(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * 1.0001)


def _marks(first: float, last: float) -> list[float]:
    """A few round step numbers within a range."""
    span = last - first
    power = 10.0 ** math.floor(math.log10(span / 4)) if span >= 4 else 1.0
    step = max(1.0, max(factor * power for factor in (1, 2, 5) if factor * power * 4 <= span or factor == 1))
    return [float(value) for value in np.arange(math.ceil(first / step) * step, last + 1e-9, step)]
