# SPDX-License-Identifier: Apache-2.0
"""What a generator is asked for: views, frames, crops, and the maps that tell a video model so.

Maps need numba and the mesh rasteriser, which are loaded when one of their functions is first asked for.
"""

from typing import TYPE_CHECKING, Any

from .camera_rings import ring_cameras, turned_cameras
from .expressions import fitting_frames, fitting_motion, range_of_motion
from .reference_crop import judged_pixels, reference_camera, resample_photo
from .view_plan import (
    DEFAULT_VIEWS,
    PRESETS,
    ViewCameras,
    ViewPlan,
    frame_camera,
    head_centre,
    load_plan,
    plan_views,
    preset_cameras,
    save_plan,
)

if TYPE_CHECKING:
    from .map_pictures import picture_maps
    from .maps import MAP_COUNT, MAP_SLICES, condition_maps, latent_frame_count, reference_maps

__all__ = [
    "DEFAULT_VIEWS",
    "MAP_COUNT",
    "MAP_SLICES",
    "PRESETS",
    "ViewCameras",
    "ViewPlan",
    "condition_maps",
    "fitting_frames",
    "fitting_motion",
    "frame_camera",
    "head_centre",
    "judged_pixels",
    "latent_frame_count",
    "load_plan",
    "picture_maps",
    "plan_views",
    "preset_cameras",
    "range_of_motion",
    "reference_camera",
    "reference_maps",
    "resample_photo",
    "ring_cameras",
    "save_plan",
    "turned_cameras",
]


def __getattr__(name: str) -> Any:
    if name == "picture_maps":
        from .map_pictures import picture_maps

        return picture_maps
    if name in ("MAP_COUNT", "MAP_SLICES", "condition_maps", "latent_frame_count", "reference_maps"):
        from . import maps

        return getattr(maps, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
