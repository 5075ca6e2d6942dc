# SPDX-License-Identifier: Apache-2.0
"""`mvp4d bench NAME`: speed and exactness, measured here and now."""

import argparse

from .terminal import Bars, answer


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser("bench", help="measure speed and exactness", description="Measure speed and exactness on this machine.")
    command.add_argument(
        "name", choices=("splats",), help="splats: the CPU rasteriser against a torch tile rasteriser and a float64 oracle"
    )
    command.add_argument("--splats", type=int, default=50000)
    command.add_argument("--size", type=int, default=256, metavar="PX")


def run(arguments: argparse.Namespace) -> None:
    """Runs the benchmark and answers with its figures."""
    from ..render.bench import bench_splats

    bars = Bars()
    try:
        result = bench_splats(splats=arguments.splats, size=arguments.size, progress=bars)
    finally:
        bars.close()
    answer(result, arguments)
