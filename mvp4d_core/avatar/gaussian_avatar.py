# SPDX-License-Identifier: Apache-2.0
"""The avatar: Gaussians in triangle space, the triangles they ride on, and the person's rig."""

from dataclasses import dataclass, field

import numpy as np

from ..errors import FormatError
from ..rig import HeadModel, Parameters, bound_to_world, skin, triangle_frames

MAX_SH_DEGREE = 3

# name -> trailing shape of the (N, ...) array; "K" is the number of higher spherical-harmonic coefficients
GAUSSIAN_ARRAYS: dict[str, tuple[str | int, ...]] = {
    "means": (3,),
    "quats": (4,),
    "log_scales": (3,),
    "opacity_logits": (),
    "sh0": (3,),
    "shN": ("K", 3),
}


@dataclass(frozen=True)
class PosedSplats:
    """N Gaussians in head space, ready for a rasteriser.

    Attributes:
        means: (N, 3) metres.
        quats: (N, 4) wxyz, unit.
        scales: (N, 3) metres.
        opacities: (N,) in 0..1.
        sh: (N, 1 + K, 3) spherical-harmonic coefficients in world axes.
    """

    means: np.ndarray
    quats: np.ndarray
    scales: np.ndarray
    opacities: np.ndarray
    sh: np.ndarray


@dataclass(frozen=True)
class GaussianAvatar:
    """N Gaussians bound to the triangles of a personalised rig.

    Attributes:
        means: (N, 3) float32, in units of the triangle's size (see `rig.binding`).
        quats: (N, 4) float32 wxyz.
        log_scales: (N, 3) float32, natural logarithm of the scale in units of the triangle's size.
        opacity_logits: (N,) float32.
        sh0, shN: (N, 3) and (N, K, 3) float32, K in 0, 3, 8, 15; colour is 0.5 + SH, display-referred sRGB.
        binding: (N,) int32 triangle ids.
        rig: the person's head, without identity directions.
        metadata: texts: provenance of the photo, generator, seed, versions, consent note.
    """

    means: np.ndarray
    quats: np.ndarray
    log_scales: np.ndarray
    opacity_logits: np.ndarray
    sh0: np.ndarray
    shN: np.ndarray
    binding: np.ndarray
    rig: HeadModel
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = self.means.shape[0] if self.means.ndim else -1
        for name, shape in GAUSSIAN_ARRAYS.items():
            array = getattr(self, name)
            wanted = (count, *(array.shape[1] if size == "K" and array.ndim == 3 else size for size in shape))
            if array.dtype != np.float32 or array.shape != wanted:
                raise FormatError(f"`{name}` of an avatar must be float32 {(count, *shape)}, got {array.dtype} {array.shape}.")
            if not np.isfinite(array).all():
                raise FormatError(f"`{name}` of an avatar must be finite, got NaN or infinity.")
        if self.shN.shape[1] not in [(degree + 1) ** 2 - 1 for degree in range(MAX_SH_DEGREE + 1)]:
            raise FormatError(f"`shN` of an avatar must hold 0, 3, 8 or 15 coefficients, got {self.shN.shape[1]}.")
        if self.binding.dtype != np.int32 or self.binding.shape != (count,):
            raise FormatError(f"`binding` of an avatar must be int32 ({count},), got {self.binding.dtype} {self.binding.shape}.")
        if count and (self.binding.min() < 0 or self.binding.max() >= len(self.rig.faces)):
            raise FormatError(f"`binding` of an avatar must name triangles below {len(self.rig.faces)}, got up to {self.binding.max()}.")

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        return int(np.sqrt(self.shN.shape[1] + 1)) - 1

    def pose(self, parameters: Parameters) -> PosedSplats:
        """The Gaussians in head space for one frame; spherical harmonics stay in world axes."""
        vertices = skin(self.rig, None, parameters.expression, parameters.rotations, parameters.translation)
        frames = triangle_frames(vertices, self.rig.faces)
        means, quats, scales = bound_to_world(self.means, self.quats, np.exp(self.log_scales), self.binding, frames)
        quats = quats / np.maximum(np.linalg.norm(quats, axis=1, keepdims=True), 1e-12)
        opacities = 1 / (1 + np.exp(-self.opacity_logits))
        return PosedSplats(means, quats, scales, opacities, np.concatenate([self.sh0[:, None], self.shN], axis=1))
