# SPDX-License-Identifier: Apache-2.0
"""`mvp4d evaluate NAME`: how good generators are on people nobody has trained on, and how good an avatar is against the truth."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..evaluation.report import EVALUATION
from . import pose_options
from .terminal import Bars, answer, say

if TYPE_CHECKING:
    from ..evaluation.truth import Truth


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "evaluate",
        help="judge generators on held-out people, or an avatar against the truth",
        description="Judge generators on held-out people, or an avatar against the truth.",
    )
    names = command.add_subparsers(dest="name", required=True, metavar="NAME")
    for added in (_add_multiview(names), _add_avatar(names)):
        # the command's own --json stands before the name, this one after it
        added.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the result as one JSON object")


def _add_multiview(names: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = names.add_parser(
        "multiview",
        help="generators: PSNR, SSIM, unseen regions and consistency across views",
        description="Judge generators on held-out synthetic people, side by side. A run that was stopped continues in the same folder.",
    )
    command.add_argument("-o", "--output", type=Path, default=Path("out/evaluation"), metavar="DIR")
    command.add_argument("--identities", type=int, default=20, metavar="N", help="people (20)")
    command.add_argument("--ablated", type=int, default=5, metavar="N", help="of how many of them the ablations are made (5)")
    command.add_argument("--views", type=int, default=8, metavar="V", help="views of each (8)")
    command.add_argument("--frames", type=int, default=13, metavar="F", help="frames a view (13)")
    command.add_argument("--preset", type=int, choices=(60, 120, 180, 360), default=120, help="degrees the views span (120)")
    command.add_argument("--size", type=int, default=128, metavar="PX", help="side of a frame (128)")
    command.add_argument("--generators", metavar="A,B", help="which, by the names in the report (all)")
    command.add_argument("--weights", default="nano", metavar="DIR", help="nano, or the folder of another pipeline")
    command.add_argument("--steps", type=int, default=4, help="of the model's sampling (4)")
    command.add_argument("--guidance", dest="guidance_scale", type=float, default=1.0, help="scale of classifier-free guidance (1: none)")
    command.add_argument("--mode", choices=("rollout", "stochastic"), default="rollout", help="how the model makes a grid (rollout)")
    command.add_argument("--gpu-gb", type=float, metavar="GB", help="memory of the graphics card to fit the model into")
    command.add_argument("--device", default="cpu", help="cpu or cuda")
    command.add_argument(
        "--publish", action="store_true", help=f"also put the report beside the weights, as {EVALUATION}, for `create --generator auto`"
    )
    return command


def _add_avatar(names: argparse._SubParsersAction) -> argparse.ArgumentParser:
    command = names.add_parser(
        "avatar",
        help="an avatar: PSNR, SSIM, MS-SSIM, JOD, LPIPS, CSIM, landmarks, expression, RE@LG, each with its floor",
        description="Judge an avatar against true pictures. Figures whose weights or packages are not here are absent, with the reason.",
    )
    pose_options.add_avatar(command)
    truth = command.add_mutually_exclusive_group(required=True)
    truth.add_argument("--against", type=Path, metavar="FOLDER", help="a multi-view video, or a clip of training data")
    truth.add_argument("--person", type=int, metavar="N", help="a held-out synthetic person, drawn afresh: N of `evaluate multiview`")
    command.add_argument("--views", metavar="LIST", help="which views of the folder, such as 0,4,8-11 (all)")
    command.add_argument("--every", type=int, default=1, metavar="K", help="only each K-th frame (1)")
    command.add_argument("--cameras", type=int, default=4, metavar="V", help="views of the person (4)")
    command.add_argument("--frames", type=int, default=13, metavar="F", help="frames of the person (13)")
    command.add_argument("--preset", type=int, choices=(60, 120, 180, 360), default=120, help="degrees the person's views span (120)")
    command.add_argument("--size", type=int, default=256, metavar="PX", help="side of the person's pictures (256)")
    command.add_argument("--lpips", type=Path, nargs="+", default=[], metavar="FILE", help="AlexNet or VGG-16, and LPIPS' linear heads")
    command.add_argument("--csim", type=Path, metavar="FILE.onnx", help="an ArcFace network, for CSIM")
    command.add_argument("--re-lg", type=Path, nargs="+", default=[], metavar="FILE", help="DISK (depth) and LightGlue (disk), for RE@LG")
    command.add_argument("--no-tracking", action="store_true", help="leave out landmarks, expression and CSIM, which take longest")
    command.add_argument("--html", type=Path, metavar="REPORT.html", help="also write a page with pictures and curves")
    command.add_argument("--device", default="cpu", help="cpu or cuda")
    return command


def run(arguments: argparse.Namespace) -> None:
    """Evaluates and answers with the report."""
    if arguments.name == "avatar":
        judge_avatar(arguments)
    else:
        judge_generators(arguments)


def judge_generators(arguments: argparse.Namespace) -> None:
    """The report of `evaluate_multiview`.

    Raises:
        InputError: `--publish` without the generators that are chosen between.
        MissingAssetError: no weights to judge.
    """
    from ..diffusion.generator import weights_folder
    from ..evaluation.multiview import GENERATORS, SHEET, MultiviewSettings, evaluate_multiview
    from ..io.atomic import atomic_json
    from ..rig import load_head_model

    names = ("identities", "ablated", "views", "frames", "preset", "size", "weights", "steps", "guidance_scale", "mode", "gpu_gb", "device")
    chosen = tuple(name.strip() for name in arguments.generators.split(",")) if arguments.generators else GENERATORS
    settings = MultiviewSettings(generators=chosen, **{name: getattr(arguments, name) for name in names})
    if arguments.publish and not {"nano", "proxy"} <= set(chosen):
        raise InputError(f"`--publish` needs the figures of nano and of proxy, got {', '.join(chosen)}. Name both in --generators.")
    published = weights_folder(arguments.weights) / EVALUATION if arguments.publish else None
    bars = Bars()
    try:
        report = evaluate_multiview(arguments.output, settings, head_model=load_head_model(), progress=bars)
    finally:
        bars.close()
    if published:
        atomic_json(published, report)
    for note in report["notes"]:
        say(f"mvp4d: {note}")
    say(f"mvp4d: {arguments.output / SHEET} shows them side by side.")
    answer(report, arguments)


def judge_avatar(arguments: argparse.Namespace) -> None:
    """The report of `evaluate_avatar`; `by_view` is left out of the readable list."""
    from ..evaluation.avatar_report import write_report
    from ..evaluation.comparison import evaluate_avatar
    from ..evaluation.instruments import open_instruments
    from ..render.device import check_device

    check_device(arguments.device)
    if arguments.html and not arguments.html.absolute().parent.is_dir():
        raise InputError(f"--html {arguments.html} can't be written: its folder does not exist. Create it first.")
    avatar = pose_options.load(arguments)
    truth = _truth(arguments)
    given = {"lpips": arguments.lpips, "csim": arguments.csim, "re_lg": arguments.re_lg}
    instruments = open_instruments(**given, track=not arguments.no_tracking, device=arguments.device)
    bars = Bars()
    try:
        evaluation = evaluate_avatar(avatar, truth, instruments, device=arguments.device, progress=bars)
    finally:
        bars.close()
    result = {"avatar": str(arguments.avatar), **evaluation.report()}
    if arguments.html:
        write_report(arguments.html, evaluation, arguments.avatar.name)
        result["html"] = str(arguments.html)
    for figure, reason in evaluation.absent.items():
        say(f"mvp4d: {figure} is absent: {reason.rstrip('.')}.")
    for note in evaluation.notes:
        say(f"mvp4d: {note}")
    answer(result if arguments.json else {key: value for key, value in result.items() if key != "by_view"}, arguments)


def _truth(arguments: argparse.Namespace) -> "Truth":
    from ..evaluation.truth import draw_truth, load_truth
    from ..rig import OPEN_HEAD, load_head_model

    views, head = _numbers(arguments.views) if arguments.views else None, load_head_model(arguments.rig or OPEN_HEAD)
    if arguments.person is None:
        truth = load_truth(arguments.against, head)
    else:
        asked = {"views": arguments.cameras, "frames": arguments.frames, "preset": arguments.preset, "size": arguments.size}
        truth = draw_truth(arguments.person, head_model=head, threads=2, **asked)
    return truth.select(views, arguments.every)


def _numbers(text: str) -> list[int]:
    """The numbers of a list such as 0,4,8-11."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 12:
            raise InputError(f"--views must be a list such as 0,4,8-11, got `{text[:60]}`.")
        if dash and int(last) - int(first) > 1000:
            raise InputError(f"--views must name at most 1000 views, got `{text[:60]}`.")
        found += range(int(first), int(last or first) + 1)
    return found
