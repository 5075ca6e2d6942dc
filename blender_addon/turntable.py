# SPDX-License-Identifier: GPL-3.0-or-later
"""A camera that goes once around an avatar."""

from math import cos, pi, sin

import bpy
import numpy as np

from mvp4d_core.errors import InputError

from . import bridge, compat

NAME = "Turntable"
_LENS = 85.0  # millimetres on a sensor of 36
_SHARE = 0.8  # of the picture that the head fills


def add_turntable(
    scene: bpy.types.Scene, head: bpy.types.Object, frames: int, *, elevation: float = 0.05, sweep: float = 2 * pi
) -> bpy.types.Object:
    """Makes a camera on an arm that turns around `head` within `frames` frames from the scene's first on, and the scene that long.

    A full circle ends one step before it began, so that the film loops.

    Args:
        elevation: radians above the head's middle.
        sweep: radians it turns by, from half of it on the right of the face to half of it on the left; a whole circle starts in front.

    Returns:
        The camera, which is the scene's from now on.

    Raises:
        InputError: fewer than two frames, or a sweep beyond a circle.
    """
    if frames < 2 or not 0 < sweep <= 2 * pi + 1e-6:
        raise InputError(f"A turntable takes two frames or more and at most a circle, got {frames} and {np.rad2deg(sweep):g} degrees.")
    vertices = bridge.evaluated_vertices(head) @ np.array(head.matrix_world.to_3x3()).T + np.array(head.matrix_world.translation)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    arm = bpy.data.objects.new(NAME, None)
    arm.empty_display_type, arm.empty_display_size = "CIRCLE", 0.1
    arm.location = bridge.to_vector((low + high) / 2)
    scene.collection.objects.link(arm)
    camera = _camera(scene, arm, float((high - low).max()), elevation)
    whole = sweep > 2 * pi - 1e-6
    angles = np.arange(frames) * (2 * pi / frames) if whole else np.linspace(-sweep / 2, sweep / 2, frames)
    action = bpy.data.actions.new(NAME)
    curve = compat.new_channels(action, arm).fcurves.new("rotation_euler", index=2)
    bridge.write_curve(curve, scene.frame_start + np.arange(frames), angles)
    scene.frame_end = scene.frame_start + frames - 1
    scene.camera = camera
    return camera


def _camera(scene: bpy.types.Scene, arm: bpy.types.Object, extent: float, elevation: float) -> bpy.types.Object:
    """A camera in front of the arm's middle that looks at it."""
    data = bpy.data.cameras.new(NAME)
    data.lens = _LENS
    camera = bpy.data.objects.new(f"{NAME} camera", data)
    scene.collection.objects.link(camera)
    camera.parent = arm
    narrow = min(scene.render.resolution_x, scene.render.resolution_y) / max(scene.render.resolution_x, scene.render.resolution_y)
    distance = extent / _SHARE * _LENS / (36.0 * narrow) + extent / 2
    camera.location = (0, -distance * cos(elevation), distance * sin(elevation))
    camera.rotation_euler = (pi / 2 - elevation, 0, 0)
    data.clip_start, data.clip_end = distance / 100, 100 * distance
    return camera
