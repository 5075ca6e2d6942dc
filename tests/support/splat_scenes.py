# SPDX-License-Identifier: Apache-2.0
"""Small splat scenes, and what two rasterisers make of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from mvp4d_core.cameras import Camera, orbit_camera
from mvp4d_core.render.reference import threshold_margin

NAMES = ("means", "quats", "scales", "opacities", "colors", "backgrounds")


@dataclass(frozen=True)
class Scene:
    """Splats, views and backgrounds, float32."""

    means: torch.Tensor
    quats: torch.Tensor
    scales: torch.Tensor
    opacities: torch.Tensor
    colors: torch.Tensor
    backgrounds: torch.Tensor
    viewmats: torch.Tensor
    Ks: torch.Tensor
    width: int
    height: int
    sh_degree: int | None = None

    @property
    def splats(self) -> list[torch.Tensor]:
        return [self.means, self.quats, self.scales, self.opacities, self.colors]

    def render(self, rasterize: Callable, dtype: torch.dtype = torch.float32, **options: object):
        tensors = [t.to(dtype) for t in (*self.splats, self.viewmats, self.Ks)]
        return rasterize(*tensors, self.width, self.height, sh_degree=self.sh_degree, backgrounds=self.backgrounds.to(dtype), **options)

    def gradients(self, rasterize: Callable, dtype: torch.dtype = torch.float32, **options: object) -> list[torch.Tensor]:
        """Of a loss that weighs every pixel differently, by means, quats, scales, opacities, colours and backgrounds."""
        leaves = [t.to(dtype).clone().requires_grad_() for t in (*self.splats, self.backgrounds)]
        images, alphas, *_ = rasterize(
            *leaves[:5], self.viewmats.to(dtype), self.Ks.to(dtype), self.width, self.height,
            sh_degree=self.sh_degree, backgrounds=leaves[5], **options,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(5)
        weights = torch.randn(images.shape, generator=generator).to(dtype)
        coverage = torch.randn(alphas.shape, generator=generator).to(dtype)
        loss = (weights * images.square()).sum() + (weights * images).sum() + (coverage * alphas).sum()
        return list(torch.autograd.grad(loss, leaves))

    def margin(self, **options: object) -> float:
        """Relative distance of the nearest decision to its threshold, see `reference.threshold_margin`."""
        tensors = [t.double() for t in (*self.splats, self.viewmats, self.Ks)]
        return threshold_margin(*tensors, self.width, self.height, sh_degree=self.sh_degree, **options)


def cloud(
    seed: int = 0,
    count: int = 120,
    *,
    views: int = 1,
    width: int = 48,
    height: int = 40,
    sh_degree: int | None = None,
    channels: int = 3,
    scale: float = 0.08,
    spread: float = 0.5,
) -> Scene:
    """A cloud of random splats around the origin; the views orbit it at a distance of 3."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    cameras = [orbit_view(0.8 * view, width, height) for view in range(views)]
    if sh_degree is None:
        colors = uniform(count, channels)
    else:
        colors = torch.randn(count, (sh_degree + 1) ** 2, 3, generator=generator) * 0.4
    return Scene(
        means=torch.randn(count, 3, generator=generator) * spread,
        quats=torch.randn(count, 4, generator=generator),
        scales=scale * (0.1 + uniform(count, 3)),
        opacities=0.05 + 0.9 * uniform(count),
        colors=colors,
        backgrounds=uniform(views, channels),
        **view_tensors(cameras),
        sh_degree=sh_degree,
    )


def settled_cloud(seed: int = 0, **options: object) -> Scene:
    """The first cloud from `seed` on in which no decision is within 1e-5 of its threshold, so that float32 and float64 agree on all."""
    return settled(cloud(seed, **options), lambda _, attempt: cloud(seed + attempt, **options))


def settled(scene: Scene, change: Callable[[Scene, int], Scene], **options: object) -> Scene:
    """`change(scene, attempt)` for the first attempt that leaves every decision clear of its threshold; `options` of the rasteriser."""
    for attempt in range(100):
        if (changed := change(scene, attempt)).margin(**options) > 1e-5:
            return changed
    raise AssertionError("100 scenes in a row have a decision within 1e-5 of its threshold; take a smaller scene")


def orbit_view(azimuth: float, width: int, height: int) -> Camera:
    """A camera whose principal point is off centre and whose pixels are not square."""
    camera = orbit_camera(azimuth, 0.3, target=np.zeros(3), distance=3.0, fov_y=0.7, width=width, height=height)
    return replace(camera, K=camera.K + np.array([[3.0, 0, 1.3], [0, -2.0, -0.7], [0, 0, 0]]))


def view_tensors(cameras: list[Camera]) -> dict[str, object]:
    """viewmats, Ks, width and height of cameras of one size."""
    return {
        "viewmats": torch.tensor(np.stack([c.camera_from_world for c in cameras]), dtype=torch.float32),
        "Ks": torch.tensor(np.stack([c.K for c in cameras]), dtype=torch.float32),
        "width": cameras[0].width,
        "height": cameras[0].height,
    }


def relative_errors(found: list[torch.Tensor], true: list[torch.Tensor]) -> dict[str, float]:
    """Relative L2 error of each group of gradients, by name."""
    return {name: ((a.double() - b).norm() / b.norm().clamp(min=1e-12)).item() for name, a, b in zip(NAMES, found, true, strict=True)}
