# SPDX-License-Identifier: Apache-2.0
"""`mvp4d animate AVATAR -o OUT.mp4`: an avatar acting, as a video."""

import argparse
from pathlib import Path

from . import pose_options
from .terminal import Bars, answer


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser("animate", help="an avatar acting, as MP4", description="An avatar acting, as MP4.")
    pose_options.add_avatar(command)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4")
    command.add_argument("--performance", type=Path, metavar="FILE", help=".safetensors, .csv (Live Link) or .json (the showcase without)")
    pose_options.add_camera(command)


def run(arguments: argparse.Namespace) -> None:
    """Renders the performance."""
    from ..showreel import show_camera, write_showcase

    angles = pose_options.angles(arguments)
    avatar = pose_options.load(arguments)
    performance = pose_options.load_or_showcase(arguments.performance, avatar.rig)
    camera = show_camera(avatar, performance, arguments.size, *angles)
    bars = Bars()
    try:
        write_showcase(arguments.output, avatar, performance, camera, device=arguments.device, progress=bars)
    finally:
        bars.close()
    answer({"video": str(arguments.output), "frames": len(performance), "fps": performance.fps}, arguments)
