# SPDX-License-Identifier: Apache-2.0
"""A rollout's blocks sampled one after the other: from a scene and a pipeline to the frames of the whole grid.

Finished frames are kept as bytes; only the block at work is in floats. What a block is given is encoded from those bytes again, so a run
that finds blocks finished on disk goes on with the very same numbers. Noise and groups follow from the seed and the block alone.
"""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from ..cameras import Camera
from ..conditioning.maps import MAP_SLICES, condition_maps, reference_maps
from ..errors import InputError
from ..generate.multiview import to_bytes
from ..progress import Progress, silent, steps
from ..rig import HeadModel, Parameters, Performance
from .blocks import BlockStore, digest_of
from .guidance import overwrite_given
from .pipeline import MVP4DPipeline, OnStep, check_prediction, no_preview
from .rollout import Block, latent_frames, shuffled_groups
from .schedule import Solver, draw_noise, make_scheduler, snr_shift

SPATIAL = 8  # pixels a latent cell is wide


@dataclass(frozen=True)
class Scene:
    """What is to be seen.

    Attributes:
        head_model: the generic head.
        rig: the person's, of the shape alone: what the maps show.
        cameras: (V,) of one square size, a multiple of 16 px.
        performance: F frames.
        photo: (S, S, 3) float32 in 0..1, the reference on white as its camera sees it.
        inside: (S, S) bool, its pixels that lie inside the original photo.
        camera, parameters: of the photo.
    """

    head_model: HeadModel
    rig: HeadModel
    cameras: tuple[Camera, ...]
    performance: Performance
    photo: np.ndarray
    inside: np.ndarray
    camera: Camera
    parameters: Parameters

    @property
    def latent_size(self) -> tuple[int, int]:
        """(h, w)."""
        return self.camera.height // SPATIAL, self.camera.width // SPATIAL


@dataclass(frozen=True)
class Sampling:
    """How it is drawn.

    Attributes:
        steps: of the solver.
        guidance_scale: of classifier-free guidance; 1 is none, at half the cost.
        solver: `dpm` or `ddim`.
        seed: decides all noise, and the groups of views.
        view_block: views the model takes at once; blocks with more are predicted in groups, shuffled anew at each step.
        batch_guidance: both branches of guidance in one forward: faster on a GPU, twice the memory.
        without_maps: names of `MAP_SLICES` whose channels are zero.
    """

    steps: int = 20
    guidance_scale: float = 2.0
    solver: Solver = "dpm"
    seed: int = 0
    view_block: int = 8
    batch_guidance: bool = False
    without_maps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000 or not 0 <= self.guidance_scale <= 50:
            raise InputError(
                f"`steps` must be 1 to 1000 and `guidance_scale` 0 to 50, got {self.steps} and {self.guidance_scale}; 20 and 2 are usual."
            )
        if self.solver not in get_args(Solver):
            raise InputError(f"`solver` must be dpm or ddim, got `{self.solver}`.")
        for name in self.without_maps:
            if name not in MAP_SLICES or name == "reference_mask":
                raise InputError(f"`without_maps` must name maps ({', '.join(MAP_SLICES)}) but not reference_mask, got `{name}`.")


@dataclass(frozen=True)
class _Conditions:
    """What the model is told about one block: maps (V, L, 59, h, w), the photo's latents and maps, what is given (V, L)."""

    maps: Tensor
    reference_latents: Tensor
    reference_maps: Tensor
    given: Tensor
    given_latents: Tensor

    def of_views(self, views: np.ndarray) -> dict[str, Any]:
        """The pipeline's keywords for some of the block's rows."""
        photo = {"reference_latents": self.reference_latents, "reference_maps": self.reference_maps}
        return photo | {name: getattr(self, name)[views] for name in ("maps", "given", "given_latents")}


def sample_grid(
    pipeline: MVP4DPipeline,
    scene: Scene,
    blocks: list[Block],
    sampling: Sampling,
    *,
    store: BlockStore | None = None,
    progress: Progress = silent,
    on_step: OnStep = no_preview,
) -> np.ndarray:
    """The frames of all blocks, (V, F, S, S, 3) uint8 on white.

    `progress` is told solver steps, over all blocks. `on_step` is called after each step with its index within its block and the clean
    latents of that block's views (V, L, C, h, w) as seen there. Blocks that `store` has are taken from it, the others are put there.
    """
    size = scene.camera.width
    grid = np.full((len(scene.cameras), len(scene.performance), size, size, 3), 255, np.uint8)
    photo = _photo_conditions(pipeline, scene, sampling)
    total = len(blocks) * sampling.steps
    for index, block in enumerate(blocks):
        rows, columns = list(block.new_views), slice(block.start + block.prefix, block.stop)
        frames = store.load(index, grid[rows, columns].shape) if store else None
        if frames is not None:
            progress("generate", (index + 1) * sampling.steps, total)
        else:
            within = _within(progress, index * sampling.steps, total)
            frames = _sample_block(pipeline, scene, block, sampling, photo, grid, within, on_step)
            if store:
                store.save(index, frames)
        grid[rows, columns] = frames
    return grid


def _within(progress: Progress, before: int, total: int) -> Progress:
    """A progress for the steps of one block, as part of all."""
    return lambda stage, done, block_total: progress("generate", min(before + done, total), total)


def _photo_conditions(pipeline: MVP4DPipeline, scene: Scene, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Latents (1, C, h, w) and maps (1, 59, h, w) of the photo."""
    maps = reference_maps(
        scene.head_model,
        scene.rig,
        scene.parameters,
        scene.camera,
        latent_size=scene.latent_size,
        inside=scene.inside,
        device=pipeline._execution_device,
    )
    return pipeline.encode_images(torch.from_numpy(scene.photo)[None]), _dropped(maps, sampling)[None]


def _dropped(maps: Tensor, sampling: Sampling) -> Tensor:
    for name in sampling.without_maps:
        maps[..., MAP_SLICES[name], :, :] = 0
    return maps


def _sample_block(
    pipeline: MVP4DPipeline,
    scene: Scene,
    block: Block,
    sampling: Sampling,
    photo: tuple[Tensor, Tensor],
    grid: np.ndarray,
    progress: Progress,
    on_step: OnStep,
) -> np.ndarray:
    """The new frames of a block, (its new views, its frames after the prefix, S, S, 3) uint8."""
    maps = condition_maps(
        scene.head_model,
        scene.rig,
        [scene.cameras[view] for view in block.views],
        scene.performance.select(list(block.frames)),
        reference_camera=scene.camera,
        latent_size=scene.latent_size,
        device=pipeline._execution_device,
    )
    given, given_latents = _given_latents(pipeline, grid, block)
    conditions = _Conditions(_dropped(maps, sampling), *photo, given, given_latents)
    seed = int(digest_of([sampling.seed, block.new_views, block.start])[:15], 16)
    if len(block.views) > sampling.view_block:
        latents = _sample_in_groups(pipeline, conditions, sampling, seed, progress, on_step)
    else:
        latents = pipeline(
            **conditions.of_views(np.arange(len(block.views))),
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            batch_guidance=sampling.batch_guidance,
            solver=sampling.solver,
            seed=seed,
            progress=progress,
            on_step=on_step,
        )
    made = slice(block.prefix, block.stop - block.start)
    rows = range(len(block.given_views), len(block.views))
    return np.concatenate([to_bytes(np.asarray(pipeline.decode_latents(latents[row : row + 1])[:, made].cpu())) for row in rows])


def _given_latents(pipeline: MVP4DPipeline, grid: np.ndarray, block: Block) -> tuple[Tensor, Tensor]:
    """Which latents of a block are given (V, L) bool, and they themselves, zero elsewhere.

    A prefix is encoded as a clip that ends with it, so that nothing unfinished enters the autoencoder.
    """
    whole, prefix = len(block.given_views), latent_frames(block.prefix)
    given = torch.zeros((len(block.views), latent_frames(len(block.frames))), dtype=torch.bool)
    given[:whole] = True
    given[:, :prefix] = True
    height, width = (side // SPATIAL for side in grid.shape[2:4])
    channels = pipeline.transformer.config.in_channels
    latents = torch.zeros((*given.shape, channels, height, width))
    for row, view in enumerate(block.views):
        frames = block.frames if row < whole else block.frames[: block.prefix]
        if frames:
            encoded = pipeline.encode_videos(torch.from_numpy(grid[view, list(frames)])[None].float() / 255)
            latents[row, : encoded.shape[1]] = encoded[0].float().cpu()
    return given, latents


def _sample_in_groups(
    pipeline: MVP4DPipeline, conditions: _Conditions, sampling: Sampling, seed: int, progress: Progress, on_step: OnStep = no_preview
) -> Tensor:
    """Latents (V, L, C, h, w) of more views than the model takes at once: velocities by shuffled groups, one step for all.

    The noise levels are those of one group, because that is what each prediction sees.
    """
    given, known = conditions.given, conditions.given_latents
    sizes = [int((~given[group]).sum()) for group in shuffled_groups(len(given), sampling.view_block, seed, 0)]
    base = pipeline.scheduler
    solver = make_scheduler(sampling.solver, snr_shift(base.config.snr_shift_scale, max(sizes)), base)
    solver.set_timesteps(sampling.steps)
    guidance = {"guidance_scale": sampling.guidance_scale, "batch_guidance": sampling.batch_guidance}
    latents = overwrite_given(draw_noise(tuple(known.shape), seed), given, known)
    try:
        for step, timestep in enumerate(steps(solver.timesteps.tolist(), "sample", sampling.steps, progress)):
            velocity = torch.zeros_like(latents)
            for group in shuffled_groups(len(given), sampling.view_block, seed, step):
                velocity[group] = pipeline.predict_velocity(latents[group], timestep, **conditions.of_views(group), **guidance)
            check_prediction(velocity, step, pipeline.transformer.dtype)
            sample, estimate = solver.step(velocity, timestep, latents)
            latents = overwrite_given(sample, given, known)
            on_step(step, overwrite_given(estimate, given, known))
    finally:
        pipeline.maybe_free_model_hooks()
    return latents
