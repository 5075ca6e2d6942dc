# SPDX-License-Identifier: Apache-2.0
"""Random conditions for the toy pipeline of `toy_mmvdm`, and given latents."""

import torch
from torch import Tensor

CHANNELS, SIZE = 4, 4


def toy_conditions(views: int = 2, latents: int = 3, references: int = 1, seed: int = 0) -> dict[str, Tensor]:
    """Keywords of `MVP4DPipeline.__call__`, nothing given."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "reference_latents": torch.randn(references, CHANNELS, SIZE, SIZE, generator=generator),
        "reference_maps": torch.randn(references, 59, SIZE, SIZE, generator=generator),
        "maps": torch.randn(views, latents, 59, SIZE, SIZE, generator=generator),
    }


def toy_given(views: int = 2, latents: int = 3, seed: int = 1) -> dict[str, Tensor]:
    """The whole first view and the first latent of the others; the rest of the given latents is NaN, because nobody may read it."""
    given = torch.zeros(views, latents, dtype=torch.bool)
    given[0], given[:, 0] = True, True
    known = torch.randn(views, latents, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return {"given": given, "given_latents": torch.where(given[..., None, None, None], known, torch.nan)}
