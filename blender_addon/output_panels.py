# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar panels of splats, renders, files and ComfyUI."""

from typing import ClassVar

import bpy

from . import compat, link_operators, look, nodes, output_operators, splat_operators
from .look import Renderer
from .properties import chosen_avatar

_CONTROLS = (nodes.DENSITY, nodes.OPACITY, nodes.SCALE, nodes.TURN)


class _Panel:
    """Where the panels are."""

    bl_category = "MVP4D"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}


class MVP4D_PT_splats(_Panel, bpy.types.Panel):
    """How the chosen avatar's splats are shown."""

    bl_idname = "MVP4D_PT_splats"
    bl_parent_id = "MVP4D_PT_avatar"
    bl_label = "Splats"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        avatar = chosen_avatar(context)
        return avatar is not None and avatar.splats is not None and look.splat_modifier(avatar.splats) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout, modifier = self.layout, look.splat_modifier(chosen_avatar(context).splats)
        for where in (nodes.VIEWPORT, nodes.RENDER):
            row = layout.row(align=True)
            row.label(text=where)
            shown = compat.modifier_input(modifier, where)
            for way in nodes.MENU if nodes.native_is_known() else nodes.MENU[:2]:
                button = row.operator(splat_operators.MVP4D_OT_show_splats.bl_idname, text=way, depress=way == shown)
                button.where, button.way = where, way
        column = layout.column(align=True)
        for name in _CONTROLS:
            compat.draw_modifier_input(column, modifier, name)
        row = layout.row(align=True)
        row.operator(splat_operators.MVP4D_OT_compose.bl_idname, icon="MOD_BOOLEAN")
        row.operator(splat_operators.MVP4D_OT_separate.bl_idname, text="", icon="X")


class MVP4D_PT_output(_Panel, bpy.types.Panel):
    """Presets, the turntable, pictures and files."""

    bl_idname = "MVP4D_PT_output"
    bl_parent_id = "MVP4D_PT_avatar"
    bl_label = "Output"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return chosen_avatar(context) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        row = layout.row(align=True)
        row.operator(output_operators.MVP4D_OT_render_preset.bl_idname, text="EEVEE").renderer = Renderer.EEVEE.value
        row.operator(output_operators.MVP4D_OT_render_preset.bl_idname, text="Cycles").renderer = Renderer.CYCLES.value
        layout.operator(output_operators.MVP4D_OT_turntable.bl_idname, icon="CON_CAMERASOLVER")
        column = layout.column(align=True)
        for operator in (
            output_operators.MVP4D_OT_render_alpha,
            output_operators.MVP4D_OT_bake_splats,
            output_operators.MVP4D_OT_export_glb,
        ):
            column.operator(operator.bl_idname, icon="EXPORT")


class MVP4D_PT_comfyui(_Panel, bpy.types.Panel):
    """Avatars from ComfyUI."""

    bl_idname = "MVP4D_PT_comfyui"
    bl_label = "ComfyUI"

    def draw(self, context: bpy.types.Context) -> None:
        layout, link = self.layout, context.window_manager.mvp4d_link
        if link.making:
            layout.progress(text=link.stage, factor=link.share)
            layout.operator(link_operators.MVP4D_OT_stop_making.bl_idname, icon="CANCEL")
        else:
            if not bpy.app.online_access:
                layout.label(text="Online access is off in the preferences", icon="INTERNET_OFFLINE")
            layout.operator(link_operators.MVP4D_OT_make_avatar.bl_idname, icon="IMAGE_DATA")
        if link.watching:
            layout.operator(link_operators.MVP4D_OT_stop_watching.bl_idname, icon="CANCEL")
        else:
            layout.operator(link_operators.MVP4D_OT_watch_folder.bl_idname, icon="HIDE_OFF")


CLASSES = (MVP4D_PT_splats, MVP4D_PT_output, MVP4D_PT_comfyui)
