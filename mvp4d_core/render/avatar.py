# SPDX-License-Identifier: Apache-2.0
"""Pictures of an avatar: one frame, or a performance frame by frame."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..avatar import GaussianAvatar, PosedSplats
from ..cameras import Camera
from ..progress import Progress, silent, steps
from ..rig import Parameters, Performance
from .splats import rasterize_splats

WHITE = (1.0, 1.0, 1.0)


def render_splats(
    splats: PosedSplats,
    cameras: Sequence[Camera],
    *,
    background: Sequence[float] = WHITE,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Posed splats from C cameras of one size.

    Args:
        background: (3,) display-referred sRGB.

    Returns:
        images (C, H, W, 3) float32 in 0..1 on the background, and alphas (C, H, W) float32.
    """

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=device)

    with torch.no_grad():
        images, alphas, _ = rasterize_splats(
            tensor(splats.means),
            tensor(splats.quats),
            tensor(splats.scales),
            tensor(splats.opacities),
            tensor(splats.sh),
            tensor(np.stack([c.camera_from_world for c in cameras])),
            tensor(np.stack([c.K for c in cameras])),
            cameras[0].width,
            cameras[0].height,
            sh_degree=round(splats.sh.shape[1] ** 0.5) - 1,
            backgrounds=tensor(np.asarray(background)).expand(len(cameras), 3),
        )
    return images.clamp(0, 1).cpu().numpy(), alphas[..., 0].clamp(0, 1).cpu().numpy()


def render_avatar(
    avatar: GaussianAvatar,
    parameters: Parameters,
    camera: Camera,
    *,
    background: Sequence[float] = WHITE,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """One picture: image (H, W, 3) and alpha (H, W), float32 in 0..1."""
    images, alphas = render_splats(avatar.pose(parameters), [camera], background=background, device=device)
    return images[0], alphas[0]


def render_performance(
    avatar: GaussianAvatar,
    performance: Performance,
    cameras: Sequence[Camera],
    *,
    background: Sequence[float] = WHITE,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
    stage: str = "render",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(image, alpha) of each frame; `cameras` are one a frame, or one for all."""
    for frame in steps(range(len(performance)), stage, len(performance), progress):
        yield render_avatar(avatar, performance[frame], cameras[frame % len(cameras)], background=background, device=device)
