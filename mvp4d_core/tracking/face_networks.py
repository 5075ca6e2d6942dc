# SPDX-License-Identifier: Apache-2.0
"""MediaPipe's face detectors, face mesh and person matte as plain torch: lists of steps, and the weights they use.

The file in assets/ is made by tools/convert_mediapipe.py. A step reads values by number and writes one; four-dimensional values are kept
as (n, channels, height, width), where TFLite has channels last. What each step computes is TFLite's and MediaPipe's arithmetic in float32.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..io.schema import read_as

SCHEMA = "mvp4d-face-networks/1"
ASSET = Path(__file__).parent / "assets" / "face_networks.safetensors"


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        size: (height, width) of the pictures it takes.
        steps: in order; see `_OPERATIONS`.
        weights: float32 by the number of the value they are.
    """

    size: tuple[int, int]
    input: int
    outputs: tuple[int, ...]
    steps: tuple[dict[str, Any], ...]
    weights: dict[int, Tensor]

    @torch.inference_mode()
    def run(self, pictures: np.ndarray) -> list[np.ndarray]:
        """The outputs for pictures (n, H, W, 3) float32 of this network's size and range; four-dimensional ones have channels last."""
        values = dict(self.weights)
        values[self.input] = torch.from_numpy(pictures).permute(0, 3, 1, 2)
        for step in self.steps:
            result = _OPERATIONS[step["op"]](step, *(values[i] for i in step["in"]))
            act = step.get("act")
            values[step["out"]] = result if act is None else _ACTIVATIONS[act](result)
        return [_channels_last(values[i]).numpy() for i in self.outputs]


@functools.cache
def load_network(name: str) -> Network:
    """`short_range`, `full_range`, `mesh` or `matte`.

    Raises:
        FormatError: the bundled file is damaged.
    """
    tensors, networks = _asset()
    facts, prefix = networks[name], f"{name}."
    arrays = {int(key.removeprefix(prefix)): array for key, array in tensors.items() if key.startswith(prefix)}
    weights = {value: torch.from_numpy(array.astype(np.float32)) for value, array in arrays.items()}
    weights = {value: w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 else w for value, w in weights.items()}
    return Network(tuple(facts["size"]), facts["input"], tuple(facts["outputs"]), tuple(facts["steps"]), weights)


@functools.cache
def _asset() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    tensors, metadata = read_as(ASSET, SCHEMA, "the face networks")
    return tensors, json.loads(metadata["networks"])


def _channels_last(value: Tensor) -> Tensor:
    return value.permute(0, 2, 3, 1) if value.ndim == 4 else value


def _channels_first(value: Tensor) -> Tensor:
    return value.permute(0, 3, 1, 2) if value.ndim == 4 else value


def _convolve(step: dict[str, Any], value: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    left, right, top, bottom = step["padding"]
    if left != right or top != bottom:
        value, left, top = functional.pad(value, (left, right, top, bottom)), 0, 0
    return functional.conv2d(value, kernel, bias, step["stride"], (top, left), 1, step["groups"])


def _convolve_transposed(step: dict[str, Any], value: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    return functional.conv_transpose2d(value, kernel, bias, step["stride"])


def _scaled(step: dict[str, Any], value: Tensor, factor: Tensor) -> Tensor:
    return value * factor


def _prelu(step: dict[str, Any], value: Tensor, slopes: Tensor) -> Tensor:
    return functional.prelu(value, slopes)


def _concatenate(step: dict[str, Any], *values: Tensor) -> Tensor:
    return _channels_first(torch.cat([_channels_last(value) for value in values], step["axis"]))


def _reshape(step: dict[str, Any], value: Tensor) -> Tensor:
    return _channels_first(_channels_last(value).reshape(-1, *step["shape"]))


def _resize(step: dict[str, Any], value: Tensor) -> Tensor:
    return functional.interpolate(value, size=step["size"], mode="bilinear", align_corners=False)


def _more_channels(step: dict[str, Any], value: Tensor) -> Tensor:
    return functional.pad(value, (0, 0, 0, 0, 0, step["count"]))


def _depth_to_space(step: dict[str, Any], value: Tensor) -> Tensor:
    """TFLite has the block's place before the channel, torch's pixel_shuffle after it."""
    n, channels, height, width = value.shape
    block = step["block"]
    parts = value.reshape(n, block, block, channels // block**2, height, width)
    return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, height * block, width * block)


def _crop_matrix(step: dict[str, Any], points: Tensor) -> Tensor:
    """(n, 4, 4) from pixels of a crop around some of `points` (n, P, 3) to the points' own; the crop is turned so that the line between
    two points is level, and `scale` times the points' extent.
    """
    across = points[:, step["to"], :2] - points[:, step["from"], :2]
    angle = step["turn"] - torch.atan2(across[:, 1], across[:, 0])
    cosine, sine = torch.cos(angle), torch.sin(angle)
    crop_from_points = torch.stack([cosine, -sine, sine, cosine], dim=-1).reshape(-1, 2, 2)
    turned = points[:, step["points"], :2] @ crop_from_points.mT
    lowest, highest = turned.amin(dim=1), turned.amax(dim=1)
    size = torch.tensor(step["size"], dtype=points.dtype)
    scale = (highest - lowest) * torch.tensor(step["scale"], dtype=points.dtype) / size
    linear = crop_from_points.mT * scale[:, None, :]
    matrix = torch.zeros(len(points), 4, 4)
    matrix[:, 2, 2] = matrix[:, 3, 3] = 1
    matrix[:, :2, :2] = linear
    middle = ((lowest + highest) / 2)[:, :, None]
    matrix[:, :2, 3:] = crop_from_points.mT @ middle - linear @ (size / 2)[:, None]
    return matrix


def _crop(step: dict[str, Any], value: Tensor, matrix: Tensor) -> Tensor:
    """The features that `matrix` says, between pixels by two linear steps; nought where it leads beyond the outermost pixels' centres."""
    width, height = step["size"]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    places = torch.stack([x, y], dim=-1).reshape(1, -1, 2) @ matrix[:, :2, :2].mT + matrix[:, None, :2, 3] - 0.5
    last = torch.tensor([value.shape[3] - 1, value.shape[2] - 1])
    inside = ((places >= 0) & (places <= last)).all(dim=-1).reshape(-1, 1, height, width)
    grid = (2 * places / last - 1).reshape(-1, height, width, 2)
    return functional.grid_sample(value, grid, mode="bilinear", padding_mode="border", align_corners=True) * inside


def _place_points(step: dict[str, Any], points: Tensor, matrix: Tensor) -> Tensor:
    return points @ matrix[:, :2, :2].mT + matrix[:, None, :2, 3]


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": functional.relu, "relu6": functional.relu6}
_OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "add": lambda step, a, b: a + b,
    "average_pool": lambda step, value: functional.avg_pool2d(value, step["kernel"], step["stride"]),
    "concatenate": _concatenate,
    "convolve": _convolve,
    "convolve_transposed": _convolve_transposed,
    "crop": _crop,
    "crop_matrix": _crop_matrix,
    "depth_to_space": _depth_to_space,
    "hard_swish": lambda step, value: functional.hardswish(value),
    "max_pool": lambda step, value: functional.max_pool2d(value, step["kernel"], step["stride"]),
    "more_channels": _more_channels,
    "multiply": _scaled,
    "place_points": _place_points,
    "prelu": _prelu,
    "relu": lambda step, value: functional.relu(value),
    "reshape": _reshape,
    "resize": _resize,
    "sigmoid": lambda step, value: torch.sigmoid(value),
}
