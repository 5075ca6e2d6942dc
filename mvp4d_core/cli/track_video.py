# SPDX-License-Identifier: Apache-2.0
"""`mvp4d track-video VIDEO -o DIR`: what a person in a video does, as a performance that drives an avatar."""

import argparse
import time
from pathlib import Path

from .terminal import Bars, answer, say


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "track-video",
        help="a performance from a driving video",
        description="Follow the largest face of a video and write what it does as performance.safetensors. A stopped run continues.",
    )
    command.add_argument("video", type=Path)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    command.add_argument("--rig", default="open-head", metavar="HEAD", help="open-head, or a head's .safetensors")
    command.add_argument(
        "--straight",
        choices=("camera", "person"),
        default="camera",
        help="what looking straight ahead is: into the lens, or as the person holds the head on average, for a camera to the side",
    )
    command.add_argument("--smooth", type=float, default=1.0, help="how long the means in time last; 0 is what each frame says (1)")
    command.add_argument("--overlay", action="store_true", help="also write overlay.mp4, the video with the fitted points")


def run(arguments: argparse.Namespace) -> None:
    """Tracks the video; leaves performance.safetensors and track.json, and overlay.mp4 where wanted."""
    from ..io.atomic import atomic_json
    from ..io.folders import make_folder
    from ..rig import load_head_model, save_performance
    from ..tracking.video import track_video
    from ..tracking.video_overlay import write_overlay

    model = load_head_model(arguments.rig)
    make_folder(arguments.output)
    bars, started = Bars(), time.perf_counter()
    try:
        track = track_video(
            arguments.video,
            head_model=model,
            straight=arguments.straight,
            smooth=arguments.smooth,
            resume=arguments.output / "watched.safetensors",
            progress=bars,
        )
        seconds = time.perf_counter() - started
        save_performance(track.performance, arguments.output / "performance.safetensors")
        if arguments.overlay:
            write_overlay(arguments.video, track, arguments.output / "overlay.mp4", progress=bars)
    finally:
        bars.close()
    for notice in track.notices:
        say(f"mvp4d: {notice}")
    facts = {
        "frames": len(track.performance),
        "fps": track.performance.fps,
        "frames_with_face": int(track.seen.sum()),
        "seen": track.seen.astype(int).tolist(),
        "cuts": list(track.cuts),
        "landmark_error_percent": track.landmark_error_percent,
        "focal_px": float(track.camera.K[0, 0]),
        "notices": list(track.notices),
    }
    atomic_json(arguments.output / "track.json", facts)
    told = {key: value for key, value in facts.items() if key != "seen"}
    result = {"performance": str(arguments.output / "performance.safetensors"), "track": str(arguments.output / "track.json")}
    if arguments.overlay:
        result["overlay"] = str(arguments.output / "overlay.mp4")
    answer(result | told | {"frames_per_second": len(track.performance) / seconds}, arguments)
