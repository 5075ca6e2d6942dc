# SPDX-License-Identifier: GPL-3.0-or-later
"""Faces as pose assets: actions of one frame on the sliders, which the asset browser applies and blends."""

from collections.abc import Mapping

import bpy
import numpy as np

from mvp4d_core.rig import ARKIT_NAMES
from mvp4d_core.rig.faces import EXPRESSIONS, VISEMES, Face, both_sides

from . import bridge, compat, sliders

TAG = "MVP4D"
_SPOKEN = ("jaw", "mouth", "tongue")  # what a viseme moves, and leaves at rest; a smile of the eyes stays


def library_poses() -> dict[str, Face]:
    """The library's expressions on all of ARKit's sliders, and its visemes on those of jaw, lips and tongue, by their names as assets."""
    spoken = [name for name in ARKIT_NAMES if name.startswith(_SPOKEN)]
    poses = {name.replace("_", " ").capitalize(): _whole(face, list(ARKIT_NAMES)) for name, face in EXPRESSIONS.items()}
    return poses | {f"Viseme {name}": _whole(face, spoken) for name, face in VISEMES.items()}


def _whole(face: Face, names: list[str]) -> Face:
    weights = both_sides(face)
    return {name: weights.get(name, 0.0) for name in names}


def new_pose(armature: bpy.types.Object, name: str, weights: Mapping[str, float]) -> bpy.types.Action:
    """A pose asset that puts sliders at `weights`. The armature's own animation stays what it is."""
    action = bpy.data.actions.new(name)
    _, channels = compat.new_slot(action, armature)
    group = channels.groups.new(sliders.FACE)
    for slider, weight in weights.items():
        curve = channels.fcurves.new(sliders.path(slider))
        curve.group = group
        bridge.write_curve(curve, np.ones(1), np.full(1, weight))
    action.asset_mark()
    action.asset_data.tags.new(TAG, skip_if_exists=True)
    action.asset_data.description = f"The face `{name}`, for avatars with ARKit's sliders"
    if not bpy.app.background:
        action.asset_generate_preview()
    return action


def marked_poses() -> set[str]:
    """Names of the pose assets of this add-on in the file."""
    return {a.name for a in bpy.data.actions if a.library is None and a.asset_data is not None and TAG in a.asset_data.tags}
