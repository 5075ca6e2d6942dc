# SPDX-License-Identifier: Apache-2.0
"""`mvp4d export AVATAR -o OUT`: an avatar as files other programs read; the ending of OUT says which kind."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from . import pose_options
from .terminal import Bars, answer

if TYPE_CHECKING:
    from ..avatar import GaussianAvatar
    from ..rig import Performance

STILLS = (".ply", ".splat", ".spz")
VIDEOS = (".mp4", ".mov", ".webm")
PAGES = (".html", ".htm")
LAYOUTS = ("3dgs", "gaussian-avatars", "cap4d")
POSE, MOTION = ("expression", "joint"), ("performance", "frames")
KINDS = """\
  .ply, .splat, .spz               splats in one pose (--expression, --joint)
  .ply --layout cap4d              CAP4D's animation PLY: triangles, splats on them, movement
  .ply --layout gaussian-avatars   GaussianAvatars' PLY, flame_param.npz beside it; for FLAME avatars, with --rig
  .glb                             the rig as a textured mesh with skin and morph targets; --performance animates it
  .mp4                             video on white
  .mov, .webm                      video with alpha: ProRes 4444, VP9
  .html                            a page that plays the avatar by itself
  folder with --sequence KIND      one ply, splat, spz or png a frame"""


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "export",
        help="an avatar as splats, mesh, video or web page",
        description="An avatar as a file that other programs read. The ending of OUT says which kind:\n\n" + KINDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    pose_options.add_avatar(command)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    pose_options.add_pose(command)
    command.add_argument("--performance", type=Path, metavar="FILE", help="what moves: a performance's .safetensors (the showcase without)")
    command.add_argument("--frames", metavar="A:B[:STEP]", help="some of the performance's frames, from A up to but without B")
    command.add_argument(
        "--sequence", nargs="?", const="ply", choices=("ply", "splat", "spz", "png"), metavar="KIND",
        help="one file a frame of the performance, into the folder OUT: ply (default), splat, spz, or png with alpha",
    )  # fmt: skip
    command.add_argument("--layout", choices=LAYOUTS, help="of a .ply: 3dgs (one pose, opens everywhere), gaussian-avatars or cap4d")
    command.add_argument("--small", action="store_true", help="with --layout cap4d: movement in bytes, less exact, less than half the size")
    command.add_argument(
        "--content", choices=("mesh", "splats", "both"), help="of a .glb: the rigged mesh (default), the splats at rest, or both"
    )
    command.add_argument("--html", action="store_true", help="one HTML page that plays the avatar by itself; a name in .html says the same")
    pose_options.add_camera(command)


def run(arguments: argparse.Namespace) -> None:
    """Writes the files."""
    ending = arguments.output.suffix.lower()
    moving = arguments.layout in LAYOUTS[1:]
    if arguments.html or ending in PAGES:
        write, allowed = _write_page, ("html", *MOTION)
    elif arguments.sequence:
        write, allowed = _write_sequence, ("sequence", *MOTION)
    elif ending in VIDEOS:
        write, allowed = _write_video, MOTION
    elif ending == ".glb":
        write, allowed = _write_glb, ("content", *MOTION)
    elif ending == ".ply" and moving:
        write, allowed = _write_animation, ("layout", "small", *MOTION)
    elif ending in STILLS:
        write, allowed = _write_still, (*POSE, *(("layout",) if ending == ".ply" else ()))
    else:
        known = ", ".join((*STILLS, ".glb", *VIDEOS, ".html"))
        raise InputError(f"--output must end in {known}, or be a folder with --sequence, got {arguments.output}.")
    for name in ("html", "sequence", "layout", "small", "content", *POSE, *MOTION):
        if getattr(arguments, name) and name not in allowed:
            kind = "--sequence" if write is _write_sequence else ending or "--html"
            raise InputError(f"--{name} does not go with {kind}. Leave it out.")
    write(pose_options.load(arguments), arguments)


def _write_still(avatar: "GaussianAvatar", arguments: argparse.Namespace) -> None:
    from ..avatar.posed_files import write_posed

    write_posed(arguments.output, avatar, pose_options.pose_from(arguments, avatar.rig))
    answer({"file": str(arguments.output), "splats": len(avatar)}, arguments)


def _write_sequence(avatar: "GaussianAvatar", arguments: argparse.Namespace) -> None:
    performance = _performance(avatar, arguments)
    bars = Bars()
    try:
        if arguments.sequence == "png":
            from ..showreel import show_camera, write_pictures

            camera = show_camera(avatar, performance, arguments.size, *pose_options.angles(arguments))
            write_pictures(arguments.output, avatar, performance, camera, device=arguments.device, progress=bars)
        else:
            from ..avatar.posed_files import write_sequence

            write_sequence(arguments.output, avatar, performance, f".{arguments.sequence}", bars)
    finally:
        bars.close()
    answer({"folder": str(arguments.output), **_told(avatar, performance)}, arguments)


def _write_video(avatar: "GaussianAvatar", arguments: argparse.Namespace) -> None:
    from ..showreel import show_camera, write_showcase

    performance = _performance(avatar, arguments)
    camera = show_camera(avatar, performance, arguments.size, *pose_options.angles(arguments))
    bars = Bars()
    try:
        write_showcase(arguments.output, avatar, performance, camera, device=arguments.device, progress=bars)
    finally:
        bars.close()
    answer({"video": str(arguments.output), **_told(avatar, performance)}, arguments)


def _write_glb(avatar: "GaussianAvatar", arguments: argparse.Namespace) -> None:
    from ..avatar.glb import write_glb

    if arguments.frames and not arguments.performance:
        raise InputError("--frames chooses from a --performance, and none is given.")
    performance = _performance(avatar, arguments) if arguments.performance else None
    bars = Bars()
    try:
        write_glb(arguments.output, avatar, performance, content=arguments.content or "mesh", progress=bars)
    finally:
        bars.close()
    answer({"file": str(arguments.output), **_told(avatar, performance)}, arguments)


def _write_animation(avatar: "GaussianAvatar", arguments: argparse.Namespace) -> None:
    from ..avatar.cap4d_ply import write_cap4d
    from ..avatar.gaussian_avatars import write_gaussian_avatars
    from ..rig import load_head_model

    performance = _performance(avatar, arguments)
    if arguments.layout == "gaussian-avatars":
        if arguments.rig is None:
            raise InputError(
                "GaussianAvatars' files are of FLAME heads. Give the converted FLAME head that the avatar was made from with --rig."
            )
        write_gaussian_avatars(arguments.output, avatar, load_head_model(arguments.rig), performance)
    else:
        bars = Bars()
        try:
            write_cap4d(arguments.output, avatar, performance, small=arguments.small, progress=bars)
        finally:
            bars.close()
    answer({"file": str(arguments.output), **_told(avatar, performance)}, arguments)


def _write_page(avatar: "GaussianAvatar", arguments: argparse.Namespace) -> None:
    from ..player import write_page

    if arguments.output.suffix.lower() not in PAGES:
        raise InputError(f"--output must end in .html with --html, got {arguments.output}.")
    performance = _performance(avatar, arguments)
    write_page(arguments.output, avatar, performance)
    answer({"page": str(arguments.output), **_told(avatar, performance), "bytes": arguments.output.stat().st_size}, arguments)


def _performance(avatar: "GaussianAvatar", arguments: argparse.Namespace) -> "Performance":
    """What moves the avatar: the performance or the showcase, or those of its frames that --frames names."""
    performance = pose_options.load_or_showcase(arguments.performance, avatar.rig)
    return pose_options.chosen_frames(performance, arguments.frames)


def _told(avatar: "GaussianAvatar", performance: "Performance | None") -> dict[str, int | float]:
    moving = {} if performance is None else {"frames": len(performance), "fps": performance.fps}
    return {**moving, "splats": len(avatar)}
