# SPDX-License-Identifier: GPL-3.0-or-later
"""What an animator takes hold of beside the joints: the face, a target for the eyes, a handle for the jaw. No Python runs for it."""

import bpy
import numpy as np

from mvp4d_core.rig import HeadModel

from . import sliders
from .movements import Movement

FACE, EYE_TARGET, JAW_HANDLE = sliders.FACE, "eye_target", "jaw_handle"
FOLLOW = "follow"  # how much the eyes follow their target: a custom property of its bone, 0 to 1
EYES = ("left_eye", "right_eye")

_NECK = "neck"
_TARGET_DISTANCE = 0.4  # metres in front of the eyes
_TRAVEL = 0.03  # metres that the jaw's handle goes
_HANDLE_DISTANCE = 0.025  # metres in front of the chin
_LENGTH = 0.02
# which of the handle's axes, the head's, moves a slider, and which way
_JAW = {"jawOpen": (1, -1), "jawLeft": (0, 1), "jawRight": (0, -1), "jawForward": (2, 1)}
_COLLECTIONS = ("Controls", "Joints", "Mechanism")


def target_of(eye: str) -> str:
    """The bone that one eye looks at."""
    return f"{eye}_target"


def bone_names(model: HeadModel, movements: list[Movement]) -> list[str]:
    """The bones that `plan_bones` places."""
    return [name for name, *_ in plan_bones(model, movements)]


def plan_bones(model: HeadModel, movements: list[Movement]) -> list[tuple[str, np.ndarray, str | None, float]]:
    """Name, place (3,) in head space, parent and length of each control. A parent is a joint, an earlier control, or None."""
    joints = dict(zip(model.joint_names, model.J_regressor.astype(np.float64) @ model.v_template, strict=True))
    root = model.joint_names[0]
    carrier = _NECK if _NECK in joints else root
    top = model.v_template.max(axis=0)
    planned: list[tuple[str, np.ndarray, str | None, float]] = [(FACE, np.array([0, top[1] + _LENGTH, 0.0]), carrier, _LENGTH)]
    if joints.keys() >= set(EYES):
        ahead = np.array([0, 0, _TARGET_DISTANCE])
        places = [joints[eye] + ahead for eye in EYES]
        planned.append((EYE_TARGET, np.mean(places, axis=0), root, _LENGTH))
        planned += [(target_of(eye), place, EYE_TARGET, _LENGTH / 2) for eye, place in zip(EYES, places, strict=True)]
    opening = next((m.displacement for m in movements if m.name == "jawOpen"), None)
    if opening is not None:
        chin = model.v_template[int(np.linalg.norm(opening, axis=1).argmax())].astype(np.float64)
        planned.append((JAW_HANDLE, np.array([0, chin[1], max(chin[2], 0) + _HANDLE_DISTANCE]), carrier, _LENGTH / 2))
    return planned


def finish_bones(armature: bpy.types.Object, joint_names: tuple[str, ...]) -> None:
    """Shapes, locks and bone collections; in object mode."""
    made = {name: armature.data.collections.new(name) for name in _COLLECTIONS}
    shapes = {FACE: "face", EYE_TARGET: "frame", JAW_HANDLE: "diamond", **{target_of(eye): "ring" for eye in EYES}}
    for bone in armature.pose.bones:
        kind = "Controls" if bone.name in shapes else "Joints" if bone.name in joint_names else "Mechanism"
        made[kind].assign(bone.bone)
        bone.lock_scale = (True, True, True)
        if kind == "Controls":
            bone.custom_shape = _shape(shapes[bone.name])
            bone.use_custom_shape_bone_size = False
            bone.color.palette = "THEME04" if bone.name == FACE else "THEME09"
            bone.lock_rotation, bone.lock_rotation_w = (True, True, True), True
        bone.lock_location = (bone.name in (FACE, *joint_names[1:]),) * 3
    made["Mechanism"].is_visible = False


def constrain(armature: bpy.types.Object, meshes: list[bpy.types.Object]) -> None:
    """Lets the eyes follow their target and the sliders of `meshes` the jaw's handle."""
    bones = armature.pose.bones
    if EYE_TARGET in bones:
        bones[EYE_TARGET][FOLLOW] = 0.0
        bones[EYE_TARGET].id_properties_ui(FOLLOW).update(
            default=0.0, min=0.0, max=1.0, soft_min=0.0, soft_max=1.0, description="How much the eyes follow the target"
        )
        bones[EYE_TARGET].property_overridable_library_set(f'["{FOLLOW}"]', True)
        for eye in EYES:
            _look_at_target(armature, eye)
    if JAW_HANDLE in bones:
        limit = bones[JAW_HANDLE].constraints.new("LIMIT_LOCATION")
        limit.owner_space, limit.use_transform_limit = "LOCAL", True
        for side in ("min_x", "max_x", "min_y", "max_y", "min_z", "max_z"):
            setattr(limit, f"use_{side}", True)
        limit.min_x, limit.max_x, limit.min_y, limit.max_z = -_TRAVEL, _TRAVEL, -_TRAVEL, _TRAVEL
        for mesh in meshes:
            _follow_handle(armature, mesh)


def _look_at_target(armature: bpy.types.Object, eye: str) -> None:
    look = armature.pose.bones[eye].constraints.new("DAMPED_TRACK")
    look.name = "Look at the target"
    look.target, look.subtarget, look.track_axis = armature, target_of(eye), "TRACK_Z"
    driver = look.driver_add("influence").driver
    driver.type = "SUM"
    variable = driver.variables.new()
    variable.type = "SINGLE_PROP"
    variable.targets[0].id = armature
    variable.targets[0].data_path = f'pose.bones["{EYE_TARGET}"]["{FOLLOW}"]'


def _follow_handle(armature: bpy.types.Object, mesh: bpy.types.Object) -> None:
    """Adds the handle's way to the sliders of the jaw, up to 1."""
    drivers = {curve.data_path: curve.driver for curve in mesh.data.shape_keys.animation_data.drivers}
    for name, (axis, sign) in _JAW.items():
        driver = drivers.get(f"key_blocks{sliders.local_path(name)}.value")
        if driver is None:
            continue
        variable = driver.variables.new()
        variable.name, variable.type = "handle", "SINGLE_PROP"  # the bone's place in space would depend on what this drives
        variable.targets[0].id = armature
        variable.targets[0].data_path = f'pose.bones["{JAW_HANDLE}"].location[{axis}]'
        driver.type = "SCRIPTED"
        driver.expression = f"max(slider, min(slider + max({sign / _TRAVEL:.6g}*handle, 0), 1))"


def _shape(kind: str) -> bpy.types.Object:
    """A wire that bones are drawn as, in no scene: one in a file for all avatars."""
    name = f"MVP4D {kind}"
    found = next((o for o in bpy.data.objects if o.name == name and o.library is None and o.type == "MESH"), None)
    if found is not None:
        return found
    outline = _OUTLINES[kind]
    mesh = bpy.data.meshes.new(name)
    count = len(outline)
    mesh.from_pydata(outline.tolist(), [(k, (k + 1) % count) for k in range(count)], [])
    return bpy.data.objects.new(name, mesh)


def _outline(width: float, height: float, power: float) -> np.ndarray:
    """(32, 3) points around a superellipse in the plane of the face, metres; power 2 is an ellipse, 1 a diamond, 6 nearly a rectangle."""
    angle = np.arange(32) * 2 * np.pi / 32
    across, up = (np.sign(wave) * np.abs(wave) ** (2 / power) for wave in (np.cos(angle), np.sin(angle)))
    return np.stack([width * across, height * up, 0 * angle], axis=1)  # a bone's y is up, its z out of the face


_OUTLINES = {
    "face": _outline(0.02, 0.012, 3.0),
    "frame": _outline(0.05, 0.02, 6.0),
    "ring": _outline(0.012, 0.012, 2.0),
    "diamond": _outline(0.008, 0.008, 1.0),
}
