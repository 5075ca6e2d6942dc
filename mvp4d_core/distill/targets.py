# SPDX-License-Identifier: Apache-2.0
"""The pictures a fit looks at: those of a multi-view video that are not held out, and the photo itself."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ..cameras import Camera
from ..conditioning import judged_pixels, reference_camera, resample_photo
from ..generate.multiview import MultiViewVideo
from ..rig import HeadModel
from ..tracking.reference import Reference


@dataclass(frozen=True)
class Pictures:
    """C pictures of one moment.

    Attributes:
        images: (C, H, W, 3) float32 on white; `alphas` (C, H, W, 1).
        judged: (C, H, W, 1) bool, the pixels that count.
        viewmats, Ks: (C, 4, 4) and (C, 3, 3) float32, gsplat's.
    """

    images: torch.Tensor
    alphas: torch.Tensor
    judged: torch.Tensor
    viewmats: torch.Tensor
    Ks: torch.Tensor

    def shrunk(self, factor: int) -> "Pictures":
        """The same, `factor` times smaller by means of so many pixels squared; a pixel counts where all of its pixels do."""
        if factor == 1:
            return self

        def mean(pictures: torch.Tensor) -> torch.Tensor:
            return functional.avg_pool2d(pictures.movedim(-1, 1), factor).movedim(1, -1)

        scale = torch.tensor([1 / factor, 1 / factor, 1.0]).to(self.Ks)
        judged = mean(self.judged.float()) == 1
        return Pictures(mean(self.images).contiguous(), mean(self.alphas), judged, self.viewmats, self.Ks * scale[:, None])


def heldout_split(views: int, frames: int, part: float, seed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which whole views and whole frames are kept out, so that about `part` of the pictures are; half of them by views, half by frames.

    With one view only frames are kept out, with one frame only views, with one of both nothing.
    """
    if part <= 0 or views * frames == 1:
        return (), ()
    rng = np.random.default_rng((seed, views, frames))
    share = part / 2 if views > 1 and frames > 1 else part
    held_views = rng.choice(views, max(1, round(views * share)), replace=False) if views > 1 else []
    held_frames = rng.choice(frames, max(1, round(frames * share)), replace=False) if frames > 1 else []
    return tuple(sorted(int(v) for v in held_views)), tuple(sorted(int(f) for f in held_frames))


def camera_tensors(cameras: list[Camera], device: torch.device | str) -> tuple[torch.Tensor, torch.Tensor]:
    """(viewmats (C, 4, 4), Ks (C, 3, 3)) float32."""
    viewmats = torch.as_tensor(np.stack([c.camera_from_world for c in cameras]), dtype=torch.float32, device=device)
    return viewmats, torch.as_tensor(np.stack([c.K for c in cameras]), dtype=torch.float32, device=device)


class VideoPictures:
    """Pictures of a video by view and frame."""

    def __init__(self, video: MultiViewVideo, device: torch.device | str) -> None:
        self.video, self.device = video, device

    def get(self, views: list[int], frame: int, factor: int = 1) -> Pictures:
        """The pictures of `views` at `frame`, `factor` times smaller."""
        images = torch.as_tensor(self.video.frames[views, frame], device=self.device).float() / 255
        alphas = torch.as_tensor(self.video.alphas[views, frame], device=self.device).float()[..., None] / 255
        viewmats, Ks = camera_tensors([self.video.plan.cameras[v] for v in views], self.device)
        return Pictures(images, alphas, torch.ones_like(alphas, dtype=torch.bool), viewmats, Ks).shrunk(factor)


def reference_pictures(reference: Reference, rig: HeadModel, size: int, device: torch.device | str) -> Pictures:
    """The photo as a target of the fit, `size` pixels a side, in its own camera."""
    camera = reference_camera(reference, rig, size)
    image, matte = resample_photo(reference, camera)
    viewmats, Ks = camera_tensors([camera], device)
    return Pictures(
        torch.as_tensor(image, dtype=torch.float32, device=device)[None],
        torch.as_tensor(matte, dtype=torch.float32, device=device)[None, ..., None],
        torch.as_tensor(judged_pixels(reference, camera), device=device)[None, ..., None],
        viewmats,
        Ks,
    )
