# SPDX-License-Identifier: Apache-2.0
"""An evaluation as one HTML page: figures, what is absent, curves, and pictures beside the truth.

The page holds all it shows and runs no script.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from ..io.atomic import atomic_text
from .charts import time_chart, view_chart
from .comparison import FLOOR_QUALITY, Evaluation
from .sheet import ERROR_GAIN, error_picture

SHOWN_SIDE = 320  # pixels of a picture on the page
_SHOWN_VIEWS = 6

# figure -> title, unit, whether more is better, what it says
DESCRIPTIONS = {
    "psnr": ("PSNR", "dB", True, "whole pictures on white"),
    "foreground_psnr": ("PSNR inside", "dB", True, "where the true matte is over a half"),
    "ssim": ("SSIM", "", True, "whole pictures"),
    "ms_ssim": ("MS-SSIM", "", True, "whole pictures, five scales"),
    "lpips": ("LPIPS", "", False, "deep features' distance"),
    "jod": ("JOD", "", True, "FovVideoVDP; 10 is no difference, each less what 75 % of people notice"),
    "csim": ("CSIM", "", True, "cosine of the faces' ArcFace embeddings"),
    "akd_px": ("AKD", "px", False, "mean distance of 478 face landmarks"),
    "akd_percent": ("AKD", "%", False, "the same, of the distance between the eyes"),
    "expression_distance": ("Expression", "", False, "Euclidean distance of tracked expression weights"),
    "re_lg": ("RE@LG", "%", False, "reprojection error between views, of the picture's side; the floor is the truth's own"),
}

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1b1d22; --faint: #667; --line: #dde; --avatar: #1f6feb; --floor: #b3541e; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15171c; --ink: #e8e9ee; --faint: #9aa; --line: #333844; --avatar: #6aa8ff; --floor: #e8975f; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 68rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p, .about { color: var(--faint); margin: .3rem 0; overflow-wrap: anywhere; } ul { padding-left: 1.2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: baseline; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.number.avatar { font-weight: 600; color: var(--avatar); } td.number.floor { color: var(--floor); }
td.absent { color: var(--faint); }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); gap: .8rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--faint); font: 10px system-ui, sans-serif; }
svg text.title { fill: var(--ink); font-size: 12px; font-weight: 600; } .grid { stroke: var(--line); }
path { fill: none; stroke-linejoin: round; } path.mean { stroke: var(--avatar); stroke-width: 2; }
path.thin { stroke: var(--avatar); stroke-width: .8; opacity: .35; }
path.floor { stroke: var(--floor); stroke-dasharray: 4 3; stroke-width: 1.5; }
circle.mean { fill: var(--avatar); } circle.ring { fill: none; stroke: var(--floor); stroke-width: 1.5; }
.pictures { display: grid; grid-template-columns: 4.5rem repeat(auto-fit, minmax(5rem, 1fr)); gap: .4rem; align-items: center; }
.pictures img { width: 100%; height: auto; display: block; border-radius: 4px; background: #fff; }
.pictures span { color: var(--faint); font-size: 13px; }
"""


def write_report(path: str | Path, evaluation: Evaluation, title: str) -> None:
    """Writes the page, atomically."""
    atomic_text(path, report_page(evaluation, title))


def report_page(evaluation: Evaluation, title: str) -> str:
    """The page's text."""
    truth = evaluation.truth
    views, frames, height, width = evaluation.pictures.shape[:4]
    about = f"{views} views × {frames} frames of {width} × {height} px at {truth.performance.fps:g} fps, against {truth.name}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1><p>{escape(about)}</p>{_listed(evaluation.notes)}"
        f"<h2>Figures</h2>{_table(evaluation)}{_absent(evaluation)}"
        f"<h2>Beside the truth</h2>{_pictures(evaluation)}"
        f"<h2>Over time</h2>{_times(evaluation)}"
        f"<h2>By view</h2>{_by_view(evaluation)}"
        f"</body></html>\n"
    )


def report_lines(evaluation: Evaluation) -> list[str]:
    """The figures with their floors, what is absent, and the notes, a line each, for readers of plain text."""
    avatar, floor = evaluation.avatar.means(), evaluation.floor.means()
    lines = [
        f"{label} {_number(avatar[name], unit)} (floor {_number(floor[name], unit)}; {'more' if more else 'less'} is better): {about}"
        for name, (label, unit, more, about) in DESCRIPTIONS.items()
        if avatar[name] is not None
    ]
    views, frames = evaluation.pictures.shape[:2]
    lines.append(f"Of {views} views x {frames} frames. Floor: the truth against itself after JPEG of quality {FLOOR_QUALITY}.")
    return [*lines, *evaluation.notes]


def views_around(evaluation: Evaluation, most: int) -> list[int]:
    """Some views from all around, from the subject's right to the left."""
    turned = np.argsort(_azimuths(evaluation), kind="stable")
    return turned[np.unique(np.linspace(0, len(turned) - 1, min(most, len(turned))).round().astype(int))].tolist()


def _table(evaluation: Evaluation) -> str:
    avatar, floor = evaluation.avatar.means(), evaluation.floor.means()
    rows = []
    for name, (label, unit, more, about) in DESCRIPTIONS.items():
        values = "".join(
            f'<td class="number {kind if value is not None else "absent"}">{_number(value, unit)}</td>'
            for kind, value in (("avatar", avatar[name]), ("floor", floor[name]))
        )
        with_tracker = _number(evaluation.tracker.get(name), unit) if name in evaluation.tracker else ""
        better = "more" if more else "less"
        rows.append(
            f'<tr><td>{label}</td>{values}<td class="number">{with_tracker}</td><td>{better}</td><td class="about">{about}</td></tr>'
        )
    return (
        '<div class="wide"><table><thead><tr><th>Figure</th><th class="number">Avatar</th><th class="number">Floor</th>'
        '<th class="number">Tracker</th><th>Better</th><th></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
        f"<p>Floor: the truth against itself after JPEG of quality {FLOOR_QUALITY}. Tracker: its error on the true pictures, where "
        f"landmarks and expressions are known exactly.{_faces(evaluation)}</p>"
    )


def _faces(evaluation: Evaluation) -> str:
    counts = evaluation.faces
    if not counts:
        return ""
    return f" A face looks at the camera in {counts['shown']} pictures; the tracker found {counts['found_in_avatar']} of the avatar's."


def _absent(evaluation: Evaluation) -> str:
    absent = [f"{DESCRIPTIONS[name][0]} is absent: {reason}" for name, reason in evaluation.absent.items() if name in DESCRIPTIONS]
    measured = [f"{DESCRIPTIONS[name][0]} by {what}" for name, what in evaluation.names.items() if name in DESCRIPTIONS]
    return _listed([*dict.fromkeys(absent), *measured])


def _pictures(evaluation: Evaluation) -> str:
    """The worst, the middle and the best picture, and the middle moment of views all around."""
    scores = evaluation.avatar.figures["psnr"]
    order = np.argsort(scores, axis=None)
    cells = [divmod(int(order[place]), scores.shape[1]) for place in (0, len(order) // 2, len(order) - 1)]
    ranked = list(zip(("worst", "middle", "best"), cells, strict=True))
    middle = scores.shape[1] // 2
    views = [(f"view {evaluation.truth.views[view]}", (view, middle)) for view in views_around(evaluation, _SHOWN_VIEWS)]
    return _grid(evaluation, ranked if scores.size > 2 else []) + _grid(evaluation, views)


def _grid(evaluation: Evaluation, columns: Sequence[tuple[str, tuple[int, int]]]) -> str:
    """Truth, avatar and error below one another, a column a picture."""
    if not columns:
        return ""
    cells = ["<span></span>"]
    for name, (view, frame) in columns:
        cells.append(f"<span>{escape(name)}<br>frame {frame}, {evaluation.avatar.figures['psnr'][view, frame]:.1f} dB</span>")
    truth = [evaluation.truth.frames[cell] for _, cell in columns]
    made = [evaluation.pictures[cell] for _, cell in columns]
    errors = [error_picture(a, b) for a, b in zip(made, truth, strict=True)]
    for label, pictures in (("truth", truth), ("avatar", made), (f"error × {ERROR_GAIN}", errors)):
        cells.append(f"<span>{label}</span>")
        cells += [_image(picture, f"{label}, {name}") for picture, (name, _) in zip(pictures, columns, strict=True)]
    style = f"grid-template-columns: 4.5rem repeat({len(columns)}, minmax(0, {SHOWN_SIDE}px))"
    return f'<div class="pictures" style="{style}">{"".join(cells)}</div><br>'


def _times(evaluation: Evaluation) -> str:
    frames = evaluation.pictures.shape[1]
    if frames < 2:
        return "<p>There is one frame.</p>"
    seconds = np.arange(frames) / evaluation.truth.performance.fps
    charts = []
    for name, (label, unit, _, _) in DESCRIPTIONS.items():
        made, floor = evaluation.avatar.figures[name], evaluation.floor.figures[name]
        if made.shape[1] == frames and not np.isnan(made).all():
            charts.append(time_chart(_title(label, unit), seconds, made, floor))
    return f'<p>Thick: mean over views; thin: single views; dashed: floor.</p><div class="charts">{"".join(charts)}</div>'


def _by_view(evaluation: Evaluation) -> str:
    charts = []
    for name, (label, unit, _, _) in DESCRIPTIONS.items():
        if name != "re_lg" and not np.isnan(evaluation.avatar.figures[name]).all():
            rows = [scores.by_view(name) for scores in (evaluation.avatar, evaluation.floor)]
            charts.append(view_chart(_title(label, unit), _azimuths(evaluation), evaluation.truth.views, *rows))
    return f'<p>Dots: avatar; rings: floor.</p><div class="charts">{"".join(charts)}</div>'


def _azimuths(evaluation: Evaluation) -> list[float]:
    """Degrees from which each camera looks at the head, positive from the subject's left."""
    positions = [camera.position for camera in evaluation.truth.cameras]
    return [float(np.degrees(np.arctan2(x, z))) for x, _, z in positions]


def _image(picture: np.ndarray, label: str) -> str:
    """A picture (H, W, 3) uint8 as an element that carries it."""
    from PIL import Image

    image, stream = Image.fromarray(picture), io.BytesIO()
    if max(image.size) > SHOWN_SIDE:
        image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    image.save(stream, "JPEG", quality=92, subsampling=0)
    return f'<img alt="{escape(label)}" src="data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}">'


def _listed(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="about">{items}</ul>' if items else ""


def _title(label: str, unit: str) -> str:
    return f"{label} ({unit})" if unit else label


def _number(value: float | None, unit: str) -> str:
    return "absent" if value is None else f"{value:.4g}{f' {unit}' if unit else ''}"
