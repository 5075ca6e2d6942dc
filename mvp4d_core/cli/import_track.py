# SPDX-License-Identifier: Apache-2.0
"""`mvp4d import-track FILE -o performance.safetensors`: other people's trackers as performances."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .terminal import Bars, answer, say

if TYPE_CHECKING:
    from ..rig import HeadModel, Performance


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "import-track",
        help="other people's trackers as performances",
        description="A track of FlowFace (fit.npz), VHAP, GaussianAvatars (flame_param.npz), Pixel3DMM, DECA, EMOCA or SMIRK, or the "
        "vertices of a head over time, as a performance; with --to on another head.",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="a file, a folder of one file a frame, or a tracker's output folder")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.safetensors")
    command.add_argument("--rig", metavar="HEAD", help="the head's .safetensors that the track was made on: FLAME, or any for vertices")
    command.add_argument("--to", metavar="HEAD", help="open-head, or a head's .safetensors, that is to move so")
    command.add_argument("--fps", type=float, help="frames a second, where the file does not say (25) or says it wrong")
    command.add_argument("--picture-size", metavar="WxH", help="of the recording, for VHAP's camera")
    command.add_argument("--reference", type=Path, metavar="OUT.safetensors", help="also the first reference picture of a FlowFace folder")


def run(arguments: argparse.Namespace) -> None:
    """Writes the performance and, if asked, the reference."""
    from ..rig import load_head_model, save_performance
    from ..tracking.adapters.import_track import import_track
    from ..tracking.transfer import transfer_performance

    if arguments.output.suffix.lower() != ".safetensors":
        raise InputError(f"--output must end in .safetensors, got {arguments.output}.")
    if arguments.fps is not None and not 0 < arguments.fps <= 1000:
        raise InputError(f"--fps must be in 0..1000, got {arguments.fps:g}.")
    if (arguments.to or arguments.reference) and not arguments.rig:
        raise InputError("--to and --reference need the head that the track was made on. Give it with --rig.")
    head_model = load_head_model(arguments.rig) if arguments.rig else None
    goal = load_head_model(arguments.to) if arguments.to else None
    bars = Bars()
    try:
        track = import_track(arguments.file, head_model, fps=arguments.fps, size=_size(arguments.picture_size), progress=bars)
        performance, result = track.performance, {}
        if head_model is not None and goal is not None:
            moved = transfer_performance(performance, head_model, goal, source_shape=track.shape, progress=bars)
            performance = moved.performance
            result = {
                "head": goal.name,
                "error_mm": 1000 * float(moved.errors.mean()),
                "worst_frame_mm": 1000 * float(moved.errors.max()),
                "motion_mm": 1000 * float(moved.motion.mean()),
            }
    finally:
        bars.close()
    if arguments.reference and head_model is not None:
        from ..tracking import save_reference
        from ..tracking.adapters.fit_reference import fit_references

        folder = arguments.file if arguments.file.is_dir() else arguments.file.parent
        save_reference(fit_references(folder, head_model)[0], arguments.reference)
        result["reference"] = str(arguments.reference)
    save_performance(performance, arguments.output)
    notes = [*track.notes, *_lost(performance, goal or head_model)]
    for note in notes:
        say(f"mvp4d: {note}")
    said = {"performance": str(arguments.output), "kind": track.kind, "frames": len(performance), "fps": performance.fps}
    answer({**said, "cameras": len(track.cameras), **result, "notes": notes}, arguments)


def _lost(performance: "Performance", head: "HeadModel | None") -> list[str]:
    """Says which lids the head cannot close as the track does."""
    from ..tracks.imported_track import BLINKS, named_weights

    lost = [name for name in BLINKS if head is not None and name not in head.expression_names]
    if head is None or not named_weights(performance, tuple(lost)).any():
        return []
    return [f"`{head.name}` has no {' and '.join(lost)}: the track's blinks are in the file, for heads that have."]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if match is None or "0" in (match[1], match[2]):
        raise InputError(f"--picture-size must be like 1920x1080, got `{text}`.")
    return int(match[1]), int(match[2])
