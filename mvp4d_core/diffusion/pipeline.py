# SPDX-License-Identifier: Apache-2.0
"""The MMVDM's pipeline, in diffusers' manner: a photo's latents and maps in, the latents of one clip of V views out.

`__call__` makes what the model takes at once; `rollout` makes hundreds of frames of it. The number of steps, the guidance scale and the
solver that MVP4D uses are not known to us; the defaults (20 steps of DPM-Solver++(2M), scale 2) are ours, the scale that of CAP4D.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
from torch import Tensor

from ..errors import FormatError, InputError, MissingAssetError, MVP4DError
from ..io.atomic import atomic_json
from ..io.folders import make_folder
from ..progress import Progress, silent, steps
from .autoencoding import check_finite, decode_videos, encode_videos, fit_latent_colors, latent_colors
from .checkpoints import load_transformer, load_vae
from .guidance import ModelInput, drop_conditions, guide, model_input, overwrite_given
from .schedule import Solver, check_scheduler, draw_noise, make_scheduler, snr_shift
from .transformer import MVP4DTransformer3DModel

OnStep = Callable[[int, Tensor], None]
INDEX = "model_index.json"  # written last: a folder without it is unfinished
SCHEDULER = "scheduler/scheduler_config.json"


def no_preview(step: int, latents: Tensor) -> None:
    """The `on_step` that looks at nothing."""


class MVP4DPipeline(DiffusionPipeline):
    """Frozen causal autoencoder, transformer and scheduler.

    Tensors may lie on any device; results come back on the device of what was handed in, the models run on the pipeline's own. diffusers'
    `to`, `enable_model_cpu_offload` and so on apply.

    Args:
        vae: pictures to latents and back.
        transformer: predicts the velocity.
        scheduler: v-prediction, zero terminal SNR; its `snr_shift_scale` is the shift for a single clip, on which `snr_shift` stacks.
    """

    model_cpu_offload_seq = "transformer->vae"

    def __init__(self, vae: AutoencoderKLCogVideoX, transformer: MVP4DTransformer3DModel, scheduler: CogVideoXDDIMScheduler) -> None:
        super().__init__()
        check_scheduler(scheduler)
        channels, taken, returned = vae.config["latent_channels"], transformer.config["in_channels"], transformer.config["out_channels"]
        if not channels == taken == returned:
            raise FormatError(
                f"The autoencoder has {channels} latent channels, the transformer takes {taken} and returns {returned}: "
                "they are not of one model. Take all parts from one folder."
            )
        self.register_modules(vae=vae, transformer=transformer, scheduler=scheduler)
        self._colors: Tensor | None = None

    # 1. Files

    @classmethod
    def from_folder(cls, path: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> "MVP4DPipeline":
        """Loads the parts `vae/`, `transformer/` and `scheduler/` of a folder in diffusers' layout. No code named in the folder runs.

        CogVideoX-2B's own folder is such a one; its text encoder is left alone. On the device `meta` no weights are read: what is wrong
        with their names and shapes shows in a moment, NaN does not.

        Raises:
            MissingAssetError: a part is missing.
            FormatError: a part is of another model, or broken.
        """
        path = Path(path)
        for file in (INDEX, SCHEDULER):
            if not (path / file).is_file():
                raise MissingAssetError(f"{path} is no finished MVP4D pipeline: {file} is missing. Give the folder that holds {INDEX}.")
        scheduler = _read_scheduler(path / SCHEDULER)
        vae = load_vae(path / "vae", device=device, dtype=dtype)
        return cls(vae, load_transformer(path / "transformer", device=device, dtype=dtype), scheduler)

    def save_folder(self, path: str | Path) -> None:
        """Writes the folder that `from_folder` and diffusers' `MVP4DPipeline.from_pretrained` read; `model_index.json` last."""
        path = Path(path)
        make_folder(path)
        (path / INDEX).unlink(missing_ok=True)
        for name in ("vae", "transformer", "scheduler"):
            getattr(self, name).save_pretrained(path / name)
        atomic_json(path / INDEX, {
            "_class_name": type(self).__name__,
            "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
            "transformer": ["mvp4d_core.diffusion.transformer", "MVP4DTransformer3DModel"],
            "vae": ["diffusers", "AutoencoderKLCogVideoX"],
        })  # fmt: skip

    # 2. Pictures and latents

    def encode_images(self, images: Tensor, *, tile: int | None = None) -> Tensor:
        """Stills (N, H, W, 3) floats in 0..1 to latents (N, 16, H/8, W/8); arguments and errors of `encode_videos`."""
        if images.ndim != 4:
            raise InputError(f"Images to encode must have shape (N, H, W, 3), got {tuple(images.shape)}.")
        return self.encode_videos(images[:, None], tile=tile)[:, 0]

    def encode_videos(self, videos: Tensor, *, tile: int | None = None) -> Tensor:
        """Videos (V, F, H, W, 3) to latents (V, L, 16, H/8, W/8); see `autoencoding.encode_videos`."""
        return encode_videos(self.vae, videos, device=self._execution_device, tile=tile)

    def decode_latents(self, latents: Tensor, *, tile: int | None = None) -> Tensor:
        """Latents (V, L, 16, h, w) to videos (V, F, 8h, 8w, 3) float32 in 0..1; see `autoencoding.decode_videos`."""
        return decode_videos(self.vae, latents, device=self._execution_device, tile=tile)

    def preview(self, latents: Tensor) -> Tensor:
        """A rough picture (..., h, w, 3) in 0..1 of latents (..., 16, h, w), cheap enough for every step."""
        if self._colors is None:
            self._colors = fit_latent_colors(self.vae, device=self._execution_device)
        return latent_colors(latents, self._colors)

    # 3. The model

    @torch.no_grad()
    def predict_velocity(
        self,
        latents: Tensor,
        timestep: Tensor | int,
        *,
        maps: Tensor,
        reference_latents: Tensor,
        reference_maps: Tensor,
        given: Tensor | None = None,
        given_latents: Tensor | None = None,
        guidance_scale: float = 1.0,
        frame_indices: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        batch_guidance: bool = False,
    ) -> Tensor:
        """The guided velocity of noisy latents. Arguments as in `__call__`, which checks them; `timestep` in 0..999.

        With `guidance_scale` 1 the unconditional branch is not computed.

        Returns:
            (V, L, 16, h, w) float32 on the device of `latents`; without meaning where `given`.
        """
        device, dtype = self._execution_device, self.transformer.dtype

        def batched(tensor: Tensor) -> Tensor:
            return tensor[None].to(device, dtype)

        flags = None if given is None else given[None].to(device)
        clean = None if given_latents is None else batched(given_latents)
        conditional = model_input(batched(latents), batched(maps), batched(reference_latents), batched(reference_maps), flags, clean)
        common = {
            "timestep": torch.as_tensor([int(timestep)], device=device),
            "frame_indices": None if frame_indices is None else frame_indices.to(device),
            "encoder_hidden_states": None if encoder_hidden_states is None else batched(encoder_hidden_states),
        }
        if guidance_scale == 1:
            velocity = self._forward(conditional, **common)
        else:
            unconditional = drop_conditions(conditional, torch.ones(1, dtype=torch.bool, device=device), flags)
            if batch_guidance:
                both = self._forward(_stacked(conditional, unconditional), **{name: _twice(value, name) for name, value in common.items()})
                velocity = guide(*both.chunk(2), guidance_scale=guidance_scale)
            else:
                velocity = guide(self._forward(conditional, **common), self._forward(unconditional, **common), guidance_scale)
        return velocity[0].to(latents.device)

    def _forward(self, inputs: ModelInput, **common: Any) -> Tensor:
        return self.transformer(**inputs.keywords(), **common, return_dict=False)[0].float()

    # 4. Sampling

    @torch.no_grad()
    def __call__(
        self,
        *,
        reference_latents: Tensor,
        reference_maps: Tensor,
        maps: Tensor,
        given: Tensor | None = None,
        given_latents: Tensor | None = None,
        num_inference_steps: int = 20,
        guidance_scale: float = 2.0,
        solver: Solver = "dpm",
        seed: int = 0,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
        frame_indices: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        batch_guidance: bool = False,
        progress: Progress = silent,
        on_step: OnStep = no_preview,
    ) -> Tensor:
        """Samples the latents of one clip.

        Args:
            reference_latents: (R, 16, h, w), of `encode_images`, R >= 1.
            reference_maps: (R, M, h, w), of `conditioning.reference_maps`.
            maps: (V, L, M, h, w), of `conditioning.condition_maps`; the mask channel is written here, from `given`.
            given: (V, L) bool, the latent frames that are known: finished views, a clean prefix. None for none, not all.
            given_latents: (V, L, 16, h, w), read only where `given`; float32 or narrower.
            num_inference_steps: 1..1000.
            guidance_scale: of classifier-free guidance; 1 for none, which halves the work.
            solver: "ddim", or "dpm" (second order) for few steps.
            seed: of the noise; `generator`, on the CPU, is used in its place when given, and `noise` (V, L, 16, h, w) in place of both.
            frame_indices: (L,) temporal positions; 0 .. L - 1 when not given.
            encoder_hidden_states: (T, D) text embeddings, for a model with text parts; none when not given.
            batch_guidance: both branches in one forward: faster on a GPU, twice the memory.
            progress: called as ("sample", done, steps); may raise `Cancelled`.
            on_step: called after each step with its index and the clean latents (V, L, 16, h, w) as seen there, for `preview`.

        Returns:
            (V, L, 16, h, w) float32 on the device of `maps`; bit for bit `given_latents` where `given`.

        Raises:
            InputError: an argument of the wrong shape or with NaN, before any work.
            MVP4DError: the model's prediction is not finite.
        """
        self.check_inputs(reference_latents, reference_maps, maps, given, given_latents, guidance_scale, noise, frame_indices)
        shape = (*maps.shape[:2], *reference_latents.shape[1:])
        generated = maps.shape[0] * maps.shape[1] - (0 if given is None else int(given.sum()))
        steppings = make_scheduler(solver, snr_shift(self.scheduler.config.snr_shift_scale, generated), self.scheduler)
        steppings.set_timesteps(num_inference_steps)
        if noise is None:
            noise = draw_noise(shape, seed if generator is None else generator)

        device, dtype = self._execution_device, self.transformer.dtype
        latents = noise.to(device, torch.float32)
        flags = None if given is None else given.to(device)
        clean = None if given_latents is None else given_latents.to(device, torch.float32)
        conditions = {
            "maps": maps.to(device, dtype), "reference_latents": reference_latents.to(device), "reference_maps": reference_maps.to(device),
            "given": flags, "given_latents": clean, "guidance_scale": guidance_scale, "frame_indices": frame_indices,
            "encoder_hidden_states": encoder_hidden_states, "batch_guidance": batch_guidance,
        }  # fmt: skip
        try:
            for index, timestep in enumerate(steps(steppings.timesteps.tolist(), "sample", num_inference_steps, progress)):
                velocity = self.predict_velocity(latents, timestep, **conditions)
                latents, estimate = steppings.step(velocity, timestep, latents)
                check_prediction(latents, index, dtype)
                on_step(index, overwrite_given(estimate, flags, clean))
        finally:
            self.maybe_free_model_hooks()
        return overwrite_given(latents, flags, clean).to(maps.device)

    def check_inputs(
        self,
        reference_latents: Tensor,
        reference_maps: Tensor,
        maps: Tensor,
        given: Tensor | None,
        given_latents: Tensor | None,
        guidance_scale: float,
        noise: Tensor | None,
        frame_indices: Tensor | None,
    ) -> None:
        """Raises InputError for the first argument of `__call__` that does not fit the model or the others."""
        channels, map_channels, patch = (self.transformer.config[key] for key in ("in_channels", "map_channels", "patch_size"))
        if maps.ndim != 5 or not maps.numel() or maps.shape[2] != map_channels:
            raise InputError(f"`maps` must have shape (V, L, {map_channels}, h, w), got {tuple(maps.shape)}.")
        views, frames, _, height, width = maps.shape
        if height % patch or width % patch:
            raise InputError(f"`maps` must be multiples of {patch} latents high and wide, got {height} x {width}.")
        references = max(1, reference_latents.shape[0])
        _check_shape("reference_latents", reference_latents, (references, channels, height, width))
        _check_shape("reference_maps", reference_maps, (references, map_channels, height, width))
        for name, tensor in (("maps", maps), ("reference_latents", reference_latents), ("reference_maps", reference_maps)):
            check_finite(name, tensor)
        self._check_given(given, given_latents, (views, frames, channels, height, width))
        if noise is not None:
            _check_shape("noise", noise, (views, frames, channels, height, width))
            check_finite("noise", noise)
        if frame_indices is not None:
            _check_shape("frame_indices", frame_indices, (frames,))
        if not 0 <= guidance_scale < float("inf"):
            raise InputError(f"`guidance_scale` must be 0 or more and finite, got {guidance_scale}.")

    @staticmethod
    def _check_given(given: Tensor | None, given_latents: Tensor | None, shape: tuple[int, ...]) -> None:
        if (given is None) != (given_latents is None):
            there, missing = ("given", "given_latents") if given_latents is None else ("given_latents", "given")
            raise InputError(f"`{there}` needs `{missing}`, got none. Give both or neither.")
        if given is None or given_latents is None:
            return
        _check_shape("given", given, shape[:2])
        _check_shape("given_latents", given_latents, shape)
        if given.dtype != torch.bool:
            raise InputError(f"`given` must be bool, got {given.dtype}.")
        if not given_latents.is_floating_point() or given_latents.dtype == torch.float64:
            raise InputError(f"`given_latents` must be float32 or narrower, so that they come back exactly, got {given_latents.dtype}.")
        if given.all():
            raise InputError(f"All {given.numel()} latent frames are given, so there is nothing to generate.")
        check_finite("given_latents", given_latents[given.to(given_latents.device)])


def _read_scheduler(path: Path) -> CogVideoXDDIMScheduler:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path} is not JSON: {error}. Copy it from its source again.") from None
    kind = config.get("_class_name") if isinstance(config, dict) else None
    if kind != CogVideoXDDIMScheduler.__name__:
        raise FormatError(f"{path} is of {kind}, not of {CogVideoXDDIMScheduler.__name__}: it belongs to another model.")
    return cast(CogVideoXDDIMScheduler, CogVideoXDDIMScheduler.from_config(config))


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise InputError(f"`{name}` must have shape {shape} to fit `maps` and the model, got {tuple(tensor.shape)}.")


def check_prediction(latents: Tensor, step: int, dtype: torch.dtype) -> None:
    """Raises MVP4DError where what the model predicted at a step is not finite."""
    if not torch.isfinite(latents).all():
        cure = "Take bfloat16 or float32, float16 overflows." if dtype == torch.float16 else "Check the weights."
        raise MVP4DError(f"The transformer's prediction of step {step + 1} is not finite ({dtype}). {cure}")


def _stacked(first: ModelInput, second: ModelInput) -> ModelInput:
    """One batch of two."""
    return ModelInput(**{name: torch.cat([value, getattr(second, name)]) for name, value in first.keywords().items()})


def _twice(value: Tensor | None, name: str) -> Tensor | None:
    """A condition that both branches share, for a batch of two; the temporal positions have no batch dimension."""
    return value if value is None or name == "frame_indices" else torch.cat([value, value])
