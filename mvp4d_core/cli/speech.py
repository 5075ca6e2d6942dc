# SPDX-License-Identifier: Apache-2.0
"""`mvp4d speech SOUND -o performance.safetensors`: a voice drives jaw and lips."""

import argparse
from pathlib import Path

from .terminal import answer


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "speech",
        help="a face that speaks, from a WAV file",
        description="Turn a voice into jaw and lips, with blinks and idle motion. Mouth cues of Rhubarb Lip Sync, where given, tell better "
        "than the built-in analysis which sound is when.",
    )
    command.add_argument("sound", type=Path, nargs="?", help="a WAV file; not needed with --cues")
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="a performance, .safetensors")
    command.add_argument("--cues", type=Path, metavar="FILE", help="Rhubarb's TSV or JSON in place of the built-in analysis")
    command.add_argument("--fps", type=float, default=25.0, help="frames a second (25)")
    command.add_argument("--seed", type=int, default=0, help="of blinks, gaze and idle motion")
    command.add_argument("--strength", type=float, default=1.0, help="of jaw and lips (1)")
    command.add_argument("--idle", type=float, default=1.0, help="of gaze, brows and head; 0 leaves them and the lids still (1)")
    command.add_argument("--rig", default="open-head", metavar="HEAD", help="open-head, or a head's .safetensors")


def run(arguments: argparse.Namespace) -> None:
    """Writes the performance."""
    from ..errors import InputError
    from ..io.audio import read_wav
    from ..rig import load_head_model, save_performance
    from ..rig.speech import NAMES, read_rhubarb, speech_performance, visemes_of_cues, visemes_of_voice
    from ..rig.voice import HOP

    if arguments.cues is not None:
        visemes = visemes_of_cues(read_rhubarb(arguments.cues))
    elif arguments.sound is not None:
        visemes = visemes_of_voice(*read_wav(arguments.sound))
    else:
        raise InputError("`speech` needs a WAV file, or --cues with Rhubarb's TSV or JSON; got neither.")
    performance = speech_performance(
        visemes,
        HOP,
        fps=arguments.fps,
        seed=arguments.seed,
        strength=arguments.strength,
        idle=arguments.idle,
        head_model=load_head_model(arguments.rig),
    )
    save_performance(performance, arguments.output)
    shares = visemes.mean(axis=0)
    answer(
        {
            "performance": str(arguments.output),
            "frames": len(performance),
            "fps": performance.fps,
            "source": "rhubarb" if arguments.cues is not None else "voice",
            "speaking_percent": round(100 * (1 - float(shares[0])), 1),
            "visemes_percent": {name: round(100 * float(share), 1) for name, share in zip(NAMES, shares, strict=True)},
        },
        arguments,
    )
