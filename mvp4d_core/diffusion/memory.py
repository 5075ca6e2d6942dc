# SPDX-License-Identifier: Apache-2.0
"""How much memory sampling will take, before it runs, and which offloading, tiling and block sizes fit a graphics card.

The estimate counts rather than models: the pipeline itself runs on torch's `meta` device, where tensors have shapes but no numbers, while
the bytes of all tensors alive are added up. So it follows the code, of whatever depth, width, tiling or guidance. Two things a `meta`
tensor does not show are put in: attention runs as a fused kernel, linear in the tokens, and a convolution rearranges the larger of what it
reads and writes. What is not counted: the driver's context, an allocator's gaps and a library's caches, for which `choose_plan` leaves
a tenth of the card.

The plans' sizes and the order in which they are tried are this project's own choice.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import FormatError, InputError
from .checkpoints import read_settings
from .pipeline import MVP4DPipeline
from .rollout import latent_frames, whole_clip
from .schedule import base_scheduler
from .transformer import MVP4DTransformer3DModel

Offload = Literal["none", "model", "sequential"]
OFFLOADS: tuple[Offload, ...] = ("none", "model", "sequential")
PHASES = ("encode", "sample", "decode")
USABLE = 0.9  # of a card, beside context, gaps and caches
TILE = 256  # pixels a side of the autoencoder's tiles
VIEW_BLOCKS, FRAME_BLOCKS = (8, 6, 4, 3, 2, 1), (49, 25, 13, 5, 1)
_MEASURED_LAYERS = 2  # all blocks are alike; what two of them hold, thirty hold


@dataclass(frozen=True, eq=False)
class ModelConfig:
    """Settings of `MVP4DTransformer3DModel` and of `AutoencoderKLCogVideoX`, their defaults where not given: CogVideoX-2B's."""

    transformer: Mapping[str, Any] = field(default_factory=dict)
    vae: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_folder(cls, path: str | Path) -> "ModelConfig":
        """The settings of a pipeline folder; see `read_settings`."""
        return cls(*read_settings(path))

    @cached_property
    def pipeline(self) -> MVP4DPipeline:
        """The whole model on `meta`, in float32."""
        with torch.device("meta"):
            return _assemble(self.transformer, self.vae)

    @cached_property
    def short_pipeline(self) -> MVP4DPipeline:
        """The same with two transformer blocks at most."""
        layers = min(_MEASURED_LAYERS, self.pipeline.transformer.config.num_layers)
        with torch.device("meta"):
            return _assemble({**self.transformer, "num_layers": layers}, self.vae)


@dataclass(frozen=True)
class MemoryPlan:
    """How to sample within some memory.

    Attributes:
        offload: `none`; `model` keeps only the part at work on the device; `sequential` only the layer at work, which is slow.
        tile: pixels a side of the autoencoder's tiles, or None for whole pictures.
        view_block, frame_block: what the model takes at once, as `MMVDMGenerator` wants them.
        batch_guidance: both branches of guidance in one forward.
        dtype: of weights and activations.
    """

    offload: Offload = "none"
    tile: int | None = None
    view_block: int = 8
    frame_block: int = 13
    batch_guidance: bool = False
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class MemoryEstimate:
    """What a plan takes on the device, in bytes.

    Attributes:
        phases: `encode`, `sample` and `decode`, each `weights` resident in it and `activations` at its peak, conditions, latents, noise and
            pictures among them.
    """

    phases: Mapping[str, Mapping[str, int]]

    @property
    def peak_phase(self) -> str:
        """The phase that takes most."""
        return max(self.phases, key=lambda phase: sum(self.phases[phase].values()))

    @property
    def parts(self) -> Mapping[str, int]:
        """The parts of the peak."""
        return self.phases[self.peak_phase]

    @property
    def peak_bytes(self) -> int:
        """The most that is taken at any time."""
        return sum(self.parts.values())


def estimate_memory(
    config: ModelConfig, views: int, frames: int, size: int, plan: MemoryPlan | None = None, *, guidance_scale: float = 2.0
) -> MemoryEstimate:
    """What making `views` videos of `frames` frames and `size` pixels a side will take: that of its largest block.

    Raises:
        InputError: counts below 1, or a size that is no multiple of 16.
    """
    plan = plan or MemoryPlan()
    _check_clip(views, frames, size)
    return MemoryEstimate({phase: parts for phase, parts in _phases(config, views, frames, size, plan, guidance_scale)})


def choose_plan(
    config: ModelConfig,
    gpu_gb: float,
    views: int,
    frames: int,
    size: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    guidance_scale: float = 2.0,
    least_offload: Offload = "none",
) -> MemoryPlan:
    """The plan that fits a card of `gpu_gb` (2^30 bytes).

    As much of the grid as possible is sampled jointly, up to 8 views and the 49 frames or fewer of the model's training (`sample_frames`),
    because that is what holds views together; time is given away first: tiles, then offloading of whole models, then of layers. No plan
    offloads less than `least_offload`.

    Raises:
        InputError: nothing fits; or as `estimate_memory`.
    """
    _check_clip(views, frames, size)
    limit, plan = USABLE * gpu_gb * 2**30, MemoryPlan(dtype=dtype)
    offloads = OFFLOADS[OFFLOADS.index(least_offload) :]

    def fits(plan: MemoryPlan) -> bool:
        return all(sum(parts.values()) <= limit for _, parts in _phases(config, views, frames, size, plan, guidance_scale))

    for view_block, frame_block in _blocks(views, frames, config.pipeline.transformer.config.sample_frames):
        for offload, tile in product(offloads, (None, TILE) if size > TILE else (None,)):
            plan = MemoryPlan(offload, tile, view_block, frame_block, dtype=dtype)
            if fits(plan):
                batched = replace(plan, batch_guidance=guidance_scale != 1)
                return batched if fits(batched) else plan
    needed = estimate_memory(config, views, frames, size, plan, guidance_scale=guidance_scale).peak_bytes / USABLE / 2**30
    raise InputError(
        f"{views} views x {frames} frames at {size} px cannot be made with {gpu_gb:g} GB: even one view of the shortest clip, "
        f"all offloaded, takes {needed:.1f} GB.\nTake a smaller size or a larger card."
    )


def apply_plan(pipeline: MVP4DPipeline, plan: MemoryPlan, device: torch.device | str) -> MVP4DPipeline:
    """Brings the pipeline to `device` as the plan says: dtype, tiles, offloading. The blocks are for the generator to take.

    Raises:
        InputError: offloading from the CPU.
    """
    device = torch.device(device)
    if plan.offload != "none" and device.type == "cpu":
        raise InputError(f"Offloading (`{plan.offload}`) moves weights off a graphics card, got the device cpu. Plan without it.")
    _cast(pipeline, plan.dtype)
    if plan.tile is None:
        pipeline.vae.disable_tiling()
    else:
        pipeline.vae.enable_tiling(plan.tile, plan.tile, 0.25, 0.25)
    if plan.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif plan.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
    return pipeline


def _cast(pipeline: MVP4DPipeline, dtype: torch.dtype) -> MVP4DPipeline:
    """The pipeline with its weights in `dtype`; diffusers' own `to` warns of layers kept in float32, even of none."""
    for part in (pipeline.transformer, pipeline.vae):
        nn.Module.to(part, dtype=dtype)
    return pipeline


def _phases(
    config: ModelConfig, views: int, frames: int, size: int, plan: MemoryPlan, guidance_scale: float
) -> Iterator[tuple[str, dict[str, int]]]:
    """Each phase with its bytes by part; sampling, which is told soonest, first."""
    block = min(views, plan.view_block), min(whole_clip(frames), plan.frame_block)
    again = block[0] < views or block[1] < frames  # later blocks encode finished frames
    weights = _resident_weights(config, plan)
    yield (
        "sample",
        {
            "weights": weights["sample"],
            "activations": _sampling(config, *block, size, plan.dtype, guidance_scale, plan.batch_guidance),
        },
    )
    yield "encode", {"weights": weights["encode"], "activations": _encoding(config, block[1] if again else 1, size, plan.tile, plan.dtype)}
    yield "decode", {"weights": weights["decode"], "activations": _decoding(config, block[1], size, plan.tile, plan.dtype)}


def _blocks(views: int, frames: int, trained: int) -> Iterator[tuple[int, int]]:
    """(view_block, frame_block) to try, most latent frames first, more views before more frames; no longer than `trained`, or the least."""
    lengths = [1] if frames == 1 else [f for f in FRAME_BLOCKS if 5 <= f <= max(trained, 5)]
    sizes = {(min(views, v), min(whole_clip(frames), f)) for v in VIEW_BLOCKS for f in lengths}
    yield from sorted(sizes, key=lambda block: (-block[0] * latent_frames(block[1]), -block[0]))


def _check_clip(views: int, frames: int, size: int) -> None:
    if views < 1 or frames < 1:
        raise InputError(f"There must be at least one view and one frame to plan for, got {views} and {frames}.")
    if size < 16 or size % 16:
        raise InputError(f"`size` must be a multiple of 16 px, got {size}.")


def _assemble(transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> MVP4DPipeline:
    try:
        parts = AutoencoderKLCogVideoX(**vae), MVP4DTransformer3DModel(**transformer)
    except (TypeError, ValueError, RuntimeError, InputError) as error:
        raise FormatError(f"The settings of the model make no model: {error}") from None
    with torch.device("cpu"):
        scheduler: CogVideoXDDIMScheduler = base_scheduler()
    return MVP4DPipeline(parts[0].eval(), parts[1].eval(), scheduler)


def _resident_weights(config: ModelConfig, plan: MemoryPlan) -> dict[str, int]:
    """Bytes of weights on the device in each phase."""
    parts = {"transformer": config.pipeline.transformer, "vae": config.pipeline.vae}
    whole = {name: sum(p.numel() for p in part.parameters()) * plan.dtype.itemsize for name, part in parts.items()}
    if plan.offload == "none":
        return dict.fromkeys(PHASES, sum(whole.values()))
    if plan.offload == "model":  # the autoencoder stays after it has encoded; the end of sampling clears the device
        return {"encode": whole["vae"], "sample": sum(whole.values()), "decode": whole["vae"]}
    largest = {name: _largest_layer(part) * plan.dtype.itemsize for name, part in parts.items()}
    return {"encode": largest["vae"], "sample": largest["transformer"], "decode": largest["vae"]}


def _largest_layer(part: nn.Module) -> int:
    return max(sum(p.numel() for p in layer.parameters(recurse=False)) for layer in part.modules())


# What follows runs the pipeline's own code on `meta`, with the same tensors as sampling a block makes.


@lru_cache(maxsize=64)
def _encoding(config: ModelConfig, frames: int, size: int, tile: int | None, dtype: torch.dtype) -> int:
    """Peak bytes of encoding one video, or the photo."""
    pipeline = _cast(config.pipeline, dtype)
    return _peak_bytes(pipeline, lambda: pipeline.encode_videos(torch.zeros((1, frames, size, size, 3), device="meta"), tile=tile))


@lru_cache(maxsize=64)
def _decoding(config: ModelConfig, frames: int, size: int, tile: int | None, dtype: torch.dtype) -> int:
    """Peak bytes of decoding one view of a block, the others leaving the device as bytes."""
    pipeline = _cast(config.pipeline, dtype)
    channels, side = pipeline.vae.config.latent_channels, size // 8
    latents = torch.zeros((1, latent_frames(frames), channels, side, side), device="meta")
    return _peak_bytes(pipeline, lambda: pipeline.decode_latents(latents, tile=tile))


@lru_cache(maxsize=64)
def _sampling(
    config: ModelConfig, views: int, frames: int, size: int, dtype: torch.dtype, guidance_scale: float, batch_guidance: bool
) -> int:
    """Peak bytes of sampling one block: maps, latents, noise and the transformer's activations."""
    pipeline = _cast(config.short_pipeline, dtype)
    settings, side, latents = pipeline.transformer.config, size // 8, latent_frames(frames)

    def sample() -> torch.Tensor:
        photo = torch.zeros((1, settings.in_channels, side, side), device="meta")
        return pipeline(
            reference_latents=photo,
            reference_maps=torch.zeros((1, settings.map_channels, side, side), device="meta"),
            maps=torch.zeros((views, latents, settings.map_channels, side, side), device="meta"),
            given=torch.zeros((views, latents), dtype=torch.bool),
            given_latents=torch.zeros((views, latents, settings.in_channels, side, side)),
            num_inference_steps=3,  # the solver remembers the step before from the second on
            guidance_scale=guidance_scale,
            batch_guidance=batch_guidance,
        )

    return _peak_bytes(pipeline, sample)


def _peak_bytes(pipeline: MVP4DPipeline, work: Callable[[], object]) -> int:
    """The most bytes that tensors which `work` makes on `meta` take at once, the pipeline's weights left out."""
    weights = [p for part in (pipeline.transformer, pipeline.vae) for p in part.parameters()]
    with torch.no_grad(), _LiveBytes(weights) as live, _FusedAttention():
        work()
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """Adds up the storages on `meta` that are alive. Questions about values, which such tensors can't answer, are answered with yes."""

    def __init__(self, left_out: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in left_out}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "meta":
            return True
        made = func(*args, **(kwargs or {}))
        for tensor in (made,) if isinstance(made, torch.Tensor) else tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                self._count(tensor.untyped_storage())
        if func is torch.ops.aten.convolution.default and made.device.type == "meta":
            self.peak = max(self.peak, self._now + max(args[0].nbytes, made.nbytes))
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


class _FusedAttention(TorchFunctionMode):
    """Attention that makes its result and nothing else, as flash and memory-efficient kernels do."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.nn.functional.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value"), args, strict=False)) | (kwargs or {})
            query, value = named["query"], named["value"]
            return query.new_zeros((*query.shape[:-1], value.shape[-1]))
        return func(*args, **(kwargs or {}))
