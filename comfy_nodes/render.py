# SPDX-License-Identifier: Apache-2.0
"""The avatar at work: as pictures, and as ComfyUI's own splats."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from comfy_api.latest import Types, io, ui

from ..mvp4d_core.avatar import GaussianAvatar
from ..mvp4d_core.avatar.file_space import to_file_space
from ..mvp4d_core.cameras import Camera, camera_of_viewer, orbit_camera, orbited
from ..mvp4d_core.conditioning import head_centre
from ..mvp4d_core.errors import InputError
from ..mvp4d_core.progress import Progress, steps
from ..mvp4d_core.rig import HeadModel, Performance, perform_on
from . import host
from .types import CATEGORY, AvatarSocket, BoundAvatar, PerformanceSocket

PREVIEW_FRAMES = 4
_BYTES_A_PIXEL = 32  # image and mask, each as rendered and as ComfyUI holds it
_COLOUR = re.compile("#[0-9a-fA-F]{6}")


class RenderAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_RenderAvatar",
            display_name="MVP4D Render Avatar",
            category=CATEGORY,
            description="Renders the avatar acting a performance, one image a frame.",
            search_aliases=["render gaussians", "turntable", "play avatar", "avatar to video"],
            inputs=[
                AvatarSocket.Input("avatar", tooltip="From Distill Avatar or Load Avatar."),
                PerformanceSocket.Input("performance", tooltip="What it does, from Load Performance or another performance node."),
                io.Float.Input(
                    "azimuth",
                    default=0.0,
                    min=-180.0,
                    max=180.0,
                    step=1.0,
                    tooltip="Camera around the head in degrees: 0 in front, positive towards the subject's left.",
                ),
                io.Float.Input(
                    "elevation",
                    default=0.0,
                    min=-85.0,
                    max=85.0,
                    step=1.0,
                    tooltip="Camera height in degrees: positive looks down on the head.",
                ),
                io.Float.Input(
                    "turn",
                    default=0.0,
                    min=-3600.0,
                    max=3600.0,
                    step=15.0,
                    tooltip="Degrees the camera goes around during the clip: 360 is a turntable, 0 stands still.",
                ),
                io.Float.Input("distance", default=1.2, min=0.3, max=10.0, step=0.05, tooltip="Metres from the middle of the head."),
                io.Float.Input(
                    "fov", default=18.0, min=2.0, max=90.0, step=1.0, tooltip="Vertical field of view in degrees; smaller is closer."
                ),
                io.Int.Input("width", default=512, min=16, max=4096, step=16, tooltip="Pixels."),
                io.Int.Input("height", default=512, min=16, max=4096, step=16, tooltip="Pixels."),
                io.Color.Input("background", default="#ffffff", tooltip="The colour behind the head. The mask cuts it out whatever it is."),
                io.Load3DCamera.Input(
                    "camera_info",
                    optional=True,
                    tooltip="A camera of Preview Avatar, Load 3D or Create Camera Info, in place of azimuth, elevation, distance and fov. "
                    "The turn goes around its target.",
                ),
            ],
            outputs=[
                io.Image.Output("images", tooltip="One picture a frame."),
                io.Mask.Output("masks", tooltip="Where the head is, one mask a frame."),
            ],
        )

    @classmethod
    def execute(
        cls,
        avatar: BoundAvatar,
        performance: Performance,
        azimuth: float,
        elevation: float,
        turn: float,
        distance: float,
        fov: float,
        width: int,
        height: int,
        background: str,
        camera_info: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        from ..mvp4d_core.render.avatar import render_performance

        rig = avatar.avatar.rig
        acted = perform_on(performance, rig)
        host.check_memory(f"frames of {width} x {height} px", len(acted), width * height * _BYTES_A_PIXEL)
        if camera_info is None:
            camera, target = _camera(rig, azimuth, elevation, distance, fov, width, height), head_centre(rig)
        else:
            camera, target = camera_of_viewer(camera_info, width, height)
        angles = np.deg2rad(turn) * np.arange(len(acted)) / len(acted)
        cameras = [orbited(camera, angle, target) for angle in angles]
        pictures = render_performance(
            avatar.avatar, acted, cameras, background=_color(background), device=host.render_device(), progress=host.ProgressBar()
        )
        images = np.zeros((len(acted), height, width, 3), np.float32)
        alphas = np.zeros((len(acted), height, width), np.float32)
        for frame, (image, alpha) in enumerate(pictures):
            images[frame], alphas[frame] = image, alpha
        shown = host.image_from_arrays(images)
        preview = shown[:: -(-len(shown) // PREVIEW_FRAMES)]
        return io.NodeOutput(shown, host.mask_from_arrays(alphas), ui=ui.PreviewImage(preview, cls=cls))

    @classmethod
    def validate_inputs(cls, background: str | None) -> bool | str:
        fine = background is None or _COLOUR.fullmatch(background)
        return True if fine else _wanted_colour(background)


class AnimateAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_AnimateAvatar",
            display_name="MVP4D Animate Avatar",
            category=CATEGORY,
            description="Poses the avatar as ComfyUI's own splats, one batch item a frame, for Render Splat, Transform Splat and the rest.",
            search_aliases=["avatar to splat", "gaussian splat", "pose avatar", "4d splat"],
            inputs=[
                AvatarSocket.Input("avatar", tooltip="From Distill Avatar or Load Avatar."),
                PerformanceSocket.Input("performance", tooltip="What it does, from Load Performance or another performance node."),
                io.Int.Input(
                    "first_frame", default=0, min=0, max=100_000, tooltip="The first frame of the performance to pose; 0 is its start."
                ),
                io.Int.Input(
                    "frames",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="How many frames from there on. Nodes that make files take the first one only.",
                ),
            ],
            outputs=[io.Splat.Output("splat", tooltip="Posed Gaussians in ComfyUI's axes, one batch item a frame.")],
        )

    @classmethod
    def execute(cls, avatar: BoundAvatar, performance: Performance, first_frame: int, frames: int) -> io.NodeOutput:
        if first_frame + frames > len(performance):
            raise InputError(f"`first_frame` + `frames` must be at most the performance's {len(performance)}, got {first_frame + frames}.")
        numbers = len(avatar.avatar) * (3 + 3 + 4 + 1 + 3 * (1 + avatar.avatar.shN.shape[1]))
        host.check_memory("frames of splats", frames, 4 * numbers)
        acted = perform_on(performance, avatar.avatar.rig).select(slice(first_frame, first_frame + frames))
        return io.NodeOutput(_splat_batch(avatar.avatar, acted, host.ProgressBar()))


def _camera(rig: HeadModel, azimuth: float, elevation: float, distance: float, fov: float, width: int, height: int) -> Camera:
    """Angles in degrees, distance in metres from the middle of the head."""
    azimuth, elevation, fov = np.deg2rad([azimuth, elevation, fov])
    return orbit_camera(azimuth, elevation, target=head_centre(rig), distance=distance, fov_y=fov, width=width, height=height)


def _color(text: str) -> tuple[float, float, float]:
    if not _COLOUR.fullmatch(text):
        raise InputError(_wanted_colour(text))
    return tuple(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))


def _wanted_colour(text: str) -> str:
    return f"`background` must be a colour such as #ffffff, got `{text}`."


def _splat_batch(avatar: GaussianAvatar, performance: Performance, progress: Progress) -> Types.SPLAT:
    """The avatar in every frame of the performance, one batch item a frame."""
    count, frames, harmonics = len(avatar), len(performance), 1 + avatar.shN.shape[1]
    shapes = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": (), "sh": (harmonics, 3)}
    batch = {name: torch.zeros(frames, count, *shape) for name, shape in shapes.items()}
    for frame in steps(range(frames), "pose", frames, progress):
        posed = to_file_space(avatar.pose(performance[frame]))
        for name, tensor in batch.items():
            tensor[frame] = torch.from_numpy(np.ascontiguousarray(getattr(posed, name), np.float32))
    return Types.SPLAT(batch["means"], batch["scales"], batch["quats"], batch["opacities"][..., None], batch["sh"])
