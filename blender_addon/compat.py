# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between Blender 4.5 and 5.x, in one place."""

from typing import Any

import bpy

VERSION: str = bpy.app.version_string
EEVEE = "BLENDER_EEVEE_NEXT" if bpy.app.version < (5, 0, 0) else "BLENDER_EEVEE"


def set_modifier_input(modifier: bpy.types.NodesModifier, name: str, value: Any) -> None:
    """Sets the input `name` of a geometry-nodes modifier. Blender 5.2 took away the access by ID properties."""
    items = modifier.node_group.interface.items_tree
    identifier = next(item.identifier for item in items if item.item_type == "SOCKET" and item.in_out == "INPUT" and item.name == name)
    if hasattr(modifier, "properties"):
        getattr(modifier.properties.inputs, identifier).value = value
    else:
        modifier[identifier] = value


def use_image_output(settings: bpy.types.ImageFormatSettings) -> None:
    """Eight-bit PNG."""
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format = "PNG"
    settings.color_depth = "8"


def use_video_output(settings: bpy.types.ImageFormatSettings) -> None:
    """A film through Blender's ffmpeg. Blender 5.0 asks for the kind of medium first."""
    if hasattr(settings, "media_type"):
        settings.media_type = "VIDEO"
    settings.file_format = "FFMPEG"


def use_node_tree(owner: bpy.types.Material | bpy.types.World) -> bpy.types.NodeTree:
    """The empty node tree of a new material or world. From Blender 5.0 on they always have one and `use_nodes` is deprecated."""
    if bpy.app.version < (5, 0, 0):
        owner.use_nodes = True
    owner.node_tree.nodes.clear()
    return owner.node_tree


def new_channels(action: bpy.types.Action, target: bpy.types.ID) -> bpy.types.ActionChannelbag:
    """Gives `target` a slot of `action` and returns where the F-curves of that slot go."""
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    slot = action.slots.new(id_type=target.id_type, name=target.name)
    target.animation_data_create()
    target.animation_data.action = action
    target.animation_data.action_slot = slot
    return strip.channelbag(slot, ensure=True)
