# SPDX-License-Identifier: Apache-2.0
"""The weights of the video model between runs: read once, and held under ComfyUI's memory management."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..mvp4d_core.errors import MissingAssetError
from . import host

if TYPE_CHECKING:
    from ..mvp4d_core.diffusion.generator import Placement
    from ..mvp4d_core.diffusion.memory import MemoryPlan
    from ..mvp4d_core.diffusion.pipeline import MVP4DPipeline


def check_package(name: str) -> None:
    """Raises MissingAssetError where a package of the video model is not installed."""
    if importlib.util.find_spec(name) is None:
        raise MissingAssetError(
            f"The video model needs the package {name}, which ComfyUI's Python lacks.\n"
            "Install the pack's requirements.txt with that Python's pip, or choose the proxy."
        )


class ManagedPipeline:
    """One pipeline. It lives as long as the output of the node that chose it, which ComfyUI caches."""

    def __init__(self) -> None:
        self._pipeline: MVP4DPipeline | None = None
        self._managed: Any = None

    def placement(self, activations: int) -> "Placement":
        """How a generator gets at it that will take that many bytes on the card beside the weights."""

        @contextmanager
        def placed(weights: Path, memory: "MemoryPlan", device: str) -> "Iterator[MVP4DPipeline]":
            from ..mvp4d_core.diffusion.generator import from_disk

            if memory.offload == "none":
                pipeline = self._read(weights, memory)
                host.bring_to_device(self._managed, activations)
                yield pipeline
            else:  # it moves its parts by itself, and needs the room
                check_package("accelerate")
                host.clear_card()
                with from_disk(weights, memory, device) as pipeline:
                    yield pipeline

        return placed

    def _read(self, weights: Path, memory: "MemoryPlan") -> "MVP4DPipeline":
        from ..mvp4d_core.diffusion.memory import apply_plan
        from ..mvp4d_core.diffusion.pipeline import MVP4DPipeline

        if self._pipeline is None:
            self._pipeline = MVP4DPipeline.from_folder(weights, dtype=memory.dtype)
            self._managed = host.managed(torch.nn.ModuleList([self._pipeline.transformer, self._pipeline.vae]))
        return apply_plan(self._pipeline, memory, self._pipeline.device)
