# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rig does in the scene's frames as a performance: keys, strips, drivers and constraints, whatever they come from."""

import bpy
import numpy as np
from mathutils import Matrix

from mvp4d_core.rig import HeadModel, Performance
from mvp4d_core.rotations import quaternion_to_axis_angle

from .animation import scene_rate


def performance_of(armature: bpy.types.Object, head: bpy.types.Object, model: HeadModel, frames: range) -> Performance:
    """The performance of `frames` in the names of `model`, at the scene's rate. What the rig lacks stays at rest."""
    scene, before = bpy.context.scene, bpy.context.scene.frame_current
    expression = np.zeros((len(frames), len(model.expression_names)), np.float32)
    rotations = np.zeros((len(frames), len(model.joint_names), 3), np.float32)
    translation = np.zeros((len(frames), 3), np.float32)
    keys = head.data.shape_keys.key_blocks
    try:
        for row, frame in enumerate(frames):
            scene.frame_set(frame)
            posed = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
            expression[row] = [keys[name].value if name in keys else 0.0 for name in model.expression_names]
            turns = [_local(posed, name) for name in model.joint_names]
            quats = np.array([turn.to_quaternion() for turn in turns], np.float64)
            rotations[row] = quaternion_to_axis_angle(quats)
            translation[row] = turns[0].translation
    finally:
        scene.frame_set(before)
    return Performance(expression, rotations, translation, scene_rate(scene), model.expression_names, model.joint_names)


def _local(armature: bpy.types.Object, name: str) -> Matrix:
    """How a bone is turned and moved in its own axes, which are the head's; constraints included."""
    bone = armature.pose.bones.get(name)
    if bone is None:
        return Matrix.Identity(4)
    return armature.convert_space(pose_bone=bone, matrix=bone.matrix, from_space="POSE", to_space="LOCAL")
