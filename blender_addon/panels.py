# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar panel of the 3D viewport."""

import bpy

from . import operators
from .properties import ChosenAvatar, chosen_avatar


class MVP4D_PT_avatar(bpy.types.Panel):
    """What the chosen avatar is, and its face in sliders."""

    bl_idname = "MVP4D_PT_avatar"
    bl_label = "Avatar"
    bl_category = "MVP4D"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        avatar = chosen_avatar(context)
        if avatar is None:
            layout.label(text="Select an avatar, or import one")
            layout.operator(operators.MVP4D_OT_import_avatar.bl_idname, icon="IMPORT")
            return
        _draw_info(layout, avatar)
        layout.operator(operators.MVP4D_OT_load_performance.bl_idname, icon="ACTION")
        row = layout.row(align=True)
        row.operator(operators.MVP4D_OT_rest.bl_idname, icon="LOOP_BACK")
        row.operator(operators.MVP4D_OT_match_training.bl_idname, icon="SCENE")
        _draw_expressions(layout, avatar, context.window_manager.mvp4d)


def _draw_info(layout: bpy.types.UILayout, avatar: ChosenAvatar) -> None:
    column = layout.column(align=True)
    column.label(text=str(avatar.info.get("name", avatar.armature.name)), icon="USER")
    if {"gaussians", "head", "licence"} <= avatar.info.keys():
        column.label(text="{gaussians} Gaussians on {head} ({licence})".format_map(avatar.info))
    for part, name in ((avatar.head, "head mesh"), (avatar.splats, "splats")):
        if part is None:
            column.label(text=f"The {name} was deleted; import the avatar again", icon="ERROR")


def _draw_expressions(layout: bpy.types.UILayout, avatar: ChosenAvatar, settings: bpy.types.PropertyGroup) -> None:
    layout.prop(settings, "expression_filter", text="", icon="VIEWZOOM")
    wanted = settings.expression_filter.lower()
    column = layout.column(align=True)
    for key in avatar.expressions:
        if wanted in key.name.lower():
            column.prop(key, "value", text=key.name, slider=True)


CLASSES = (MVP4D_PT_avatar,)
