# SPDX-License-Identifier: Apache-2.0
"""The transformer of the morphable multi-view video diffusion model (MMVDM), whole, in diffusers' manner.

It is CogVideoX-2B's: patches of 2 x 2 latents, fixed sin-cos positions, blocks of joint attention and feed-forward whose layer norms are
modulated by the timestep, apart for text and video tokens. Added to it:

- Views. Latents come as (batch, view, frame); all tokens of all views attend to each other. Equal frames of different views have equal
  positions and no view has a number, so any number of views works and their order means nothing. What tells views apart is their maps.
- Conditioning maps, projected by a bias-free linear layer that starts at zero and added to the tokens. So a model with CogVideoX's
  weights, one view and its text returns at first what CogVideoX returns, and no maps mean the same as zero maps.
- References: clean still latents at temporal position 0 that are attended to and not returned.

How MVP4D does the following is not known to us, so these choices are ours: positions shared by the views, where the maps come in,
position 0 for references, and that text tokens may be left out.

Names of weights are CogVideoX's in diffusers; `patch_embed.map_proj.weight` is the only new one. A model without text
(`text_embed_dim=None`) lacks `patch_embed.text_proj` and the second half of each block's modulation.
"""

from collections.abc import Callable
from math import prod

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput
from diffusers.models.attention import AttentionMixin, AttentionModuleMixin, FeedForward
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import TimestepEmbedding, Timesteps, get_1d_sincos_pos_embed_from_grid, get_3d_sincos_pos_embed
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import AdaLayerNorm
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError

QUERY_CHUNK = 1024
MOST_TOKENS_KEPT = 4096


class MVP4DAttnProcessor:
    """Self-attention of the joint sequence with layer-normalised queries and keys.

    By the backend that diffusers is set to, except for bfloat16 on a CPU: see `matmul_attention`.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(self, attn: "MVP4DAttention", hidden_states: Tensor) -> Tensor:
        """`hidden_states` (B, N, D) to (B, N, D)."""
        query, key, value = (project(hidden_states).unflatten(2, (attn.heads, -1)) for project in (attn.to_q, attn.to_k, attn.to_v))
        query, key = attn.norm_q(query), attn.norm_k(key)
        if query.device.type == "cpu" and query.dtype == torch.bfloat16 and self._attention_backend is self._parallel_config is None:
            hidden_states = matmul_attention(query, key, value)
        else:
            hidden_states = dispatch_attention_fn(query, key, value, backend=self._attention_backend, parallel_config=self._parallel_config)
        return attn.to_out[0](hidden_states.flatten(2))


def matmul_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (B, N, H, d) tensors by two matrix products for every 1,024 queries.

    For bfloat16 on a CPU: there torch's fused attention multiplies in float32, which takes two to three times as long. Its scores are
    rounded to bfloat16. With gradients it keeps N x N weights a head, so from 4,096 tokens on torch's is taken.
    """
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if torch.is_grad_enabled() and query.shape[2] > MOST_TOKENS_KEPT:
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    chunks = (query * query.shape[-1] ** -0.5).split(QUERY_CHUNK, dim=2)
    return torch.cat([(chunk @ key.mT).softmax(-1) @ value for chunk in chunks], dim=2).transpose(1, 2)


class MVP4DAttention(nn.Module, AttentionModuleMixin):
    """The weights of self-attention, named as in diffusers' `Attention`."""

    _default_processor_cls = MVP4DAttnProcessor
    _available_processors = [MVP4DAttnProcessor]  # noqa: RUF012

    def __init__(self, dim: int, heads: int, dim_head: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, heads * dim_head, bias=bias)
        self.to_k = nn.Linear(dim, heads * dim_head, bias=bias)
        self.to_v = nn.Linear(dim, heads * dim_head, bias=bias)
        self.norm_q = nn.LayerNorm(dim_head, eps=1e-6)
        self.norm_k = nn.LayerNorm(dim_head, eps=1e-6)
        self.to_out = nn.ModuleList([nn.Linear(heads * dim_head, dim)])
        self.processor = MVP4DAttnProcessor()

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, N, D) to (B, N, D)."""
        return self.processor(self, hidden_states)


class ModulatedLayerNorm(nn.LayerNorm):
    """`norm(x) * (1 + scale) + shift`, in as few passes over `x` as torch allows."""

    def forward(self, hidden_states: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """`hidden_states` (B, N, D), `shift` and `scale` (B, D)."""
        scale = 1 + scale
        if self.weight is not None:
            shift, scale = shift + self.bias * scale, self.weight * scale
        if len(scale) == 1:
            return F.layer_norm(hidden_states, self.normalized_shape, scale[0], shift[0], self.eps)
        normed = F.layer_norm(hidden_states, self.normalized_shape, eps=self.eps)
        return torch.addcmul(shift[:, None].to(normed.dtype), normed, scale[:, None].to(normed.dtype))


class MVP4DLayerNormZero(nn.Module):
    """Norms video and text tokens, joins them, and gives the gates of what follows; all zero at first, so each block starts as identity.

    The rows of `linear` are shift, scale and gate of the video tokens, then, where the model knows text, the same of the text tokens.
    """

    def __init__(self, time_embed_dim: int, dim: int, *, text: bool, norm_elementwise_affine: bool, norm_eps: float) -> None:
        super().__init__()
        self.linear = nn.Linear(time_embed_dim, (6 if text else 3) * dim)
        self.norm = ModulatedLayerNorm(dim, norm_eps, norm_elementwise_affine)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None, temb: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Tokens (B, N, D) and text (B, T, D) or None to joined tokens (B, T + N, D), the gate (B, 1, D) and the text's gate."""
        shift, scale, gate, *text = self.linear(F.silu(temb)).unflatten(1, (-1, hidden_states.shape[-1])).unbind(1)
        joint = self.norm(hidden_states, shift, scale)
        if encoder_hidden_states is None:
            return joint, gate[:, None], None
        text_shift, text_scale, text_gate = text
        joint = torch.cat([self.norm(encoder_hidden_states, text_shift, text_scale), joint], dim=1)
        return joint, gate[:, None], text_gate[:, None]


class MVP4DBlock(nn.Module):
    """Joint attention, then feed-forward, each between a modulated norm and a gated residual."""

    def __init__(
        self,
        dim: int,
        num_attention_heads: int,
        attention_head_dim: int,
        time_embed_dim: int,
        *,
        text: bool,
        dropout: float,
        activation_fn: str,
        attention_bias: bool,
        norm_elementwise_affine: bool,
        norm_eps: float,
    ) -> None:
        super().__init__()
        norm = {"text": text, "norm_elementwise_affine": norm_elementwise_affine, "norm_eps": norm_eps}
        self.norm1 = MVP4DLayerNormZero(time_embed_dim, dim, **norm)
        self.attn1 = MVP4DAttention(dim, num_attention_heads, attention_head_dim, bias=attention_bias)
        self.norm2 = MVP4DLayerNormZero(time_embed_dim, dim, **norm)
        self.ff = FeedForward(dim, dropout=dropout, activation_fn=activation_fn, final_dropout=True)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor | None, temb: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, D), text (B, T, D) or None and time embedding (B, time_embed_dim) to new tokens and text."""
        for norm, layer in ((self.norm1, self.attn1), (self.norm2, self.ff)):
            joint, gate, text_gate = norm(hidden_states, encoder_hidden_states, temb)
            joint = layer(joint)
            if encoder_hidden_states is not None:
                text, joint = joint.split([encoder_hidden_states.shape[1], hidden_states.shape[1]], dim=1)
                encoder_hidden_states = torch.addcmul(encoder_hidden_states, text_gate, text)
            hidden_states = torch.addcmul(hidden_states, gate, joint)
        return hidden_states, encoder_hidden_states


class MVP4DPatchEmbed(nn.Module):
    """Patches of latents and maps to tokens with their positions; text to tokens without."""

    def __init__(
        self,
        dim: int,
        *,
        patch_size: int,
        in_channels: int,
        map_channels: int,
        text_embed_dim: int | None,
        spatial_interpolation_scale: float,
        temporal_interpolation_scale: float,
        bias: bool,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.spatial_interpolation_scale = spatial_interpolation_scale
        self.temporal_interpolation_scale = temporal_interpolation_scale
        self.proj = nn.Conv2d(in_channels, dim, patch_size, patch_size, bias=bias)
        self.text_proj = None if text_embed_dim is None else nn.Linear(text_embed_dim, dim)
        self.map_proj = nn.Linear(map_channels * patch_size**2, dim, bias=False)
        nn.init.zeros_(self.map_proj.weight)

    def forward(self, latents: Tensor, maps: Tensor | None, frame_indices: Tensor) -> Tensor:
        """Latents (B, V, L, C, h, w), maps (B, V, L, M, h, w) or None and times (L,) to tokens (B, V * L * h/p * w/p, D)."""
        batch, views, frames = latents.shape[:3]
        tokens = self.proj(latents.flatten(0, 2))
        height, width = tokens.shape[-2:]
        tokens = tokens.flatten(2).transpose(1, 2)
        if maps is not None:
            tokens = tokens + self.map_proj(self.patches(maps.to(latents.dtype).flatten(0, 2)))
        positions = self.positions(frame_indices, height, width).to(tokens.dtype)
        return (tokens.unflatten(0, (batch, views, frames)) + positions).flatten(1, 3)

    def patches(self, maps: Tensor) -> Tensor:
        """(N, M, h, w) to (N, h/p * w/p, M * p * p), in the order of a convolution's weights."""
        size = self.patch_size
        maps = maps.unflatten(3, (-1, size)).unflatten(2, (-1, size))
        return maps.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def positions(self, frame_indices: Tensor, height: int, width: int) -> Tensor:
        """CogVideoX's code, at any times: of the time (a quarter of D), then of the patch. Returns (L, height * width, D)."""
        dim, device = self.proj.out_channels, frame_indices.device
        times = get_1d_sincos_pos_embed_from_grid(dim // 4, frame_indices.float() / self.temporal_interpolation_scale)
        places = get_3d_sincos_pos_embed(dim, (width, height), 1, self.spatial_interpolation_scale, device=device)[0, :, dim // 4 :]
        frames, patches = len(times), len(places)
        return torch.cat([times[:, None].expand(-1, patches, -1), places[None].expand(frames, -1, -1)], dim=-1)


class MVP4DTransformer3DModel(ModelMixin, AttentionMixin, ConfigMixin):
    """The MMVDM's transformer: noisy latents of V views x L latent frames to predicted velocities.

    Args:
        num_attention_heads, attention_head_dim: their product D, a multiple of 16, is the width.
        in_channels, out_channels: of the latents.
        map_channels: of the conditioning maps.
        flip_sin_to_cos, freq_shift, time_embed_dim, timestep_activation_fn: of the timestep's embedding.
        text_embed_dim: width of the text embeddings; None for a model without text.
        num_layers: number of blocks.
        dropout: of the embeddings and the feed-forward layers.
        attention_bias, activation_fn, norm_elementwise_affine, norm_eps, patch_bias: of the layers.
        sample_width, sample_height, sample_frames, temporal_compression_ratio, max_text_seq_length: the size that the weights were trained
            for, in latents and in frames of video; others work too.
        patch_size: side of a patch in latents.
        spatial_interpolation_scale, temporal_interpolation_scale: what positions are divided by.
    """

    _supports_gradient_checkpointing = True
    _gradient_checkpointing_func: Callable[..., tuple[Tensor, Tensor | None]]  # diffusers sets it together with `gradient_checkpointing`
    _skip_layerwise_casting_patterns = ["patch_embed", "norm"]  # noqa: RUF012
    _no_split_modules = ["MVP4DBlock", "MVP4DPatchEmbed"]  # noqa: RUF012
    _repeated_blocks = ["MVP4DBlock"]  # noqa: RUF012
    # Attention does not mind the order of tokens, so each device takes its share of the video tokens and its share of the text: what
    # leaves `embedding_dropout`, through which both go, once each.
    _cp_plan = {  # noqa: RUF012
        "embedding_dropout": {0: ContextParallelInput(split_dim=1, expected_dims=3, split_output=True)},
        "proj_out": ContextParallelOutput(gather_dim=1, expected_dims=3),
    }

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 30,
        attention_head_dim: int = 64,
        in_channels: int = 16,
        out_channels: int = 16,
        map_channels: int = 59,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        time_embed_dim: int = 512,
        text_embed_dim: int | None = 4096,
        num_layers: int = 30,
        dropout: float = 0.0,
        attention_bias: bool = True,
        sample_width: int = 90,
        sample_height: int = 60,
        sample_frames: int = 49,
        patch_size: int = 2,
        temporal_compression_ratio: int = 4,
        max_text_seq_length: int = 226,
        activation_fn: str = "gelu-approximate",
        timestep_activation_fn: str = "silu",
        norm_elementwise_affine: bool = True,
        norm_eps: float = 1e-5,
        spatial_interpolation_scale: float = 1.875,
        temporal_interpolation_scale: float = 1.0,
        patch_bias: bool = True,
    ) -> None:
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        if dim % 16 or dim < 16:
            raise InputError(f"`num_attention_heads` x `attention_head_dim` must be a multiple of 16, got {dim}.")
        self.patch_embed = MVP4DPatchEmbed(
            dim, patch_size=patch_size, in_channels=in_channels, map_channels=map_channels, text_embed_dim=text_embed_dim,
            spatial_interpolation_scale=spatial_interpolation_scale, temporal_interpolation_scale=temporal_interpolation_scale,
            bias=patch_bias,
        )  # fmt: skip
        self.embedding_dropout = nn.Dropout(dropout)
        self.time_proj = Timesteps(dim, flip_sin_to_cos, freq_shift)
        self.time_embedding = TimestepEmbedding(dim, time_embed_dim, timestep_activation_fn)
        self.transformer_blocks = nn.ModuleList(
            MVP4DBlock(
                dim, num_attention_heads, attention_head_dim, time_embed_dim, text=text_embed_dim is not None, dropout=dropout,
                activation_fn=activation_fn, attention_bias=attention_bias, norm_elementwise_affine=norm_elementwise_affine,
                norm_eps=norm_eps,
            )
            for _ in range(num_layers)
        )  # fmt: skip
        self.norm_final = nn.LayerNorm(dim, norm_eps, norm_elementwise_affine)
        self.norm_out = AdaLayerNorm(
            time_embed_dim, output_dim=2 * dim, norm_elementwise_affine=norm_elementwise_affine, norm_eps=norm_eps, chunk_dim=1
        )
        self.proj_out = nn.Linear(dim, out_channels * patch_size**2)
        self.gradient_checkpointing = False

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        *,
        maps: Tensor | None = None,
        reference_hidden_states: Tensor | None = None,
        reference_maps: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        frame_indices: Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Predicts the velocity of each latent.

        Args:
            hidden_states: (B, V, L, in_channels, h, w), h and w multiples of the patch size.
            timestep: (B,), 0 .. 999.
            maps: (B, V, L, map_channels, h, w); None means zero.
            reference_hidden_states: (B, R, in_channels, h, w), clean.
            reference_maps: (B, R, map_channels, h, w); None means zero.
            encoder_hidden_states: (B, T, text_embed_dim); None for no text tokens.
            frame_indices: (L,), the latents' temporal positions; None means 0 .. L - 1.
            return_dict: an output with `sample`, or else a tuple of one.

        Returns:
            `sample`: (B, V, L, out_channels, h, w).

        Raises:
            InputError: a shape that does not fit the model or the other arguments.
        """
        self.check_inputs(hidden_states, timestep, maps, reference_hidden_states, reference_maps, encoder_hidden_states, frame_indices)
        frames, device = hidden_states.shape[2], hidden_states.device

        # 1. Time
        temb = self.time_embedding(self.time_proj(timestep).to(hidden_states.dtype))

        # 2. Tokens: text apart; references, then views
        text_proj = self.patch_embed.text_proj
        text = None if text_proj is None or encoder_hidden_states is None else text_proj(encoder_hidden_states)
        indices = torch.arange(frames, device=device) if frame_indices is None else frame_indices.to(device)
        tokens = self.patch_embed(hidden_states, maps, indices)
        generated = tokens.shape[1]
        if reference_hidden_states is not None:
            maps = None if reference_maps is None else reference_maps[:, :, None]
            tokens = torch.cat([self.patch_embed(reference_hidden_states[:, :, None], maps, torch.zeros(1, device=device)), tokens], dim=1)
        tokens, text = self.embedding_dropout(tokens), None if text is None else self.embedding_dropout(text)

        # 3. Blocks
        for block in self.transformer_blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens, text = self._gradient_checkpointing_func(block, tokens, text, temb)
            else:
                tokens, text = block(tokens, text, temb)

        # 4. Latents. References go last, because a device that works on a part of the sequence does not know which part they are.
        tokens = self.proj_out(self.norm_out(self.norm_final(tokens), temb=temb))
        sample = self.unpatchify(tokens[:, -generated:], hidden_states.shape)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def unpatchify(self, tokens: Tensor, shape: torch.Size) -> Tensor:
        """Tokens (B, V * L * h/p * w/p, out_channels * p * p) to (B, V, L, out_channels, h, w)."""
        batch, views, frames, _, height, width = shape
        size = self.config["patch_size"]
        patches = tokens.reshape(batch, views, frames, height // size, width // size, -1, size, size)
        return patches.permute(0, 1, 2, 5, 3, 6, 4, 7).flatten(6, 7).flatten(4, 5)

    def check_inputs(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        maps: Tensor | None,
        reference_hidden_states: Tensor | None,
        reference_maps: Tensor | None,
        encoder_hidden_states: Tensor | None,
        frame_indices: Tensor | None,
    ) -> None:
        """Raises InputError for the first argument of `forward` that does not fit."""
        channels, map_channels, patch, text_dim = (
            self.config[key] for key in ("in_channels", "map_channels", "patch_size", "text_embed_dim")
        )
        if hidden_states.ndim != 6 or not prod(hidden_states.shape):
            raise InputError(f"`hidden_states` must have shape (B, V, L, {channels}, h, w), got {tuple(hidden_states.shape)}.")
        batch, views, frames, _, height, width = hidden_states.shape
        if height % patch or width % patch:
            raise InputError(f"Latents must be multiples of the patch size {patch} high and wide, got {height} x {width}.")
        _check_shape("hidden_states", hidden_states, (batch, views, frames, channels, height, width))
        _check_shape("timestep", timestep, (batch,))
        _check_shape("maps", maps, (batch, views, frames, map_channels, height, width))
        _check_shape("frame_indices", frame_indices, (frames,))
        references = None if reference_hidden_states is None else reference_hidden_states.shape[1]
        _check_shape("reference_hidden_states", reference_hidden_states, (batch, references, channels, height, width))
        if reference_maps is not None and references is None:
            raise InputError("`reference_maps` need `reference_hidden_states`, got none. Give both or neither.")
        _check_shape("reference_maps", reference_maps, (batch, references, map_channels, height, width))
        if encoder_hidden_states is not None:
            if text_dim is None:
                raise InputError("This model has no text parts, so `encoder_hidden_states` must be None. Leave the text out.")
            length = encoder_hidden_states.shape[1] if encoder_hidden_states.ndim == 3 else None
            _check_shape("encoder_hidden_states", encoder_hidden_states, (batch, length, text_dim))


def _check_shape(name: str, tensor: Tensor | None, shape: tuple[int | None, ...]) -> None:
    if tensor is not None and tuple(tensor.shape) != shape:
        wanted = ", ".join("any" if side is None else str(side) for side in shape)
        raise InputError(f"`{name}` must have shape ({wanted}), got {tuple(tensor.shape)}.")
