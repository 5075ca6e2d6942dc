# SPDX-License-Identifier: Apache-2.0
"""`mvp4d memory`: what sampling the diffusion model will take, and how to fit it into a graphics card. Nothing is run."""

import argparse

from .terminal import answer, say


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "memory",
        help="what sampling will take on a graphics card",
        description="What sampling the diffusion model will take on a card, and the offloading, tiles and block sizes that fit it.",
    )
    command.add_argument("--weights", default="cogvideox-2b", metavar="DIR", help="cogvideox-2b, nano, or a pipeline's folder")
    command.add_argument("--views", type=int, default=8, metavar="V", help="views (8)")
    command.add_argument("--frames", type=int, default=49, metavar="F", help="frames a view (49)")
    command.add_argument("--size", type=int, default=512, metavar="PX", help="side of a frame as the model makes it (512)")
    command.add_argument("--gpu-gb", type=float, default=24, metavar="GB", help="memory of the card, in units of 2^30 bytes (24)")
    command.add_argument("--guidance", dest="guidance_scale", type=float, default=2.0, help="scale of classifier-free guidance (2)")


def run(arguments: argparse.Namespace) -> None:
    """Answers with the plan and its estimate; raises InputError where nothing fits."""
    from ..diffusion.generator import weights_folder
    from ..diffusion.memory import ModelConfig, choose_plan, estimate_memory

    config = ModelConfig() if arguments.weights == "cogvideox-2b" else ModelConfig.from_folder(weights_folder(arguments.weights))
    grid = arguments.views, arguments.frames, arguments.size
    plan = choose_plan(config, arguments.gpu_gb, *grid, guidance_scale=arguments.guidance_scale)
    estimate = estimate_memory(config, *grid, plan, guidance_scale=arguments.guidance_scale)
    report = {
        "peak_gb": round(estimate.peak_bytes / 2**30, 2),
        "peak_phase": estimate.peak_phase,
        "parts_gb": {name: round(size / 2**30, 2) for name, size in estimate.parts.items()},
        "offload": plan.offload,
        "tile": plan.tile,
        "view_block": plan.view_block,
        "frame_block": plan.frame_block,
        "batch_guidance": plan.batch_guidance,
        "dtype": str(plan.dtype).removeprefix("torch."),
    }
    say(
        f"mvp4d: {arguments.views} views x {arguments.frames} frames at {arguments.size} px take {report['peak_gb']} GB of "
        f"{arguments.gpu_gb:g}, in blocks of {plan.view_block} x {plan.frame_block}, offloading {plan.offload}."
    )
    answer(report, arguments)
