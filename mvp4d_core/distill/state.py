# SPDX-License-Identifier: Apache-2.0
"""A fit in memory and on disk: Gaussians, what they ride on, the puppet, and the optimiser's moments."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import FormatError
from ..io import safetensors_numpy
from .config import DistillConfig
from .deformation import LinearDeformation
from .densify import GradientRecord
from .puppet import Puppet

SCHEMA = "mvp4d-fit/2"
PARAMETERS = ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN")
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class FitState:
    """`gaussians` by the names of `GaussianAvatar`, their `binding` (N,) int64, and `step`, the next one."""

    gaussians: dict[str, torch.nn.Parameter]
    binding: torch.Tensor
    puppet: Puppet
    optimiser: torch.optim.Adam
    record: GradientRecord
    step: int = 0

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        """All that the optimiser moves, by name."""
        puppet = {f"puppet.{name}": p for name, p in self.puppet.named_parameters() if p.requires_grad}
        return {f"gaussians.{name}": p for name, p in self.gaussians.items()} | puppet


def begin(
    start: Mapping[str, np.ndarray], binding: np.ndarray, puppet: Puppet, config: DistillConfig, device: torch.device | str
) -> FitState:
    """A fit before its first step."""
    gaussians = {name: torch.nn.Parameter(torch.as_tensor(start[name], device=device)) for name in PARAMETERS}
    puppet = puppet.to(device)
    optimiser = new_optimiser(gaussians, puppet, config)
    record = GradientRecord.empty(len(binding), device)
    return FitState(gaussians, torch.as_tensor(binding, dtype=torch.int64, device=device), puppet, optimiser, record)


def new_optimiser(gaussians: dict[str, torch.nn.Parameter], puppet: Puppet, config: DistillConfig) -> torch.optim.Adam:
    """A group for each kind of Gaussian parameter, and one each for the deformation, the neck and the appearance."""
    groups: list[dict] = [{"params": [gaussians[name]], "lr": getattr(config, f"{name}_lr"), "eps": 1e-15} for name in PARAMETERS]
    if puppet.deformation is not None:
        rate = config.deformation_lr if isinstance(puppet.deformation, LinearDeformation) else config.unet_lr
        groups.append({"params": list(puppet.deformation.parameters()), "lr": rate, "eps": 1e-8, "falls": True})
    if config.neck:
        groups.append({"params": [puppet.neck], "lr": config.neck_lr, "eps": 1e-8, "falls": True})
    if config.appearance:
        groups.append({"params": [puppet.gains, puppet.shifts], "lr": config.appearance_lr, "eps": 1e-8, "falls": True})
    for group in groups:
        group["initial_lr"] = group["lr"]
    groups[0]["falls"] = True  # the means
    return torch.optim.Adam(groups, fused=True)


def save_fit(path: Path, identity: str, state: FitState) -> None:
    """Writes a fit between two steps, atomically."""
    tensors = {"binding": state.binding, "record.sums": state.record.sums, "record.views": state.record.views}
    for name, parameter in state.puppet.named_parameters():
        tensors[f"puppet.{name}"] = parameter.detach()
    for name, parameter in state.trained.items():
        moments = state.optimiser.state.get(parameter, {})
        tensors |= {name: parameter.detach(), f"{name}.step": moments.get("step", torch.zeros(()))}
        for moment in MOMENTS:
            tensors[f"{name}.{moment}"] = moments[moment] if moment in moments else torch.zeros_like(parameter)
    arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    linear = str(isinstance(state.puppet.deformation, LinearDeformation))
    safetensors_numpy.write(path, arrays, {"schema": SCHEMA, "identity": identity, "step": str(state.step), "linear": linear})


def load_fit(path: Path, identity: str, state: FitState, config: DistillConfig) -> FitState:
    """The fit that `save_fit` wrote, or `state` itself where the file is of another one.

    Raises:
        FormatError: the file is no checkpoint of a fit, or a damaged one.
    """
    tensors, metadata = safetensors_numpy.read(path)
    if metadata.get("schema") != SCHEMA or not metadata.get("step", "").isdigit():
        raise FormatError(f"{path.name} is not a checkpoint of a fit of this version; delete it and start again.")
    if metadata.get("identity") != identity:
        return state
    device, step = state.binding.device, int(metadata["step"])
    if metadata.get("linear") == "True" and config.deformation == "unet":
        state.puppet.become_linear()
    count = len(tensors["binding"]) if tensors.get("binding", np.zeros(())).ndim == 1 else -1
    gaussians = {}
    for name in PARAMETERS:
        shape = (count, *state.gaussians[name].shape[1:])
        gaussians[name] = torch.nn.Parameter(_fitting(path, tensors, f"gaussians.{name}", shape, device))
    binding = _fitting(path, tensors, "binding", (count,), device).long()
    record = GradientRecord(*(_fitting(path, tensors, f"record.{name}", (count,), device) for name in ("sums", "views")))
    loaded = FitState(gaussians, binding, state.puppet, new_optimiser(gaussians, state.puppet, config), record, step)
    for name, parameter in state.puppet.named_parameters():
        parameter.data.copy_(_fitting(path, tensors, f"puppet.{name}", tuple(parameter.shape), device))
    for name, parameter in loaded.trained.items():
        shape = tuple(parameter.shape)
        moments = {moment: _fitting(path, tensors, f"{name}.{moment}", shape, device) for moment in MOMENTS}
        loaded.optimiser.state[parameter] = {"step": _fitting(path, tensors, f"{name}.step", (), device), **moments}
    return loaded


def _fitting(path: Path, tensors: dict[str, np.ndarray], name: str, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    array = tensors.get(name)
    if array is None or array.shape != shape:
        raise FormatError(f"{path.name} is a damaged checkpoint (`{name}`); delete it and start again.")
    return torch.as_tensor(array, device=device)
