# SPDX-License-Identifier: GPL-3.0-or-later
"""The person's rig: a mesh with shape keys, an armature whose bone axes are head space's, and pose correctives by drivers without Python.

It evaluates `mvp4d_core.rig.skin` exactly for heads whose joints do not move with the expression; `joint_drift` says by how much others do.
"""

from collections.abc import Iterable

import bpy
import numpy as np
from mathutils import Quaternion, Vector

from mvp4d_core.rig import ARKIT_NAMES, HeadModel, Parameters
from mvp4d_core.rotations import axis_angle_to_quaternion

from . import bridge

BASIS = "Basis"
_BONE_LENGTH = 0.03  # metres
_WIDE_RANGE = (-5.0, 5.0)  # of expressions that are standard deviations, FLAME's
_KEY_LIMIT = 10.0  # Blender's own for sliders

# R - I of the unit quaternion (w, x, y, z), row-major: what FLAME multiplies its pose correctives by
_CORRECTIVE_FORMULAS = (
    "-2*(y*y + z*z)", "2*(x*y - w*z)", "2*(x*z + w*y)",
    "2*(x*y + w*z)", "-2*(x*x + z*z)", "2*(y*z - w*x)",
    "2*(x*z - w*y)", "2*(y*z + w*x)", "-2*(x*x + y*y)",
)  # fmt: skip


def build_armature(rig: HeadModel, name: str, collection: bpy.types.Collection) -> bpy.types.Object:
    """An armature with one bone a joint of `rig`. `collection` must be in the scene, and Blender in object mode.

    A bone starts at its joint and points up the head, which makes its local axes the head's: the axis-angle of a joint is that of its bone.
    """
    armature = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    collection.objects.link(armature)
    armature.show_in_front = True
    armature.data.display_type = "STICK"
    joints = bridge.blender_from_head(rig.J_regressor.astype(np.float64) @ rig.v_template)
    view_layer = bpy.context.view_layer
    view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        bones = []
        for joint_name, joint, parent in zip(rig.joint_names, joints, rig.parents, strict=True):
            bone = armature.data.edit_bones.new(joint_name)
            bone.head = bridge.to_vector(joint)
            bone.tail = bone.head + Vector((0, 0, _BONE_LENGTH))
            bone.align_roll(Vector((0, -1, 0)))  # the bone's z is the head's: out of the face
            bone.parent = bones[parent] if parent >= 0 else None
            bones.append(bone)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
    for bone in armature.pose.bones:
        bone.rotation_mode = "QUATERNION"
    return armature


def build_head(rig: HeadModel, name: str, armature: bpy.types.Object, collection: bpy.types.Collection) -> bpy.types.Object:
    """The rig's mesh under `armature`: shown as a wire, selectable, never rendered."""
    basis = rig.v_template.astype(np.float64) + rig.static_offsets
    head = bpy.data.objects.new(name, bridge.new_triangle_mesh(name, bridge.blender_from_head(basis), rig.faces))
    collection.objects.link(head)
    head.parent = armature
    head.display_type = "WIRE"
    head.hide_render = True
    for joint, joint_name in enumerate(rig.joint_names):
        bridge.add_vertex_group(head, joint_name, rig.lbs_weights[:, joint])
    modifier = head.modifiers.new("Armature", "ARMATURE")
    modifier.object = armature
    modifier.use_deform_preserve_volume = False  # plain linear blend skinning
    bridge.add_shape_key(head, BASIS, bridge.blender_from_head(basis))
    for index, expression in enumerate(rig.expression_names):
        low, high = (0.0, 1.0) if expression in ARKIT_NAMES else _WIDE_RANGE
        _add_key(head, expression, basis + rig.exprdirs[:, :, index], low, high)
    _add_correctives(head, armature, rig, basis)
    return head


def _add_key(head: bpy.types.Object, name: str, vertices: np.ndarray, low: float, high: float) -> bpy.types.ShapeKey:
    key = bridge.add_shape_key(head, name, bridge.blender_from_head(vertices))
    key.slider_min, key.slider_max = low, high
    key.value = 0.0
    return key


def _add_correctives(head: bpy.types.Object, armature: bpy.types.Object, rig: HeadModel, basis: np.ndarray) -> None:
    """A shape key for each pose corrective that does something, driven by its bone."""
    for feature in np.nonzero(np.abs(rig.posedirs).max(axis=(0, 1), initial=0))[0]:
        joint, entry = 1 + feature // 9, feature % 9
        bone = rig.joint_names[joint]
        key = _add_key(head, f"corrective {bone} {entry // 3}{entry % 3}", basis + rig.posedirs[:, :, feature], -2.0, 2.0)
        _drive_by_rotation(key, armature, bone, _CORRECTIVE_FORMULAS[entry])


def _drive_by_rotation(key: bpy.types.ShapeKey, armature: bpy.types.Object, bone: str, formula: str) -> None:
    driver = key.driver_add("value").driver
    for letter in sorted(set("wxyz") & set(formula)):
        variable = driver.variables.new()
        variable.name, variable.type = letter, "TRANSFORMS"
        target = variable.targets[0]
        target.id, target.bone_target = armature, bone
        target.transform_type, target.transform_space = f"ROT_{letter.upper()}", "LOCAL_SPACE"
        target.rotation_mode = "QUATERNION"
    driver.expression = formula


def joint_drift(rig: HeadModel) -> float:
    """How far a joint moves at most with one expression at weight 1, metres. Bones stay where the neutral face has them."""
    drift = np.tensordot(rig.J_regressor.astype(np.float64), rig.exprdirs, axes=(1, 0))  # (J, 3, E)
    return float(np.linalg.norm(drift, axis=1).max(initial=0))


def widen_slider(key: bpy.types.ShapeKey, low: float, high: float) -> None:
    """Lets a slider reach `low` and `high`; beyond its range Blender would clamp the value."""
    key.slider_min = max(min(key.slider_min, low), -_KEY_LIMIT)
    key.slider_max = min(max(key.slider_max, high), _KEY_LIMIT)


def pose(armature: bpy.types.Object, head: bpy.types.Object, rig: HeadModel, parameters: Parameters) -> None:
    """Puts sliders and bones where `parameters` has them."""
    keys = head.data.shape_keys.key_blocks
    for name, value in zip(rig.expression_names, parameters.expression.tolist(), strict=True):
        widen_slider(keys[name], value, value)
        keys[name].value = value
    quats = axis_angle_to_quaternion(np.asarray(parameters.rotations, np.float64))
    for name, quat in zip(rig.joint_names, quats.tolist(), strict=True):
        armature.pose.bones[name].rotation_quaternion = Quaternion(quat)
    armature.pose.bones[rig.joint_names[0]].location = bridge.to_vector(np.asarray(parameters.translation, np.float64))


def rest(armature: bpy.types.Object, expressions: Iterable[bpy.types.ShapeKey]) -> None:
    """Takes sliders and bones back to the neutral face, looking straight ahead."""
    for key in expressions:
        key.value = 0.0
    for bone in armature.pose.bones:
        bone.matrix_basis.identity()
