# SPDX-License-Identifier: Apache-2.0
"""Torch twin of `rig.binding`: Gaussians in triangle space to the world, differentiable in the Gaussians."""

from dataclasses import dataclass

import torch

from ..rig import TriangleFrames as NumpyFrames
from ..rotations import matrix_to_quaternion


@dataclass(frozen=True)
class TriangleFrames:
    """One pose's frames as constants: `rotations` (F, 3, 3), `quats` (F, 4) wxyz, `centres` (F, 3), `sizes` (F,)."""

    rotations: torch.Tensor
    quats: torch.Tensor
    centres: torch.Tensor
    sizes: torch.Tensor


def frames_to_torch(frames: NumpyFrames, *, device: torch.device | str, dtype: torch.dtype = torch.float32) -> TriangleFrames:
    """The numpy frames of a pose as tensors."""
    arrays = (frames.rotations, matrix_to_quaternion(frames.rotations), frames.centres, frames.sizes)
    return TriangleFrames(*(torch.as_tensor(array, dtype=dtype, device=device) for array in arrays))


def multiply_quaternions(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Hamilton product of wxyz (..., 4): the rotation `right` first, then `left`."""
    aw, ax, ay, az = left.unbind(-1)
    bw, bx, by, bz = right.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )


def bound_to_world(
    means: torch.Tensor, quats: torch.Tensor, scales: torch.Tensor, binding: torch.Tensor, frames: TriangleFrames
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Local means (N, 3), wxyz quats (N, 4) and scales (N, 3) on the triangles `binding` (N,) to world means, quats, scales."""
    sizes = frames.sizes[binding][:, None]
    world = torch.einsum("nij,nj->ni", frames.rotations[binding], means) * sizes + frames.centres[binding]
    return world, multiply_quaternions(frames.quats[binding], quats), scales * sizes
