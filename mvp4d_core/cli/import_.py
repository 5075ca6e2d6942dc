# SPDX-License-Identifier: Apache-2.0
"""`mvp4d import FILE -o OUT.mvp4d`: other programs' avatars and splats as avatars."""

import argparse
from pathlib import Path

from ..errors import InputError
from .terminal import answer, say


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "import",
        help="other programs' avatars and splats as avatars",
        description="GaussianAvatars' PLY or folder (with --rig FLAME), CAP4D's animation PLY, a .mvp4d file, or splats that stand still "
        "(.ply, .splat, .spz; with --rig), as an avatar.",
    )
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mvp4d")
    command.add_argument("--rig", metavar="HEAD", help="open-head, or a head's .safetensors: what splats that stand still are bound to")
    command.add_argument("--fit", action="store_true", help="move and scale splats that stand still onto the head")
    command.add_argument("--axes", choices=("up", "down"), help="where y points; down in still splats, up in CAP4D's, if not said")
    command.add_argument("--performance", type=Path, metavar="OUT.safetensors", help="also write the motion that the file holds")
    command.add_argument("--fps", type=float, default=25.0, help="frames a second of that motion, which its file does not say (25)")


def run(arguments: argparse.Namespace) -> None:
    """Writes the avatar and, if asked, the performance."""
    from ..avatar.import_avatar import import_avatar
    from ..rig import load_head_model, save_performance

    if arguments.output.suffix.lower() != ".mvp4d":
        raise InputError(f"--output must end in .mvp4d, got {arguments.output}.")
    if not 0 < arguments.fps <= 1000:
        raise InputError(f"--fps must be in 0..1000, got {arguments.fps:g}.")
    head_model = load_head_model(arguments.rig) if arguments.rig else None
    upright = None if arguments.axes is None else arguments.axes == "up"
    imported = import_avatar(arguments.file, head_model, fit=arguments.fit, upright=upright, fps=arguments.fps)
    if arguments.performance and imported.performance is None:
        raise InputError(f"{arguments.file.name} holds no motion, so there is no --performance to write. Leave it out.")
    imported.save(arguments.output)
    result = {"file": str(arguments.output), "splats": len(imported.avatar), "head": imported.avatar.rig.name}
    if arguments.performance and imported.performance is not None:
        save_performance(imported.performance, arguments.performance)
        result |= {"performance": str(arguments.performance), "frames": len(imported.performance)}
    for note in imported.notes:
        say(f"mvp4d: {note}")
    answer(result, arguments)
