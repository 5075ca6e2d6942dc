# SPDX-License-Identifier: Apache-2.0
"""`mvp4d train -o RUN`: a model on synthetic heads or on one's own captures."""

import argparse
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..progress import silent
from .terminal import Bars, answer, say

if TYPE_CHECKING:
    from accelerate import PartialState
    from diffusers import AutoencoderKLCogVideoX

    from ..diffusion.transformer import MVP4DTransformer3DModel
    from ..rig import HeadModel
    from ..training.curriculum import Curriculum
    from ..training.recipes import Data
    from ..training.trainer import TrainSettings

RATED_TFLOPS = {"cpu": 0.8, "auto": 400.0}  # a laptop's processor and a large GPU in bfloat16
NOT_OF_VAE = (
    "recipe", "curriculum", "init", "vae", "tracks", "skip_incomplete", "presets", "cache", "contact_sheet", "gradient_checkpointing",
    "validate_every", "devices", "tflops", "export_dtype",
)  # fmt: skip
ASK_ABOVE = 0.05  # device-days from which a run is not begun without a yes


def add(subparsers: argparse._SubParsersAction) -> None:
    """Declares the command."""
    command = subparsers.add_parser(
        "train", help="train a multi-view video model",
        description="Train a multi-view video model. A stopped run goes on with the same command. On several devices: "
        "accelerate launch -m mvp4d_core train ...",
    )  # fmt: skip
    command.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="folder for everything")
    command.add_argument("--model", choices=("mmvdm", "vae"), default="mmvdm", help="the diffusion model, or the small VAE of `nano`")
    command.add_argument("--recipe", choices=("nano", "cogvideox-2b"), help="sizes and curriculum (that of --init, else nano)")
    command.add_argument("--curriculum", type=Path, metavar="FILE", help="a curriculum as JSON, as RUN/config.json holds it")
    command.add_argument(
        "--init", nargs="+", metavar="FROM", help="cogvideox-2b DIR, nano (the bundled model), or the folder of a pipeline; else untrained"
    )
    command.add_argument("--vae", type=Path, metavar="DIR", help="folder of the frozen VAE (that of --init, else the bundled one)")
    data = command.add_argument_group("data")
    data.add_argument(
        "--data", nargs="+", default=[], metavar="DIR",
        help="folders of prepared clips, or NAME:DIR with NAME nersemble, renderme360, ava256 or vfhq",
    )  # fmt: skip
    data.add_argument("--tracks", type=Path, metavar="DIR", help="folder of the performances of NAME:DIR data, one file a clip")
    data.add_argument("--skip-incomplete", action="store_true", help="leave out clips that lack something")
    data.add_argument("--synthetic", type=int, default=0, metavar="N", help="N clips of synthetic heads")
    data.add_argument("--presets", type=int, nargs="+", choices=(60, 120, 180, 360), metavar="DEGREES",
                      help="that the synthetic cameras cover, clip by clip in turn (120)")  # fmt: skip
    data.add_argument("--heldout", type=int, default=16, metavar="N", help="clips of other people for the validation loss (16)")
    data.add_argument("--cache", type=Path, metavar="DIR", help="folder of encoded clips (RUN/cache)")
    data.add_argument("--rig", default="open-head", metavar="HEAD", help="open-head, or a head's .safetensors")
    data.add_argument("--contact-sheet", type=Path, metavar="FILE", help="also write a picture (.png) of some of the clips")
    work = command.add_argument_group("work")
    work.add_argument("--steps", type=int, help="steps in all; the stages keep their proportions")
    work.add_argument("--size", type=int, metavar="PX", help="side of the frames, for `nano` (128)")
    work.add_argument("--batch", type=float, default=1.0, metavar="X", help="batches X times as large as the curriculum's")
    work.add_argument("--learning-rate", type=float, default=1.0, metavar="X", help="learning rates X times the curriculum's")
    work.add_argument("--seed", type=int, help="decides all that is random (the curriculum's own)")
    work.add_argument("--device", choices=("cpu", "auto"), default="cpu", help="auto: what accelerate finds")
    work.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of the products; weights stay float32")
    work.add_argument(
        "--gradient-checkpointing", action=argparse.BooleanOptionalAction, help="less memory, a third more work (only for cogvideox-2b)"
    )
    work.add_argument("--log-every", type=int, default=20, metavar="STEPS")
    work.add_argument("--validate-every", type=int, metavar="STEPS", help="0: never (500)")
    work.add_argument("--checkpoint-every", type=int, metavar="STEPS", help="(500; 200 of the VAE)")
    work.add_argument("--export-dtype", choices=("fp32", "bf16", "fp16"), help="of the weights in RUN/export (fp32)")
    work.add_argument("--devices", type=int, metavar="N", help="for the estimate (those of this run)")
    work.add_argument("--tflops", type=float, metavar="X", help="for the estimate: rated 10^12 operations a second of one device")
    work.add_argument("--dry-run", action="store_true", help="check the data, print the estimate, and stop")
    work.add_argument("--yes", action="store_true", help="begin without asking")


def run(arguments: argparse.Namespace) -> None:
    """Checks, estimates, asks, trains, and answers with the figures."""
    if arguments.model == "vae":
        train_small_vae(arguments)
        return
    from ..errors import InputError
    from ..rig import load_head_model
    from ..training import recipes
    from ..training.cost import estimate_cost
    from ..training.trainer import TrainSettings

    recipe = recipe_of(arguments)
    curriculum, head_model, team = curriculum_from(arguments, recipe), load_head_model(arguments.rig), processes(arguments.device)
    device = drawing_device(str(team.device))
    frugal = recipe in recipes.FRUGAL if arguments.gradient_checkpointing is None else arguments.gradient_checkpointing
    settings = TrainSettings(
        arguments.device, arguments.precision, frugal, **given(arguments, "log_every", "validate_every", "checkpoint_every")
    )
    data = recipes.gather(
        arguments.data, arguments.synthetic, arguments.heldout if settings.validate_every else 0, curriculum, head_model=head_model,
        presets=arguments.presets or (120,), tracks=arguments.tracks, skip_incomplete=arguments.skip_incomplete,
        device=device,
    )  # fmt: skip
    tell = say if team.is_main_process else nothing
    for hole in data.holes:
        tell(f"mvp4d: left out: {hole}")
    folder = recipes.starting_folder(arguments.init)
    transformer = None if folder is None else recipes.starting_transformer(folder)
    config = recipes.CONFIGS[recipe] if transformer is None else dict(transformer.config)
    cost = estimate_cost(
        config, curriculum, processes=arguments.devices or team.num_processes, tflops=arguments.tflops or RATED_TFLOPS[arguments.device],
        gradient_checkpointing=frugal,
    )  # fmt: skip
    tell(
        f"mvp4d: {cost.parameters / 1e6:.1f} M weights, {cost.steps} steps, {cost.samples} samples of {cost.tokens_per_sample[0]} to "
        f"{cost.tokens_per_sample[1]} tokens from {len(data.train)} clips: {cost.total_pflops:.3g} PFLOP, about {cost.device_days:.2g} "
        f"device-days, {cost.memory_gb:.3g} GB a device."
    )
    if arguments.dry_run:
        if team.is_main_process:
            answer({"cost": cost.to_json(), "curriculum": curriculum.to_json(), "clips": len(data.train)}, arguments)
        return
    if transformer is None and recipe == recipes.COGVIDEOX:
        raise InputError("The recipe cogvideox-2b begins with trained weights. Give --init cogvideox-2b DIR.")
    vae = recipes.starting_vae(arguments.vae or folder, device)
    if cost.device_days > ASK_ABOVE and not arguments.yes and (team.num_processes > 1 or not agreed()):
        raise InputError("The run was not begun. Say --yes to begin it, or --dry-run for the estimate alone.")
    if transformer is None:
        transformer = recipes.new_transformer(config, curriculum.seed)
    exported = carry_out(arguments, team, transformer, vae, head_model, data, curriculum, settings)
    if team.is_main_process:
        say(f"mvp4d: {exported} is ready.")
        answer({"export": str(exported), "steps": curriculum.steps, "clips": len(data.train), "cost": cost.to_json()}, arguments)


def carry_out(
    arguments: argparse.Namespace,
    team: "PartialState",
    transformer: "MVP4DTransformer3DModel",
    vae: "AutoencoderKLCogVideoX",
    head_model: "HeadModel",
    data: "Data",
    curriculum: "Curriculum",
    settings: "TrainSettings",
) -> Path:
    """Encodes the clips, trains and exports; of several processes the main one alone writes, and the others wait for it."""
    from torch import nn

    from ..training import recipes
    from ..training.trainer import train

    run, bars = arguments.output, Bars() if team.is_main_process else None
    progress = bars or silent
    splits = {split: ((arguments.cache or run / "cache") / split, getattr(data, split)) for split in ("train", "heldout")}
    try:
        if team.is_main_process:
            if arguments.contact_sheet:
                recipes.write_contact_sheet(data.train, arguments.contact_sheet, max(curriculum.longest), progress)
            for place, sources in splits.values():
                for line in recipes.fill_caches(
                    sources, place, curriculum, vae=vae, head_model=head_model, bfloat16=settings.precision == "bf16", progress=progress
                ):
                    say(f"mvp4d: left out: {line}")
        nn.Module.to(vae, "cpu")  # training has the device to itself
        team.wait_for_everyone()
        clips, heldout = (recipes.open_caches(sources, place, curriculum) for place, sources in splits.values())
        model = train(transformer, clips, heldout, curriculum, run, settings, progress)
    finally:
        if bars is not None:
            bars.close()
    if team.is_main_process:
        recipes.export(run, model, vae, curriculum, recipes.DTYPES[arguments.export_dtype or "fp32"])
    team.wait_for_everyone()
    return run / recipes.EXPORT


def processes(device: str) -> "PartialState":
    """The processes that `accelerate launch` has begun, or this one alone; they wait for the main one for as long as it encodes clips."""
    from accelerate import PartialState

    return PartialState(cpu=device == "cpu", timeout=timedelta(days=30))


def drawing_device(device: str) -> str:
    """Where heads and maps are drawn and clips encoded: a CUDA device where there is one, else the CPU."""
    return device if device.startswith("cuda") else "cpu"


def nothing(_line: str) -> None:
    """What processes beside the main one say."""


def given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of some options that were given."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def recipe_of(arguments: argparse.Namespace) -> str:
    """The recipe that was named, else the one of the weights to begin with."""
    from ..training.recipes import COGVIDEOX

    return arguments.recipe or (COGVIDEOX if (arguments.init or [""])[0] == COGVIDEOX else "nano")


def curriculum_from(arguments: argparse.Namespace, recipe: str) -> "Curriculum":
    """The recipe's or the file's curriculum, with the options that change it."""
    from ..errors import InputError
    from ..training.curriculum import read_curriculum, scaled
    from ..training.recipes import RECIPES

    if arguments.size is not None and recipe != "nano":
        raise InputError("--size is for the recipe nano; other sizes stand in a --curriculum file.")
    curriculum = RECIPES[recipe]() if arguments.curriculum is None else read_curriculum(arguments.curriculum)
    changes = {"batch": arguments.batch, "rate": arguments.learning_rate, "seed": arguments.seed}
    return scaled(curriculum, steps=arguments.steps, size=arguments.size, **changes)


def train_small_vae(arguments: argparse.Namespace) -> None:
    """The VAE of `nano`, on videos of synthetic heads."""
    from ..errors import InputError
    from ..rig import load_head_model
    from ..training.vae import VAEConfig, studio_videos, train_vae

    if arguments.synthetic < 1 or arguments.data:
        raise InputError("The VAE of `nano` learns from synthetic heads alone. Give --synthetic N and no --data.")
    foreign = [name for name in NOT_OF_VAE if getattr(arguments, name) not in (None, False)]
    if foreign:
        options = ", ".join("--" + name.replace("_", "-") for name in foreign)
        raise InputError(f"The VAE's training has no use for {options}. Leave that out.")
    plain = VAEConfig(bfloat16=arguments.precision == "bf16", **given(arguments, "seed", "steps", "size", "log_every", "checkpoint_every"))
    config = replace(
        plain, learning_rate=plain.learning_rate * arguments.learning_rate,
        early=batches(plain.early, arguments.batch), late=batches(plain.late, arguments.batch),
    )  # fmt: skip
    people = {"train": arguments.synthetic, "heldout": max(1, arguments.heldout)}
    team = processes(arguments.device)
    device = str(team.device)
    if team.num_processes > 1:
        raise InputError("The VAE is trained by one process. Run the command without accelerate launch.")
    say(f"mvp4d: {config.steps} steps on {2 * people['train']} videos of {config.frames} frames of {config.size} px, on {device}.")
    if arguments.dry_run:
        answer({"steps": config.steps, "videos": 2 * people["train"], "device": device}, arguments)
        return
    head_model, bars = load_head_model(arguments.rig), Bars()
    try:
        videos, heldout = (
            studio_videos(split, count, config, head_model, bars, device=drawing_device(device)) for split, count in people.items()
        )
        train_vae(videos, config, arguments.output, heldout=heldout, device=device, progress=bars)
    finally:
        bars.close()
    say(f"mvp4d: {arguments.output / 'vae'} is ready.")
    answer({"vae": str(arguments.output / "vae"), "steps": config.steps, "videos": len(videos)}, arguments)


def batches(kinds: tuple[tuple[int, int, int], ...], factor: float) -> tuple[tuple[int, int, int], ...]:
    """A VAE's batches (side, frames, clips) with so many times the clips."""
    return tuple((side, frames, max(1, round(clips * factor))) for side, frames, clips in kinds)


def agreed() -> bool:
    """Whether the person at the terminal says yes; there may be none."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    say("mvp4d: begin? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
