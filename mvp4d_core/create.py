# SPDX-License-Identifier: Apache-2.0
"""The whole walk, photo to avatar: track, generate, distill, show. Stage by stage, each finished one kept, so a killed run continues."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import __version__
from .avatar import GaussianAvatar, load_avatar, save_avatar
from .avatar.file_space import write_posed_ply
from .conditioning import DEFAULT_VIEWS, PRESETS, fitting_frames, fitting_motion, plan_views
from .diffusion.blocks import remove_blocks
from .diffusion.generator import NANO, MMVDMGenerator, nano_folder, weights_digest, weights_folder
from .distill import DistillConfig, distill_avatar
from .errors import FormatError, InputError
from .evaluation.avatar import evaluate_heldout, evaluate_reference
from .evaluation.lpips import load_lpips
from .evaluation.report import EVALUATION, best_generator, load_report
from .generate import MultiViewGenerator, ProxyGenerator, load_multiview, save_multiview
from .io.atomic import atomic_text, remove_temporaries
from .io.folders import make_folder
from .io.images import read_image, write_image
from .journal import Journal, digest
from .memory import peak_memory_gb
from .progress import Progress, silent
from .render.device import check_device
from .rig import OPEN_HEAD, HeadModel, Performance, head_model_digest, load_head_model, save_performance, showcase_performance
from .showreel import contact_sheet, show_camera, write_showcase, write_turntable
from .tracking import draw_overlay, load_reference, save_reference, track_portrait
from .tracking.reference import Reference

GENERATORS = ("proxy", "mmvdm")
FITTING_FRAMES, MOTION_FRAMES = 21, 49  # frames a view, when none are asked for


@dataclass(frozen=True)
class CreateSettings:
    """What decides an avatar.

    Attributes:
        preset: degrees the generated views span: 60, 120, 180 or 360.
        views: V; None is the preset's own number.
        frames: F; None is 21, and 49 for the mmvdm, which wants 1 + 4k frames of motion.
        size: pixels a side of a generated frame.
        quality: `draft`, `standard` or `high`, see `DistillConfig.preset`.
        generator: `auto`, `proxy` or `mmvdm`.
        weights: of the mmvdm: `nano`, or the folder of a pipeline.
        mode: of the mmvdm: `rollout` or `stochastic`, see `plan_blocks`.
        gpu_gb: of the mmvdm: memory (2^30 bytes) to fit it into; None holds the whole model on the device.
        seed: decides everything random.
        face: which face of the photo, 1 being the largest; None takes the largest, with a notice.
        rig: `open-head` or the path of a head's .safetensors.
        device: `cpu` or `cuda`.
        steps, splats: override the quality's own numbers.
        lpips: files of a network (see `load_lpips`) for one more term of the fit's loss.
        picture_size: pixels a side of the showcase, turntable and contact sheet cells.
    """

    preset: int = 360
    views: int | None = None
    frames: int | None = None
    size: int = 384
    quality: str = "draft"
    generator: str = "auto"
    weights: str = NANO
    mode: str = "rollout"
    gpu_gb: float | None = None
    seed: int = 0
    face: int | None = None
    rig: str = OPEN_HEAD
    device: str = "cpu"
    steps: int | None = None
    splats: int | None = None
    lpips: Sequence[str | Path] = ()
    picture_size: int = 512

    def __post_init__(self) -> None:
        ranges = {"views": (1, 1000), "frames": (1, 1000), "size": (16, 2048), "seed": (0, 2**32 - 1), "picture_size": (16, 4096)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"`{name}` of an avatar must be {low} to {high}, got {value}.")
        if self.preset not in PRESETS:
            raise InputError(f"`preset` of an avatar must be one of {', '.join(map(str, PRESETS))}, got {self.preset}.")

    def distill_config(self) -> DistillConfig:
        """The fit these settings ask for."""
        overrides = {name: value for name in ("steps", "splats") if (value := getattr(self, name)) is not None}
        return replace(DistillConfig.preset(self.quality), seed=self.seed, **overrides)


def choose_generator(
    name: str, *, weights: str = NANO, device: str = "cpu", **options: Any
) -> tuple[str, MultiViewGenerator, tuple[str, ...]]:
    """The generator called `name`; `auto` takes the best that is present, by the held-out figures that lie beside the weights.

    Args:
        weights, device, options: of `MMVDMGenerator`, which then works in bfloat16. `steps` and `guidance_scale` that are left out, or
            None, are those which the figures beside the weights were measured with, else the class's own.

    Returns:
        Its name, itself, and notices.

    Raises:
        InputError: an unknown one.
        MissingAssetError: `mmvdm` without its weights, or `auto` with a folder of weights that is not there.
        FormatError: the figures beside the weights are damaged.
    """
    chosen, notices = best_present(weights) if name == "auto" else (name, ())
    if chosen not in GENERATORS:
        raise InputError(f"`generator` must be auto or one of {', '.join(GENERATORS)}, got `{name}`.")
    if chosen == "proxy":
        return chosen, ProxyGenerator(), notices
    given = {name: value for name, value in options.items() if value is not None}
    sampling = judged_sampling(weights_folder(weights)) | given
    return chosen, MMVDMGenerator(weights, device=device, dtype=torch.bfloat16, **sampling), notices


def judged_sampling(folder: Path) -> dict[str, Any]:
    """`steps` and `guidance_scale` of the report beside a pipeline; nothing where there is none."""
    if not (folder / EVALUATION).is_file():
        return {}
    report = load_report(folder / EVALUATION)
    found = {name: report.get(name) for name in ("steps", "guidance_scale")}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def best_present(weights: str = NANO) -> tuple[str, tuple[str, ...]]:
    """`mmvdm` where the weights are there with figures that beat the proxy's (see `best_generator`), else `proxy`; and notices.

    Raises:
        MissingAssetError: the folder of weights is not there; an absent bundled model is none.
        FormatError: the figures are damaged.
    """
    if weights == NANO and not nano_folder().is_dir():
        return "proxy", ()
    folder = weights_folder(weights)
    if not (folder / EVALUATION).is_file():
        cure = f"Judge them with `mvp4d evaluate multiview --weights {weights} --publish`, or choose the generator mmvdm."
        return "proxy", (f"The proxy was taken: no figures lie beside the weights in {folder}. {cure}",)
    best = best_generator(load_report(folder / EVALUATION), ("proxy", NANO))
    return ("mmvdm" if best == NANO else "proxy"), ()


def create_avatar(photo: str | Path, folder: str | Path, settings: CreateSettings, progress: Progress = silent) -> dict:
    """Photo to avatar.mvp4d in `folder`, beside it avatar.ply, showcase.mp4, turntable.mp4, contact_sheet.png and tracking.png.

    A stage whose inputs and settings are unchanged and whose files are there is not run again.

    Returns:
        The report, also written to report.json: measured figures, seconds by stage, peak memory, notices.
    """
    folder = Path(folder)
    config = settings.distill_config()
    check_device(settings.device)
    options = {"mode": settings.mode, "gpu_gb": settings.gpu_gb}
    generator_name, generator, notices = choose_generator(settings.generator, weights=settings.weights, device=settings.device, **options)
    model = load_head_model(settings.rig)
    performance = showcase_performance(model)
    if isinstance(generator, MMVDMGenerator):
        frames = fitting_motion(performance, model, settings.frames or MOTION_FRAMES)
        generator.check(settings.views or DEFAULT_VIEWS[settings.preset], len(frames))
        key = [weights_digest(weights_folder(settings.weights)), options]
    else:
        frames, key = fitting_frames(performance, model, settings.frames or FITTING_FRAMES), ""
    rgb, alpha = read_image(photo)
    source = hashlib.sha256(Path(photo).read_bytes()).hexdigest()
    make_folder(folder)
    remove_temporaries(folder)
    journal = Journal(folder)

    track_key = digest(__version__, source, head_model_digest(model), settings.face)
    journal.run(
        "track", track_key, ["reference.safetensors", "tracking.png"], lambda: _track(folder, rgb, alpha, source, model, settings, progress)
    )
    reference = load_reference(folder / "reference.safetensors")
    generate_key = digest(track_key, generator_name, key, settings.preset, settings.views, settings.frames, settings.size, settings.seed)

    def generate() -> None:
        plan = plan_views(reference.rig(model), frames, preset=settings.preset, views=settings.views, size=settings.size)
        blocks = folder / "blocks"
        video = generator.generate(reference, plan, head_model=model, seed=settings.seed, progress=progress, folder=blocks)
        save_multiview(video, folder / "multiview", progress)
        remove_blocks(blocks)

    journal.run("generate", generate_key, ["multiview/multiview.json"], generate)

    lpips = load_lpips(settings.lpips).to(settings.device) if settings.lpips else None
    distill_key = digest(generate_key, asdict(config), lpips.name if lpips else "")
    checkpoint = folder / "fit.safetensors"

    def distill() -> None:
        video = load_multiview(folder / "multiview")
        avatar = distill_avatar(
            video,
            reference,
            config,
            head_model=model,
            device=settings.device,
            lpips=lpips,
            checkpoint=checkpoint,
            progress=progress,
        )
        save_avatar(folder / "avatar.mvp4d", avatar, head_model=model, shape=reference.shape)
        checkpoint.unlink(missing_ok=True)

    journal.run("distill", distill_key, ["avatar.mvp4d"], distill)
    avatar = load_avatar(folder / "avatar.mvp4d", head_model=model)

    show_key = digest(distill_key, settings.picture_size)
    shown = ["avatar.ply", "performance.safetensors", "showcase.mp4", "turntable.mp4", "contact_sheet.png"]
    journal.run("show", show_key, shown, lambda: _show(folder, avatar, reference, performance, settings, progress))

    figures: dict = {}

    def evaluate() -> None:
        figures["landmark_error_percent"] = reference.landmark_error_percent
        figures["reference_psnr"] = evaluate_reference(avatar, reference, device=settings.device)
        figures.update(evaluate_heldout(avatar, load_multiview(folder / "multiview"), config, device=settings.device, progress=progress))
        atomic_text(folder / "figures.json", json.dumps(figures, indent=2))

    if not journal.run("evaluate", distill_key, ["figures.json"], evaluate):
        figures = _kept_figures(folder / "figures.json")

    seconds = journal.seconds()
    report = {
        **figures,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "peak_memory_gb": peak_memory_gb(),
        "splats": len(avatar),
        "generator": generator_name,
        "notices": [*notices, *reference.notices],
        "warnings": list(reference.warnings),
        "version": __version__,
    }
    atomic_text(folder / "report.json", json.dumps(report, indent=2))
    return report


def _kept_figures(path: Path) -> dict:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path} is damaged ({error}). Delete it and run the same command again.") from None


def _track(
    folder: Path, rgb: np.ndarray, alpha: np.ndarray | None, source: str, model: HeadModel, settings: CreateSettings, progress: Progress
) -> None:
    reference = track_portrait(rgb, alpha, head_model=model, face=settings.face, source_sha256=source, progress=progress)
    write_image(folder / "tracking.png", draw_overlay(reference, model))
    save_reference(reference, folder / "reference.safetensors")


def _show(
    folder: Path,
    avatar: GaussianAvatar,
    reference: Reference,
    performance: Performance,
    settings: CreateSettings,
    progress: Progress,
) -> None:
    write_posed_ply(folder / "avatar.ply", avatar, performance[0])
    save_performance(performance, folder / "performance.safetensors")
    camera = show_camera(avatar, performance, settings.picture_size)
    write_showcase(folder / "showcase.mp4", avatar, performance, camera, device=settings.device, progress=progress)
    write_turntable(folder / "turntable.mp4", avatar, performance, settings.picture_size, device=settings.device, progress=progress)
    write_image(folder / "contact_sheet.png", contact_sheet(avatar, reference, settings.picture_size // 2, device=settings.device))
