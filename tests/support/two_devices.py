# SPDX-License-Identifier: Apache-2.0
"""A toy transformer on two processes that share its tokens by diffusers' context parallelism, against the same in one.

`python -m tests.support.two_devices FILE` starts both and fails where the outputs differ; FILE, not there yet, is where they meet.
`enable_parallelism` itself asks for an accelerator, so its last steps are taken here: a mesh, the attention processors, the plan's hooks.
"""

import sys

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig, ParallelConfig
from diffusers.hooks import apply_context_parallel
from torch.distributed.device_mesh import init_device_mesh

from mvp4d_core.diffusion.transformer import MVP4DTransformer3DModel

DEVICES = 2


def toy_inputs(generator: torch.Generator) -> dict[str, torch.Tensor]:
    """3 latent frames of 2 views and a reference: 28 tokens."""
    shapes = {
        "hidden_states": (1, 2, 3, 16, 4, 4), "maps": (1, 2, 3, 5, 4, 4), "reference_hidden_states": (1, 1, 16, 4, 4),
        "reference_maps": (1, 1, 5, 4, 4),
    }  # fmt: skip
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} | {"timestep": torch.tensor([500])}


def work(rank: int, meeting: str) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=DEVICES)
    torch.manual_seed(0)
    model = MVP4DTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, time_embed_dim=24, text_embed_dim=12, num_layers=2, map_channels=5
    ).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        inputs, text = toy_inputs(generator), torch.randn(1, 6, 12, generator=generator)
        alone = [model(**inputs, encoder_hidden_states=words).sample for words in (None, text)]
        share_tokens(model, rank)
        together = [model(**inputs, encoder_hidden_states=words).sample for words in (None, text)]
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    dist.destroy_process_group()


def share_tokens(model: MVP4DTransformer3DModel, rank: int) -> None:
    """What `model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))` does where there are accelerators."""
    context = ContextParallelConfig(ulysses_degree=DEVICES)
    config = ParallelConfig(context_parallel_config=context)
    mesh = init_device_mesh("cpu", context.mesh_shape, mesh_dim_names=context.mesh_dim_names)
    config.setup(rank, DEVICES, torch.device("cpu"), mesh=mesh)
    for processor in model.attn_processors.values():
        processor._parallel_config = config
    apply_context_parallel(model, context, model._cp_plan)


if __name__ == "__main__":
    torch.multiprocessing.start_processes(work, (sys.argv[1],), nprocs=DEVICES, start_method="fork")
