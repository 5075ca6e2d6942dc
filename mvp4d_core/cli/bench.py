# SPDX-License-Identifier: Apache-2.0
"""`mvp4d bench NAME`: speed and exactness, measured here and now."""

import argparse

from .terminal import Bars, answer, say


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser("bench", help="measure speed and exactness", description="Measure speed and exactness on this machine.")
    command.add_argument(
        "name",
        choices=("splats", "conditions", "transformer", "playback", "distill", "drive", "comfy", "blender"),
        help="splats: the CPU rasteriser against a torch tile rasteriser and a float64 oracle; "
        "conditions: the conditioning maps of 200 views at 512 px against ray casting by trimesh and embree; "
        "transformer: the diffusion transformer against diffusers' CogVideoX, and on CUDA against matrix products; "
        "playback: frames a second of pose and render, and the web player's pictures against the rasteriser's where there is a browser; "
        "distill: fits to synthetic people whose every picture is known, judged on views and expressions they never saw; "
        "drive: heads' skinning, ARKit's way there and back, videos of people whose every motion is known, and the face networks; "
        "comfy: the nodes in the ComfyUI that COMFYUI_PATH names (COMFYUI_PYTHON its interpreter): import, first workflow, rendering; "
        "blender: the add-on in each Blender: exactness of rig and splats, renders against the rasteriser's, times",
    )
    command.add_argument("--splats", type=int, default=50000, help="for `splats`, `playback` and `blender`")
    command.add_argument("--size", type=int, metavar="PX", help="for `splats` (256), `playback` (512), `distill` (256) and `blender` (256)")
    command.add_argument("--quality", choices=("draft", "standard", "high"), default="standard", help="for `distill` (standard)")
    command.add_argument("--people", type=int, metavar="N", help="for `distill` (1) and `drive` (4)")
    command.add_argument("--rig", metavar="HEAD", help="for `drive`: a head made by import-flame (else one of its shape), there and back")
    command.add_argument("--ablation", action="store_true", help="for `distill`: fit also without its parts, one at a time")
    command.add_argument("--no-quick-start", action="store_true", help="for `comfy`: without the first workflow, which takes minutes")
    command.add_argument(
        "--blender-python", action="append", metavar="PYTHON", help="for `blender`: an interpreter that has bpy; once for each Blender"
    )
    command.add_argument("--avatar", action="append", default=[], metavar="FILE", help="for `blender`: in place of the three built-in ones")
    command.add_argument("--device", default="cpu", help="for `transformer` and `distill`: cpu (default), cuda or cuda:N")


def run(arguments: argparse.Namespace) -> None:
    """Runs the benchmark and answers with its figures."""
    bars, earlier = Bars(), []
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
        elif arguments.name == "distill":
            from ..distill import DistillConfig
            from ..evaluation.distill_bench import bench_distill
            from ..rig import load_head_model

            config, size = DistillConfig.preset(arguments.quality), arguments.size or 256
            figures = bench_distill(
                config,
                head_model=load_head_model(),
                people=arguments.people or 1,
                size=size,
                ablation=arguments.ablation,
                device=arguments.device,
                progress=bars,
            )
            result = {"preset": arguments.quality, **figures}
        elif arguments.name == "drive":
            from ..evaluation.drive_bench import bench_drive
            from ..rig import load_head_model

            other = load_head_model(arguments.rig) if arguments.rig else None
            result = bench_drive(head_model=load_head_model(), other_head=other, people=arguments.people or 4, progress=bars)
        elif arguments.name == "comfy":
            from ..evaluation.comfy_bench import bench_comfy

            result = bench_comfy(quick_start=not arguments.no_quick_start, progress=bars)
            if result["server_seconds"] is None:
                say("mvp4d: COMFYUI_PATH names no ComfyUI, so the nodes ran on the tests' stand-in and were held against none of its own.")
        elif arguments.name == "blender":
            from ..evaluation.blender_bench import bench_files

            settings = {"splats": arguments.splats, "size": arguments.size or 256, "progress": bars}
            *earlier, result = [bench_files(arguments.avatar, python=python, **settings) for python in arguments.blender_python or [None]]
        else:
            from ..render.bench import bench_splats

            result = bench_splats(splats=arguments.splats, size=arguments.size or 256, progress=bars)
    finally:
        bars.close()
    for figures in (*earlier, result):
        answer(figures, arguments)
