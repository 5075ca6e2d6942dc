# SPDX-License-Identifier: Apache-2.0
"""The rig as a fit sees it: posed by torch, deformed, and with what each frame has of its own."""

import torch
from torch import nn

from ..differentiable.binding import TriangleFrames, triangle_frames
from ..differentiable.skinning import skin_frames
from ..errors import InputError
from ..rig import HeadModel, Parameters, Performance
from ..rig.surface import edges
from .config import DistillConfig
from .deformation import UNIT, LinearDeformation, UVUNet, linearised, roughness

WHITE = 1.0
_NECK = "neck"  # the joint whose rotation a frame may correct


class Puppet(nn.Module):
    """T frames of a performance, and one more: the photo's.

    The codes are zero for frames that the fit never sees, so nothing of them is in the avatar.
    """

    expression: torch.Tensor
    rotations: torch.Tensor
    translation: torch.Tensor
    edges: torch.Tensor
    faces: torch.Tensor

    def __init__(self, rig: HeadModel, performance: Performance, photo: Parameters, config: DistillConfig) -> None:
        """`performance` and `photo` are for this rig."""
        super().__init__()
        self.rig, self.config = rig, config
        for name in ("expression", "rotations", "translation"):
            values = torch.cat([torch.as_tensor(getattr(performance, name)), torch.as_tensor(getattr(photo, name)).float()[None]])
            self.register_buffer(name, values)
        self.register_buffer("edges", torch.as_tensor(edges(rig.faces), dtype=torch.int64))
        self.register_buffer("faces", torch.as_tensor(rig.faces, dtype=torch.int64))
        count = len(self.expression)
        self.deformation: nn.Module | None = None
        if config.deformation == "unet":
            self.deformation = UVUNet(rig, channels=config.unet_channels, seed=config.seed)
        elif config.deformation == "linear":
            self.deformation = LinearDeformation(rig)
        if config.neck and _NECK not in rig.joint_names:
            raise InputError(f"The head `{rig.name}` has no joint `{_NECK}`; fit it with `neck` 0.")
        self.neck = nn.Parameter(torch.zeros(count, 3), requires_grad=config.neck > 0)
        self.gains = nn.Parameter(torch.zeros(count, 3), requires_grad=config.appearance > 0)
        self.shifts = nn.Parameter(torch.zeros(count, 3), requires_grad=config.appearance > 0)
        self._still: dict[int, TriangleFrames] = {}  # poses that nothing changes

    def pose(self, frame: int) -> tuple[TriangleFrames, dict[str, torch.Tensor]]:
        """The triangles of a frame (-1 is the photo), and the weighted terms on how they came to be."""
        config, chosen = self.config, slice(frame, frame + 1) if frame >= 0 else slice(-1, None)
        if frame in self._still:
            return self._still[frame], self._tint_terms(chosen)
        expression, rotations = self.expression[chosen], self.rotations[chosen]
        terms: dict[str, torch.Tensor] = {}
        corrections = None
        if self.deformation is not None:
            corrections = self.deformation(expression)
            terms["roughness"] = config.roughness * roughness(corrections, self.edges)
            terms["corrections"] = config.corrections * (corrections / UNIT).square().sum(dim=-1).mean()
        if config.neck:
            only_neck = torch.tensor([[float(name == _NECK)] for name in self.rig.joint_names]).to(rotations)
            rotations = rotations + only_neck * self.neck[chosen][:, None]
            terms["neck"] = config.neck * self.neck[chosen].square().sum()
        (vertices,) = skin_frames(self.rig, expression, rotations, self.translation[chosen], corrections)
        frames = triangle_frames(vertices, self.faces)
        if self.deformation is None and not config.neck:
            self._still[frame] = frames
        return frames, terms | self._tint_terms(chosen)

    def _tint_terms(self, chosen: slice) -> dict[str, torch.Tensor]:
        if not self.config.appearance:
            return {}
        return {"appearance": self.config.appearance * (self.gains[chosen].square().sum() + self.shifts[chosen].square().sum())}

    def tint(self, frame: int, images: torch.Tensor, alphas: torch.Tensor) -> torch.Tensor:
        """Images (C, H, W, 3) on white in the colours of a frame: what alphas (C, H, W, 1) cover times a gain, plus a shift."""
        if not self.config.appearance:
            return images
        background = WHITE * (1 - alphas)
        return (images - background) * self.gains[frame].exp() + self.shifts[frame] * alphas + background

    def become_linear(self) -> None:
        """Puts a linear deformation in the U-Net's place, the nearest to it on the performance's expressions."""
        if not isinstance(self.deformation, UVUNet):
            raise InputError("Only a U-Net's deformation can become linear, and only once.")
        self.deformation = linearised(self.rig, self.deformation, self.expression[:-1])
