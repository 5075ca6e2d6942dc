# SPDX-License-Identifier: Apache-2.0
"""What training minimises: the squared error of the predicted velocity on the latents that are to be generated.

One timestep a sample, as sampling has; the SNR falls with the square root of how many latent frames the sample generates.
"""

import torch
from torch import Tensor, nn

from ..diffusion.guidance import drop_conditions, model_input
from ..diffusion.schedule import TIMESTEPS, add_noise, signal_power, velocity
from .samples import Sample


def sample_losses(
    transformer: nn.Module, batch: Sample, *, snr_shift: float, generator: torch.Generator, timesteps: Tensor | None = None
) -> Tensor:
    """The loss (B,) of each sample of a float32 batch.

    Args:
        snr_shift: of the curriculum.
        generator: a CPU generator, for the noise, and for the timesteps where none are given.
        timesteps: (B,) whole numbers in 0..999.
    """
    device, count = batch.latents.device, len(batch.latents)
    if timesteps is None:
        # evenly spread over the batch from a random start: each is uniform, and the batch's mean loss varies less
        places = (torch.rand(1, generator=generator) + torch.arange(count) / count) % 1
        timesteps = (places * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)
    noise = torch.randn(batch.latents.shape, generator=generator).to(device)
    wanted = ~batch.given
    power = signal_power(timesteps, wanted.sum(dim=(1, 2)).cpu(), snr_shift).float().to(device)
    noisy = add_noise(batch.latents, noise, power)
    inputs = model_input(noisy, batch.maps, batch.photos, batch.photo_maps, batch.given, batch.latents)
    inputs = drop_conditions(inputs, batch.drop, batch.given)
    predicted = transformer(timestep=timesteps.to(device), return_dict=False, **inputs.keywords())[0]
    error = (predicted.float() - velocity(batch.latents, noise, power)).square().mean(dim=(-3, -2, -1))
    return (error * wanted).sum(dim=(1, 2)) / wanted.sum(dim=(1, 2))
