# SPDX-License-Identifier: GPL-3.0-or-later
"""A performance as key frames: sliders and bones of an imported avatar, in one action of its armature, or on a strip of its NLA."""

from pathlib import Path

import bpy
import numpy as np

from mvp4d_core.errors import InputError
from mvp4d_core.rig import Performance
from mvp4d_core.rig.keyframes import kept_frames
from mvp4d_core.rotations import axis_angle_to_quaternion

from . import bridge, compat, seats, sliders

_METRES = 0.1  # of travel that count like a weight of 1, for the tolerance


def key_performance(
    armature: bpy.types.Object, performance: Performance, name: str, *, start: int = 1, tolerance: float | None = None
) -> bpy.types.Action:
    """Keys `performance` at the scene's frame rate from frame `start` on; gives the new action. What was keyed before stays as an action.

    Expressions and joints are matched by name; the ones it lacks keep their place.

    Args:
        tolerance: how far curves may be from the performance, so that fewer keys do: weights, radians, and tenths of a metre. None keys
            every frame.

    Raises:
        InputError: no name of the performance is known to this avatar.
    """
    known = set(sliders.slider_names(armature, performance.expression_names))
    expressions = [(i, slider) for i, slider in enumerate(performance.expression_names) if slider in known]
    joints = [(i, bone) for i, bone in enumerate(performance.joint_names) if bone in armature.pose.bones]
    if not expressions and not joints:
        raise InputError(
            f"The performance `{name}` shares no expression and no joint with `{armature.name}`; retarget it to this head first."
        )
    frames = key_frames(performance, start)
    before = armature.animation_data.action if armature.animation_data else None
    if before is not None:
        before.use_fake_user = True
    action = bpy.data.actions.new(name)
    channels = compat.new_channels(action, armature)
    for index, slider in expressions:
        _key(channels, sliders.path(slider), sliders.FACE, frames, performance.expression[:, index : index + 1], tolerance)
    _key_bones(channels, armature, performance, joints, frames, tolerance)
    return action


def onto_strip(armature: bpy.types.Object, action: bpy.types.Action) -> bpy.types.NlaStrip:
    """Moves the action that plays on `armature` to a strip on a track of its own, above the others, where its keys are."""
    animation = armature.animation_data
    slot = animation.action_slot
    track = animation.nla_tracks.new()
    track.name = action.name
    start = action.frame_range[0]
    strip = track.strips.new(action.name, round(start), action)
    strip.frame_start_ui = start
    strip.action_slot = slot
    strip.extrapolation = "HOLD_FORWARD"
    animation.action = None
    return strip


def key_frames(performance: Performance, start: int) -> np.ndarray:
    """(T,) scene frames of the performance's frames; fractions where the frame rates differ."""
    return start + np.arange(len(performance)) * (scene_rate(bpy.context.scene) / performance.fps)


def scene_rate(scene: bpy.types.Scene) -> float:
    """Frames a second."""
    return scene.render.fps / scene.render.fps_base


def use_timing(scene: bpy.types.Scene, performance: Performance) -> None:
    """Gives the scene the frame rate of the performance."""
    scene.render.fps = max(1, round(performance.fps))
    scene.render.fps_base = scene.render.fps / performance.fps


def use_range(scene: bpy.types.Scene, performance: Performance, start: int) -> None:
    """Lets the scene begin and end with the performance."""
    scene.frame_start = start
    scene.frame_end = max(start, int(np.floor(key_frames(performance, start)[-1] + 1e-6)))


def add_sound(scene: bpy.types.Scene, path: Path, start: int) -> None:
    """Puts a sound into the scene's sequencer, on the lowest free channel."""
    strips = scene.sequence_editor_create().strips
    taken = {strip.channel for strip in strips}
    channel = next(number for number in range(1, 129) if number not in taken)
    strips.new_sound(path.name, str(path), channel, start)


def continuous_quaternions(quats: np.ndarray) -> np.ndarray:
    """(T, ..., 4) unit quaternions with the signs that keep neighbours in time close, so that curves between them take the short way."""
    agreement = np.einsum("t...k,t...k->t...", quats[1:], quats[:-1])
    signs = np.cumprod(np.where(agreement < 0, -1, 1), axis=0)
    return np.concatenate([quats[:1], quats[1:] * signs[..., None]])


def _key_bones(
    channels: bpy.types.ActionChannelbag,
    armature: bpy.types.Object,
    performance: Performance,
    joints: list[tuple[int, str]],
    frames: np.ndarray,
    tolerance: float | None,
) -> None:
    quats = continuous_quaternions(axis_angle_to_quaternion(performance.rotations.astype(np.float64)))
    for index, name in joints:
        bone = armature.pose.bones[name]
        bone.rotation_mode = "QUATERNION"
        path = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
        within = None if tolerance is None else tolerance / 2  # a quaternion's parts go half as far as its angle
        _key(channels, f"{path}.rotation_quaternion", name, frames, quats[:, index], within)
        if _is_root(bone):
            within = None if tolerance is None else tolerance * _METRES
            _key(channels, f"{path}.location", name, frames, performance.translation, within)


def _is_root(bone: bpy.types.PoseBone) -> bool:
    """Whether it carries the whole head: nothing is above it, but for what seats it."""
    above = bone.parent
    return above is None or (above.name == seats.seat_of(bone.name) and above.parent is None)


def _key(
    channels: bpy.types.ActionChannelbag, path: str, group: str, frames: np.ndarray, values: np.ndarray, tolerance: float | None
) -> None:
    """Curves of the columns of `values` (T, C), with keys at the same frames."""
    kept = np.arange(len(frames)) if tolerance is None else kept_frames(values, tolerance)
    for component in range(values.shape[1]):
        curve = channels.fcurves.new(path, index=component)
        curve.group = channels.groups.get(group) or channels.groups.new(group)
        bridge.write_curve(curve, frames[kept], values[kept, component])
