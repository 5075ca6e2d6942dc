# SPDX-License-Identifier: Apache-2.0
"""A transformer's weights under the names of CogVideoX's original release, built the other way round than the loader reads them."""

import torch

_MODULES = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "patch_embed.proj": "mixins.patch_embed.proj",
    "patch_embed.text_proj": "mixins.patch_embed.text_proj", "norm_out.norm": "mixins.final_layer.norm_final",
    "norm_out.linear": "mixins.final_layer.adaLN_modulation.1", "proj_out": "mixins.final_layer.linear",
    "norm_final": "transformer.final_layernorm",
}  # fmt: skip


def original_state(state: dict[str, torch.Tensor], layers: int) -> dict[str, torch.Tensor]:
    """diffusers' state dict of a text model as the original release stores it."""
    found = {}
    for kind in ("weight", "bias"):
        found |= {f"{theirs}.{kind}": state[f"{ours}.{kind}"] for ours, theirs in _MODULES.items()}
        for layer in range(layers):
            ours, theirs, mixin = f"transformer_blocks.{layer}", f"transformer.layers.{layer}", "mixins.adaln_layer"
            found |= {
                f"{theirs}.input_layernorm.{kind}": state[f"{ours}.norm1.norm.{kind}"],
                f"{theirs}.post_attention_layernorm.{kind}": state[f"{ours}.norm2.norm.{kind}"],
                f"{theirs}.attention.query_key_value.{kind}": torch.cat([state[f"{ours}.attn1.to_{x}.{kind}"] for x in "qkv"]),
                f"{theirs}.attention.dense.{kind}": state[f"{ours}.attn1.to_out.0.{kind}"],
                f"{theirs}.mlp.dense_h_to_4h.{kind}": state[f"{ours}.ff.net.0.proj.{kind}"],
                f"{theirs}.mlp.dense_4h_to_h.{kind}": state[f"{ours}.ff.net.2.{kind}"],
                f"{mixin}.query_layernorm_list.{layer}.{kind}": state[f"{ours}.attn1.norm_q.{kind}"],
                f"{mixin}.key_layernorm_list.{layer}.{kind}": state[f"{ours}.attn1.norm_k.{kind}"],
            }
            # shift, scale, gate of attention and of the feed-forward layer for video, then the six for text
            (video1, text1), (video2, text2) = (state[f"{ours}.norm{n}.linear.{kind}"].chunk(2) for n in (1, 2))
            found[f"{mixin}.adaLN_modulations.{layer}.1.{kind}"] = torch.cat([video1, video2, text1, text2])
    found["transformer.embed_tokens.weight"] = torch.zeros(1, 1)
    found["mixins.pos_embed.pos_embedding"] = torch.zeros(1, 4, 4)
    return {f"model.diffusion_model.{name}": tensor.contiguous().clone() for name, tensor in found.items()}
