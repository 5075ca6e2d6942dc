# SPDX-License-Identifier: Apache-2.0
"""`mvp4d evaluate NAME`: how good generators are, on people nobody has trained on."""

import argparse
from pathlib import Path

from ..errors import InputError
from ..evaluation.report import EVALUATION
from .terminal import Bars, answer, say


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "evaluate",
        help="judge generators on held-out people",
        description="Judge generators on held-out synthetic people, side by side. A run that was stopped continues in the same folder.",
    )
    command.add_argument("name", choices=("multiview",), help="multiview: PSNR, SSIM, unseen regions and consistency across views")
    command.add_argument("-o", "--output", type=Path, default=Path("out/evaluation"), metavar="DIR")
    command.add_argument("--identities", type=int, default=20, metavar="N", help="people (20)")
    command.add_argument("--ablated", type=int, default=5, metavar="N", help="of how many of them the ablations are made (5)")
    command.add_argument("--views", type=int, default=8, metavar="V", help="views of each (8)")
    command.add_argument("--frames", type=int, default=13, metavar="F", help="frames a view (13)")
    command.add_argument("--preset", type=int, choices=(60, 120, 180, 360), default=120, help="degrees the views span (120)")
    command.add_argument("--size", type=int, default=128, metavar="PX", help="side of a frame (128)")
    command.add_argument("--generators", metavar="A,B", help="which, by the names in the report (all)")
    command.add_argument("--weights", default="nano", metavar="DIR", help="nano, or the folder of another pipeline")
    command.add_argument("--steps", type=int, default=8, help="of the model's sampling (8)")
    command.add_argument("--guidance", dest="guidance_scale", type=float, default=2.0, help="scale of classifier-free guidance (2)")
    command.add_argument("--mode", choices=("rollout", "stochastic"), default="rollout", help="how the model makes a grid (rollout)")
    command.add_argument("--gpu-gb", type=float, metavar="GB", help="memory of the graphics card to fit the model into")
    command.add_argument("--device", default="cpu", help="cpu or cuda")
    command.add_argument(
        "--publish", action="store_true", help=f"also put the report beside the weights, as {EVALUATION}, for `create --generator auto`"
    )


def run(arguments: argparse.Namespace) -> None:
    """Evaluates and answers with the report.

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
