# SPDX-License-Identifier: Apache-2.0
"""What a generator is asked for: views, frames, crops."""

from .reference_crop import reference_camera, resample_photo
from .view_plan import DEFAULT_VIEWS, PRESETS, ViewPlan, frame_camera, head_centre, load_plan, plan_views, save_plan

__all__ = [
    "DEFAULT_VIEWS",
    "PRESETS",
    "ViewPlan",
    "frame_camera",
    "head_centre",
    "load_plan",
    "plan_views",
    "reference_camera",
    "resample_photo",
    "save_plan",
]
