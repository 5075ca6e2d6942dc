# SPDX-License-Identifier: GPL-3.0-or-later
"""The person's rig: a mesh with shape keys, an armature whose bone axes are head space's, and pose correctives by drivers without Python.

It evaluates `mvp4d_core.rig.skin` to rounding, joints that move with the expression included.
"""

from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Quaternion, Vector

from mvp4d_core.errors import InputError
from mvp4d_core.rig import HeadModel, Parameters
from mvp4d_core.rotations import axis_angle_to_quaternion

from . import bridge, controls, seats, sliders
from .movements import Movement, arkit_movements, expression_movements, identity_movements, joint_drift

BASIS = "Basis"
_BONE_LENGTH = 0.03  # metres
_STILL = 1e-9  # metres: joints that move less stay where the neutral face has them
_LONGEST_NAME = 48  # bytes: Blender's 63 with what is added for correctives and seats

# R - I of the unit quaternion (w, x, y, z), row-major: what FLAME multiplies its pose correctives by
_CORRECTIVE_FORMULAS = (
    "-2*(y*y + z*z)", "2*(x*y - w*z)", "2*(x*z + w*y)",
    "2*(x*y + w*z)", "-2*(x*x + z*z)", "2*(y*z - w*x)",
    "2*(x*z - w*y)", "2*(y*z + w*x)", "-2*(x*x + y*y)",
)  # fmt: skip


@dataclass(frozen=True)
class Rig:
    """What `build_rig` made. `points` is the mesh that moves the joints, None where none moves; the names are those of sliders."""

    armature: bpy.types.Object
    head: bpy.types.Object
    points: bpy.types.Object | None
    expressions: tuple[str, ...]
    arkit: tuple[str, ...]
    identity: tuple[str, ...]


def build_rig(model: HeadModel, name: str, collection: bpy.types.Collection, *, identity: HeadModel | None = None) -> Rig:
    """Armature and head of `model`. `collection` must be in the scene, and Blender in object mode.

    Args:
        identity: also sliders that change whose head it is, by the directions of this head.

    Raises:
        InputError: names that Blender cannot tell apart.
    """
    own, arkit = expression_movements(model), arkit_movements(model)
    changes = [] if identity is None else identity_movements(model, identity)
    movements = [*own, *arkit, *changes]
    _check_names(model, movements)
    seated = joint_drift(movements) > _STILL
    armature = _build_armature(model, movements, f"{name} rig", collection, seated=seated)
    sliders.add_sliders(armature, movements)
    head = _build_head(model, movements, f"{name} head", armature, collection, seated=seated)
    points = seats.build_seats(movements, model.joint_names, f"{name} joints", armature, collection) if seated else None
    controls.constrain(armature, [head] if points is None else [head, points])
    return Rig(armature, head, points, *(tuple(m.name for m in kind) for kind in (own, arkit, changes)))


def _check_names(model: HeadModel, movements: list[Movement]) -> None:
    keys = [BASIS, *(movement.name for movement in movements)]
    seated = [name for joint in model.joint_names for name in (joint, seats.seat_of(joint), seats.skin_of(joint))]
    for names in (keys, [*seated, *controls.bone_names(model, movements)]):
        for name in names:
            if not name or len(name.encode()) > _LONGEST_NAME or names.count(name) > 1:
                raise InputError(
                    f"The head `{model.name}` has a slider or joint `{name[:80]}`; a name must be unlike the others in Blender,"
                    f" with 1 to {_LONGEST_NAME} bytes. Rename it in the head's file."
                )


def _build_armature(
    model: HeadModel, movements: list[Movement], name: str, collection: bpy.types.Collection, *, seated: bool
) -> bpy.types.Object:
    """One bone a joint, the bone of the sliders and the controls.

    A bone starts at its joint and points up the head, which makes its local axes the head's: the axis-angle of a joint is that of its bone.
    """
    armature = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    collection.objects.link(armature)
    armature.show_in_front = True
    armature.data.display_type = "STICK"
    joints = model.J_regressor.astype(np.float64) @ model.v_template
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        carriers: list[str] = []
        for joint_name, joint, parent in zip(model.joint_names, joints, model.parents, strict=True):
            above = carriers[parent] if parent >= 0 else None
            if seated:
                above = add_bone(armature, seats.seat_of(joint_name), joint, above)
            carrier = add_bone(armature, joint_name, joint, above)
            carriers.append(add_bone(armature, seats.skin_of(joint_name), joint, carrier) if seated else carrier)
        carrier_of = dict(zip(model.joint_names, carriers, strict=True))
        for control, place, above, length in controls.plan_bones(model, movements):
            add_bone(armature, control, place, carrier_of.get(above or "", above), length)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
    for bone in armature.pose.bones:
        bone.rotation_mode = "QUATERNION"
    deforming = {seats.skin_of(joint) if seated else joint for joint in model.joint_names}
    for bone in armature.data.bones:
        bone.use_deform = bone.name in deforming
    controls.finish_bones(armature, model.joint_names)
    return armature


def add_bone(armature: bpy.types.Object, name: str, place: np.ndarray, parent: str | None, length: float = _BONE_LENGTH) -> str:
    """A bone at `place`, head space, with the head's axes; in edit mode. Gives its name."""
    bone = armature.data.edit_bones.new(name)
    bone.head = bridge.to_vector(bridge.blender_from_head(np.asarray(place, np.float64)))
    bone.tail = bone.head + Vector((0, 0, length))
    bone.align_roll(Vector((0, -1, 0)))  # the bone's z is the head's: out of the face
    bone.parent = armature.data.edit_bones[parent] if parent else None
    return bone.name


def _build_head(
    model: HeadModel,
    movements: list[Movement],
    name: str,
    armature: bpy.types.Object,
    collection: bpy.types.Collection,
    *,
    seated: bool,
) -> bpy.types.Object:
    """The rig's mesh under `armature`: shown as a wire, selectable, never rendered."""
    basis = model.v_template.astype(np.float64) + model.static_offsets
    head = bpy.data.objects.new(name, bridge.new_triangle_mesh(name, bridge.blender_from_head(basis), model.faces))
    collection.objects.link(head)
    head.parent = armature
    head.display_type = "WIRE"
    head.hide_render = True
    for joint, joint_name in enumerate(model.joint_names):
        bridge.add_vertex_group(head, seats.skin_of(joint_name) if seated else joint_name, model.lbs_weights[:, joint])
    modifier = head.modifiers.new("Armature", "ARMATURE")
    modifier.object = armature
    modifier.use_deform_preserve_volume = False  # plain linear blend skinning
    bridge.add_shape_key(head, BASIS, bridge.blender_from_head(basis))
    for movement in movements:
        key = bridge.add_shape_key(head, movement.name, bridge.blender_from_head(basis + movement.displacement))
        sliders.drive_key(key, armature, movement.name)
    _add_correctives(head, armature, model, basis)
    return head


def _add_correctives(head: bpy.types.Object, armature: bpy.types.Object, model: HeadModel, basis: np.ndarray) -> None:
    """A shape key for each pose corrective that does something, driven by its bone."""
    for feature in np.nonzero(np.abs(model.posedirs).max(axis=(0, 1), initial=0))[0]:
        joint, entry = 1 + feature // 9, feature % 9
        bone = model.joint_names[joint]
        vertices = bridge.blender_from_head(basis + model.posedirs[:, :, feature])
        key = bridge.add_shape_key(head, f"corrective {bone} {entry // 3}{entry % 3}", vertices)
        key.slider_min, key.slider_max = -2.0, 2.0
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


def pose(armature: bpy.types.Object, model: HeadModel, parameters: Parameters) -> None:
    """Puts sliders and bones where `parameters` has them."""
    sliders.set_sliders(armature, dict(zip(model.expression_names, parameters.expression.tolist(), strict=True)))
    quats = axis_angle_to_quaternion(np.asarray(parameters.rotations, np.float64))
    for name, quat in zip(model.joint_names, quats.tolist(), strict=True):
        armature.pose.bones[name].rotation_quaternion = Quaternion(quat)
    armature.pose.bones[model.joint_names[0]].location = bridge.to_vector(np.asarray(parameters.translation, np.float64))


def rest(armature: bpy.types.Object, names: list[str]) -> None:
    """Takes the sliders of these names and all bones back to the neutral face, looking straight ahead."""
    sliders.set_sliders(armature, dict.fromkeys(names, 0.0))
    for bone in armature.pose.bones:
        bone.matrix_basis.identity()
