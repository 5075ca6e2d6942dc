# SPDX-License-Identifier: Apache-2.0
"""A training run on disk: what it was made with, where it stands, and the model it leaves. Safetensors and JSON alone.

RUN/config.json                      what the run was begun with: recipe, the model's configuration, a digest of what it learns from
RUN/log.jsonl                        one line every few steps
RUN/checkpoints/step-00001000/       weights.safetensors, averages.safetensors, moments.safetensors; state.json is written last
RUN/export/ or RUN/vae/              the averaged weights, as diffusers loads them
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import FormatError, InputError
from ..io.atomic import atomic_path, atomic_text
from ..io.folders import make_folder

SCHEMA = "mvp4d-training/1"
CONFIG, LOG, STATE = "config.json", "log.jsonl", "state.json"
MOMENTS = ("exp_avg", "exp_avg_sq")
KEPT = 2  # checkpoints


def claim_run(run: Path, config: dict[str, Any]) -> None:
    """Writes a new run's configuration, or compares with the one there; what that one lacks, at any depth, is accepted and added.

    Raises:
        InputError: the folder holds a run of another configuration.
    """
    make_folder(run)
    path, config = run / CONFIG, json.loads(json.dumps({"schema": SCHEMA, **config}))
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FormatError(f"{path} is damaged ({error}). Give another folder.") from None
        different = [key for key in found if not _agrees(found[key], config.get(key))]
        if different:
            raise InputError(
                f"{run} holds a run that differs in: {', '.join(sorted(different))}. Give another folder, or the options it was begun with."
            )
    atomic_text(path, json.dumps(config, indent=2))


def _agrees(found: Any, wanted: Any) -> bool:
    """Whether all that was found is what is wanted, which may have more keys."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return all(key in wanted and _agrees(value, wanted[key]) for key, value in found.items())
    return found == wanted


def append_log(run: Path, entry: Mapping[str, Any]) -> None:
    """One more line of the log."""
    with (run / LOG).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")


def cut_log(run: Path, step: int) -> None:
    """Drops the lines after `step`, which a run that goes on from there will write again, and a line that a kill cut short."""
    path = run / LOG
    if path.is_file():
        kept = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):
                continue
        atomic_text(path, "".join(kept))


def save_checkpoint(run: Path, step: int, model: torch.nn.Module, averages: list[torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Writes a checkpoint's folder and drops the oldest ones."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    make_folder(folder)
    (folder / STATE).unlink(missing_ok=True)
    named = dict(model.named_parameters())
    moments = {}
    for name, parameter in named.items():
        for moment in MOMENTS:
            state = optimizer.state.get(parameter, {})
            moments[f"{moment}.{name}"] = state[moment] if moment in state else torch.zeros_like(parameter)
    _write(folder / "weights.safetensors", {name: parameter.detach() for name, parameter in named.items()})
    _write(folder / "averages.safetensors", dict(zip(named, averages, strict=True)))
    _write(folder / "moments.safetensors", moments)
    atomic_text(folder / STATE, json.dumps({"schema": SCHEMA, "step": step}))
    for old in checkpoint_folders(run)[:-KEPT]:
        (old / STATE).unlink()
        shutil.rmtree(old)


def checkpoint_folders(run: Path) -> list[Path]:
    """The finished checkpoints, oldest first."""
    return sorted(marker.parent for marker in (run / "checkpoints").glob(f"step-*/{STATE}"))


def load_checkpoint(
    folder: Path, model: torch.nn.Module, averages: list[torch.Tensor], optimizer: torch.optim.Optimizer | None = None
) -> int:
    """Fills model, averages and optimiser; returns the step. FormatError for a checkpoint of another model or a damaged one."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        step = int(state["step"])
        if state.get("schema") != SCHEMA:
            raise ValueError("another schema")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{folder} is no finished checkpoint of this version ({error}); delete it and run again.") from None
    named = dict(model.named_parameters())
    with torch.no_grad():
        weights, average = _read(folder / "weights.safetensors"), _read(folder / "averages.safetensors")
        moments = _read(folder / "moments.safetensors") if optimizer is not None else {}
        for (name, parameter), target in zip(named.items(), averages, strict=True):
            parameter.copy_(_fitting(weights, name, parameter, folder))
            target.copy_(_fitting(average, name, parameter, folder))
            if optimizer is not None:
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(step), device=parameter.device),
                    **{key: _fitting(moments, f"{key}.{name}", parameter, folder).to(parameter.device, copy=True) for key in MOMENTS},
                }
    return step


def _write(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    with atomic_path(path) as temporary:
        save_file({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}, str(temporary))


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path} is damaged ({error}); delete its folder and run again.") from None


def _fitting(tensors: dict[str, torch.Tensor], name: str, like: torch.Tensor, folder: Path) -> torch.Tensor:
    if name not in tensors or tensors[name].shape != like.shape:
        raise FormatError(f"{folder} has no `{name}` of shape {tuple(like.shape)}: it belongs to another model. Give another folder.")
    return tensors[name]
