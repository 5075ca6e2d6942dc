# SPDX-License-Identifier: Apache-2.0
"""The fit: triangle-space Gaussians optimised until their renderings are the video's pictures."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..avatar import GaussianAvatar
from ..differentiable.binding import TriangleFrames, bound_to_world
from ..errors import FormatError, InputError, MVP4DError
from ..generate.multiview import MultiViewVideo
from ..io import safetensors_numpy
from ..progress import Progress, silent
from ..render.splats import rasterize_splats
from ..rig import HeadModel
from ..tracking.reference import Reference
from .config import DistillConfig
from .initialise import back_project, gaussians_from_samples, sample_surface
from .losses import picture_terms, regularisers
from .targets import Pictures, VideoPictures, heldout_split, reference_pictures

SCHEMA = "mvp4d-fit/1"
PARAMETERS = ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN")
CONSENT = "A likeness of a real person: to be used only as that person agreed."
INITIAL_PICTURES = 24  # how many pictures colour the first Gaussians


def render_gaussians(
    parameters: Mapping[str, torch.Tensor], binding: torch.Tensor, frames: TriangleFrames, pictures: Pictures
) -> tuple[torch.Tensor, torch.Tensor]:
    """The Gaussians of one pose on white: images (C, H, W, 3) and alphas (C, H, W, 1)."""
    means, quats, scales = bound_to_world(parameters["means"], parameters["quats"], parameters["log_scales"].exp(), binding, frames)
    sh = torch.cat([parameters["sh0"][:, None], parameters["shN"]], dim=1)
    height, width = pictures.images.shape[1:3]
    images, alphas, _ = rasterize_splats(
        means,
        quats,
        scales,
        parameters["opacity_logits"].sigmoid(),
        sh,
        pictures.viewmats,
        pictures.Ks,
        width,
        height,
        sh_degree=round(sh.shape[1] ** 0.5) - 1,
        backgrounds=torch.ones(len(pictures.Ks), 3, device=means.device),
    )
    return images, alphas


def distill_avatar(
    video: MultiViewVideo,
    reference: Reference,
    config: DistillConfig,
    *,
    head_model: HeadModel,
    device: torch.device | str = "cpu",
    checkpoint: str | Path | None = None,
    progress: Progress = silent,
) -> GaussianAvatar:
    """Fits an avatar to a multi-view video and to the photo it came from.

    Args:
        video: V x F pictures; `config.heldout` of them are never looked at.
        reference: the tracked photo.
        head_model: the head the reference was tracked with.
        device: where the Gaussians live: the CPU, or CUDA with gsplat.
        checkpoint: a file the fit continues from and saves to every `config.checkpoint_every` steps; continuing and not stopping give
            the same avatar.

    Raises:
        MVP4DError: the loss became NaN; the message has the step and the term.
        Cancelled: from `progress`.
    """
    rig = reference.rig(head_model)
    if video.plan.performance.expression.shape[1] != rig.exprdirs.shape[2]:
        raise InputError(f"The video's performance must have the expressions of the head `{rig.name}`; plan it with that head.")
    views, frames = video.frames.shape[:2]
    held_views, held_frames = heldout_split(views, frames, config.heldout, config.seed)
    train_views = [v for v in range(views) if v not in held_views]
    train_frames = [f for f in range(frames) if f not in held_frames]

    progress("initialise", 0, 1)
    samples = sample_surface(rig, config.splats, config.seed)
    rng = np.random.default_rng((config.seed, 1))
    grid = [(v, f) for f in train_frames for v in train_views]
    chosen = [grid[i] for i in rng.permutation(len(grid))[:INITIAL_PICTURES]]
    colors = back_project(video, rig, samples, chosen)
    start = gaussians_from_samples(samples, rig, colors, config.sh_degree)
    parameters = {name: torch.nn.Parameter(torch.as_tensor(start[name], device=device)) for name in PARAMETERS}
    optimiser = torch.optim.Adam([{"params": [parameters[name]], "lr": getattr(config, f"{name}_lr")} for name in PARAMETERS], eps=1e-15)
    binding = torch.as_tensor(samples.binding, dtype=torch.int64, device=device)
    progress("initialise", 1, 1)

    identity = json.dumps({"config": asdict(config), "video": video.provenance, "source": reference.source_sha256}, sort_keys=True)
    first = 0
    if checkpoint is not None and Path(checkpoint).is_file():
        first = _load_checkpoint(Path(checkpoint), identity, parameters, optimiser)
    pictures = VideoPictures(video, rig, device)
    photo = reference_pictures(reference, rig, video.frames.shape[2], device)
    for step in range(first, config.steps):
        progress("distill", step, config.steps)
        if config.reference_every and step % config.reference_every == config.reference_every - 1:
            target = photo
        else:
            draw = np.random.default_rng((config.seed, 2, step))
            frame = train_frames[draw.integers(len(train_frames))]
            chosen_views = draw.choice(train_views, min(config.views_per_step, len(train_views)), replace=False)
            target = pictures.get([int(v) for v in chosen_views], frame)
        optimiser.param_groups[0]["lr"] = config.means_lr * (config.means_lr_final / config.means_lr) ** (step / config.steps)
        optimiser.zero_grad(set_to_none=True)
        images, alphas = render_gaussians(parameters, binding, target.frames, target)
        # a pixel that does not count is set to its target, so that it weighs nothing in any term
        images, alphas = torch.where(target.judged, images, target.images), torch.where(target.judged, alphas, target.alphas)
        terms = picture_terms(images, alphas, target.images, target.alphas, config) | regularisers(
            parameters["means"], parameters["log_scales"].exp(), parameters["opacity_logits"].sigmoid(), config
        )
        _check_finite(step, "term", terms)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()
        _check_finite(step, "parameter", parameters)
        if checkpoint is not None and (step + 1) % config.checkpoint_every == 0:
            _save_checkpoint(Path(checkpoint), identity, step + 1, parameters, optimiser)
    progress("distill", config.steps, config.steps)

    arrays = {name: parameter.detach().cpu().numpy() for name, parameter in parameters.items()}
    arrays["quats"] = arrays["quats"] / np.maximum(np.linalg.norm(arrays["quats"], axis=1, keepdims=True), 1e-12)
    return GaussianAvatar(**arrays, binding=samples.binding, rig=rig, metadata={**video.provenance, "consent": CONSENT})


def _check_finite(step: int, kind: str, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise MVP4DError(
                f"The fit stopped at step {step}: its {kind} `{name}` is no longer finite. Lower the learning rates and resume."
            )


def _save_checkpoint(
    path: Path, identity: str, step: int, parameters: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer
) -> None:
    tensors = {}
    for name, parameter in parameters.items():
        state = optimiser.state[parameter]
        tensors[name] = parameter.detach().cpu().numpy()
        tensors[f"{name}.exp_avg"] = state["exp_avg"].cpu().numpy()
        tensors[f"{name}.exp_avg_sq"] = state["exp_avg_sq"].cpu().numpy()
    safetensors_numpy.write(path, tensors, {"schema": SCHEMA, "identity": identity, "step": str(step)})


def _load_checkpoint(path: Path, identity: str, parameters: dict[str, torch.nn.Parameter], optimiser: torch.optim.Optimizer) -> int:
    """The step to continue from; 0 where the checkpoint is of another fit."""
    tensors, metadata = safetensors_numpy.read(path)
    if metadata.get("schema") != SCHEMA or not metadata.get("step", "").isdigit():
        raise FormatError(f"{path.name} is not a checkpoint of a fit; delete it and start again.")
    if metadata.get("identity") != identity:
        return 0
    for name, parameter in parameters.items():
        stored = [tensors.get(key) for key in (name, f"{name}.exp_avg", f"{name}.exp_avg_sq")]
        if any(array is None or array.shape != tuple(parameter.shape) for array in stored):
            raise FormatError(f"{path.name} is a damaged checkpoint (`{name}`); delete it and start again.")
        value, average, square = (torch.as_tensor(array, device=parameter.device) for array in stored)
        parameter.data.copy_(value)
        optimiser.state[parameter] = {"step": torch.tensor(float(metadata["step"])), "exp_avg": average, "exp_avg_sq": square}
    return int(metadata["step"])
