# SPDX-License-Identifier: Apache-2.0
"""The workflows that come with the pack, as little as there is to say of each: what is not said is a node's default.

`tools/build_workflows.py` makes them into what ComfyUI opens.
"""

from .from_a_photo import COMPARE, FULL, QUICK_START
from .steps import Workflow
from .with_an_avatar import BLENDER, DRIVEN, LIVE_LINK, SLIDERS, TURNTABLE

WORKFLOWS = (QUICK_START, FULL, DRIVEN, SLIDERS, LIVE_LINK, TURNTABLE, BLENDER, COMPARE)

__all__ = ["WORKFLOWS", "Workflow"]
