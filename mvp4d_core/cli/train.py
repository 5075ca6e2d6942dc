# SPDX-License-Identifier: Apache-2.0
"""`mvp4d train -o RUN`: a model on synthetic heads or on one's own captures."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .terminal import Bars, answer, say

if TYPE_CHECKING:
    from ..training.curriculum import Curriculum

RATED_TFLOPS = {"cpu": 0.8, "auto": 400.0}  # a laptop's processor and a large GPU in bfloat16
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
    command.add_argument("--recipe", choices=("nano", "cogvideox-2b"), default="nano", help="sizes and curriculum (nano)")
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
    data.add_argument("--presets", type=int, nargs="+", choices=(60, 120, 180, 360), default=[120], metavar="DEGREES",
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
    work.add_argument("--seed", type=int, default=0)
    work.add_argument("--device", choices=("cpu", "auto"), default="cpu", help="auto: what accelerate finds")
    work.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of the products; weights stay float32")
    work.add_argument("--gradient-checkpointing", action="store_true", help="less memory, a third more work")
    work.add_argument("--log-every", type=int, default=20, metavar="STEPS")
    work.add_argument("--validate-every", type=int, default=500, metavar="STEPS", help="0: never")
    work.add_argument("--checkpoint-every", type=int, default=500, metavar="STEPS")
    work.add_argument("--devices", type=int, default=1, metavar="N", help="for the estimate")
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
    from ..training.trainer import TrainSettings, train

    curriculum = curriculum_from(arguments)
    head_model = load_head_model(arguments.rig)
    names = ("device", "precision", "gradient_checkpointing", "log_every", "validate_every", "checkpoint_every")
    settings = TrainSettings(**{name: getattr(arguments, name) for name in names})
    data = recipes.gather(
        arguments.data, arguments.synthetic, arguments.heldout if settings.validate_every else 0, curriculum,
        head_model=head_model, presets=arguments.presets, tracks=arguments.tracks, skip_incomplete=arguments.skip_incomplete,
    )  # fmt: skip
    for hole in data.holes:
        say(f"mvp4d: left out: {hole}")
    folder = recipes.starting_folder(arguments.init)
    transformer = None if folder is None else recipes.starting_transformer(folder)
    config = recipes.CONFIGS[arguments.recipe] if transformer is None else dict(transformer.config)
    cost = estimate_cost(
        config, curriculum, processes=arguments.devices, tflops=arguments.tflops or RATED_TFLOPS[arguments.device],
        gradient_checkpointing=arguments.gradient_checkpointing,
    )  # fmt: skip
    say(
        f"mvp4d: {cost.parameters / 1e6:.1f} M weights, {cost.steps} steps, {cost.samples} samples of {cost.tokens_per_sample[0]} to "
        f"{cost.tokens_per_sample[1]} tokens from {len(data.train)} clips: {cost.total_pflops:.3g} PFLOP, about {cost.device_days:.2g} "
        f"device-days, {cost.memory_gb:.3g} GB a device."
    )
    if arguments.dry_run:
        answer({"cost": cost.to_json(), "curriculum": curriculum.to_json(), "clips": len(data.train)}, arguments)
        return
    if transformer is None and arguments.recipe == "cogvideox-2b":
        raise InputError("The recipe cogvideox-2b begins with trained weights. Give --init cogvideox-2b DIR.")
    vae = recipes.starting_vae(arguments.vae or folder)
    if cost.device_days > ASK_ABOVE and not arguments.yes and not agreed():
        raise InputError("The run was not begun. Say --yes to begin it, or --dry-run for the estimate alone.")
    if transformer is None:
        transformer = recipes.new_transformer(config, curriculum.seed)
    bars = Bars()
    try:
        if arguments.contact_sheet:
            recipes.write_contact_sheet(data.train, arguments.contact_sheet, max(curriculum.longest), bars)
        caches: dict[str, Any] = {}
        for split, sources in (("train", data.train), ("heldout", data.heldout)):
            place = (arguments.cache or arguments.output / "cache") / split
            cached, left_out = recipes.fill_caches(
                sources, place, curriculum, vae=vae, head_model=head_model, bfloat16=settings.precision == "bf16", progress=bars
            )
            caches[split] = cached
            for line in left_out:
                say(f"mvp4d: left out: {line}")
        model = train(transformer, caches["train"], caches["heldout"], curriculum, arguments.output, settings, bars)
    finally:
        bars.close()
    exported = recipes.export(arguments.output, model, vae, curriculum)
    say(f"mvp4d: {exported} is ready.")
    answer({"export": str(exported), "steps": curriculum.steps, "clips": len(data.train), "cost": cost.to_json()}, arguments)


def curriculum_from(arguments: argparse.Namespace) -> "Curriculum":
    """The recipe's or the file's curriculum, with the options that change it."""
    from ..errors import InputError
    from ..training.curriculum import read_curriculum, scaled
    from ..training.recipes import RECIPES

    if arguments.curriculum is not None:
        curriculum = read_curriculum(arguments.curriculum)
    else:
        curriculum = RECIPES[arguments.recipe]()
    if arguments.size is not None and arguments.recipe != "nano":
        raise InputError("--size is for the recipe nano; other sizes stand in a --curriculum file.")
    return scaled(
        curriculum, steps=arguments.steps, size=arguments.size, batch=arguments.batch, rate=arguments.learning_rate, seed=arguments.seed
    )


def train_small_vae(arguments: argparse.Namespace) -> None:
    """The VAE of `nano`, on videos of synthetic heads."""

    from ..errors import InputError
    from ..rig import load_head_model
    from ..training.vae import VAEConfig, studio_videos, train_vae

    if arguments.synthetic < 1 or arguments.data:
        raise InputError("The VAE of `nano` learns from synthetic heads alone. Give --synthetic N and no --data.")
    config = VAEConfig(seed=arguments.seed, log_every=arguments.log_every, bfloat16=arguments.precision == "bf16")
    chosen = {"steps": arguments.steps, "size": arguments.size}
    config = replace(config, **{name: value for name, value in chosen.items() if value is not None})
    head_model, bars = load_head_model(arguments.rig), Bars()
    try:
        videos, heldout = (
            studio_videos(split, people, config, head_model, bars)
            for split, people in (("train", arguments.synthetic), ("heldout", max(1, arguments.heldout)))
        )
        train_vae(videos, config, arguments.output, heldout=heldout, progress=bars)
    finally:
        bars.close()
    say(f"mvp4d: {arguments.output / 'vae'} is ready.")
    answer({"vae": str(arguments.output / "vae"), "steps": config.steps, "videos": len(videos)}, arguments)


def agreed() -> bool:
    """Whether the person at the terminal says yes; there may be none."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    say("mvp4d: begin? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")
