# SPDX-License-Identifier: Apache-2.0
"""`mvp4d demo`: the whole walk on a public-domain portrait, on into Blender."""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MissingAssetError, MVP4DError
from .create import add_settings, settings_from
from .terminal import Bars, answer, say

if TYPE_CHECKING:
    from ..progress import Progress

ADDON = Path(__file__).resolve().parents[2] / "blender_addon"
STILL_SIZE = 512
STILL_FRAME = 80  # the smile, head turned
CLIP_FRAMES = 144


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "demo",
        help="the whole walk on a public-domain portrait",
        description="Astronaut Eileen Collins (NASA) to avatar, video and Blender scene.",
    )
    command.add_argument("-o", "--output", type=Path, default=Path("out/demo"), metavar="DIR")
    command.add_argument("--no-blender", action="store_true", help="stop before Blender")
    add_settings(command)


def run(arguments: argparse.Namespace) -> None:
    """Creates the avatar of the demo photo, then its Blender scene, and answers with the report."""
    try:
        from skimage import data
    except ImportError:
        raise MissingAssetError("The demo's photo comes with scikit-image. Install it with: pip install 'mvp4d[demo]'") from None
    from ..create import create_avatar
    from ..io.atomic import atomic_text
    from ..io.folders import make_folder
    from ..io.images import write_image

    folder = arguments.output
    make_folder(folder)
    photo = folder / "photo.png"
    if not photo.is_file():
        write_image(photo, data.astronaut() / 255.0)
    bars = Bars()
    try:
        report = create_avatar(photo, folder, settings_from(arguments), bars)
        if not arguments.no_blender:
            report |= blend(folder, report, bars)
    finally:
        bars.close()
    atomic_text(folder / "report.json", json.dumps(report, indent=2))
    for note in (*report["notices"], *report["warnings"]):
        say(f"mvp4d: {note}")
    results = ["showcase.mp4", "contact_sheet.png", *([] if arguments.no_blender else ["avatar.blend"])]
    say(f"mvp4d: look at {', '.join(str(folder / name) for name in results)}.")
    answer(report, arguments)


def blend(folder: Path, report: dict, progress: "Progress") -> dict:
    """The Blender scene, a still and a clip, made by the add-on in a process of its own, and how well they agree with the rasteriser."""
    import numpy as np

    from ..avatar import load_avatar
    from ..cameras import Camera
    from ..evaluation.agreement import foreground_psnr
    from ..io.atomic import atomic_text
    from ..io.images import read_image
    from ..journal import Journal, digest
    from ..memory import peak_memory_gb
    from ..render.avatar import render_avatar
    from ..rig import Parameters, load_performance
    from ..showreel import show_camera

    if not (ADDON / "headless.py").is_file():
        raise MissingAssetError("The Blender part of the demo needs the repository's blender_addon folder; use a clone, or --no-blender.")
    avatar = load_avatar(folder / "avatar.mvp4d")
    performance = load_performance(folder / "performance.safetensors")
    camera = show_camera(avatar, performance, STILL_SIZE)
    described = {"K": camera.K.tolist(), "camera_from_world": camera.camera_from_world.tolist(), "width": STILL_SIZE, "height": STILL_SIZE}
    atomic_text(folder / "camera.json", json.dumps(described))
    names = ["avatar.blend", "blender.png", "blender.mp4", "blender_report.json"]
    key = digest((folder / "avatar.mvp4d").stat().st_mtime_ns, described)
    journal = Journal(folder)
    journal.run("blender", key, names, lambda: _run_addon(folder, progress))

    inner = json.loads((folder / "blender_report.json").read_text(encoding="utf-8"))
    still_camera = Camera(**inner["still_camera"])
    parameters = Parameters(**{name: np.array(values, np.float32) for name, values in inner["still_parameters"].items()})
    expected, alpha = render_avatar(avatar, parameters, still_camera)
    rendered, _ = read_image(folder / "blender.png")
    seconds = journal.seconds()
    return {
        "blender_position_error": inner["blender_position_error"],
        "blender_psnr": foreground_psnr(rendered, expected, alpha),
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "peak_memory_gb": max(filter(None, (peak_memory_gb(), inner["peak_memory_gb"])), default=None),
    }


def _run_addon(folder: Path, progress: "Progress") -> None:
    """Runs `python -m blender_addon.headless`, passing its progress lines on; its last other line becomes the error's text."""
    from ..io.atomic import remove_temporaries

    command = [
        sys.executable, "-m", "blender_addon.headless", str(folder / "avatar.mvp4d"),
        "--performance", str(folder / "performance.safetensors"), "--camera", str(folder / "camera.json"),
        "--blend", str(folder / "avatar.blend"), "--still", str(folder / "blender.png"),
        "--clip", str(folder / "blender.mp4"), "--clip-frames", str(CLIP_FRAMES), "--still-frame", str(STILL_FRAME),
        "--report", str(folder / "blender_report.json"),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ADDON.parent), os.environ.get("PYTHONPATH", "")])}
    started, last = time.monotonic(), ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment) as child:
        assert child.stderr is not None
        try:
            for line in child.stderr:
                try:
                    step = json.loads(line)
                    progress(str(step["stage"]), int(step["done"]), int(step["total"]))
                except (ValueError, KeyError, TypeError):
                    last = line.strip() or last
        except BaseException:
            child.kill()
            child.wait()
            remove_temporaries(folder)
            raise
    if child.returncode:
        error = MVP4DError(f"Blender stopped after {time.monotonic() - started:.0f} s with code {child.returncode}: {last[:300]}")
        error.exit_code = child.returncode if child.returncode in range(2, 7) else 1
        raise error
