# SPDX-License-Identifier: GPL-3.0-or-later
"""Joints that move with the face: FLAME takes them off the shaped head, so that a slider shifts what the bones turn about.

A joint at J that moves by d takes x to R (x - J - d) + J + d. The bone `<joint> seat` moves by d and carries the artist's bone, which
turns, and that carries `<joint> skin`, which moves back by d and holds the vertices. The shifts come from a mesh of points, one a joint,
whose shape keys follow the sliders; constraints read them. So bones stay free to be keyed, and no Python runs.
"""

import bpy
import numpy as np

from . import bridge, sliders
from .movements import Movement

_SEAT, _SKIN = "{} seat", "{} skin"


def seat_of(joint: str) -> str:
    return _SEAT.format(joint)


def skin_of(joint: str) -> str:
    return _SKIN.format(joint)


def build_seats(
    movements: list[Movement], joints: tuple[str, ...], name: str, armature: bpy.types.Object, collection: bpy.types.Collection
) -> bpy.types.Object:
    """The mesh of points, and the constraints of the bones `seat_of` and `skin_of`, which must be there."""
    rest = np.zeros((len(joints), 3))
    points = bpy.data.objects.new(name, bridge.new_triangle_mesh(name, rest, np.zeros((0, 3), np.int32)))
    collection.objects.link(points)
    points.parent = armature
    points.hide_render = points.hide_select = True
    points.hide_viewport = False
    points.display_type = "BOUNDS"
    for index, joint in enumerate(joints):
        bridge.add_vertex_group(points, joint, np.eye(len(joints))[index])
    bridge.add_shape_key(points, "Basis", rest)
    for movement in movements:
        if np.any(movement.joints):
            key = bridge.add_shape_key(points, movement.name, movement.joints)
            sliders.drive_key(key, armature, movement.name)
    for joint in joints:
        for bone, back in ((seat_of(joint), False), (skin_of(joint), True)):
            constraint = armature.pose.bones[bone].constraints.new("COPY_LOCATION")
            constraint.name = "Move with the joint"
            constraint.target, constraint.subtarget = points, joint
            constraint.target_space, constraint.space_object = "CUSTOM", points
            constraint.owner_space = "LOCAL"
            constraint.invert_x = constraint.invert_y = constraint.invert_z = back
    return points
