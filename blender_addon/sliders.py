# SPDX-License-Identifier: GPL-3.0-or-later
"""An avatar's sliders: custom properties of the bone `face`, which drive the shape keys of its meshes.

On a bone they are part of the armature's pose: one action holds a performance, poses in the asset browser hold faces, and an override of a
linked armature is enough to act.
"""

from collections.abc import Iterable, Mapping

import bpy

from .movements import Movement

FACE = "face"  # the bone
LIMIT = 10.0  # Blender's own for shape keys


def add_sliders(armature: bpy.types.Object, movements: Iterable[Movement]) -> None:
    """A slider at 0 for each movement."""
    face = armature.pose.bones[FACE]
    for movement in movements:
        face[movement.name] = 0.0
        low, high = movement.reach
        face.id_properties_ui(movement.name).update(
            default=0.0, min=-LIMIT, max=LIMIT, soft_min=low, soft_max=high, precision=3, step=1.0, description=f"Weight of {movement.name}"
        )
        face.property_overridable_library_set(local_path(movement.name), True)


def local_path(name: str) -> str:
    """The path of a slider from its bone."""
    return f'["{bpy.utils.escape_identifier(name)}"]'


def path(name: str) -> str:
    """The path of a slider from its armature, as F-curves and drivers write it."""
    return f'pose.bones["{FACE}"]{local_path(name)}'


def face_bone(armature: bpy.types.Object) -> bpy.types.PoseBone | None:
    """The bone that carries the sliders; None where somebody deleted it."""
    return armature.pose.bones.get(FACE)


def slider_names(armature: bpy.types.Object, wanted: Iterable[str]) -> list[str]:
    """Those of the `wanted` names that are sliders of this avatar, in the order given."""
    face = face_bone(armature)
    return [] if face is None else [name for name in wanted if isinstance(face.get(name), float)]


def set_sliders(armature: bpy.types.Object, values: Mapping[str, float]) -> None:
    """Moves sliders, each within Blender's limits."""
    face = armature.pose.bones[FACE]
    for name, value in values.items():
        face[name] = min(max(float(value), -LIMIT), LIMIT)
    armature.update_tag()  # Blender does not watch custom properties that Python sets


def drive_key(key: bpy.types.ShapeKey, armature: bpy.types.Object, name: str) -> None:
    """Lets a shape key follow a slider. The driver runs no Python; its one variable is `slider`."""
    key.slider_min, key.slider_max = -LIMIT, LIMIT
    driver = key.driver_add("value").driver
    driver.type = "SUM"
    variable = driver.variables.new()
    variable.name, variable.type = "slider", "SINGLE_PROP"
    variable.targets[0].id = armature
    variable.targets[0].data_path = path(name)
