# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds, saves and renders a Blender scene of an avatar in a process of its own: `python -m blender_addon.headless AVATAR.mvp4d --help`.

Progress goes to stderr as one JSON object a line, an error as one sentence with the core's exit code; Blender's own output is dropped.
"""

import argparse
import ctypes
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import numpy as np

from mvp4d_core.cameras import Camera
from mvp4d_core.errors import Cancelled, FormatError, InputError, MissingAssetError, MVP4DError
from mvp4d_core.io.atomic import atomic_json
from mvp4d_core.io.reading import open_input

_LARGEST_PICTURE = 8192  # pixels


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code."""
    options = _parser().parse_args(arguments)
    with only_our_words() as words:
        try:
            _run(options, lambda stage, done, total: say(words, stage, done, total))
        except MVP4DError as error:
            words.write(f"{error}\n")
            return error.exit_code
        except KeyboardInterrupt:
            return Cancelled.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m blender_addon.headless", description="A Blender scene from an avatar.")
    parser.add_argument("avatar", type=Path, help="the .mvp4d file")
    parser.add_argument("--blend", type=Path, required=True, help="the scene to write")
    parser.add_argument("--performance", type=Path, help="what the avatar does, a .safetensors file")
    parser.add_argument("--camera", type=Path, help="JSON with K, camera_from_world, width and height, in head space")
    parser.add_argument("--still", type=Path, help="a PNG to render")
    parser.add_argument("--still-frame", type=int, default=0, help="frame of the performance, from 0")
    parser.add_argument("--size", type=int, default=512, help="longer side of the still, pixels")
    parser.add_argument("--clip", type=Path, help="an MP4 to render")
    parser.add_argument("--clip-frames", type=int, default=48, help="at most so many frames of the performance, from the first")
    parser.add_argument("--clip-size", type=int, default=320, help="longer side of the clip, pixels")
    parser.add_argument("--report", type=Path, help="JSON with what was measured")
    return parser


def _run(options: argparse.Namespace, progress: Any) -> None:
    _check_sizes(options)
    camera = None if options.camera is None else read_camera(options.camera)
    build, scene = with_bpy("build"), with_bpy("scene")
    watch = _Watch()
    built = build.build_scene(
        options.avatar, options.blend, performance_path=options.performance, camera=camera, size=options.size, progress=progress
    )
    watch.lap("build")
    last = 0 if built.performance is None else len(built.performance) - 1
    if not 0 <= options.still_frame <= last:
        raise InputError(f"--still-frame must be a frame of the performance, 0 to {last}, got {options.still_frame}.")
    report = _describe(built, build.START + options.still_frame)
    if options.still:
        progress("still", 0, 1)
        scene.render_still(options.still, build.START + options.still_frame)
        progress("still", 1, 1)
        watch.lap("still")
    if options.clip:
        report |= _render_clip(options, built, build, scene, progress)
        watch.lap("clip")
    if options.report:
        atomic_json(options.report, report | {"seconds": watch.seconds, "peak_memory_gb": _peak_memory_gb()})


def _render_clip(options: argparse.Namespace, built: Any, build: ModuleType, scene: ModuleType, progress: Any) -> dict[str, Any]:
    frames = 1 if built.performance is None else min(options.clip_frames, len(built.performance))
    small = scene.resized(built.camera, options.clip_size)
    scene.set_picture_size(small)
    scene.render_clip(options.clip, range(build.START, build.START + frames), progress)
    return {"clip_frames": frames, "clip_width": small.width, "clip_height": small.height}


def _describe(built: Any, still_frame: int) -> dict[str, Any]:
    """What a caller needs to judge the still by: who, in which pose, seen from where; and how exact Blender has it."""
    parameters, camera = built.parameters(still_frame), built.camera
    return {
        "gaussians": len(built.avatar),
        "sh_degree": built.avatar.sh_degree,
        "blender": with_bpy("compat").VERSION,
        "blender_position_error": built.position_error,
        "notes": list(built.imported.notes),
        "still_parameters": {name: getattr(parameters, name).tolist() for name in ("expression", "rotations", "translation")},
        "still_camera": {
            "K": camera.K.tolist(),
            "camera_from_world": camera.camera_from_world.tolist(),
            "width": camera.width,
            "height": camera.height,
        },
    }


def read_camera(path: Path) -> Camera:
    """A camera from JSON with `K`, `camera_from_world`, `width` and `height`; raises FormatError for anything else."""
    with open_input(path) as (stream, _):
        text = stream.read()
    try:
        fields = json.loads(text)
        camera = Camera(
            np.array(fields["K"], np.float64),
            np.array(fields["camera_from_world"], np.float64),
            int(fields["width"]),
            int(fields["height"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError, InputError) as error:
        raise FormatError(f"{path} is not a camera: it must hold K, camera_from_world, width and height ({error}).") from None
    return camera


def _check_sizes(options: argparse.Namespace) -> None:
    for name in ("size", "clip_size"):
        if not 16 <= getattr(options, name) <= _LARGEST_PICTURE:
            raise InputError(f"--{name.replace('_', '-')} must be 16 to {_LARGEST_PICTURE} pixels, got {getattr(options, name)}.")
    if options.clip_frames < 1:
        raise InputError(f"--clip-frames must be at least 1, got {options.clip_frames}.")


def with_bpy(module: str) -> ModuleType:
    """A module of this package that needs Blender."""
    try:
        return importlib.import_module(f".{module}", __package__)
    except ImportError as error:
        raise MissingAssetError(
            f"Blender's Python module cannot be loaded ({error}).\nInstall it with `pip install 'mvp4d[blender]'`, or leave Blender out."
        ) from None


class _Watch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        now = time.monotonic()
        self.seconds[stage] = now - self._last
        self._last = now


def say(words: TextIO, stage: str, done: int, total: int) -> None:
    words.write(json.dumps({"stage": stage, "done": done, "total": total}) + "\n")


def _peak_memory_gb() -> float | None:
    """Of this process; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


@contextmanager
def only_our_words() -> Iterator[TextIO]:
    """Gives the real stderr and drops what else is written to stdout and stderr, down to the C library. An exception gets stderr back."""
    _flush()
    kept = os.dup(1), os.dup(2)
    with os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1) as words, Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield words
        finally:
            _flush()
            for descriptor, original in zip(kept, (1, 2), strict=True):
                os.dup2(descriptor, original)
                os.close(descriptor)


def _flush() -> None:
    """Empties the buffers of Python and of the C library, which Blender prints through."""
    sys.stdout.flush()
    sys.stderr.flush()
    (ctypes.cdll.ucrtbase if os.name == "nt" else ctypes.CDLL(None)).fflush(None)


if __name__ == "__main__":
    sys.exit(main())
