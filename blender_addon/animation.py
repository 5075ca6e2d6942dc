# SPDX-License-Identifier: GPL-3.0-or-later
"""A performance as key frames: sliders and bones of an imported avatar, one action with a slot for each of the two."""

import bpy
import numpy as np

from mvp4d_core.errors import InputError
from mvp4d_core.rig import Performance
from mvp4d_core.rotations import axis_angle_to_quaternion

from . import bridge, compat, rig


def key_performance(
    armature: bpy.types.Object, head: bpy.types.Object, performance: Performance, name: str, *, start: int = 1
) -> bpy.types.Action:
    """Keys `performance` at the scene's frame rate from frame `start` on; gives the new action. What was keyed before stays as an action.

    Expressions and joints are matched by name; the ones it lacks keep their place.

    Raises:
        InputError: no name of the performance is known to this avatar.
    """
    keys = head.data.shape_keys
    expressions = [(i, key) for i, key in enumerate(performance.expression_names) if key in keys.key_blocks and key != rig.BASIS]
    joints = [(i, bone) for i, bone in enumerate(performance.joint_names) if bone in armature.pose.bones]
    if not expressions and not joints:
        raise InputError(
            f"The performance `{name}` shares no expression and no joint with `{armature.name}`; retarget it to this head first."
        )
    frames = key_frames(performance, start)
    action = bpy.data.actions.new(name)
    if expressions:
        _key_expressions(compat.new_channels(action, keys), keys, performance, expressions, frames)
    if joints:
        _key_bones(compat.new_channels(action, armature), armature, performance, joints, frames)
    return action


def key_frames(performance: Performance, start: int) -> np.ndarray:
    """(T,) scene frames of the performance's frames; fractions where the frame rates differ."""
    render = bpy.context.scene.render
    return start + np.arange(len(performance)) * (render.fps / render.fps_base / performance.fps)


def use_timing(scene: bpy.types.Scene, performance: Performance) -> None:
    """Gives the scene the frame rate of the performance."""
    scene.render.fps = max(1, round(performance.fps))
    scene.render.fps_base = scene.render.fps / performance.fps


def use_range(scene: bpy.types.Scene, performance: Performance, start: int) -> None:
    """Lets the scene begin and end with the performance."""
    scene.frame_start = start
    scene.frame_end = max(start, int(np.floor(key_frames(performance, start)[-1] + 1e-6)))


def continuous_quaternions(quats: np.ndarray) -> np.ndarray:
    """(T, ..., 4) unit quaternions with the signs that keep neighbours in time close, so that curves between them take the short way."""
    agreement = np.einsum("t...k,t...k->t...", quats[1:], quats[:-1])
    signs = np.cumprod(np.where(agreement < 0, -1, 1), axis=0)
    return np.concatenate([quats[:1], quats[1:] * signs[..., None]])


def _key_expressions(
    channels: bpy.types.ActionChannelbag,
    keys: bpy.types.Key,
    performance: Performance,
    expressions: list[tuple[int, str]],
    frames: np.ndarray,
) -> None:
    for index, name in expressions:
        values = performance.expression[:, index]
        rig.widen_slider(keys.key_blocks[name], float(values.min()), float(values.max()))
        path = f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'
        bridge.write_curve(channels.fcurves.new(path), frames, values)


def _key_bones(
    channels: bpy.types.ActionChannelbag,
    armature: bpy.types.Object,
    performance: Performance,
    joints: list[tuple[int, str]],
    frames: np.ndarray,
) -> None:
    quats = continuous_quaternions(axis_angle_to_quaternion(performance.rotations.astype(np.float64)))
    for index, name in joints:
        bone = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
        group = channels.groups.new(name)
        tracks = [("rotation_quaternion", quats[:, index])]
        if armature.pose.bones[name].parent is None:
            tracks.append(("location", performance.translation))
        for field, values in tracks:
            for component in range(values.shape[1]):
                curve = channels.fcurves.new(f"{bone}.{field}", index=component)
                curve.group = group
                bridge.write_curve(curve, frames, values[:, component])
