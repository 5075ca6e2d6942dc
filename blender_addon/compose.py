# SPDX-License-Identifier: GPL-3.0-or-later
"""Several avatars drawn as one: EEVEE blends object after object, so where avatars overlap their splats must be sorted together."""

import bpy

from . import bridge, compat, nodes
from .look import splats_in
from .material import splat_material

NAME = "MVP4D together"


def compose(scene: bpy.types.Scene) -> bpy.types.Object:
    """One object that draws the splats of all avatars of `scene`; theirs are hidden, but still do what they did.

    Doing it again takes in avatars that came later. `separate` undoes it.
    """
    members = splats_in(scene)
    together = _composite(scene) or _new_object(scene)
    collection = compat.modifier_input(together.modifiers[0], nodes.AVATARS)
    for splats in members:
        if splats.name not in collection.objects:
            collection.objects.link(splats)
        splats.hide_render = splats.hide_viewport = True
    together.update_tag()
    return together


def separate(scene: bpy.types.Scene) -> None:
    """Lets each avatar of `scene` draw itself again."""
    together = _composite(scene)
    if together is None:
        return
    bpy.data.collections.remove(compat.modifier_input(together.modifiers[0], nodes.AVATARS))
    bpy.data.meshes.remove(together.data)  # takes the object along
    for splats in splats_in(scene):
        splats.hide_render = splats.hide_viewport = False


def is_composed(scene: bpy.types.Scene) -> bool:
    return _composite(scene) is not None


def _composite(scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The object that `compose` made, unless somebody took its modifier or its list away."""
    for thing in scene.objects:
        modifier = thing.modifiers[0] if len(thing.modifiers) else None
        if modifier is not None and modifier.type == "NODES" and modifier.node_group is not None:
            if compat.mark_of(modifier.node_group) == nodes.COMPOSITE and compat.modifier_input(modifier, nodes.AVATARS) is not None:
                return thing
    return None


def _new_object(scene: bpy.types.Scene) -> bpy.types.Object:
    collection = bpy.data.collections.new(NAME)  # not linked to the scene: it only lists
    together = bpy.data.objects.new(NAME, bridge.new_quad_mesh(NAME, 0))
    scene.collection.objects.link(together)
    together.hide_select = True
    together.visible_shadow = False
    together.data.materials.append(splat_material())
    modifier = together.modifiers.new("Draw avatars together", "NODES")
    modifier.node_group = nodes.composite_tree()
    compat.set_modifier_input(modifier, nodes.AVATARS, collection)
    return together
