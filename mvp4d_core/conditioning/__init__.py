# SPDX-License-Identifier: Apache-2.0
"""What a generator is asked for: views, frames, crops."""

from .expressions import fitting_frames, range_of_motion
from .reference_crop import judged_pixels, reference_camera, resample_photo
from .view_plan import DEFAULT_VIEWS, PRESETS, ViewPlan, frame_camera, head_centre, load_plan, plan_views, save_plan

__all__ = [
    "DEFAULT_VIEWS",
    "PRESETS",
    "ViewPlan",
    "fitting_frames",
    "frame_camera",
    "head_centre",
    "judged_pixels",
    "load_plan",
    "plan_views",
    "range_of_motion",
    "reference_camera",
    "resample_photo",
    "save_plan",
]
