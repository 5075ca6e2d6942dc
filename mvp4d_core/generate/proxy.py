# SPDX-License-Identifier: Apache-2.0
"""The proxy generator: the photo projected on the fitted head, completed, and rendered. It needs no weights.

It is the instant preview of a plan, the fallback, and the baseline a trained model must beat. It shows no wrinkles, no moving light and no
hair that leaves the head's surface.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import __version__
from ..conditioning import ViewPlan
from ..progress import Progress, silent, steps
from ..render.mesh import render_textured_mesh
from ..rig import HeadModel, skin
from ..tracking.reference import Reference
from .multiview import MultiViewVideo, to_bytes
from .texture import paint_head


@dataclass(frozen=True)
class ProxyGenerator:
    """`texture_size` texels a side of the atlas; each pixel is the mean of `supersample` squared samples."""

    texture_size: int = 1024
    supersample: int = 3

    def generate(
        self,
        reference: Reference,
        plan: ViewPlan,
        *,
        head_model: HeadModel,
        seed: int,
        progress: Progress = silent,
        folder: Path | None = None,
    ) -> MultiViewVideo:
        """See `MultiViewGenerator`. `seed` decides the iris' pattern; nothing is kept in `folder`, a proxy is soon made again."""
        progress("paint", 0, 1)
        texture = paint_head(reference, head_model, self.texture_size, seed)
        progress("paint", 1, 1)
        rig = reference.rig(head_model)
        views, frames, height, width = plan.shape
        video = np.zeros((views, frames, height, width, 3), np.uint8)
        alphas = np.zeros((views, frames, height, width), np.uint8)

        def render(view: int, frame: int, vertices: np.ndarray) -> None:
            image, alpha = render_textured_mesh(
                vertices, rig.faces, rig.uvs, rig.uv_faces, texture, plan.cameras[view], supersample=self.supersample
            )
            video[view, frame], alphas[view, frame] = to_bytes(image), to_bytes(alpha)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for frame in steps(range(frames), "generate", frames, progress):
                p = plan.performance[frame]
                vertices = skin(rig, None, p.expression, p.rotations, p.translation)
                list(pool.map(lambda view: render(view, frame, vertices), range(views)))  # noqa: B023  the map ends within the iteration
        provenance = {
            "generator": "proxy",
            "seed": str(seed),
            "version": __version__,
            "source_sha256": reference.source_sha256,
            "head": rig.name,
        }
        return MultiViewVideo(video, alphas, plan, provenance)
