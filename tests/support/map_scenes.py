# SPDX-License-Identifier: Apache-2.0
"""Heads, cameras and performances for the conditioning maps, and their golden file.

`python -m tests.support.map_scenes` writes the golden file anew; do so only when the maps are meant to change.
"""

from pathlib import Path

import numpy as np
import torch

from mvp4d_core.cameras import Camera, crop_camera, orbit_camera
from mvp4d_core.conditioning import condition_maps, frame_camera, reference_maps
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import HeadModel, Performance, load_head_model, personalize, showcase_performance

GOLDENS = Path(__file__).parents[1] / "goldens" / "condition_maps.safetensors"


def portrait_camera(azimuth: float = 0.0, elevation: float = 0.0, *, width: int = 96, height: int = 96, distance: float = 1.2) -> Camera:
    """A camera that looks at the head space's origin and sees 0.42 m of it."""
    fov = 2 * np.arctan(0.21 / distance)
    return orbit_camera(azimuth, elevation, target=np.zeros(3), distance=distance, fov_y=fov, width=width, height=height)


def oblique_cameras(width: int = 96, height: int = 96) -> tuple[Camera, ...]:
    """Three views: frontal, from the side and above, and a crop of one corner from behind and below."""
    options = {"width": width, "height": height}
    behind = portrait_camera(2.5, -0.3, **options)
    crop = crop_camera(behind, np.array([0.1 * width, 0.2 * height, 0.7 * width, 0.9 * height]), width, height)
    return portrait_camera(**options), portrait_camera(1.1, 0.5, **options), crop


def still(model: HeadModel, frames: int) -> Performance:
    """The neutral face for some frames; its arrays may be written to."""
    shapes = (frames, len(model.expression_names)), (frames, len(model.joint_names), 3), (frames, 3)
    return Performance(*(np.zeros(shape, np.float32) for shape in shapes), 24.0, model.expression_names, model.joint_names)


def golden_maps() -> dict[str, np.ndarray]:
    """The maps of a person on the open head: two views of five frames, and a photo of which the right third was padded."""
    model = load_head_model()
    rig = personalize(model, np.random.default_rng(0).normal(size=model.shapedirs.shape[2]).astype(np.float32), 0 * model.v_template)
    performance = showcase_performance(model).select([20, 21, 22, 23, 27])
    performance.rotations[:, model.joint_names.index("root")] = [0.1, -0.2, 0.05]
    reference = frame_camera(portrait_camera(-0.2, 0.1), rig.v_template, 96)
    cameras = tuple(frame_camera(camera, rig.v_template, 96) for camera in (portrait_camera(0.4, 0.2), portrait_camera(-1.9, -0.1)))
    inside = np.broadcast_to(np.arange(96) < 64, (96, 96))
    views = condition_maps(model, rig, cameras, performance, reference_camera=reference, latent_size=(12, 12), threads=1)
    photo = reference_maps(model, rig, performance[2], reference, latent_size=(12, 12), inside=inside)
    return {"views": views.numpy(), "photo": photo.numpy()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    GOLDENS.parent.mkdir(exist_ok=True)
    safetensors_numpy.write(GOLDENS, golden_maps(), {"schema": "mvp4d-test-maps/1"})
