# SPDX-License-Identifier: GPL-3.0-or-later
"""The sidebar panels of the 3D viewport: the chosen avatar, its face, what it does."""

from typing import ClassVar

import bpy

from . import controls, face_operators, face_regions, live_operators, operators, performance_operators, pose_operators, sliders
from .properties import ChosenAvatar, chosen_avatar


class _Panel:
    """Where the panels are."""

    bl_category = "MVP4D"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"


class _PartPanel(_Panel):
    """A panel below the avatar's, for one that is whole."""

    bl_parent_id = "MVP4D_PT_avatar"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        avatar = chosen_avatar(context)
        return avatar is not None and avatar.head is not None and sliders.face_bone(avatar.armature) is not None


class MVP4D_PT_avatar(_Panel, bpy.types.Panel):
    """What the chosen avatar is."""

    bl_idname = "MVP4D_PT_avatar"
    bl_label = "Avatar"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        avatar = chosen_avatar(context)
        if avatar is None:
            layout.label(text="Select an avatar, or import one")
            layout.operator(operators.MVP4D_OT_import_avatar.bl_idname, icon="IMPORT")
            return
        column = layout.column(align=True)
        column.label(text=str(avatar.info.get("name", avatar.armature.name)), icon="USER", translate=False)
        if {"gaussians", "head", "licence"} <= avatar.info.keys():
            column.label(text="{gaussians} Gaussians on {head} ({licence})".format_map(avatar.info), translate=False)
        if avatar.head is None:
            column.label(text="The head mesh was deleted; import the avatar again", icon="ERROR")
        if avatar.splats is None:
            column.label(text="The splats were deleted; import the avatar again", icon="ERROR")
        if sliders.face_bone(avatar.armature) is None:
            column.label(text="The face bone was deleted; import the avatar again", icon="ERROR")
        row = layout.row(align=True)
        row.operator(face_operators.MVP4D_OT_rest.bl_idname, icon="LOOP_BACK")
        row.operator(operators.MVP4D_OT_match_training.bl_idname, icon="SCENE")


class MVP4D_PT_face(_PartPanel, bpy.types.Panel):
    """ARKit's sliders by region, and the controls of eyes and jaw."""

    bl_idname = "MVP4D_PT_face"
    bl_label = "Face"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return super().poll(context) and bool(chosen_avatar(context).arkit)

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.window_manager.mvp4d
        avatar = chosen_avatar(context)
        layout.grid_flow(columns=4, align=True, even_columns=True).prop(settings, "region", expand=True)
        row = layout.row(align=True)
        row.prop(settings, "both_sides", toggle=True, icon="MOD_MIRROR")
        for operator, icon in ((face_operators.MVP4D_OT_reset_face, "LOOP_BACK"), (face_operators.MVP4D_OT_key_face, "KEY_HLT")):
            row.operator(operator.bl_idname, icon=icon).region = settings.region
        _draw_region(layout, avatar, context)
        layout.operator_menu_enum(face_operators.MVP4D_OT_mirror_face.bl_idname, "mode", icon="ARROW_LEFTRIGHT")
        bones = avatar.armature.pose.bones
        if controls.EYE_TARGET in bones:
            layout.prop(bones[controls.EYE_TARGET], f'["{controls.FOLLOW}"]', text="Eyes Follow Target", slider=True)


def _draw_region(layout: bpy.types.UILayout, avatar: ChosenAvatar, context: bpy.types.Context) -> None:
    """One slider a row, or the two sides of the face side by side, the subject's right first, as one sees a face."""
    settings = context.window_manager.mvp4d
    face, known = sliders.face_bone(avatar.armature), set(avatar.arkit)
    column = layout.column(align=True)
    for names in face_regions.rows_of(settings.region):
        shown = [name for name in names if name in known]
        if len(names) == 2 and settings.both_sides and shown:
            column.prop(context.scene.mvp4d_both_sides, names[1].removesuffix("Left"), slider=True)
            continue
        row = column.row(align=True)
        for name in shown:
            row.prop(face, sliders.local_path(name), text=name, slider=True, translate=False)


class MVP4D_PT_expressions(_PartPanel, bpy.types.Panel):
    """The head's own expressions where they are not ARKit's, FLAME's say, and its identity."""

    bl_idname = "MVP4D_PT_expressions"
    bl_label = "Head's Own Sliders"
    bl_options: ClassVar = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return super().poll(context) and bool(_own(chosen_avatar(context)))

    def draw(self, context: bpy.types.Context) -> None:
        settings, avatar = context.window_manager.mvp4d, chosen_avatar(context)
        self.layout.prop(settings, "expression_filter", text="", icon="VIEWZOOM")
        wanted = settings.expression_filter.lower()
        column = self.layout.column(align=True)
        for name in _own(avatar):
            if wanted in name.lower():
                column.prop(sliders.face_bone(avatar.armature), sliders.local_path(name), text=name, slider=True, translate=False)


def _own(avatar: ChosenAvatar) -> list[str]:
    arkit = set(avatar.arkit)
    return [name for name in (*avatar.expressions, *avatar.identity) if name not in arkit]


class MVP4D_PT_acting(_PartPanel, bpy.types.Panel):
    """Performances, pose assets and live capture."""

    bl_idname = "MVP4D_PT_acting"
    bl_label = "Acting"

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.window_manager.mvp4d
        layout.operator(performance_operators.MVP4D_OT_load_performance.bl_idname, icon="ACTION")
        row = layout.row(align=True)
        row.operator(pose_operators.MVP4D_OT_add_poses.bl_idname, icon="ASSET_MANAGER")
        row.operator(pose_operators.MVP4D_OT_save_pose.bl_idname, icon="ADD")
        column = layout.column(align=True)
        if not settings.live:
            column.operator(live_operators.MVP4D_OT_live.bl_idname, icon="REC")
            return
        column.operator(live_operators.MVP4D_OT_stop_live.bl_idname, icon="CANCEL")
        column.label(text=settings.live_status, translate=False)
        row = column.row(align=True)
        row.prop(settings, "live_record", toggle=True)
        row.prop(settings, "live_neutral", toggle=True)
        column.prop(settings, "live_turn")


CLASSES = (MVP4D_PT_avatar, MVP4D_PT_face, MVP4D_PT_expressions, MVP4D_PT_acting)
