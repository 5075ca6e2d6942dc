# SPDX-License-Identifier: Apache-2.0
"""`mvp4d export AVATAR -o OUT`: an avatar as files other programs read."""

import argparse
from pathlib import Path

from ..errors import InputError
from . import pose_options
from .terminal import Bars, answer


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "export", help="an avatar as 3DGS PLY", description="One posed 3DGS PLY, or with --sequence a folder of one PLY a frame."
    )
    pose_options.add_avatar(command)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.ply|DIR")
    pose_options.add_pose(command)
    command.add_argument("--sequence", action="store_true", help="one PLY a frame of the performance, into a folder")
    command.add_argument("--performance", type=Path, metavar="FILE", help="a performance's .safetensors (the showcase without)")


def run(arguments: argparse.Namespace) -> None:
    """Writes the files."""
    from ..avatar.file_space import write_posed_ply
    from ..io.folders import make_folder
    from ..progress import steps

    avatar = pose_options.load(arguments)
    if not arguments.sequence:
        if arguments.output.suffix.lower() != ".ply":
            raise InputError(f"--output must end in .ply, or be a folder with --sequence, got {arguments.output}.")
        write_posed_ply(arguments.output, avatar, pose_options.pose_from(arguments, avatar.rig))
        answer({"file": str(arguments.output), "splats": len(avatar)}, arguments)
        return
    performance = pose_options.load_or_showcase(arguments.performance, avatar.rig)
    make_folder(arguments.output)
    bars = Bars()
    try:
        for frame in steps(range(len(performance)), "export", len(performance), bars):
            write_posed_ply(arguments.output / f"frame_{frame:04d}.ply", avatar, performance[frame])
    finally:
        bars.close()
    answer({"folder": str(arguments.output), "frames": len(performance), "fps": performance.fps, "splats": len(avatar)}, arguments)
