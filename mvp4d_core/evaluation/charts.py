# SPDX-License-Identifier: Apache-2.0
"""Small charts as inline SVG, coloured by the page's CSS variables `--ink`, `--faint`, `--avatar` and `--floor`."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 26, 30
_MOST_THIN = 12  # curves of single views beside their mean


def time_chart(title: str, seconds: np.ndarray, values: np.ndarray, floor: np.ndarray) -> str:
    """Curves of (V, F) values, thin ones of single views and a thick one of their mean, and the floor's mean as a dashed one."""
    mean, low = _column_means(values), _column_means(floor)
    thin = list(values) if 1 < len(values) <= _MOST_THIN else []
    frame = _Frame(title, seconds, [*thin, mean, low], "seconds")
    curves = [frame.curve(row, "thin") for row in thin]
    curves += [frame.curve(low, "floor"), frame.curve(mean, "mean"), frame.dots(mean, "mean") if len(seconds) <= 60 else ""]
    return frame.drawn("".join(curves))


def view_chart(title: str, azimuths: Sequence[float], names: Sequence[int], values: np.ndarray, floor: np.ndarray) -> str:
    """One dot a view of (V,) values over its azimuth in degrees, and the floor's as rings."""
    frame = _Frame(title, np.asarray(azimuths, float), [values, floor], "degrees to the subject's left")
    labels = [f"view {name}" for name in names]
    return frame.drawn(frame.dots(floor, "ring", labels) + frame.dots(values, "mean", labels))


class _Frame:
    """Axes that hold some curves."""

    def __init__(self, title: str, x: np.ndarray, curves: Sequence[np.ndarray], unit: str) -> None:
        present = np.concatenate([curve[~np.isnan(curve)] for curve in curves])
        low, high = (float(present.min()), float(present.max())) if present.size else (0.0, 1.0)
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        self._title, self._x, self._unit = title, x, unit
        self._y_range = low - margin, high + margin
        sides = 0.03 * float(x.max() - x.min()) or 1.0
        self._x_range = float(x.min()) - sides, float(x.max()) + sides

    def curve(self, values: np.ndarray, kind: str) -> str:
        """A line through the values, broken where one is absent."""
        path, pen = [], "M"
        for x, y in zip(self._x, values, strict=True):
            if math.isnan(y):
                pen = "M"
                continue
            path.append(f"{pen}{self._across(x):.1f} {self._down(y):.1f}")
            pen = "L"
        return f'<path class="{kind}" d="{"".join(path)}"/>' if path else ""

    def dots(self, values: np.ndarray, kind: str, labels: Sequence[str] | None = None) -> str:
        """A dot at each value, which tells it to the pointer."""
        marks = []
        for i, (x, y) in enumerate(zip(self._x, values, strict=True)):
            if not math.isnan(y):
                label = f"{labels[i]}: " if labels else f"{x:.2f} s: "
                marks.append(
                    f'<circle class="{kind}" cx="{self._across(x):.1f}" cy="{self._down(y):.1f}" r="3">'
                    f"<title>{escape(label)}{y:.4g}</title></circle>"
                )
        return "".join(marks)

    def drawn(self, inside: str) -> str:
        """The whole chart around some marks."""
        lines = []
        for value in _ticks(*self._y_range):
            y = self._down(value)
            lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            lines.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{value:.4g}</text>')
        for value in _ticks(*self._x_range):
            x = self._across(value)
            lines.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - _BOTTOM + 13}" text-anchor="middle">{value:.4g}</text>')
        lines.append(f'<text class="tick" x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(self._unit)}</text>')
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self._title)}">'
            f'<text class="title" x="{_LEFT}" y="14">{escape(self._title)}</text>{"".join(lines)}{inside}</svg>'
        )

    def _across(self, x: float) -> float:
        low, high = self._x_range
        return _LEFT + (x - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def _down(self, y: float) -> float:
        low, high = self._y_range
        return _TOP + (high - y) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers within a range."""
    step = 10 ** math.floor(math.log10((high - low) / 3))
    step *= max(factor for factor in (1, 2, 5) if factor * step * 3 <= high - low + 1e-12) if 3 * step <= high - low else 1
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _column_means(values: np.ndarray) -> np.ndarray:
    """(F,) means of (V, F) over what is present."""
    count = (~np.isnan(values)).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)
