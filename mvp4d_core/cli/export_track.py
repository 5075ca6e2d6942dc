# SPDX-License-Identifier: Apache-2.0
"""`mvp4d export-track PERFORMANCE --rig FLAME -o fit.npz`: a performance in the files of FLAME's family."""

import argparse
from pathlib import Path

from ..errors import InputError
from .terminal import Bars, answer, say

LAYOUTS = ("fit", "flame-param")


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "export-track",
        help="a performance as FlowFace's or GaussianAvatars' file",
        description="A performance as FlowFace's fit.npz, which CAP4D takes, or as GaussianAvatars' flame_param.npz.",
    )
    command.add_argument("performance", type=Path, metavar="PERFORMANCE.safetensors")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.npz")
    command.add_argument("--rig", required=True, metavar="HEAD", help="the converted FLAME head's .safetensors")
    command.add_argument("--from", dest="source", metavar="HEAD", help="open-head, or the head that the performance is of, if not FLAME")
    command.add_argument("--identity", type=Path, metavar="TRACK", help="a track of the person that import-track reads; else the mean face")
    command.add_argument("--layout", choices=LAYOUTS, help="whose file; else told by its name, fit.npz or flame_param.npz")


def run(arguments: argparse.Namespace) -> None:
    """Writes the archive."""
    import numpy as np

    from ..rig import load_head_model, load_performance
    from ..tracking.adapters.import_track import import_track
    from ..tracking.transfer import transfer_performance
    from ..tracks.flame_params import write_flame_param
    from ..tracks.flowface import write_fit

    layout = arguments.layout or {"fit.npz": "fit", "flame_param.npz": "flame-param"}.get(arguments.output.name)
    if arguments.output.suffix.lower() != ".npz" or layout is None:
        raise InputError(f"--output must end in .npz, and --layout say {' or '.join(LAYOUTS)} for the name {arguments.output.name}.")
    head_model, performance = load_head_model(arguments.rig), load_performance(arguments.performance)
    shape = import_track(arguments.identity, head_model).shape if arguments.identity else np.zeros(0, np.float32)
    result = {}
    if arguments.source:
        source = load_head_model(arguments.source)
        bars = Bars()
        try:
            moved = transfer_performance(performance, source, head_model, target_shape=shape, carry_blinks=layout == "fit", progress=bars)
        finally:
            bars.close()
        performance = moved.performance
        result = {"error_mm": 1000 * float(moved.errors.mean()), "motion_mm": 1000 * float(moved.motion.mean())}
    elif not set(performance.expression_names) & set(head_model.expression_names):
        raise InputError(
            f"{arguments.performance.name} has none of the expressions of `{head_model.name}`.\n"
            "Say with --from of which head it is, for example --from open-head."
        )
    if layout == "fit":
        notes = write_fit(arguments.output, performance, head_model, shape)
    else:
        notes = write_flame_param(arguments.output, performance, shape)
    for note in notes:
        say(f"mvp4d: {note}")
    answer({"file": str(arguments.output), "layout": layout, "frames": len(performance), **result, "notes": list(notes)}, arguments)
