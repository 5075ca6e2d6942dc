# SPDX-License-Identifier: Apache-2.0
"""What the generator is asked to show: cameras around the head, and the expressions that each of them sees."""

import re
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io, ui

from ..mvp4d_core.cameras import camera_of_viewer
from ..mvp4d_core.conditioning import (
    DEFAULT_VIEWS,
    PRESETS,
    ViewCameras,
    fitting_frames,
    fitting_motion,
    plan_views,
    preset_cameras,
    ring_cameras,
    turned_cameras,
)
from ..mvp4d_core.errors import InputError
from ..mvp4d_core.rig import Performance, perform_on, showcase_performance
from . import host
from .checks import refusal
from .types import CATEGORY, CamerasSocket, PerformanceSocket, PlanSocket, ReferenceSocket, TrackedReference

PRESET, RINGS, VIEWER = "preset", "rings", "camera"
MOST_VIEWS = 64
CAMERA_SIDE = 256  # pixels; the plan scales it
VIEWS_OF_PRESETS = ", ".join(f"{number} at {preset}" for preset, number in DEFAULT_VIEWS.items())


class CameraPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_CameraPlan",
            display_name="MVP4D Camera Plan",
            category=CATEGORY,
            description="Where the cameras of the multi-view video stand: a preset, rings of your own, or a 3D viewer's camera.",
            search_aliases=["camera rig", "orbit", "view angles", "azimuth", "turntable cameras"],
            inputs=[
                io.Combo.Input(
                    "layout",
                    options=[PRESET, RINGS, VIEWER],
                    default=PRESET,
                    tooltip="preset: as far around as `coverage` says. rings: by the angles below. camera: the one in `camera_info`, "
                    "carried around what it looks at.",
                ),
                io.Combo.Input(
                    "coverage",
                    options=[str(preset) for preset in PRESETS],
                    default="360",
                    tooltip="Of a preset: how far the cameras go around the head, in degrees. 360 includes the back.",
                ),
                io.Int.Input(
                    "count",
                    default=0,
                    min=0,
                    max=MOST_VIEWS,
                    tooltip=f"Cameras of a preset, of each ring, or places of a viewer's camera. 0 is a preset's own ({VIEWS_OF_PRESETS}), "
                    "8 a ring, 1 place.",
                ),
                io.String.Input(
                    "elevations",
                    default="0",
                    tooltip="Of rings: how high each is, in degrees, positive above the head, with commas between: 0, 25.",
                ),
                io.Float.Input(
                    "azimuth_from",
                    default=-90.0,
                    min=-360.0,
                    max=360.0,
                    step=1.0,
                    tooltip="Degrees where rings begin, or a viewer's camera is carried to: 0 is the front, negative the subject's right.",
                ),
                io.Float.Input(
                    "azimuth_to", default=90.0, min=-360.0, max=360.0, step=1.0, tooltip="Degrees where they end; at most a turn farther."
                ),
                io.Float.Input(
                    "distance",
                    default=1.2,
                    min=0.5,
                    max=5.0,
                    step=0.05,
                    tooltip="Of rings: metres from the middle of the head. Nearer is a stronger perspective.",
                ),
                io.Float.Input(
                    "fov",
                    default=0.0,
                    min=0.0,
                    max=120.0,
                    step=1.0,
                    tooltip="Degrees that each picture shows; 0 crops it to the head, as generators are trained.",
                ),
                io.Load3DCamera.Input(
                    "camera_info",
                    optional=True,
                    tooltip="A camera of Preview Avatar or Create Camera Info, for the layout camera.",
                ),
            ],
            outputs=[
                CamerasSocket.Output("cameras", tooltip="For Condition Expressions."),
                io.Image.Output("picture", tooltip="Where the cameras stand, seen from above and from the side; numbers are views."),
                io.Int.Output("count", tooltip="How many cameras there are."),
            ],
        )

    @classmethod
    def execute(
        cls,
        layout: str,
        coverage: str,
        count: int,
        elevations: str,
        azimuth_from: float,
        azimuth_to: float,
        distance: float,
        fov: float,
        camera_info: Mapping[str, Any] | None = None,
    ) -> io.NodeOutput:
        from ..mvp4d_core.conditioning.plan_pictures import cameras_picture

        azimuths = (azimuth_from, azimuth_to)
        if layout == PRESET:
            cameras = preset_cameras(int(coverage), count or None)
        elif layout == RINGS:
            cameras = ring_cameras(_numbers(elevations), count or 8, azimuths=azimuths, distance=distance, fov=fov)
        elif camera_info is None:
            raise InputError("The layout `camera` needs a camera in `camera_info`. Connect one, or choose another layout.")
        else:
            camera, target = camera_of_viewer(camera_info, CAMERA_SIDE, CAMERA_SIDE)
            cameras = turned_cameras(camera, target, count or 1, azimuths, framed=fov == 0)
        picture = host.image_from_arrays(cameras_picture(cameras))
        return io.NodeOutput(cameras, picture, len(cameras.cameras), ui=ui.PreviewImage(picture, cls=cls))

    @classmethod
    def validate_inputs(
        cls,
        elevations: str | None = None,
        count: int | None = None,
        azimuth_from: float | None = None,
        azimuth_to: float | None = None,
    ) -> bool | str:
        refused = refusal(cls, count=count, azimuth_from=azimuth_from, azimuth_to=azimuth_to)
        if refused is None and azimuth_from is not None and azimuth_to is not None and not 0 <= azimuth_to - azimuth_from <= 360:
            refused = f"`azimuth_to` must be 0 to 360 degrees beyond `azimuth_from`, got {azimuth_from:g} to {azimuth_to:g}."
        if refused is None and elevations is not None:
            refused = _refused_rings(elevations, count)
        return refused or True


class ConditionExpressions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_ConditionExpressions",
            display_name="MVP4D Condition Expressions",
            category=CATEGORY,
            description="Plans the multi-view video: cameras around this person, and the expressions that each of them sees.",
            search_aliases=["view plan", "camera plan", "multi-view", "conditions", "condition maps"],
            inputs=[
                ReferenceSocket.Input("reference", tooltip="The person, from Load Reference."),
                PerformanceSocket.Input(
                    "performance",
                    optional=True,
                    tooltip="Expressions to learn from; the showcase when nothing is connected, which moves every part of the face once.",
                ),
                io.Combo.Input(
                    "coverage",
                    options=[str(preset) for preset in PRESETS],
                    default="360",
                    tooltip="How far the cameras go around the head, in degrees. 360 includes the back.",
                ),
                io.Int.Input(
                    "frames",
                    default=21,
                    min=1,
                    max=240,
                    tooltip="Frames to fit to: those of the performance and of a range of motion that differ most.",
                ),
                io.Int.Input(
                    "views",
                    default=0,
                    min=0,
                    max=MOST_VIEWS,
                    tooltip=f"Number of cameras; 0 is the coverage's own ({VIEWS_OF_PRESETS}).",
                ),
                io.Int.Input("size", default=256, min=64, max=1024, step=16, tooltip="Pixels along a side of every frame."),
                io.Boolean.Input(
                    "motion",
                    default=False,
                    optional=True,
                    tooltip="Join the frames by motion, as the mmvdm generator wants them. `frames` is then 1 + 4k, such as 21 or 49.",
                ),
                CamerasSocket.Input(
                    "cameras", optional=True, tooltip="Cameras of Camera Plan, in place of those that `coverage` and `views` say."
                ),
            ],
            outputs=[
                PlanSocket.Output("plan", tooltip="Cameras and expressions, for Sample Multi-View Video."),
                io.Image.Output("maps", tooltip="What the video model is told of the first and the middle frame, for some of the views."),
            ],
        )

    @classmethod
    def execute(
        cls,
        reference: TrackedReference,
        coverage: str,
        frames: int,
        views: int,
        size: int,
        performance: Performance | None = None,
        motion: bool = False,
        cameras: ViewCameras | None = None,
    ) -> io.NodeOutput:
        from ..mvp4d_core.conditioning.plan_pictures import maps_picture

        rig = reference.reference.rig(reference.head_model)
        acted = showcase_performance(rig) if performance is None else perform_on(performance, rig)
        shown = (fitting_motion if motion else fitting_frames)(acted, rig, frames)
        plan = plan_views(rig, shown, preset=int(coverage), views=views or None, size=size, cameras=cameras)
        maps = host.image_from_arrays(maps_picture(plan, reference.reference, reference.head_model))
        return io.NodeOutput(plan, maps, ui=ui.PreviewImage(maps, cls=cls))

    @classmethod
    def validate_inputs(cls, frames: int | None = None, motion: bool | None = None) -> bool | str:
        refused = refusal(cls, frames=frames)
        if refused is None and motion and frames is not None and frames % 4 != 1:
            refused = f"`frames` with motion must be 1 + 4k, such as {frames // 4 * 4 + 1}, got {frames}."
        return refused or True


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.split(r"[,;\s]+", text.strip())]


def _refused_rings(elevations: str, count: int | None) -> str | None:
    """A sentence about elevations that are none."""
    try:
        rings = _numbers(elevations)
    except ValueError:
        return f"`elevations` must be degrees with commas between, such as 0, 25, got `{elevations[:40]}`."
    if not all(abs(elevation) <= 85 for elevation in rings):
        return f"`elevations` must be -85 to 85 degrees, got {elevations[:40]}."
    if len(rings) * (count or 8) > MOST_VIEWS:
        return f"Rings must have {MOST_VIEWS} cameras at most altogether, got {len(rings)} rings of {count or 8}."
    return None
