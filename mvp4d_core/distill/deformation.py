# SPDX-License-Identifier: Apache-2.0
"""What a person's surface does beyond the rig's directions: corrections of the head at rest, as a function of the expression.

Two models, after CAP4D's (Taubner et al. 2025). `UVUNet` is the published one, a U-Net from the expression's displacements in UV space to
corrections there. `LinearDeformation` has one correction a direction, so it costs nothing at playback. What travels in an avatar's file is
linear either way: `bake` adds it to the rig's own directions, so every player knows it.
"""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sparse
import torch
from torch import nn
from torch.nn import functional

from ..render.mesh import rasterize_uv
from ..rig import HeadModel
from ..tracking.smooth_fields import laplacian

UNIT = 0.0108  # metres of a displacement that count as 1: CAP4D's
FREQUENCIES = 6  # of the positional encoding of UV
SMOOTHINGS = 8  # averagings with neighbours: a patch of about three edges to each side


class LinearDeformation(nn.Module):
    """Corrections that are a static part and one part an expression weight, all of them smooth over the mesh.

    A direction's part is learned in shares of how far that direction moves each vertex. So brows that rise while the mouth opens are
    corrected by the brows' directions, even where no frame has them apart.

    What is learned is averaged with its neighbours `SMOOTHINGS` times before it counts. A gradient then moves a patch of skin and not a
    vertex, so the noise of single pixels cancels (the idea of Nicolet et al. 2021, "Large steps in inverse rendering of geometry"). What a
    deformation begins with is not averaged and not learned.

    No direction's correction moves a joint: what would is taken out, evenly over the vertices that the joint is regressed from. So bones
    that stand still in their heads, as Blender's and glTF's do, pose the corrected head as exactly as the rig.
    """

    reach: torch.Tensor
    regressor: torch.Tensor
    seat: torch.Tensor
    averaging: torch.Tensor
    transposed: torch.Tensor

    def __init__(self, rig: HeadModel) -> None:
        """All corrections begin at zero."""
        super().__init__()
        vertices, expressions = len(rig.v_template), len(rig.expression_names)
        self.static = nn.Parameter(torch.zeros(vertices, 3))
        self.directions = nn.Parameter(torch.zeros(expressions, vertices * 3))
        self.first_static = nn.Parameter(torch.zeros(vertices, 3), requires_grad=False)
        self.first_directions = nn.Parameter(torch.zeros(expressions, vertices * 3), requires_grad=False)
        self.register_buffer("reach", torch.as_tensor(np.linalg.norm(rig.exprdirs, axis=1).T / UNIT, dtype=torch.float32))
        self.register_buffer("regressor", torch.as_tensor(rig.J_regressor, dtype=torch.float32))
        self.register_buffer("seat", torch.as_tensor(np.linalg.pinv(rig.J_regressor.astype(np.float64)), dtype=torch.float32))
        averaging = sparse.identity(vertices) - 0.5 * laplacian(rig.faces, vertices)
        self.register_buffer("averaging", _csr(averaging))
        self.register_buffer("transposed", _csr(averaging.T))

    def forward(self, expression: torch.Tensor) -> torch.Tensor:
        """Corrections (T, V, 3) in metres for expressions (T, E)."""
        shares = self.directions.unflatten(-1, (-1, 3))
        rough = torch.einsum("te,ev,evd->tvd", expression, self.reach, shares)
        smooth = self.smooth(torch.cat([self.static[None], rough]))
        moving = (expression @ self.first_directions).unflatten(-1, (-1, 3)) + smooth[1:]
        return UNIT * (self.first_static + smooth[0] + moving - self.seat @ (self.regressor @ moving))

    def smooth(self, fields: torch.Tensor) -> torch.Tensor:
        """Fields (T, V, 3), averaged."""
        columns = _Averaged.apply(fields.transpose(0, 1).flatten(1), self.averaging, self.transposed)
        return columns.unflatten(1, (len(fields), 3)).transpose(0, 1)


class _Averaged(torch.autograd.Function):
    """A matrix applied `SMOOTHINGS` times to columns (V, K); torch's own gradient would transpose it anew each time."""

    @staticmethod
    def forward(ctx: Any, columns: torch.Tensor, averaging: torch.Tensor, transposed: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(transposed)
        for _ in range(SMOOTHINGS):
            columns = averaging @ columns
        return columns

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (transposed,) = ctx.saved_tensors
        for _ in range(SMOOTHINGS):
            gradient = transposed @ gradient
        return gradient, None, None


class UVUNet(nn.Module):
    """Corrections painted in UV space by a pix2pix U-Net (Isola et al. 2017), read off at the vertices.

    The input is the displacement of each texel by the expression, in `UNIT`s, and sines and cosines of its place. It runs once with the
    expression and once with none; what isn't of the face takes the latter, so hair and neck have one learned shape.
    """

    corners: torch.Tensor
    weights: torch.Tensor
    exprdirs: torch.Tensor
    places: torch.Tensor
    grid: torch.Tensor
    moving: torch.Tensor

    def __init__(self, rig: HeadModel, *, resolution: int = 128, channels: int = 64, seed: int = 0) -> None:
        """`resolution` is a multiple of 64; the last layer begins at zero, so all corrections do."""
        super().__init__()
        texels = rasterize_uv(rig.uvs, rig.uv_faces, resolution)
        corners = rig.faces[np.maximum(texels.face_ids, 0)]
        self.register_buffer("corners", torch.as_tensor(corners, dtype=torch.int64))
        self.register_buffer("weights", torch.as_tensor(texels.barycentrics * texels.mask[..., None], dtype=torch.float32))
        self.register_buffer("exprdirs", torch.as_tensor(rig.exprdirs))
        self.register_buffer("places", _places(resolution))
        self.register_buffer("grid", torch.as_tensor(_vertex_uvs(rig) * [2, -2] + [-1, 1], dtype=torch.float32)[None, None])
        moving = np.abs(rig.exprdirs).max(axis=(1, 2)) > 1e-4  # metres at full weight
        self.register_buffer("moving", torch.as_tensor(moving)[None, :, None])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = _UNet(3 + 4 * FREQUENCIES, channels)

    def forward(self, expression: torch.Tensor) -> torch.Tensor:
        """Corrections (T, V, 3) in metres for expressions (T, E)."""
        moved = torch.einsum("vde,te->tvd", self.exprdirs, expression) / UNIT
        inputs = torch.cat([moved, torch.zeros_like(moved[:1])])
        painted = torch.einsum("hwk,thwkd->tdhw", self.weights, inputs[:, self.corners])
        places = self.places.expand(len(painted), -1, -1, -1)
        maps = self.net(torch.cat([painted, places], dim=1))
        grid = self.grid.expand(len(maps), -1, -1, -1)
        read = functional.grid_sample(maps, grid, align_corners=False, padding_mode="border")[:, :, 0].transpose(1, 2)
        return UNIT * torch.where(self.moving, read[:-1], read[-1:])


class _UNet(nn.Module):
    """Six times down and up again by convolutions of 4 x 4, instance norm, skips; the last layer is zero at first."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        widths = [channels * factor for factor in (1, 2, 4, 8, 8, 8)]
        downs, ups = [], []
        for level, width in enumerate(widths):
            before = inputs if level == 0 else widths[level - 1]
            normed = 0 < level < len(widths) - 1  # the innermost has one or a few texels: a norm would erase them
            downs.append(nn.Sequential(
                *([nn.LeakyReLU(0.2)] if level else []),
                nn.Conv2d(before, width, 4, 2, 1),
                *([nn.InstanceNorm2d(width)] if normed else []),
            ))  # fmt: skip
            above = widths[level - 1] if level else 3
            doubled = width if level == len(widths) - 1 else 2 * width
            ups.append(
                nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(doubled, above, 4, 2, 1), *([nn.InstanceNorm2d(above)] if level else []))
            )
        self.downs, self.ups = nn.ModuleList(downs), nn.ModuleList(ups)
        last = ups[0][1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(T, C, H, W) to (T, 3, H, W)."""
        skips = []
        for down in self.downs:
            maps = down(maps)
            skips.append(maps)
        for level in reversed(range(len(self.ups))):
            maps = self.ups[level](maps if level == len(self.ups) - 1 else torch.cat([maps, skips[level]], dim=1))
        return maps


def linearised(rig: HeadModel, deformation: nn.Module, expressions: torch.Tensor, ridge: float = 1e-3) -> LinearDeformation:
    """The linear deformation nearest to another one on `expressions` (T, E), by least squares.

    Args:
        ridge: a T-th of what is added to the squares, so that directions which the expressions say nothing of stay the rig's.
    """
    linear = LinearDeformation(rig).to(expressions.device)
    with torch.no_grad():
        static = deformation(torch.zeros_like(expressions[:1]))[0]
        change = torch.cat([deformation(expression[None]) for expression in expressions]) - static
        weights = expressions.double()
        normal = weights.T @ weights + ridge * len(weights) * torch.eye(weights.shape[1]).to(weights)
        linear.first_static.copy_(static / UNIT)
        linear.first_directions.copy_(torch.linalg.solve(normal, weights.T @ (change.flatten(1).double() / UNIT)))
    return linear


def bake(rig: HeadModel, deformation: LinearDeformation) -> HeadModel:
    """The rig with a linear deformation in its template and directions: poses of it are those of the rig, corrected."""
    count = len(deformation.directions)
    with torch.no_grad():
        corrections = deformation(torch.cat([torch.zeros(1, count), torch.eye(count)]).to(deformation.directions))
    static = corrections[0]
    return replace(
        rig,
        v_template=(rig.v_template + static.cpu().numpy()).astype(np.float32),
        exprdirs=(rig.exprdirs + (corrections[1:] - static).permute(1, 2, 0).cpu().numpy()).astype(np.float32),
    )


def roughness(corrections: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of corrections (T, V, 3) along mesh edges (K, 2), in `UNIT`s."""
    return ((corrections[:, edges[:, 0]] - corrections[:, edges[:, 1]]) / UNIT).square().sum(dim=-1).mean()


def _csr(matrix: sparse.spmatrix) -> torch.Tensor:
    """(V, V) float32 by rows."""
    rows = sparse.csr_matrix(matrix, dtype=np.float32, copy=True)
    rows.sum_duplicates()  # which also sorts
    with warnings.catch_warnings():  # torch calls the layout a beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        starts, columns, numbers = (torch.from_numpy(part) for part in (rows.indptr, rows.indices, rows.data))
        return torch.sparse_csr_tensor(starts, columns, numbers, rows.shape, check_invariants=True)


def _places(resolution: int) -> torch.Tensor:
    """(1, 4 FREQUENCIES, H, W): sines and cosines of u and v at 2^k pi."""
    centres = (torch.arange(resolution) + 0.5) / resolution
    v, u = torch.meshgrid(1 - centres, centres, indexing="ij")
    angles = torch.stack([2**k * torch.pi * place for k in range(FREQUENCIES) for place in (u, v)])
    return torch.cat([angles.sin(), angles.cos()])[None].float()


def _vertex_uvs(rig: HeadModel) -> np.ndarray:
    """(V, 2) one place in UV a vertex; of a vertex on a seam that of one of its corners."""
    uvs = np.zeros((len(rig.v_template), 2), np.float32)
    uvs[rig.faces.ravel()] = rig.uvs[rig.uv_faces.ravel()]
    return uvs
