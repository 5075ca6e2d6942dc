# SPDX-License-Identifier: Apache-2.0
"""Performances in any of the files they come in, by the ending of the name."""

from pathlib import Path

from ..errors import InputError
from .live_link import LiveLinkOptions, load_live_link, save_live_link
from .performance import Performance, load_performance, save_performance
from .slider_json import load_slider_json, save_slider_json

ENDINGS = (".safetensors", ".csv", ".json")


def read_performance(path: str | Path, *, fps: float | None = None, live_link: LiveLinkOptions | None = None) -> Performance:
    """A performance from `.safetensors` (ours), `.csv` (Live Link Face) or `.json` (sliders, MediaPipe's blendshapes).

    Args:
        fps: of a `.json` that does not say; 24 without.
        live_link: how a `.csv` is read.
    """
    ending = _ending(path)
    if ending == ".csv":
        return load_live_link(path, live_link)
    return load_slider_json(path, fps or 24.0) if ending == ".json" else load_performance(path)


def write_performance(performance: Performance, path: str | Path) -> None:
    """Writes a performance in the format that the name's ending asks for, atomically."""
    write = {".csv": save_live_link, ".json": save_slider_json, ".safetensors": save_performance}[_ending(path)]
    write(performance, path)


def _ending(path: str | Path) -> str:
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"A performance's file must end in {', '.join(ENDINGS)}, got `{Path(path).name}`.")
    return ending
