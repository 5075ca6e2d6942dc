# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between Blender 4.5 and 5.x, in one place."""

from typing import Any

import bpy

VERSION: str = bpy.app.version_string
_MARK = "mvp4d_made"
EEVEE = "BLENDER_EEVEE_NEXT" if bpy.app.version < (5, 0, 0) else "BLENDER_EEVEE"


def set_modifier_input(modifier: bpy.types.NodesModifier, name: str, value: Any) -> None:
    """Sets the input `name` of a geometry-nodes modifier; a menu takes the name of its item.

    Blender 5.2 took away the access by ID properties, where a menu is a number.
    """
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        getattr(modifier.properties.inputs, identifier).value = value
    else:
        modifier[identifier] = _menu_items(modifier).index(value) if isinstance(value, str) else value
    modifier.id_data.update_tag()


def modifier_input(modifier: bpy.types.NodesModifier, name: str) -> Any:
    """The value of the input `name` of a geometry-nodes modifier, as `set_modifier_input` takes it."""
    item = _interface_item(modifier, name)
    if hasattr(modifier, "properties"):
        return getattr(modifier.properties.inputs, item.identifier).value
    value = modifier[item.identifier]
    return _menu_items(modifier)[value] if item.socket_type == "NodeSocketMenu" else value


def draw_modifier_input(layout: bpy.types.UILayout, modifier: bpy.types.NodesModifier, name: str) -> None:
    """A field for the input `name`, which is no menu."""
    identifier = _identifier(modifier, name)
    if hasattr(modifier, "properties"):
        layout.prop(getattr(modifier.properties.inputs, identifier), "value", text=name)
    else:
        layout.prop(modifier, f'["{identifier}"]', text=name)


def _identifier(modifier: bpy.types.NodesModifier, name: str) -> str:
    return _interface_item(modifier, name).identifier


def _interface_item(modifier: bpy.types.NodesModifier, name: str) -> Any:
    items = modifier.node_group.interface.items_tree
    return next(item for item in items if item.item_type == "SOCKET" and item.in_out == "INPUT" and item.name == name)


def _menu_items(modifier: bpy.types.NodesModifier) -> list[str]:
    (switch,) = (node for node in modifier.node_group.nodes if node.bl_idname == "GeometryNodeMenuSwitch")
    return [item.name for item in switch.enum_items]


def use_image_output(settings: bpy.types.ImageFormatSettings, mode: str = "RGB") -> None:
    """Eight-bit PNG; `mode` is `RGB` or `RGBA`."""
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format = "PNG"
    settings.color_mode = mode
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


def mark(block: Any, name: str) -> Any:
    """Writes into a new data-block what the add-on calls it: its name in the file may be taken, or changed by hand."""
    block[_MARK] = name
    return block


def mark_of(block: bpy.types.ID) -> str:
    """What the add-on calls a data-block; empty for those that it did not make."""
    name = block.get(_MARK, "")
    return name if isinstance(name, str) else ""


def made_before(blocks: Any, name: str) -> Any:
    """The data-block of this file, linked ones left out, that was marked with a name; None if there is none."""
    return next((block for block in blocks if block.library is None and mark_of(block) == name), None)


def light_nothing(material: bpy.types.Material) -> None:
    """Keeps Cycles from taking each of a hundred thousand faces for a lamp. Its settings are there only while Cycles is enabled."""
    if hasattr(material, "cycles"):
        material.cycles.emission_sampling = "NONE"


def new_channels(action: bpy.types.Action, target: bpy.types.ID) -> bpy.types.ActionChannelbag:
    """Gives `target` a slot of `action` and returns where the F-curves of that slot go."""
    slot, channels = new_slot(action, target)
    target.animation_data_create()
    target.animation_data.action = action
    target.animation_data.action_slot = slot
    return channels


def new_slot(action: bpy.types.Action, target: bpy.types.ID) -> tuple[bpy.types.ActionSlot, bpy.types.ActionChannelbag]:
    """A slot of `action` for what `target` is, and where its F-curves go; `target` plays on as it did."""
    layer = action.layers[0] if action.layers else action.layers.new("Layer")
    strip = layer.strips[0] if layer.strips else layer.strips.new(type="KEYFRAME")
    slot = action.slots.new(id_type=target.id_type, name=target.name)
    return slot, strip.channelbag(slot, ensure=True)
