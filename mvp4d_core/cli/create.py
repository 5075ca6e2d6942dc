# SPDX-License-Identifier: Apache-2.0
"""`mvp4d create PHOTO -o DIR`: photo to avatar."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from .terminal import Bars, answer, say

if TYPE_CHECKING:
    from ..create import CreateSettings


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser("create", help="a portrait photo to an avatar", description="A portrait photo to an avatar.")
    command.add_argument("photo", type=Path)
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder for everything; a killed run continues there"
    )
    add_settings(command)


def add_settings(command: argparse.ArgumentParser) -> None:
    """The options that decide an avatar, shared with `demo`."""
    command.add_argument("--views", dest="preset", type=int, choices=(60, 120, 180, 360), default=360, help="degrees to generate (360)")
    command.add_argument("--view-count", dest="views", type=int, metavar="V", help="how many views (the preset's own number)")
    command.add_argument("--frames", type=int, metavar="F", help="frames a view (21; 49 of the mmvdm, for which they are 1 + 4k)")
    command.add_argument("--size", type=int, default=384, metavar="PX", help="side of a generated frame (384)")
    command.add_argument("--quality", choices=("draft", "standard", "high"), default="draft")
    command.add_argument("--steps", type=int, help="steps of the fit (the quality's own number)")
    command.add_argument("--splats", type=int, help="Gaussians (the quality's own number)")
    command.add_argument(
        "--lpips",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="AlexNet or VGG-16 and LPIPS' linear heads: one more term of the fit",
    )
    command.add_argument("--picture-size", type=int, default=512, metavar="PX", help="side of the showcase and the turntable (512)")
    command.add_argument("--generator", default="auto", metavar="NAME", help="auto, proxy or mmvdm")
    command.add_argument("--weights", default="nano", metavar="DIR", help="of the mmvdm: nano, or the folder of a pipeline")
    command.add_argument(
        "--mode",
        choices=("rollout", "stochastic"),
        default="rollout",
        help="of the mmvdm: rollout makes views from finished ones; stochastic makes all views at once, regrouped each step; slower",
    )
    command.add_argument("--gpu-gb", type=float, metavar="GB", help="of the mmvdm: memory of the graphics card to fit it into")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--face", type=int, metavar="N", help="which face, 1 being the largest")
    command.add_argument("--rig", default="open-head", metavar="HEAD", help="open-head, or a head's .safetensors")
    command.add_argument("--device", default="cpu", help="cpu or cuda")


def settings_from(arguments: argparse.Namespace) -> "CreateSettings":
    """`CreateSettings` from parsed options."""
    from ..create import CreateSettings

    given = vars(arguments)
    return CreateSettings(**{field.name: given[field.name] for field in fields(CreateSettings) if field.name in given})


def run(arguments: argparse.Namespace) -> None:
    """Creates the avatar and answers with its report."""
    from ..create import create_avatar

    bars = Bars()
    try:
        report = create_avatar(arguments.photo, arguments.output, settings_from(arguments), bars)
    finally:
        bars.close()
    for note in (*report["notices"], *report["warnings"]):
        say(f"mvp4d: {note}")
    say(f"mvp4d: {arguments.output / 'avatar.mvp4d'} is ready.")
    answer(report, arguments)
