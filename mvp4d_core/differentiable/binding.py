# SPDX-License-Identifier: Apache-2.0
"""Torch twin of `rig.binding`: Gaussians in triangle space to the world, differentiable in the Gaussians and in the triangles."""

from dataclasses import dataclass

import torch

from ..rig import TriangleFrames as NumpyFrames
from ..rotations import matrix_to_quaternion as numpy_matrix_to_quaternion

_TINY = 1e-12  # metres, as in the ground floor


@dataclass(frozen=True)
class TriangleFrames:
    """One pose's frames: `rotations` (F, 3, 3), `quats` (F, 4) wxyz, `centres` (F, 3), `sizes` (F,)."""

    rotations: torch.Tensor
    quats: torch.Tensor
    centres: torch.Tensor
    sizes: torch.Tensor


def frames_to_torch(frames: NumpyFrames, *, device: torch.device | str, dtype: torch.dtype = torch.float32) -> TriangleFrames:
    """The numpy frames of a pose as tensors."""
    arrays = (frames.rotations, numpy_matrix_to_quaternion(frames.rotations), frames.centres, frames.sizes)
    return TriangleFrames(*(torch.as_tensor(array, dtype=dtype, device=device) for array in arrays))


def triangle_frames(vertices: torch.Tensor, faces: torch.Tensor) -> TriangleFrames:
    """Frames of the triangles `faces` (F, 3) of `vertices` (V, 3), as `rig.binding` has them; differentiable in the vertices."""
    v0, v1, v2 = vertices[faces].unbind(1)
    edge, side = v1 - v0, v2 - v0
    length = edge.norm(dim=-1, keepdim=True)
    a0 = edge / length.clamp(min=_TINY)
    normal = torch.linalg.cross(a0, side)
    height = normal.norm(dim=-1, keepdim=True)
    n = normal / height.clamp(min=_TINY)
    a2 = -torch.linalg.cross(n, a0)
    rotations = torch.where((height > _TINY)[..., None], torch.stack([a0, n, a2], dim=-1), torch.eye(3).to(vertices))
    sizes = (length[:, 0] + (a2 * side).sum(dim=-1).abs()) / 2
    return TriangleFrames(rotations, matrix_to_quaternion(rotations), (v0 + v1 + v2) / 3, sizes)


def matrix_to_quaternion(matrices: torch.Tensor) -> torch.Tensor:
    """Rotations (..., 3, 3) to unit quaternions (..., 4) wxyz, by the largest of the four components (Shepperd 1978)."""
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrices.unbind(-2))
    squares = torch.stack([1 + a + e + i, 1 + a - e - i, 1 - a + e - i, 1 - a - e + i], dim=-1)  # four times each component's square
    w, x, y, z = squares.unbind(-1)
    products = torch.stack([w, h - f, c - g, d - b, h - f, x, b + d, c + g, c - g, b + d, y, f + h, d - b, c + g, f + h, z], dim=-1)
    largest = squares.argmax(dim=-1, keepdim=True)
    row = products.unflatten(-1, (4, 4)).gather(-2, largest[..., None].expand(*largest.shape, 4))[..., 0, :]
    return row / (2 * squares.gather(-1, largest).sqrt())


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
