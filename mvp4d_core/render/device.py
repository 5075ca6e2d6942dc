# SPDX-License-Identifier: Apache-2.0
"""Whether a device that somebody named can be worked on, asked before anything long begins."""

import torch

from ..errors import InputError, MissingAssetError
from .gsplat_backend import why_unusable


def torch_device(name: str | torch.device) -> torch.device:
    """The device of that name: `cpu`, or a `cuda` or `cuda:N` that is there.

    Raises:
        InputError: another kind of device.
        MissingAssetError: CUDA or that device is not there.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"`device` must be cpu, cuda or cuda:N, got `{name}`.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MissingAssetError(f"There is no device {name}, torch sees {torch.cuda.device_count()} here. Use cpu, or see `mvp4d doctor`.")
    return device


def check_device(name: str) -> None:
    """Returns where `torch_device` does and splats can be rendered.

    Raises:
        InputError: another kind of device.
        MissingAssetError: CUDA, that device, or gsplat on it does not work here.
    """
    device = torch_device(name)
    if device.type == "cpu":
        return
    reason = why_unusable(device.index or 0)
    if reason is not None:
        raise MissingAssetError(f"Splats cannot be rendered on {name}: {reason}. Use --device cpu, or see `mvp4d doctor`.")
