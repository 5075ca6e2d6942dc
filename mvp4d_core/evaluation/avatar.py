# SPDX-License-Identifier: Apache-2.0
"""How well an avatar shows what it was fitted to: pictures kept out of the fit, and the photo itself."""

import numpy as np
import torch

from ..avatar import GaussianAvatar
from ..conditioning import reference_camera, resample_photo
from ..distill import DistillConfig, heldout_split
from ..generate.multiview import MultiViewVideo
from ..progress import Progress, silent, steps
from ..render.avatar import render_avatar, render_splats
from ..tracking.reference import Reference
from .metrics import psnr, ssim

REFERENCE_SIZE = 256


def evaluate_heldout(
    avatar: GaussianAvatar, video: MultiViewVideo, config: DistillConfig, *, device: torch.device | str = "cpu", progress: Progress = silent
) -> dict[str, float]:
    """Mean PSNR and SSIM over the pictures that a fit with `config` kept out, whole pictures on white, and PSNR inside the generated alpha.

    Empty where nothing was kept out.
    """
    views, frames = video.frames.shape[:2]
    held_views, held_frames = heldout_split(views, frames, config.heldout, config.seed)
    kept_out = {f: [v for v in range(views) if f in held_frames or v in held_views] for f in range(frames)}
    kept_out = {f: chosen for f, chosen in kept_out.items() if chosen}
    scores: list[tuple[float, float, float]] = []
    for frame in steps(kept_out, "evaluate", len(kept_out), progress):
        cameras = [video.plan.cameras[v] for v in kept_out[frame]]
        images, _ = render_splats(avatar.pose(video.plan.performance[frame]), cameras, device=device)
        for image, view in zip(images, kept_out[frame], strict=True):
            target = torch.as_tensor(video.frames[view, frame]).float() / 255
            inside = torch.as_tensor(video.alphas[view, frame] > 127)
            rendered = torch.as_tensor(image)
            scores.append((float(psnr(rendered, target)), float(ssim(rendered, target)), float(psnr(rendered, target, inside))))
    if not scores:
        return {}
    means = np.mean(scores, axis=0)
    return {
        "heldout_psnr": float(means[0]),
        "heldout_ssim": float(means[1]),
        "heldout_foreground_psnr": float(means[2]),
        "heldout_pictures": len(scores),
    }


def evaluate_reference(avatar: GaussianAvatar, reference: Reference, *, device: torch.device | str = "cpu") -> float:
    """PSNR against the photo in its own camera and expression, on white, inside the head matte, at 256 px."""
    camera = reference_camera(reference, avatar.rig, REFERENCE_SIZE)
    target, matte = resample_photo(reference, camera)
    image, _ = render_avatar(avatar, reference.parameters, camera, device=device)
    return float(psnr(torch.as_tensor(image), torch.as_tensor(target, dtype=torch.float32), torch.as_tensor(matte > 0.5)))
