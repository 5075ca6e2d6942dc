# SPDX-License-Identifier: Apache-2.0
"""Whether a device that somebody named can be worked on, asked before anything long begins."""

import torch

from ..errors import InputError, MissingAssetError
from .gsplat_backend import why_unusable


def check_device(name: str) -> None:
    """Returns where `name` is `cpu`, or a `cuda` or `cuda:N` on which splats can be rendered.

    Raises:
        InputError: another kind of device.
        MissingAssetError: CUDA, that device, or gsplat on it does not work here.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"`device` must be cpu, cuda or cuda:N, got `{name}`.")
    if device.type == "cpu":
        return
    index = device.index or 0
    if torch.cuda.is_available() and index >= torch.cuda.device_count():
        raise MissingAssetError(f"There is no device {name}, this machine has {torch.cuda.device_count()}. Count from cuda:0.")
    reason = why_unusable(index)
    if reason is not None:
        raise MissingAssetError(f"Splats cannot be rendered on {name}: {reason}. Use --device cpu, or see `mvp4d doctor`.")
