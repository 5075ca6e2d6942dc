# SPDX-License-Identifier: Apache-2.0
"""`mvp4d render AVATAR -o OUT.png`: one picture of an avatar, with alpha."""

import argparse
from pathlib import Path

from . import pose_options
from .terminal import answer


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser("render", help="one picture of an avatar", description="One picture of an avatar, PNG.")
    pose_options.add_avatar(command)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.png")
    pose_options.add_pose(command)
    pose_options.add_camera(command)
    command.add_argument("--transparent", action="store_true", help="keep the alpha channel instead of a white background")


def run(arguments: argparse.Namespace) -> None:
    """Renders the picture."""
    from ..io.images import straight_alpha, write_image
    from ..render.avatar import render_avatar
    from ..rig import single_frame
    from ..showreel import show_camera

    angles = pose_options.angles(arguments)
    avatar = pose_options.load(arguments)
    parameters = pose_options.pose_from(arguments, avatar.rig)
    still = single_frame(parameters, avatar.rig)
    camera = show_camera(avatar, still, arguments.size, *angles)
    background = (0.0, 0.0, 0.0) if arguments.transparent else (1.0, 1.0, 1.0)
    image, alpha = render_avatar(avatar, parameters, camera, background=background, device=arguments.device)
    write_image(arguments.output, straight_alpha(image, alpha) if arguments.transparent else image)
    answer({"picture": str(arguments.output), "size": arguments.size}, arguments)
