# SPDX-License-Identifier: Apache-2.0
"""What the transformer is given, in training and in sampling alike, and its unconditional twin for classifier-free guidance.

Clean latents that are given overwrite the noisy ones and the mask channel of the maps says where. The unconditional branch is CAP4D's:
every map (the mask channel too), the reference's latents and the given latents are zero in the model's input; which latents are
overwritten stays as it is.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..conditioning.maps import MAP_SLICES

GIVEN = MAP_SLICES["reference_mask"]


@dataclass(frozen=True)
class ModelInput:
    """A batch as `MVP4DTransformer3DModel.forward` takes it.

    Attributes:
        hidden_states: (B, V, L, C, h, w) noisy latents, clean where given.
        maps: (B, V, L, M, h, w), the mask channel 1 where given.
        reference_hidden_states: (B, R, C, h, w) clean latents of the photos.
        reference_maps: (B, R, M, h, w).
    """

    hidden_states: Tensor
    maps: Tensor
    reference_hidden_states: Tensor
    reference_maps: Tensor

    def keywords(self) -> dict[str, Any]:
        """All fields by name, as the transformer's keywords."""
        return vars(self)


def overwrite_given(latents: Tensor, given: Tensor | None, given_latents: Tensor | None) -> Tensor:
    """`latents` (..., C, h, w), replaced by `given_latents` where `given` (...) is true; both None change nothing."""
    if given is None or given_latents is None:
        return latents
    return torch.where(given[..., None, None, None], given_latents.to(latents.dtype), latents)


def model_input(
    noisy: Tensor,
    maps: Tensor,
    reference_latents: Tensor,
    reference_maps: Tensor,
    given: Tensor | None = None,
    given_latents: Tensor | None = None,
) -> ModelInput:
    """Overwrites what is given and writes the maps' mask channel; the tensors handed in stay as they are.

    Args:
        noisy: (B, V, L, C, h, w).
        maps: (B, V, L, M, h, w) as `condition_maps` makes them; their mask channel is replaced.
        reference_latents, reference_maps: (B, R, C, h, w) and (B, R, M, h, w).
        given: (B, V, L) bool: latents that are known, e.g. a finished view or a clean prefix; None for none.
        given_latents: (B, V, L, C, h, w), read only where `given`.
    """
    maps = maps.clone()
    maps[..., GIVEN, :, :] = 0 if given is None else given[..., None, None, None].to(maps.dtype)
    return ModelInput(overwrite_given(noisy, given, given_latents), maps, reference_latents, reference_maps)


def drop_conditions(inputs: ModelInput, drop: Tensor, given: Tensor | None = None) -> ModelInput:
    """The unconditional input of the samples that `drop` names: training's joint dropout, and sampling's second branch.

    Args:
        inputs: of `model_input`.
        drop: (B,) bool.
        given: (B, V, L) bool as handed to `model_input`; those latents become zero.
    """
    keep = ~drop[:, None, None, None, None]
    latents = inputs.hidden_states
    if given is not None:
        latents = torch.where((given & drop[:, None, None])[..., None, None, None], torch.zeros_like(latents), latents)
    return ModelInput(
        latents,
        torch.where(keep[..., None], inputs.maps, 0),
        torch.where(keep, inputs.reference_hidden_states, 0),
        torch.where(keep, inputs.reference_maps, 0),
    )


def guide(conditional: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance (Ho & Salimans 2021); 1 is the conditional prediction, larger follows the conditions more."""
    return unconditional + guidance_scale * (conditional - unconditional)
