# SPDX-License-Identifier: Apache-2.0
"""`mvp4d performance ACTION`: the library of performances, and cutting, mixing and converting them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .terminal import answer

if TYPE_CHECKING:
    from ..rig import HeadModel, Performance

_FILES = ".safetensors, .csv (Live Link Face) or .json (sliders, MediaPipe's blendshapes)"
_MOST_FILES = 1000


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command and its actions."""
    text = "The library of performances; cutting, mixing and converting performances."
    command = subparsers.add_parser("performance", help="make, convert, cut and mix performances", description=text)
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    _action(actions, "list", "what the library has", files=None)
    make = _action(actions, "make", "a performance of the library", files=None, output=True)
    make.add_argument("name", metavar="NAME", help="see `mvp4d performance list`")
    make.add_argument("--fps", type=float, default=24.0, help="frames a second (24)")
    make.add_argument("--seconds", type=float, help="length (the clip's own)")
    make.add_argument("--seed", type=int, default=0, help="of blinks and idle motion (0)")
    make.add_argument("--strength", type=float, default=1.0, help="0 to 2, of the faces (1)")
    _action(actions, "info", "what is in a performance's file")
    convert = _action(actions, "convert", f"to another kind of file or another head; files are {_FILES}", output=True)
    convert.add_argument("--source", metavar="HEAD", help="the head whose expressions the file has, where they are not ARKit's")
    convert.add_argument("--neutral", type=Path, metavar="FILE", help="a take of the resting face; its median comes off a Live Link take")
    convert.add_argument("--level", action="store_true", help="take off the head's median attitude")
    concat = _action(actions, "concat", "one after the other", files="+", output=True)
    concat.add_argument("--blend", type=float, default=0.0, metavar="SECONDS", help="let neighbours overlap and fade (0)")
    mix = _action(actions, "mix", "between two performances", files=2, output=True)
    mix.add_argument("--amount", type=float, default=0.5, help="0 is the first, 1 the second (0.5)")
    mix.add_argument("--add", action="store_true", help="add that amount of the second to the first instead")
    loop = _action(actions, "loop", "repeated without a seam", output=True)
    loop.add_argument("--times", type=int, default=2, help="how often (2)")
    loop.add_argument("--blend", type=float, default=0.25, metavar="SECONDS", help="the end fades into the beginning for so long (0.25)")
    trim = _action(actions, "trim", "a part of it", output=True)
    trim.add_argument("--start", type=float, default=0.0, metavar="SECONDS")
    trim.add_argument("--end", type=float, metavar="SECONDS")
    retime = _action(actions, "retime", "faster, slower, or at other frames a second", output=True)
    retime.add_argument("--speed", type=float, default=1.0, help="2 is twice as fast (1)")
    retime.add_argument("--to-fps", type=float, metavar="FPS", help="frames a second of the result")
    _action(actions, "mirror", "left and right exchanged", output=True)
    scale = _action(actions, "scale", "calmer or livelier", output=True)
    scale.add_argument("--amount", type=float, required=True, help="0 to 4; 1 changes nothing")
    smooth = _action(actions, "smooth", "without tremor (One Euro filter); blinks stay", output=True)
    smooth.add_argument("--cutoff", type=float, default=1.5, metavar="HZ", help="of what rests; lower is stiller (1.5)")
    smooth.add_argument("--beta", type=float, default=1.0, help="how much less what moves is smoothed (1)")
    _action(actions, "limit", "kept within what faces can do", output=True)


def _action(actions: Any, name: str, text: str, files: int | str | None = 1, output: bool = False) -> argparse.ArgumentParser:
    """One action with the options that all share."""
    action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    if files is not None:
        action.add_argument("files", nargs=files, type=Path, metavar="FILE", help=_FILES)
        action.add_argument("--fps", type=float, help="frames a second, where a file does not say it or says it wrongly")
        action.add_argument("--angles", choices=("radians", "degrees", "half-turns"), default="radians", help="of a Live Link take")
        action.add_argument("--eyes", choices=("auto", "looks", "joints"), default="auto", help="which gaze of a Live Link take counts")
    if output:
        action.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help=_FILES)
        action.add_argument("--head", metavar="HEAD", help="bring it to this head (open-head, or a head's .safetensors)")
    # the command's own --json stands before the action; this one may stand after it, and must not undo the other
    action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the result as one JSON object")
    return action


def run(arguments: argparse.Namespace) -> None:
    """Does one action."""
    from ..rig.performance_files import write_performance
    from ..rig.performance_library import library_names

    if arguments.action == "list":
        answer(dict(library_names()), arguments)
        return
    made = _made(arguments)
    if arguments.action == "info":
        answer(_described(made), arguments)
        return
    if arguments.head:
        from ..rig import load_head_model
        from ..rig.arkit_map import perform_on

        made = perform_on(made, load_head_model(arguments.head), _source(arguments))
    write_performance(made, arguments.output)
    answer({"performance": str(arguments.output), "frames": len(made), "fps": made.fps}, arguments)


def _made(arguments: argparse.Namespace) -> "Performance":
    """The performance that an action makes, before it goes to another head."""
    from ..rig import performance_edit as edit

    if arguments.action == "make":
        from ..rig.performance_library import library_performance

        return library_performance(
            arguments.name, fps=arguments.fps, seconds=arguments.seconds, seed=arguments.seed, strength=arguments.strength
        )
    if len(arguments.files) > _MOST_FILES:
        raise InputError(f"At most {_MOST_FILES} files are joined at once, got {len(arguments.files)}.")
    taken = [_read(path, arguments) for path in arguments.files]
    first = taken[0]
    match arguments.action:
        case "convert":
            return _converted(first, arguments)
        case "concat":
            return edit.concatenate(taken, arguments.blend)
        case "mix":
            return (edit.layer if arguments.add else edit.mix)(first, taken[1], arguments.amount)
        case "loop":
            return edit.loop(first, arguments.times, arguments.blend)
        case "trim":
            return edit.trim(first, arguments.start, arguments.end)
        case "retime":
            faster = first if arguments.speed == 1 else edit.retime(first, arguments.speed)
            return faster if arguments.to_fps is None else edit.resample(faster, arguments.to_fps)
        case "mirror":
            return edit.mirror(first)
        case "scale":
            return edit.scale(first, arguments.amount)
        case "smooth":
            from ..rig.smoothing import smooth_performance, smoothing

            return smooth_performance(first, smoothing(arguments.cutoff, arguments.beta))
        case "limit":
            from ..rig.motion_limits import limit_performance

            return limit_performance(first)
    return first


def _read(path: Path, arguments: argparse.Namespace) -> "Performance":
    from ..rig.live_link import LiveLinkOptions, load_live_link, neutral_weights
    from ..rig.performance_files import read_performance

    neutral = getattr(arguments, "neutral", None)
    if neutral is not None and path.suffix.lower() != ".csv":
        raise InputError(f"--neutral calibrates Live Link takes (.csv), and {path.name} is none.")
    rest = neutral_weights(load_live_link(neutral)) if neutral is not None else None
    return read_performance(path, fps=arguments.fps, live_link=LiveLinkOptions(arguments.fps, arguments.angles, arguments.eyes, rest))


def _converted(performance: "Performance", arguments: argparse.Namespace) -> "Performance":
    from ..rig.live_link import level_head

    if arguments.source and not arguments.head:
        raise InputError("--source tells the head that a performance comes from; name the one that it goes to by --head.")
    return level_head(performance) if arguments.level else performance


def _source(arguments: argparse.Namespace) -> "HeadModel | None":
    from ..rig import load_head_model

    return load_head_model(arguments.source) if getattr(arguments, "source", None) else None


def _described(performance: "Performance") -> dict[str, Any]:
    """What a person asks of a performance: how long, and what moves how far."""
    import math

    import numpy as np

    reach = np.abs(performance.expression).max(axis=0)
    angles = np.linalg.norm(performance.rotations, axis=-1).max(axis=0)
    moving = {name: round(float(most), 3) for name, most in zip(performance.expression_names, reach, strict=True) if most > 1e-4}
    turning = {
        name: round(math.degrees(most), 1) for name, most in zip(performance.joint_names, angles.tolist(), strict=True) if most > 1e-4
    }
    return {
        "frames": len(performance),
        "fps": performance.fps,
        "seconds": round(len(performance) / performance.fps, 3),
        "expressions": len(performance.expression_names),
        "largest_weights": dict(sorted(moving.items(), key=lambda item: -item[1])),
        "largest_degrees": turning,
        "largest_travel_m": round(float(np.abs(performance.translation).max()), 4),
    }
