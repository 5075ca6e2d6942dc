# SPDX-License-Identifier: Apache-2.0
"""`mvp4d track PHOTO -o DIR`: only the tracking, to judge it before anything long."""

import argparse
import hashlib
from pathlib import Path

from .terminal import Bars, answer, say


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser("track", help="fit the head to a photo", description="Fit the head to a photo and draw an overlay.")
    command.add_argument("photo", type=Path)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    command.add_argument("--face", type=int, metavar="N", help="which face, 1 being the largest")
    command.add_argument("--rig", default="open-head", metavar="HEAD", help="open-head, or a head's .safetensors")


def run(arguments: argparse.Namespace) -> None:
    """Tracks the photo; leaves reference.safetensors and tracking.png."""
    from ..io.folders import make_folder
    from ..io.images import read_image, write_image
    from ..rig import load_head_model
    from ..tracking import draw_overlay, save_reference, track_portrait

    model = load_head_model(arguments.rig)
    rgb, alpha = read_image(arguments.photo)
    make_folder(arguments.output)
    bars = Bars()
    try:
        digest = hashlib.sha256(arguments.photo.read_bytes()).hexdigest()
        reference = track_portrait(rgb, alpha, head_model=model, face=arguments.face, source_sha256=digest, progress=bars)
    finally:
        bars.close()
    save_reference(reference, arguments.output / "reference.safetensors")
    write_image(arguments.output / "tracking.png", draw_overlay(reference, model))
    for note in (*reference.notices, *reference.warnings):
        say(f"mvp4d: {note}")
    answer(
        {
            "reference": str(arguments.output / "reference.safetensors"),
            "overlay": str(arguments.output / "tracking.png"),
            "landmark_error_percent": reference.landmark_error_percent,
            "faces_found": reference.faces_found,
            "face": reference.face,
            "notices": list(reference.notices),
            "warnings": list(reference.warnings),
        },
        arguments,
    )
