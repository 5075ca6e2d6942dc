# SPDX-License-Identifier: Apache-2.0
"""How fast and how exact the transformer is beside diffusers' own, measured in one run."""

import math
import time
from collections.abc import Callable

import torch
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel
from torch import Tensor, nn

from ..errors import InputError
from ..progress import Progress, silent
from ..render.device import torch_device
from .transformer import MVP4DTransformer3DModel

ROUNDS = 7
STAGE = "benchmarking the transformer"
TOY = {
    "num_attention_heads": 2, "attention_head_dim": 16, "time_embed_dim": 24, "text_embed_dim": 12, "num_layers": 3,
    "sample_width": 8, "sample_height": 6, "sample_frames": 9, "max_text_seq_length": 5,
}  # fmt: skip
TOY_SIZES = ((3, 6, 8), (5, 4, 10), (1, 8, 8))  # latent frames, height, width; the first is the sample's
LARGE = (8, 13, 64, 64)  # views, latent frames, height, width of 8 views x 49 frames at 512 px: 106,496 tokens
LARGE_LAYERS = 4
MATRIX = 8192


def bench_transformer(
    *, device: str = "cpu", layers: int = 2, heads: int = 30, side: int = 24, progress: Progress = silent
) -> dict[str, float | None]:
    """Times one view and its text through layers of CogVideoX-2B's shapes, ours against diffusers', with equal weights and tokens.

    Both take turns, so that whatever else the machine does slows each; times are the best of several. float32 on the CPU, bfloat16 else.

    Args:
        device: cpu, cuda or cuda:N.
        layers, heads: number of blocks, and of their heads of 64.
        side: height and width of the five latent frames.

    Returns:
        `speed_vs_diffusers`: diffusers' time over ours. `forward_ms`, `diffusers_forward_ms`, `tokens`: of that comparison.
        `parity_error`: see `parity_error`. `matmul_fraction`: see `matmul_fraction`; None without CUDA.

    Raises:
        InputError: an argument out of range.
        MissingAssetError: no such device.
    """
    if layers < 1 or heads < 1 or side < 2 or side % 2:
        raise InputError(f"`layers` and `heads` must be positive and `side` positive and even, got {layers}, {heads} and {side}.")
    where = torch_device(device)
    progress(STAGE, 0, ROUNDS + 2)
    error = parity_error(where)
    progress(STAGE, 1, ROUNDS + 2)
    figures = _compare(
        where, {"num_layers": layers, "num_attention_heads": heads}, side, lambda done: progress(STAGE, 1 + done, ROUNDS + 2)
    )
    fraction = matmul_fraction(where) if where.type == "cuda" else None
    progress(STAGE, ROUNDS + 2, ROUNDS + 2)
    return {**figures, "parity_error": error, "matmul_fraction": fraction}


def _compare(device: torch.device, config: dict[str, int], side: int, done: Callable[[int], None]) -> dict[str, float]:
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    theirs, ours = twins(config, device, dtype)
    latents, timestep, text = inputs((1, 5, side, side), theirs, device, dtype)
    best = [math.inf, math.inf]
    for count in range(1, ROUNDS + 1):
        best[0] = min(best[0], _seconds(lambda: theirs(latents, text, timestep), device))
        best[1] = min(best[1], _seconds(lambda: ours(latents[:, None], timestep, encoder_hidden_states=text), device))
        done(count)
    return {
        "speed_vs_diffusers": best[0] / best[1], "forward_ms": 1000 * best[1], "diffusers_forward_ms": 1000 * best[0],
        "tokens": 5 * (side // 2) ** 2 + text.shape[1],
    }  # fmt: skip


def parity_error(device: torch.device, seed: int = 0) -> float:
    """The largest difference from diffusers' output over its largest value: a toy model, random weights, float32, several sizes."""
    theirs, ours = twins(TOY, device, torch.float32, seed)
    worst = 0.0
    for size in TOY_SIZES:
        latents, timestep, text = inputs((2, *size), theirs, device, torch.float32, seed)
        with torch.no_grad():
            expected = theirs(latents, text, timestep).sample
            found = ours(latents[:, None], timestep, encoder_hidden_states=text).sample[:, 0]
        worst = max(worst, ((found - expected).abs().max() / expected.abs().max()).item())
    return worst


def matmul_fraction(device: torch.device) -> float:
    """Operations a second of the transformer at 107,520 tokens (8 views x 49 frames at 512 px and a photo) over those of matrix products.

    Layers of CogVideoX-2B's shapes in bfloat16 without text; counted are the matrix products of layers and attention alone. The rate it
    is held against is that of square products of 8,192, measured in the same run. Needs about 8 GB on the device.
    """
    views, frames, height, width = LARGE
    with device:
        model = MVP4DTransformer3DModel(num_layers=LARGE_LAYERS, text_embed_dim=None).eval()
        nn.Module.to(model, torch.bfloat16)  # diffusers' own `to` warns of layers kept in float32, even of none
        latents = torch.randn(1, views, frames, 16, height, width, dtype=torch.bfloat16)
        maps = torch.randn(1, views, frames, 59, height, width, dtype=torch.bfloat16)
        timestep = torch.full((1,), 500)
        left, right = torch.randn(2, MATRIX, MATRIX, dtype=torch.bfloat16)
    photo, photo_maps = latents[:, 0, :1], maps[:, 0, :1]

    def forward() -> object:
        return model(latents, timestep, maps=maps, reference_hidden_states=photo, reference_maps=photo_maps)

    tokens, dim = (views * frames + 1) * height * width // 4, model.proj_out.in_features
    operations = LARGE_LAYERS * (24 * tokens * dim**2 + 4 * tokens**2 * dim)
    rate = operations / min(_seconds(forward, device) for _ in range(3))
    best = 2 * MATRIX**3 / min(_seconds(lambda: left @ right, device) for _ in range(10))
    return rate / best


def twins(
    config: dict, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> tuple[CogVideoXTransformer3DModel, MVP4DTransformer3DModel]:
    """diffusers' model and ours with the same random weights; every weight counts, also those that start at zero in ours."""
    with torch.device("meta"):
        theirs, ours = CogVideoXTransformer3DModel(**config), MVP4DTransformer3DModel(**config)
    theirs.patch_embed.pos_embedding = theirs.patch_embed._get_positional_embeddings(
        *(theirs.config[key] for key in ("sample_height", "sample_width", "sample_frames"))
    )
    generator = torch.Generator().manual_seed(seed)
    state = {name: _random(tensor, generator).to(device, dtype) for name, tensor in ours.state_dict().items()}
    ours.load_state_dict(state, assign=True)
    theirs.load_state_dict({name: tensor for name, tensor in state.items() if "map_proj" not in name}, assign=True)
    theirs.patch_embed.to(device)
    return theirs.eval(), ours.eval()


def inputs(
    shape: tuple[int, int, int, int], model: CogVideoXTransformer3DModel, device: torch.device, dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Random latents (B, L, C, h, w), timesteps (B,) and text (B, T, D) for a model of diffusers'; `shape` is (B, L, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    batch, frames, height, width = shape
    config = model.config
    latents = torch.randn(batch, frames, config["in_channels"], height, width, generator=generator)
    text = torch.randn(batch, config["max_text_seq_length"], config["text_embed_dim"], generator=generator)
    timestep = torch.randint(1000, (batch,), generator=generator)
    return latents.to(device, dtype), timestep.to(device), text.to(device, dtype)


def _random(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Values of the size that a layer keeps its input's size with, so that nothing vanishes or grows from layer to layer."""
    spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.2
    return torch.randn(tensor.shape, generator=generator) * spread


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    with torch.inference_mode():
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
