# SPDX-License-Identifier: Apache-2.0
"""Where Gaussians are added and taken away during a fit: 3D Gaussian Splatting's clone, split and prune (Kerbl et al. 2023) on triangles.

What grows is chosen by absolute pixel gradients (Ye et al. 2024), and how much by a budget instead of a threshold: a fit then takes the
memory and the time that were asked for. Children keep their parent's triangle, and no triangle loses its last Gaussian (Qian et al. 2024).
"""

from dataclasses import dataclass

import numpy as np
import torch

SPLIT_SCALE = 1.6  # a split Gaussian's children are smaller by this, 3DGS's 0.8 * 2
FAINT = 0.005  # opacity below which a Gaussian goes


@dataclass
class GradientRecord:
    """Sums of absolute pixel gradients (N,), in units of half the picture, and how many views each Gaussian was drawn in."""

    sums: torch.Tensor
    views: torch.Tensor

    @classmethod
    def empty(cls, count: int, device: torch.device | str) -> "GradientRecord":
        """Of `count` Gaussians."""
        return cls(torch.zeros(count, device=device), torch.zeros(count, device=device))

    def add(self, absgrad: torch.Tensor, radii: torch.Tensor, width: int, height: int) -> None:
        """After a backward: `absgrad` (C, N, 2) of `rasterize_splats`' means2d, `radii` (C, N, 2)."""
        scale = torch.tensor([width / 2, height / 2]).to(absgrad)
        drawn = (radii > 0).all(dim=-1)
        self.sums += ((absgrad * scale).norm(dim=-1) * drawn).sum(dim=0)
        self.views += drawn.sum(dim=0)

    @property
    def means(self) -> torch.Tensor:
        """(N,) a view."""
        return self.sums / self.views.clamp(min=1)


def densify(
    parameters: dict[str, torch.nn.Parameter],
    binding: torch.Tensor,
    optimiser: torch.optim.Adam,
    record: GradientRecord,
    *,
    budget: int,
    growth: float,
    split_size: float,
    seed: tuple[int, ...],
) -> torch.Tensor:
    """Prunes faint Gaussians, then clones or splits those with the largest gradients, and returns the new binding.

    Args:
        parameters: as stored, by the names of `GaussianAvatar`; replaced in place, their optimiser state with them.
        binding: (N,) int64.
        record: of the steps since the last call.
        budget: the most Gaussians there may be.
        growth: the share of Gaussians that may become two.
        split_size: in triangle units, the largest scale from which a Gaussian is split in two smaller ones instead of cloned.
        seed: decides where the children of a split lie.
    """
    keep = _kept(parameters["opacity_logits"].detach().sigmoid(), binding)
    gradients = torch.where(keep, record.means, -1)
    wanted = min(int(growth * int(keep.sum())), budget - int(keep.sum()))
    parents = torch.topk(gradients, max(0, min(wanted, int((gradients > 0).sum())))).indices.sort().values
    scales = parameters["log_scales"].detach().exp()
    split = scales[parents].amax(dim=-1) > split_size
    kept = torch.nonzero(keep)[:, 0]
    rows = torch.cat([kept, parents])  # the children come last
    grown = {name: parameter.detach()[rows].clone() for name, parameter in parameters.items()}
    if split.any():
        place = torch.full((len(keep),), -1, device=rows.device)
        place[kept] = torch.arange(len(kept), device=rows.device)
        twins = torch.stack([place[parents[split]], len(kept) + torch.nonzero(split)[:, 0]])
        spread = _spread(parameters, parents[split], seed)
        grown["means"][twins[0]] += spread
        grown["means"][twins[1]] -= spread
        grown["log_scales"][twins.flatten()] -= float(np.log(SPLIT_SCALE))
    _replace(parameters, optimiser, grown, rows, len(kept))
    return binding[rows]


def _kept(opacities: torch.Tensor, binding: torch.Tensor) -> torch.Tensor:
    """(N,) bool: all but the faint, and of a triangle whose Gaussians are all faint the least so, the first of equals."""
    keep = opacities >= FAINT
    most = torch.zeros(int(binding.max()) + 1, device=binding.device).scatter_reduce(0, binding, opacities, "amax")
    best = torch.nonzero(opacities == most[binding])[:, 0]
    triangles = binding[best].flip(0)
    first = torch.full((len(most),), -1, dtype=torch.int64, device=binding.device)
    first[triangles] = best.flip(0)
    alone = first[most < FAINT]
    keep[alone[alone >= 0]] = True
    return keep


def _spread(parameters: dict[str, torch.nn.Parameter], chosen: torch.Tensor, seed: tuple[int, ...]) -> torch.Tensor:
    """(M, 3) half the distances between twins: a draw from each Gaussian itself, in triangle space."""
    draw = torch.as_tensor(np.random.default_rng(seed).normal(size=(len(chosen), 3)).astype(np.float32), device=chosen.device)
    offsets = draw * parameters["log_scales"].detach()[chosen].exp()
    quats = torch.nn.functional.normalize(parameters["quats"].detach()[chosen], dim=-1)
    w, axis = quats[:, :1], quats[:, 1:]
    turned = 2 * torch.linalg.cross(axis, offsets)
    return offsets + w * turned + torch.linalg.cross(axis, turned)


def _replace(
    parameters: dict[str, torch.nn.Parameter], optimiser: torch.optim.Adam, grown: dict[str, torch.Tensor], rows: torch.Tensor, old: int
) -> None:
    """Puts new tensors in place of the parameters; moments follow their rows, those of children begin at zero."""
    groups = {id(parameter): group for group in optimiser.param_groups for parameter in group["params"]}
    for name, tensor in grown.items():
        before, after = parameters[name], torch.nn.Parameter(tensor)
        state = optimiser.state.pop(before, {})
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in state:
                state[moment] = state[moment][rows]
                state[moment][old:] = 0
        if state:
            optimiser.state[after] = state
        group = groups[id(before)]
        group["params"] = [after if parameter is before else parameter for parameter in group["params"]]
        parameters[name] = after
