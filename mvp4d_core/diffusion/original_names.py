# SPDX-License-Identifier: Apache-2.0
"""The tensor names of CogVideoX's original release, in which a transformer's all begin with `model.diffusion_model.`.

The rules are those that diffusers' conversion script documents. A tensor there may hold several of diffusers' as equal chunks of its rows:
queries, keys and values; the modulations of both norms of a block, each of six vectors, video's of both before text's of both.
"""

import re

PREFIX = "model.diffusion_model."
# what else such a file may hold: the autoencoder and the text encoder; empty tables of its framework, and the fixed table of positions
OTHER_MODELS = ("first_stage_model.", "conditioner.")
UNUSED = tuple(
    PREFIX + name
    for name in (
        "transformer.embed_tokens.", "transformer.word_embeddings.", "transformer.position_embeddings.", "mixins.pos_embed.pos_embedding",
    )
)  # fmt: skip
ROTARY = f"{PREFIX}mixins.pos_embed.freqs_"  # the tables of rotary positions, which CogVideoX-2B has not

_LAYER = re.compile(r"transformer\.layers\.(\d{1,4})\.(.+)\.(weight|bias)")
_LISTED = re.compile(r"mixins\.adaln_layer\.(query_layernorm_list|key_layernorm_list|adaLN_modulations)\.(\d{1,4})\.(1\.)?(weight|bias)")
_LAYER_NAMES = {
    "input_layernorm": "norm1.norm",
    "post_attention_layernorm": "norm2.norm",
    "attention.dense": "attn1.to_out.0",
    "mlp.dense_h_to_4h": "ff.net.0.proj",
    "mlp.dense_4h_to_h": "ff.net.2",
}
_OTHER_NAMES = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "mixins.patch_embed.proj": "patch_embed.proj",
    "mixins.patch_embed.text_proj": "patch_embed.text_proj",
    "mixins.final_layer.norm_final": "norm_out.norm",
    "mixins.final_layer.adaLN_modulation.1": "norm_out.linear",
    "mixins.final_layer.linear": "proj_out",
    "transformer.final_layernorm": "norm_final",
}
_MODULATIONS = {"norm1.linear": (0, 1, 2, 6, 7, 8), "norm2.linear": (3, 4, 5, 9, 10, 11)}


def diffusers_names(name: str) -> list[tuple[str, tuple[int, ...], int]]:
    """What the original tensor `name` becomes in diffusers: each new name, and which of how many equal chunks of the rows it gets.

    A name that the release does not have stays as it is.
    """
    name = name.removeprefix(PREFIX)
    if match := _LAYER.fullmatch(name):
        block, part, kind = f"transformer_blocks.{match[1]}", match[2], match[3]
        if part == "attention.query_key_value":
            return [(f"{block}.attn1.{target}.{kind}", (index,), 3) for index, target in enumerate(("to_q", "to_k", "to_v"))]
        if part in _LAYER_NAMES:
            return [(f"{block}.{_LAYER_NAMES[part]}.{kind}", (0,), 1)]
    if match := _LISTED.fullmatch(name):
        block, kind = f"transformer_blocks.{match[2]}", match[4]
        if match[1] == "adaLN_modulations":
            return [(f"{block}.{target}.{kind}", chunks, 12) for target, chunks in _MODULATIONS.items()]
        return [(f"{block}.attn1.norm_{match[1][0]}.{kind}", (0,), 1)]
    stem, _, kind = name.rpartition(".")
    return [(f"{_OTHER_NAMES[stem]}.{kind}" if stem in _OTHER_NAMES else name, (0,), 1)]
