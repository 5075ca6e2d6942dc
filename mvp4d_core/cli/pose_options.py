# SPDX-License-Identifier: Apache-2.0
"""Options of the commands that pose an avatar and look at it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..avatar import GaussianAvatar
    from ..rig import HeadModel, Parameters, Performance


def add_avatar(command: argparse.ArgumentParser) -> None:
    """The avatar and, for one that may not carry its head, the head."""
    command.add_argument("avatar", type=Path, metavar="AVATAR.mvp4d")
    command.add_argument("--rig", metavar="HEAD", help="the head's .safetensors, for an avatar that does not carry its own")


def add_pose(command: argparse.ArgumentParser) -> None:
    """One pose by names and numbers."""
    command.add_argument("--expression", action="append", default=[], metavar="NAME=WEIGHT", help="for example jawOpen=0.8; may repeat")
    command.add_argument("--joint", action="append", default=[], metavar="NAME=X,Y,Z", help="degrees, for example neck=0,20,0; may repeat")


def add_camera(command: argparse.ArgumentParser) -> None:
    """One camera on a sphere around the head."""
    command.add_argument("--azimuth", type=float, default=0.0, metavar="DEG", help="to the subject's left (0)")
    command.add_argument("--elevation", type=float, default=3.0, metavar="DEG", help="from above (3)")
    command.add_argument("--size", type=int, default=512, metavar="PX", help="side of the picture (512)")
    command.add_argument("--device", default="cpu", help="cpu or cuda")


def angles(arguments: argparse.Namespace) -> tuple[float, float]:
    """Azimuth and elevation that `add_camera` asks for, in radians; InputError for a device, a size or angles that can't be rendered."""
    import math

    from ..render.device import check_device

    check_device(arguments.device)
    if not 16 <= arguments.size <= 4096:
        raise InputError(f"--size must be 16 to 4096 px, got {arguments.size}.")
    if not (abs(arguments.azimuth) <= 3600 and abs(arguments.elevation) <= 89):
        raise InputError(
            f"--azimuth must be -3600 to 3600 and --elevation -89 to 89 degrees, got {arguments.azimuth:g} and {arguments.elevation:g}."
        )
    return math.radians(arguments.azimuth), math.radians(arguments.elevation)


def load(arguments: argparse.Namespace) -> "GaussianAvatar":
    """The avatar that `add_avatar` asks for."""
    from ..avatar import load_avatar
    from ..rig import load_head_model

    return load_avatar(arguments.avatar, head_model=load_head_model(arguments.rig) if arguments.rig else None)


def load_or_showcase(path: Path | None, rig: "HeadModel") -> "Performance":
    """The performance in a file of any kind, brought to the rig; the showcase without one."""
    from ..rig import showcase_performance
    from ..rig.arkit_map import perform_on
    from ..rig.performance_files import read_performance

    if path is None:
        return showcase_performance(rig)
    return perform_on(read_performance(path), rig)


def chosen_frames(performance: "Performance", text: str | None) -> "Performance":
    """The frames `A:B` or `A:B:STEP` of a performance, or the one frame `A`, counted from 0; STEP frames become one, shown as long."""
    from dataclasses import replace

    if text is None:
        return performance
    parts = text.split(":")
    try:
        numbers = [int(part) if part else None for part in parts]
    except ValueError:
        numbers = []
    step = numbers[2] if len(numbers) == 3 else None
    if not 1 <= len(numbers) <= 3 or numbers == [None] or any(number is not None and number < 0 for number in numbers) or step == 0:
        raise InputError(f"--frames must be A:B, A:B:STEP or one number, counted from 0, got `{text}`.")
    first = numbers[0] or 0
    chosen = range(len(performance))[first : first + 1 if len(numbers) == 1 else numbers[1] : step]
    if not chosen:
        raise InputError(f"--frames {text} names none of the performance's frames 0 to {len(performance) - 1}.")
    return replace(performance.select(list(chosen)), fps=performance.fps / (step or 1))


def pose_from(arguments: argparse.Namespace, rig: "HeadModel") -> "Parameters":
    """The pose that `add_pose` asks for; InputError for unknown names and malformed numbers."""
    import math

    from ..rig import rest_parameters

    parameters = rest_parameters(rig)
    for text in arguments.expression:
        name, _, weight = text.partition("=")
        if name not in rig.expression_names:
            raise InputError(
                f"--expression `{name}` is not one of this avatar's: {', '.join(rig.expression_names[:8])}, ... (see mvp4d info)."
            )
        parameters.expression[rig.expression_names.index(name)] = _number(text, weight)
    for text in arguments.joint:
        name, _, angles = text.partition("=")
        numbers = [_number(text, part) for part in angles.split(",")]
        if name not in rig.joint_names or len(numbers) != 3:
            raise InputError(f"--joint must be NAME=X,Y,Z in degrees with a name of {', '.join(rig.joint_names)}, got `{text}`.")
        parameters.rotations[rig.joint_names.index(name)] = [math.radians(number) for number in numbers]
    return parameters


def _number(text: str, part: str) -> float:
    try:
        value = float(part)
    except ValueError:
        value = float("nan")
    if not abs(value) <= 1000:
        raise InputError(f"`{text}` must end in a number between -1000 and 1000, got `{part}`.")
    return value
