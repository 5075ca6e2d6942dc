# SPDX-License-Identifier: Apache-2.0
"""The transformer written out in numpy and float64 from its definition, token by token where that is clearest, from a state dict."""

import math

import numpy as np


def oracle_forward(state, config, latents, timestep, maps=None, references=None, reference_maps=None, text=None, frame_indices=None):
    """Velocities (V, L, C, h, w) of one sample; arguments as the model's without their batch, as float64 arrays; `timestep` a number."""
    views, frames, _, height, width = latents.shape
    times = np.arange(frames) if frame_indices is None else frame_indices
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    stills = (
        []
        if references is None
        else [(references[r], None if reference_maps is None else reference_maps[r], 0) for r in range(len(references))]
    )
    stills += [(latents[v, f], None if maps is None else maps[v, f], times[f]) for v in range(views) for f in range(frames)]
    video = np.concatenate([embed_still(state, config, dim, *still) for still in stills])
    words = np.zeros((0, dim)) if text is None else text @ state["patch_embed.text_proj.weight"].T + state["patch_embed.text_proj.bias"]

    angles = timestep * np.exp(-math.log(10000) * np.arange(dim // 2) / (dim // 2))
    temb = np.concatenate([np.cos(angles), np.sin(angles)])
    temb = linear(state, "time_embedding.linear_2", silu(linear(state, "time_embedding.linear_1", temb)))

    for block in range(config["num_layers"]):
        for norm, layer in (("norm1", attention), ("norm2", feed_forward)):
            name = f"transformer_blocks.{block}"
            rows = linear(state, f"{name}.{norm}.linear", silu(temb)).reshape(-1, dim)
            normed = layer_norm(state, f"{name}.{norm}.norm", video) * (1 + rows[1]) + rows[0]
            if len(words):
                normed = np.concatenate([layer_norm(state, f"{name}.{norm}.norm", words) * (1 + rows[4]) + rows[3], normed])
            out = layer(state, config, name, normed)
            if len(words):
                words = words + rows[5] * out[: len(words)]
            video = video + rows[2] * out[len(out) - len(video) :]

    shift, scale = linear(state, "norm_out.linear", silu(temb)).reshape(2, dim)
    video = layer_norm(state, "norm_out.norm", layer_norm(state, "norm_final", video)) * (1 + scale) + shift
    patches = linear(state, "proj_out", video)[-views * frames * height * width // 4 :]
    result = np.zeros((views, frames, config["out_channels"], height, width))
    for index, patch in enumerate(patches):
        still, place = divmod(index, height * width // 4)
        row, column = divmod(place, width // 2)
        result[still // frames, still % frames, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = patch.reshape(-1, 2, 2)
    return result


def embed_still(state, config, dim, latent, maps, time):
    """Tokens of one latent frame: each patch's projections and its position's code."""
    tokens = []
    for row in range(latent.shape[1] // 2):
        for column in range(latent.shape[2] // 2):
            window = np.s_[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            token = state["patch_embed.proj.weight"].reshape(dim, -1) @ latent[window].ravel() + state["patch_embed.proj.bias"]
            if maps is not None:
                token = token + state["patch_embed.map_proj.weight"] @ maps[window].ravel()
            scale = config["spatial_interpolation_scale"]
            codes = [code(time / config["temporal_interpolation_scale"], dim // 4), code(column / scale, 3 * dim // 8)]
            tokens.append(token + np.concatenate([*codes, code(row / scale, 3 * dim // 8)]))
    return np.array(tokens)


def code(position, size):
    angles = position / 10000 ** (np.arange(size // 2) / (size / 2))
    return np.concatenate([np.sin(angles), np.cos(angles)])


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def silu(x):
    return x / (1 + np.exp(-x))


def layer_norm(state, name, x, eps=1e-5):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(state, config, block, x):
    name, size = f"{block}.attn1", config["attention_head_dim"]
    query, key, value = (linear(state, f"{name}.to_{which}", x) for which in "qkv")
    out = np.zeros_like(query)
    for start in range(0, query.shape[1], size):
        part = np.s_[:, start : start + size]
        scores = (
            layer_norm(state, f"{name}.norm_q", query[part], 1e-6)
            @ layer_norm(state, f"{name}.norm_k", key[part], 1e-6).T
            / math.sqrt(size)
        )
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[part] = weights / weights.sum(-1, keepdims=True) @ value[part]
    return linear(state, f"{name}.to_out.0", out)


def feed_forward(state, config, block, x):
    x = linear(state, f"{block}.ff.net.0.proj", x)
    return linear(state, f"{block}.ff.net.2", x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2)
