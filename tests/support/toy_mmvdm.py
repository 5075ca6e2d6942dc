# SPDX-License-Identifier: Apache-2.0
"""A pipeline of the real classes at toy size with random weights, for pictures of 32 px."""

import torch
from diffusers import AutoencoderKLCogVideoX

from mvp4d_core.diffusion.pipeline import MVP4DPipeline
from mvp4d_core.diffusion.schedule import base_scheduler
from mvp4d_core.diffusion.transformer import MVP4DTransformer3DModel

SIZE = 32


def toy_vae(**changes) -> AutoencoderKLCogVideoX:
    """/8 in space, /4 in time, 4 latent channels."""
    torch.manual_seed(1)
    settings = dict(
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4, block_out_channels=(4, 4, 4, 8),
        layers_per_block=1, latent_channels=4, norm_num_groups=2, sample_height=SIZE, sample_width=SIZE,
    )  # fmt: skip
    return AutoencoderKLCogVideoX(**(settings | changes)).eval()


def toy_transformer(**changes) -> MVP4DTransformer3DModel:
    """One block of width 32; no weight is zero, so every condition counts."""
    torch.manual_seed(2)
    settings = dict(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=16, text_embed_dim=None, num_layers=1,
        sample_width=SIZE // 8, sample_height=SIZE // 8, sample_frames=13,
    )  # fmt: skip
    transformer = MVP4DTransformer3DModel(**(settings | changes)).eval()
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return transformer


def toy_pipeline(**changes) -> MVP4DPipeline:
    """`changes` are parts that take the place of the toy ones: vae, transformer, scheduler."""
    parts = {"vae": toy_vae, "transformer": toy_transformer, "scheduler": base_scheduler}
    pipeline = MVP4DPipeline(**{name: changes[name] if name in changes else make() for name, make in parts.items()})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
