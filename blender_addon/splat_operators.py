# SPDX-License-Identifier: GPL-3.0-or-later
"""How splats are shown: the choice between the ways to draw them, and avatars drawn together."""

from typing import ClassVar

import bpy

from . import compat, compose, look, nodes
from .properties import chosen_avatar

_WAYS = (
    (nodes.QUADS, "Quads", "What the avatar was trained to look like. They face the scene's camera and are sorted for it"),
    (nodes.DOTS, "Dots", "Opaque dots, fast and the same from everywhere: for work in the viewport"),
    (nodes.NATIVE, "Native", "The splats of Blender 5.3"),
)


class MVP4D_OT_show_splats(bpy.types.Operator):
    """Choose how the splats of the chosen avatar are shown"""

    bl_idname = "mvp4d.show_splats"
    bl_label = "Show Splats"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    way: bpy.props.EnumProperty(
        name="As", description="How the splats are drawn", items=_WAYS[: 3 if nodes.native_is_known() else 2], default=nodes.QUADS
    )
    where: bpy.props.EnumProperty(
        name="In",
        description="Where they are drawn so",
        items=[(nodes.VIEWPORT, "Viewport", "While working"), (nodes.RENDER, "Render", "In pictures and films")],
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        avatar = chosen_avatar(context)
        if avatar is None:
            cls.poll_message_set("Select an avatar")
        elif avatar.splats is None or look.splat_modifier(avatar.splats) is None:
            cls.poll_message_set("The splats of this avatar were deleted or come from another version. Import it again")
        else:
            return True
        return False

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        return next(text for way, _, text in _WAYS if way == properties.way)

    def execute(self, context: bpy.types.Context) -> set[str]:
        compat.set_modifier_input(look.splat_modifier(chosen_avatar(context).splats), self.where, self.way)
        return {"FINISHED"}


class MVP4D_OT_compose(bpy.types.Operator):
    """Draw the splats of all avatars in the scene as one, sorted together: for avatars that overlap in EEVEE. Avatars stay what they are"""

    bl_idname = "mvp4d.compose"
    bl_label = "Draw Avatars Together"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not look.splats_in(context.scene):
            cls.poll_message_set("There is no avatar in this scene. Import one")
        return bool(look.splats_in(context.scene))

    def execute(self, context: bpy.types.Context) -> set[str]:
        compose.compose(context.scene)
        self.report({"INFO"}, f"The splats of {len(look.splats_in(context.scene))} avatars are drawn as `{compose.NAME}`.")
        return {"FINISHED"}


class MVP4D_OT_separate(bpy.types.Operator):
    """Let each avatar draw its own splats again"""

    bl_idname = "mvp4d.separate"
    bl_label = "Draw Avatars Apart"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not compose.is_composed(context.scene):
            cls.poll_message_set("Avatars are not drawn together")
        return compose.is_composed(context.scene)

    def execute(self, context: bpy.types.Context) -> set[str]:
        compose.separate(context.scene)
        return {"FINISHED"}


CLASSES = (MVP4D_OT_show_splats, MVP4D_OT_compose, MVP4D_OT_separate)
