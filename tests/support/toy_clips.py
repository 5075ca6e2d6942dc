# SPDX-License-Identifier: Apache-2.0
"""Small clips of the toy head, a VAE and a transformer of a few thousand weights, and a cache of encoded clips."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

from mvp4d_core.conditioning import plan_views
from mvp4d_core.diffusion.transformer import MVP4DTransformer3DModel
from mvp4d_core.rig import Performance, head_model_digest, personalize
from mvp4d_core.training.clip import Clip
from mvp4d_core.training.latents import CachedClip, CacheSettings, encode_clips, open_cache
from mvp4d_core.training.store import ClipSource
from tests.support.toy_head import toy_head_model

SIZE = 32


def toy_clip(seed: int = 0, views: int = 4, frames: int = 5, size: int = SIZE) -> Clip:
    """Noise-coloured frames of a moving toy head; cameras as a plan has them."""
    rng = np.random.default_rng(seed)
    model = toy_head_model()
    shape = rng.normal(size=model.shapedirs.shape[-1]).astype(np.float32)
    performance = Performance(
        rng.uniform(0, 0.5, (frames, len(model.expression_names))),
        rng.normal(scale=0.05, size=(frames, len(model.joint_names), 3)),
        np.zeros((frames, 3)),
        25.0,
        model.expression_names,
        model.joint_names,
    )
    offsets = np.zeros_like(model.v_template)
    plan = plan_views(personalize(model, shape, offsets), performance, preset=120, views=views, size=size)
    coarse = rng.integers(0, 256, (views, 1, size // 8, size // 8, 3), dtype=np.uint8)
    pictures = coarse.repeat(8, axis=2).repeat(8, axis=3).repeat(frames, axis=1)
    pictures[..., 0] += np.arange(frames, dtype=np.uint8)[:, None, None] * 5
    return Clip(
        frames=pictures, alphas=pictures[..., 1].copy(), cameras=plan.cameras, inside=None, performance=performance,
        shape=shape, offsets=offsets, head_digest=head_model_digest(model), name=f"toy-{seed}", source="tests",
    )  # fmt: skip


def toy_vae() -> AutoencoderKLCogVideoX:
    """An untrained VAE of CogVideoX's class."""
    torch.manual_seed(0)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 8), layers_per_block=1, norm_num_groups=2, latent_channels=16,
        sample_height=SIZE, sample_width=SIZE, scaling_factor=1.5,
    ).eval()  # fmt: skip


def toy_transformer(seed: int = 0) -> MVP4DTransformer3DModel:
    """Two layers, 32 wide, without text."""
    torch.manual_seed(seed)
    return MVP4DTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, num_layers=2, time_embed_dim=16, text_embed_dim=None,
        sample_width=4, sample_height=4, sample_frames=5, spatial_interpolation_scale=1.0,
    )  # fmt: skip


def toy_cache(folder: Path, clips: int = 2, **sizes: int) -> list[CachedClip]:
    """A few encoded toy clips."""
    sources = [ClipSource(f"toy-{seed}", str(seed), lambda size, seed=seed: toy_clip(seed, size=size, **sizes)) for seed in range(clips)]
    settings = CacheSettings(size=SIZE, frames=5, windows=2, stills=2)
    complaints = encode_clips(sources, folder, vae=toy_vae(), head_model=toy_head_model(), settings=settings)
    assert complaints == []
    return open_cache(folder)
