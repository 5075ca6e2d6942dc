# SPDX-License-Identifier: Apache-2.0
"""The fit: triangle-space Gaussians optimised until their renderings are the video's pictures."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..avatar import GaussianAvatar
from ..differentiable.binding import TriangleFrames, bound_to_world
from ..errors import InputError, MVP4DError
from ..evaluation.lpips import Lpips
from ..generate.multiview import MultiViewVideo
from ..progress import Progress, silent
from ..render.splats import rasterize_splats
from ..rig import HeadModel, with_mouth
from ..tracking.reference import Reference
from .config import DistillConfig
from .deformation import LinearDeformation, bake
from .densify import GradientRecord, densify
from .initialise import back_project, gaussians_from_samples, sample_surface
from .losses import picture_terms, regularisers
from .puppet import Puppet
from .remesh import uv_remesh
from .state import FitState, begin, load_fit, new_optimiser, save_fit
from .targets import Pictures, VideoPictures, heldout_split, reference_pictures

CONSENT = "A likeness of a real person: to be used only as that person agreed."
INITIAL_PICTURES = 24  # how many pictures colour the first Gaussians
PHOTO = -1  # the puppet's last frame

OnStep = Callable[[int, Callable[[], GaussianAvatar]], None]
OnLoss = Callable[[int, Mapping[str, float]], None]


def unwatched(done: int, avatar: Callable[[], GaussianAvatar]) -> None:
    """Looks at nothing."""


def unheard(done: int, terms: Mapping[str, float]) -> None:
    """Notes nothing."""


def render_gaussians(
    parameters: Mapping[str, torch.Tensor],
    binding: torch.Tensor,
    frames: TriangleFrames,
    pictures: Pictures,
    *,
    absgrad: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """The Gaussians of one pose on white: images (C, H, W, 3), alphas (C, H, W, 1) and the rasteriser's info."""
    means, quats, scales = bound_to_world(parameters["means"], parameters["quats"], parameters["log_scales"].exp(), binding, frames)
    sh = torch.cat([parameters["sh0"][:, None], parameters["shN"]], dim=1)
    height, width = pictures.images.shape[1:3]
    return rasterize_splats(
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
        absgrad=absgrad,
    )


def distill_avatar(
    video: MultiViewVideo,
    reference: Reference,
    config: DistillConfig,
    *,
    head_model: HeadModel,
    device: torch.device | str = "cpu",
    lpips: Lpips | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress = silent,
    on_step: OnStep = unwatched,
    on_loss: OnLoss = unheard,
) -> GaussianAvatar:
    """Fits an avatar to a multi-view video and to the photo it came from.

    Args:
        video: V x F pictures; `config.heldout` of them are never looked at.
        reference: the tracked photo.
        head_model: the head the reference was tracked with.
        device: where the Gaussians live: the CPU, or CUDA with gsplat.
        lpips: a network for one more term of the loss, on `device`; see `config.lpips`.
        checkpoint: a file the fit continues from and saves to every `config.checkpoint_every` steps; continuing and not stopping give
            the same avatar.
        on_step: called after each step with how many are done and a function that gives the avatar as it stands.
        on_loss: called after each step, before `on_step`, with how many are done and the weighted terms of its loss.

    Raises:
        MVP4DError: the loss became NaN; the message has the step and the term.
        Cancelled: from `progress`.
    """
    rig = with_mouth(reference.rig(head_model))
    if video.plan.performance.expression.shape[1] != rig.exprdirs.shape[2]:
        raise InputError(f"The video's performance must have the expressions of the head `{rig.name}`; plan it with that head.")
    views, frames = video.frames.shape[:2]
    held_views, held_frames = heldout_split(views, frames, config.heldout, config.seed)
    train_views = [v for v in range(views) if v not in held_views]
    train_frames = [f for f in range(frames) if f not in held_frames]

    progress("initialise", 0, 1)
    photo = reference_pictures(reference, rig, video.frames.shape[2], device)
    if config.remesh:
        rig = uv_remesh(rig, config.remesh)
    samples = sample_surface(rig, round(config.splats * config.initial), config.seed)
    rng = np.random.default_rng((config.seed, 1))
    grid = [(v, f) for f in train_frames for v in train_views]
    chosen = [grid[i] for i in rng.permutation(len(grid))[:INITIAL_PICTURES]]
    colors = back_project(video, rig, samples, chosen)
    puppet = Puppet(rig, video.plan.performance, reference.parameters, config)
    state = begin(gaussians_from_samples(samples, rig, colors, config.sh_degree), samples.binding, puppet, config, device)
    progress("initialise", 1, 1)

    made_from = {"video": video.provenance, "source": reference.source_sha256, "lpips": lpips.name if lpips else ""}
    identity = json.dumps({"config": asdict(config), **made_from}, sort_keys=True)
    if checkpoint is not None and Path(checkpoint).is_file():
        state = load_fit(Path(checkpoint), identity, state, config)
    pictures = VideoPictures(video, device)

    def as_it_stands() -> GaussianAvatar:
        return _avatar(state, {**video.provenance, "consent": CONSENT})

    for step in range(state.step, config.steps):
        progress("distill", step, config.steps)
        if config.reference_every and step % config.reference_every == config.reference_every - 1:
            frame, target = PHOTO, photo.shrunk(config.factor_at(step))
        else:
            draw = np.random.default_rng((config.seed, 2, step))
            frame, factor = train_frames[draw.integers(len(train_frames))], config.factor_at(step)
            chosen_views = draw.choice(train_views, min(config.views_per_step * factor, len(train_views)), replace=False)
            target = pictures.get([int(v) for v in chosen_views], frame, factor)
        terms = _step(state, config, frame, target, lpips)
        state.step = step + 1
        on_loss(state.step, terms)
        if config.densifies_after(step):
            _densify(state, config)
        if config.deformation == "unet" and state.step == round(config.unet_until * config.steps):
            state.puppet.become_linear()
            state.optimiser = _with_moments_of(state.optimiser, new_optimiser(state.gaussians, state.puppet, config))
        if checkpoint is not None and state.step % config.checkpoint_every == 0:
            save_fit(Path(checkpoint), identity, state)
        on_step(state.step, as_it_stands)
    progress("distill", config.steps, config.steps)
    return as_it_stands()


def fit_digest(video: MultiViewVideo, reference: Reference, config: DistillConfig) -> str:
    """A short key of what a fit is made from, for the name of its checkpoint."""
    digest = hashlib.sha256(json.dumps([asdict(config), video.provenance, reference.head_digest], sort_keys=True).encode())
    for array in (video.frames, video.alphas, reference.image, reference.head_matte, reference.shape, reference.offsets):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:24]


def _step(state: FitState, config: DistillConfig, frame: int, target: Pictures, lpips: Lpips | None) -> dict[str, float]:
    """One step of the optimiser towards pictures of a frame; gives the terms of its loss."""
    shares = state.step / config.steps
    for group in state.optimiser.param_groups:
        if group.get("falls"):
            group["lr"] = group["initial_lr"] * (config.means_lr_final / config.means_lr) ** shares
    state.optimiser.zero_grad(set_to_none=True)
    triangles, terms = state.puppet.pose(frame)
    images, alphas, info = render_gaussians(state.gaussians, state.binding, triangles, target, absgrad=config.densify_every > 0)
    images = state.puppet.tint(frame, images, alphas)
    # a pixel that does not count is set to its target, so that it weighs nothing in any term
    images, alphas = torch.where(target.judged, images, target.images), torch.where(target.judged, alphas, target.alphas)
    means, scales, opacities = (state.gaussians[name] for name in ("means", "log_scales", "opacity_logits"))
    terms |= picture_terms(images, alphas, target.images, target.alphas, config)
    if lpips is not None and (weight := config.lpips_at(state.step)):
        terms["lpips"] = weight * lpips(images, target.images).mean()
    terms |= regularisers(means, scales.exp(), opacities.sigmoid(), config)
    _check_finite(state.step, "term", terms)
    with _repeatable(state.binding.device):
        torch.stack(list(terms.values())).sum().backward()
    state.optimiser.step()
    _check_finite(state.step, "parameter", state.trained)
    if config.densify_every:
        state.record.add(info["means2d"].absgrad, info["radii"], info["width"], info["height"])
    return {name: float(term.detach()) for name, term in terms.items()}


@contextlib.contextmanager
def _repeatable(device: torch.device) -> Iterator[None]:
    """On the CPU gradients of gathered rows are summed in one order; threads add them in any, and a resumed fit would end otherwise."""
    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type != "cpu" or before:
        yield
        return
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


def _densify(state: FitState, config: DistillConfig) -> None:
    state.binding = densify(
        state.gaussians, state.binding, state.optimiser, state.record,
        budget=config.splats, growth=config.growth, split_size=config.split_size, seed=(config.seed, 3, state.step),
    )  # fmt: skip
    state.record = GradientRecord.empty(len(state.binding), state.binding.device)


def _with_moments_of(before: torch.optim.Adam, after: torch.optim.Adam) -> torch.optim.Adam:
    """`after`, with the moments of the parameters that both have; those of the others begin anew."""
    shared = {id(parameter) for group in after.param_groups for parameter in group["params"]}
    for parameter, moments in before.state.items():
        if id(parameter) in shared:
            after.state[parameter] = moments
    return after


def _avatar(state: FitState, metadata: dict[str, str]) -> GaussianAvatar:
    arrays = {name: parameter.detach().cpu().numpy() for name, parameter in state.gaussians.items()}
    arrays["quats"] = arrays["quats"] / np.maximum(np.linalg.norm(arrays["quats"], axis=1, keepdims=True), 1e-12)
    rig, deformation = state.puppet.rig, state.puppet.deformation
    if isinstance(deformation, LinearDeformation):
        rig = bake(rig, deformation)
    return GaussianAvatar(**arrays, binding=state.binding.cpu().numpy().astype(np.int32), rig=rig, metadata=metadata)


def _check_finite(step: int, kind: str, tensors: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise MVP4DError(
                f"The fit stopped at step {step}: its {kind} `{name}` is no longer finite. Lower the learning rates and resume."
            )
