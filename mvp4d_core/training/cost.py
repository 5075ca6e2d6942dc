# SPDX-License-Identifier: Apache-2.0
"""What a run will cost, before it begins: operations from the numbers of tokens, memory from the numbers of weights and activations."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..diffusion.transformer import MVP4DTransformer3DModel
from .curriculum import Curriculum

UTILISATION = 0.4  # of a device's rated speed, what training of transformers usually reaches
SECONDS_A_DAY = 86_400
_STATE_BYTES = 4 * 5 + 2  # a weight, its gradient, two moments and its average in float32; its bfloat16 copy
_ACTIVATION_WIDTHS = 26  # activations that a block keeps for its backward pass, in widths of the model: bfloat16 but for the norms'


@dataclass(frozen=True)
class Cost:
    """The estimate.

    Attributes:
        parameters: weights of the transformer.
        steps: of all stages.
        samples: that all processes see.
        tokens_per_sample: (fewest, most).
        step_tflops: 10^12 operations of a mean step of one process.
        total_pflops: 10^15 operations of the run, all processes.
        device_days: of one device at the rate given; all devices work at once, so a run takes this over their number.
        memory_gb: 10^9 bytes a device, at the largest step; an estimate without the allocator's slack.
    """

    parameters: int
    steps: int
    samples: int
    tokens_per_sample: tuple[int, int]
    step_tflops: float
    total_pflops: float
    device_days: float
    memory_gb: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def estimate_cost(
    config: dict[str, Any], curriculum: Curriculum, *, processes: int = 1, tflops: float = 400.0, gradient_checkpointing: bool = False
) -> Cost:
    """The cost of a run.

    A weight of a linear layer takes 2 operations a token forward and 4 backward, attention 4 N^2 D forward and 8 backward; checkpointing
    repeats the forward pass.

    Args:
        config: of the transformer.
        tflops: rated speed of one device in 10^12 operations a second; `UTILISATION` of it is reached.
    """
    with torch.device("meta"):
        model = MVP4DTransformer3DModel(**{key: value for key, value in config.items() if not key.startswith("_")})
    sizes: Any = model.config
    parameters = sum(parameter.numel() for parameter in model.parameters())
    linear = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and (".attn1." in name or ".ff." in name))
    width, layers = sizes.num_attention_heads * sizes.attention_head_dim, sizes.num_layers
    passes = 4 if gradient_checkpointing else 3
    total, samples, memory, counts = 0.0, 0, 0.0, []
    for stage in curriculum.stages:
        shares = sum(m.share for m in stage.modalities)
        for modality in stage.modalities:
            tokens = (modality.views * modality.latent_frames + 1) * (stage.size // (8 * sizes.patch_size)) ** 2
            counts.append(tokens)
            forward = 2 * linear * tokens + 4 * tokens**2 * width * layers
            steps = stage.steps * modality.share / shares
            total += steps * modality.batch * processes * forward * passes
            samples += round(steps * modality.batch * processes)
            kept = (2 * layers + _ACTIVATION_WIDTHS if gradient_checkpointing else _ACTIVATION_WIDTHS * layers) * width * 2
            memory = max(memory, modality.batch * tokens * kept)
    return Cost(
        parameters=parameters,
        steps=curriculum.steps,
        samples=samples,
        tokens_per_sample=(min(counts), max(counts)),
        step_tflops=total / curriculum.steps / processes / 1e12,
        total_pflops=total / 1e15,
        device_days=total / (tflops * 1e12 * UTILISATION) / SECONDS_A_DAY,
        memory_gb=(parameters * _STATE_BYTES + memory) / 1e9,
    )
