# SPDX-License-Identifier: Apache-2.0
"""Pictures to latents and back through CogVideoX's frozen causal video autoencoder.

F = 1 + 4k frames are 1 + k latent frames: the first holds one frame, each later one the next four. Encoding takes the posterior's mode, and
no video sees another, so a latent depends on its own video and nothing else.

The autoencoder works through a video in runs of 8 frames (2 latent frames), the first run longer. Convolutions are causal across runs, but
group norms average over the frames of a run: the first latent of a still video is that of the still, that of a moving one is close to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError

TEMPORAL = 4
_TILING = (
    "use_tiling", "tile_sample_min_height", "tile_sample_min_width", "tile_latent_min_height", "tile_latent_min_width",
    "tile_overlap_factor_height", "tile_overlap_factor_width",
)  # fmt: skip


def latent_size(vae: AutoencoderKLCogVideoX) -> int:
    """How many pixels a latent is wide: 8."""
    return 2 ** (len(vae.config["block_out_channels"]) - 1)


def scaled_latents(vae: AutoencoderKLCogVideoX, latents: Tensor) -> Tensor:
    """Raw latents (..., C, h, w) as the transformer takes them: minus the config's `latents_mean`, over `latents_std`, times
    `scaling_factor`. CogVideoX-2B's config has the factor alone."""
    mean, deviation = _moments(vae, latents)
    return (latents - mean) / deviation * vae.config["scaling_factor"]


def raw_latents(vae: AutoencoderKLCogVideoX, latents: Tensor) -> Tensor:
    """The inverse of `scaled_latents`."""
    mean, deviation = _moments(vae, latents)
    return latents / vae.config["scaling_factor"] * deviation + mean


def _moments(vae: AutoencoderKLCogVideoX, like: Tensor) -> tuple[Tensor, Tensor]:
    """`latents_mean` and `latents_std` as (C, 1, 1), 0 and 1 where the config has none."""
    channels = vae.config["latent_channels"]
    given = (vae.config.get("latents_mean") or [0.0] * channels, vae.config.get("latents_std") or [1.0] * channels)
    mean, deviation = (torch.tensor(values, device=like.device, dtype=like.dtype).reshape(-1, 1, 1) for values in given)
    return mean, deviation


@torch.no_grad()
def encode_videos(
    vae: AutoencoderKLCogVideoX, videos: Tensor, *, device: torch.device | None = None, tile: int | None = None, together: int = 1
) -> Tensor:
    """Videos to scaled latents.

    Args:
        vae: frozen.
        videos: (V, F, H, W, 3) floats in 0..1, F = 1 + 4k, H and W multiples of 8.
        device: where the autoencoder runs when that is not where its weights lie (offloading).
        tile: pixels a side of the tiles that larger pictures are cut into, a multiple of 32; None for none.
        together: videos that go through at a time; their latents are those of each alone, but for rounding.

    Returns:
        (V, 1 + k, C, H/8, W/8) float32 on the device of `videos`.

    Raises:
        InputError: another shape, integers, or values outside 0..1.
    """
    _check_videos(videos, latent_size(vae))
    latents = []
    with _tiling(vae, tile):
        for some in videos.split(together):
            pixels = some.to(device or vae.device, vae.dtype).permute(0, 4, 1, 2, 3) * 2 - 1
            mode = vae.encode(pixels, return_dict=False)[0].mode().transpose(1, 2)
            latents.append(scaled_latents(vae, mode.float()).to(videos.device))
    return torch.cat(latents)


@torch.no_grad()
def decode_videos(vae: AutoencoderKLCogVideoX, latents: Tensor, *, device: torch.device | None = None, tile: int | None = None) -> Tensor:
    """Scaled latents (V, L, C, h, w) to videos (V, 1 + 4 (L - 1), 8h, 8w, 3) float32 in 0..1, on the device of `latents`.

    View by view and two latent frames at a time. The autoencoder takes an even number of latent frames for the middle of a video and makes
    three frames too many, so the last one is repeated to an odd number and what comes of it is cut off; by causality it changes nothing
    before itself but for the norms of its own run.

    Raises:
        InputError: another shape, or NaN.
    """
    channels = vae.config["latent_channels"]
    if latents.ndim != 5 or latents.shape[2] != channels or not latents.numel():
        raise InputError(f"Latents must have shape (V, L, {channels}, h, w), got {tuple(latents.shape)}.")
    check_finite("latents", latents)
    frames = 1 + TEMPORAL * (latents.shape[1] - 1)
    videos = []
    with _tiling(vae, tile):
        for view in latents:
            odd = view if len(view) % 2 else torch.cat([view, view[-1:]])
            raw = raw_latents(vae, odd.to(device or vae.device, torch.float32)).transpose(0, 1)[None]
            pixels = vae.decode(raw.to(vae.dtype), return_dict=False)[0][0, :, :frames]
            videos.append((pixels.permute(1, 2, 3, 0).float() / 2 + 0.5).clamp(0, 1).to(latents.device))
    return torch.stack(videos)


@torch.no_grad()
def fit_latent_colors(vae: AutoencoderKLCogVideoX, *, device: torch.device | None = None) -> Tensor:
    """The linear map (C + 1, 3) float32 from a scaled latent and 1 to the mean colour of its pixels, for previews.

    Least squares over stills of smooth random colours on white, which the autoencoder encodes in a moment.
    """
    size = latent_size(vae)
    fields = torch.rand((16, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    colors, alphas = F.interpolate(fields, scale_factor=2 * size, mode="bilinear", align_corners=False).split([3, 1], dim=1)
    stills = 1 - (4 * alphas - 1.5).clamp(0, 1) * (1 - colors)
    latents = encode_videos(vae, stills.permute(0, 2, 3, 1)[:, None], device=device)[:, 0].permute(0, 2, 3, 1).flatten(0, 2)
    colors = F.avg_pool2d(stills, size).permute(0, 2, 3, 1).flatten(0, 2)
    known = torch.cat([latents, torch.ones(len(latents), 1)], dim=1).double()
    return torch.linalg.lstsq(known, colors.double(), driver="gelsd").solution.float()


def latent_colors(latents: Tensor, factors: Tensor) -> Tensor:
    """A rough picture (..., h, w, 3) float32 in 0..1 of latents (..., C, h, w) by the factors of `fit_latent_colors`."""
    factors = factors.to(latents.device)
    return (latents.float().movedim(-3, -1) @ factors[:-1] + factors[-1]).clamp(0, 1)


def check_finite(name: str, tensor: Tensor) -> None:
    """Raises InputError where `tensor` holds NaN or infinity."""
    if not torch.isfinite(tensor).all():
        raise InputError(f"`{name}` must be finite, but {int((~torch.isfinite(tensor)).sum())} of its {tensor.numel()} values are not.")


def _check_videos(videos: Tensor, size: int) -> None:
    shape = tuple(videos.shape)
    if videos.ndim != 5 or shape[-1] != 3 or not videos.numel() or not videos.is_floating_point():
        raise InputError(f"Videos to encode must be floats of shape (V, F, H, W, 3), got {videos.dtype} {shape}.")
    if shape[1] % TEMPORAL != 1:
        raise InputError(f"A video to encode must have 1 + 4k frames (1, 5, 9, 13 and so on), got {shape[1]}. Repeat the last one.")
    if shape[2] % size or shape[3] % size:
        raise InputError(f"Pictures to encode must be multiples of {size} px high and wide, got {shape[2]} x {shape[3]}. Resize them.")
    if not ((videos >= 0) & (videos <= 1)).all():
        raise InputError("Pictures to encode must have finite values in 0..1. Divide bytes by 255, clip what a filter overshoots.")


@contextmanager
def _tiling(vae: AutoencoderKLCogVideoX, tile: int | None) -> Iterator[None]:
    """Tiles of `tile` pixels that overlap by a quarter, for the block alone. Other overlaps may not meet at whole latents."""
    if tile is None:
        yield
        return
    step = 4 * latent_size(vae)
    if tile < step or tile % step:
        raise InputError(f"`tile` must be a multiple of {step} px, got {tile}.")
    before = {name: getattr(vae, name) for name in _TILING}
    vae.enable_tiling(tile, tile, 0.25, 0.25)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(vae, name, value)
