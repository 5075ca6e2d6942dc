# SPDX-License-Identifier: Apache-2.0
"""`mvp4d bench NAME`: speed and exactness, measured here and now."""

import argparse

from .terminal import Bars, answer


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser("bench", help="measure speed and exactness", description="Measure speed and exactness on this machine.")
    command.add_argument(
        "name",
        choices=("splats", "conditions", "transformer", "playback"),
        help="splats: the CPU rasteriser against a torch tile rasteriser and a float64 oracle; "
        "conditions: the conditioning maps of 200 views at 512 px against ray casting by trimesh and embree; "
        "transformer: the diffusion transformer against diffusers' CogVideoX, and on CUDA against matrix products; "
        "playback: frames a second of pose and render, and the web player's pictures against the rasteriser's where a browser is installed",
    )
    command.add_argument("--splats", type=int, default=50000, help="for `splats` and `playback`")
    command.add_argument("--size", type=int, metavar="PX", help="for `splats` (256) and `playback` (512)")
    command.add_argument("--device", default="cpu", help="for `transformer`: cpu (default), cuda or cuda:N")


def run(arguments: argparse.Namespace) -> None:
    """Runs the benchmark and answers with its figures."""
    bars = Bars()
    try:
        if arguments.name == "conditions":
            from ..conditioning.bench import bench_conditions

            result = bench_conditions(progress=bars)
        elif arguments.name == "transformer":
            from ..diffusion.bench import bench_transformer

            result = bench_transformer(device=arguments.device, progress=bars)
        elif arguments.name == "playback":
            from ..player.bench import bench_playback

            result = bench_playback(splats=arguments.splats, size=arguments.size or 512, progress=bars)
        else:
            from ..render.bench import bench_splats

            result = bench_splats(splats=arguments.splats, size=arguments.size or 256, progress=bars)
    finally:
        bars.close()
    answer(result, arguments)
