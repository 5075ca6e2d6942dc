# SPDX-License-Identifier: Apache-2.0
"""The conditioning maps of the MMVDM: what the video model is told about every latent frame of every view, and about the photo.

59 channels at latent resolution (pixels / 8), in this order:

| channels | name | what | scale |
|---|---|---|---|
| 0:42 | `positions` | canonical head coordinates x, y, z, 14 channels each: sin(2^i a), i = 0..6, then cos(2^i a) | -1..1 |
| 42:45 | `expression` | x, y, z of expression, jaw and gaze: the face at rest pose minus the neutral face | unit 0.0104 m |
| 45:48 | `rays` | x, y, z of the unit ray through the pixel, in the axes of the reference camera | -1..1 |
| 48:49 | `reference_mask` | 1 where the latent is given clean, 0 where it is to be generated | 0 or 1 |
| 49:50 | `outcrop` | 1 inside the original picture, 0 on what was padded | 0..1 |
| 50:59 | `motion` | dx, dy, dz of frames 4j-3, 4j-2, 4j-1 against 4j, three channels a frame | unit 1 % of the crop; 0.004 m |

Frames: F = 1 + 4k video frames are 1 + k latent frames. Latent 0 is frame 0; latent j > 0 is frames 4j-3 to 4j, and its maps show the
head as it is in its anchor, frame 4j.

Canonical coordinates: the template's vertices minus their mean, divided by the largest (signed) entry; the same for every person.
Sampling: the head is rasterised at twice the latent size, coordinates are encoded at each sample, and 2 x 2 samples are averaged;
a sample that sees no face counts as 0, in the cosines too. All faces count, those of the mouth's inside included; none is culled.
Rays go through the centres (+0.5) of the latent pixels and cover the whole picture. The masks are constant over time.

What is whose: the channels up to `outcrop`, their order, the seven frequencies without a factor pi, the division by the largest entry, the
unit 0.0104 m, and the raster of twice the latent size with area averaging are CAP4D's; that MVP4D uses them, with one static camera and one
crop a view, is read off its figures. CAP4D's rays go through integer pixel coordinates; ours through pixel centres, like every camera here.
MVP4D has sub-frame motion maps, but what is in them is not known to us: their definition here, their units and their place after the masks
are this project's own. So is what `expression` shows beyond expressions, jaw and gaze: CAP4D's head has its jaw in the expressions.
"""

import numpy as np
import torch

from ..cameras import Camera
from ..differentiable.skinning import skin_frames
from ..errors import InputError
from ..render.device import torch_device
from ..render.jit import team
from ..rig import HeadModel, Parameters, Performance, rest_parameters, single_frame
from . import device_maps
from .kernels_maps import FRAMES_A_LATENT, SUPERSAMPLE, draw_maps
from .view_plan import NEAREST

MAP_SLICES: dict[str, slice] = {
    "positions": slice(0, 42),
    "expression": slice(42, 45),
    "rays": slice(45, 48),
    "reference_mask": slice(48, 49),
    "outcrop": slice(49, 50),
    "motion": slice(50, 59),
}
MAP_COUNT = 59
EXPRESSION_UNIT = 0.0104  # metres; CAP4D's standard deviation
MOTION_UNIT = (0.01, 0.01, 0.004)  # of the crop's width, of its height, metres: about what a talking head moves in three frames
MAX_SIDE = 1024  # latent pixels


def latent_frame_count(frames: int) -> int:
    """L = 1 + k for F = 1 + 4k video frames; raises InputError for any other F."""
    if frames < 1 or (frames - 1) % FRAMES_A_LATENT:
        raise InputError(f"The number of frames must be 1 + 4k (1, 5, 9, 13, ...), got {frames}; cut some or repeat the last.")
    return 1 + (frames - 1) // FRAMES_A_LATENT


def condition_maps(
    head_model: HeadModel,
    rig: HeadModel,
    cameras: tuple[Camera, ...] | list[Camera],
    performance: Performance,
    *,
    reference_camera: Camera,
    latent_size: tuple[int, int],
    inside: np.ndarray | None = None,
    device: str | torch.device = "cpu",
    threads: int | None = None,
) -> torch.Tensor:
    """The maps of V static views of a performance; `reference_mask` is 0.

    Args:
        head_model: the head whose template gives the canonical coordinates.
        rig: the person's head: `head_model` personalised by the shape, without offsets.
        cameras: V crops; each one's picture is stretched to the latent size.
        performance: F = 1 + 4k frames for this rig.
        reference_camera: the photo's; rays are given in its axes.
        latent_size: (h, w), pixels / 8.
        inside: (V, H, W), the pixels of each view that lie inside its original picture; None for all.
        device: where the maps are drawn and returned: numba on `cpu`, torch on `cuda`.
        threads: of the CPU; all usable cores by default.

    Returns:
        (V, L, 59, h, w) float32, L = 1 + k.

    Raises:
        InputError: a frame count other than 1 + 4k, a rig of another head, a performance for another rig, a head that reaches a camera,
            a device that is neither the CPU nor CUDA.
        MissingAssetError: a CUDA device that is not there.
    """
    height, width = _checked_size(latent_size)
    latents = latent_frame_count(len(performance))
    _check_rig(head_model, rig, performance)
    if not cameras:
        raise InputError("Conditioning maps must have at least 1 camera, got none.")
    device = torch_device(device)
    frames, deformation = _posed_head(rig, performance, device)
    _check_distance(frames, cameras)
    shape = (len(cameras), latents, MAP_COUNT, height, width)
    # numpy's zeros are pages that are not touched before they are drawn on
    maps = torch.from_numpy(np.zeros(shape, np.float32)) if device.type == "cpu" else torch.zeros(shape, device=device)
    painted = [maps[:, :, MAP_SLICES[name]] for name in ("positions", "expression", "motion")]
    projections = np.stack([_projection(camera, height * SUPERSAMPLE, width * SUPERSAMPLE) for camera in cameras])
    units = np.array([1 / (width * SUPERSAMPLE), 1 / (height * SUPERSAMPLE), 1]) / MOTION_UNIT
    canonical = canonical_coordinates(head_model)
    if device.type == "cpu":
        arrays = [tensor.numpy() for tensor in painted]
        head = frames.numpy(), deformation.numpy(), canonical, head_model.faces
        team(threads).run(draw_maps, len(cameras) * latents, *head, projections, units, *arrays, grain=1)
    else:
        device_maps.draw_maps(frames, deformation, canonical, head_model.faces, projections, units, *painted)
    rays = np.stack([camera_rays(camera, reference_camera, (height, width)) for camera in cameras])
    maps[:, :, MAP_SLICES["rays"]] = torch.from_numpy(rays).to(device)[:, None]
    maps[:, :, MAP_SLICES["outcrop"]] = _outcrop(inside, cameras, (height, width)).to(device)[:, None, None]
    return maps


def reference_maps(
    head_model: HeadModel,
    rig: HeadModel,
    parameters: Parameters,
    camera: Camera,
    *,
    latent_size: tuple[int, int],
    inside: np.ndarray | None = None,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """The maps of the photo, (59, h, w): its head as tracked in its camera, `reference_mask` 1, `motion` 0, rays in its own axes.

    `inside` (H, W) tells the pixels of the crop that lie inside the photo; None for all. The rest is as in `condition_maps`.
    """
    maps = condition_maps(
        head_model,
        rig,
        (camera,),
        single_frame(parameters, rig),
        reference_camera=camera,
        latent_size=latent_size,
        inside=None if inside is None else np.asarray(inside)[None],
        device=device,
    )[0, 0]
    maps[MAP_SLICES["reference_mask"]] = 1
    return maps


def canonical_coordinates(head_model: HeadModel) -> np.ndarray:
    """(V, 3) float32: what is encoded as `positions`, the template about its mean over its largest signed entry."""
    centred = head_model.v_template.astype(np.float64)
    centred = centred - centred.mean(axis=0)
    return (centred / centred.max()).astype(np.float32)


def camera_rays(camera: Camera, reference_camera: Camera, latent_size: tuple[int, int]) -> np.ndarray:
    """(3, h, w) float32: unit directions through the centres of the latent pixels, in the axes of the reference camera."""
    height, width = latent_size
    x = (np.arange(width) + 0.5) * camera.width / width
    y = (np.arange(height) + 0.5) * camera.height / height
    pixels = np.stack([*np.meshgrid(x, y), np.ones((height, width))])
    reference_from_camera = reference_camera.camera_from_world[:3, :3] @ camera.camera_from_world[:3, :3].T
    directions = np.tensordot(reference_from_camera @ np.linalg.inv(camera.K), pixels, axes=1)
    return (directions / np.linalg.norm(directions, axis=0)).astype(np.float32)


def _posed_head(rig: HeadModel, performance: Performance, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The head of each frame (F, V, 3), and what expression, jaw and gaze do to it at rest pose in each latent's anchor (L, V, 3)."""
    expression, rotations, translation = (
        torch.from_numpy(array).to(device) for array in (performance.expression, performance.rotations, performance.translation)
    )
    frames = skin_frames(rig, expression, rotations, translation)
    rest = rest_parameters(rig)
    anchors = slice(0, None, FRAMES_A_LATENT)
    turns = rotations[anchors].clone()
    turns[:, [joint for joint, name in enumerate(rig.joint_names) if joint == 0 or name == "neck"]] = 0
    neutral = [torch.from_numpy(array).to(device)[None] for array in (rest.expression, rest.rotations, rest.translation)]
    expression, turns = torch.cat([neutral[0], expression[anchors]]), torch.cat([neutral[1], turns])
    faces = skin_frames(rig, expression, turns, torch.zeros((len(turns), 3), device=device))
    return frames.contiguous(), ((faces[1:] - faces[:1]) / EXPRESSION_UNIT).contiguous()


def _projection(camera: Camera, height: int, width: int) -> np.ndarray:
    """(3, 4): pixels of a raster of that size from the world."""
    return np.diag([width / camera.width, height / camera.height, 1.0]) @ camera.K @ camera.camera_from_world[:3]


def _outcrop(inside: np.ndarray | None, cameras: tuple[Camera, ...] | list[Camera], size: tuple[int, int]) -> torch.Tensor:
    """(V, h, w): which part of each latent pixel lies inside the original picture."""
    if inside is None:
        return torch.ones((len(cameras), *size))
    inside = np.asarray(inside)
    if inside.ndim != 3 or len(inside) != len(cameras) or 0 in inside.shape:
        raise InputError(f"`inside` must be a mask (H, W) for each of the {len(cameras)} views, got {inside.shape}.")
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(inside.astype(np.float32)), size)


def _checked_size(latent_size: tuple[int, int]) -> tuple[int, int]:
    height, width = (int(side) for side in latent_size)
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InputError(f"`latent_size` must be 1 to {MAX_SIDE} a side, got {height} x {width}; it is the picture's size / 8.")
    return height, width


def _check_rig(head_model: HeadModel, rig: HeadModel, performance: Performance) -> None:
    if rig.v_template.shape != head_model.v_template.shape or not np.array_equal(rig.faces, head_model.faces):
        raise InputError(
            f"The rig `{rig.name}` must be a personalised `{head_model.name}` with the same faces, got {len(rig.v_template)} vertices "
            f"against {len(head_model.v_template)}; load the head the rig was made from."
        )
    if performance.expression_names != rig.expression_names or performance.joint_names != rig.joint_names:
        raise InputError(
            f"The performance must have the expressions and joints of the head `{rig.name}`, got {len(performance.expression_names)} and "
            f"{len(performance.joint_names)} others; use `retarget`."
        )


def _check_distance(frames: torch.Tensor, cameras: tuple[Camera, ...] | list[Camera]) -> None:
    axes = torch.from_numpy(np.stack([camera.camera_from_world[2] for camera in cameras])).to(frames)
    nearest = torch.stack([(points @ axes[:, :3].T).amin(dim=0) for points in frames]).amin(dim=0) + axes[:, 3]
    worst = int(nearest.argmin())
    if not nearest[worst] > NEAREST:
        raise InputError(
            f"The head must be more than {NEAREST} m in front of every camera, got {float(nearest[worst]):.2f} m for view {worst}; "
            "move the camera away."
        )
