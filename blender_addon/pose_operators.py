# SPDX-License-Identifier: GPL-3.0-or-later
"""Pose assets of faces: the library's, and the face as it is."""

import bpy

from . import poses, sliders
from .avatar_operator import AvatarOperator
from .properties import chosen_avatar


class _PoseOperator(AvatarOperator):
    """For avatars with ARKit's sliders."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not super().poll(context):
            return False
        if not chosen_avatar(context).arkit:
            cls.poll_message_set("This avatar has no ARKit sliders")
            return False
        return True


class MVP4D_OT_add_poses(_PoseOperator, bpy.types.Operator):
    """Add the library's expressions and visemes to the file as pose assets, for the asset browser and the pose library"""

    bl_idname = "mvp4d.add_poses"
    bl_label = "Add Pose Assets"

    def execute(self, context: bpy.types.Context) -> set[str]:
        armature, there = chosen_avatar(context).armature, poses.marked_poses()
        wanted = {name: face for name, face in poses.library_poses().items() if name not in there}
        for name, face in wanted.items():
            known = sliders.slider_names(armature, face)
            poses.new_pose(armature, name, {slider: face[slider] for slider in known})
        self.report({"INFO"}, f"Added {len(wanted)} pose assets; {len(there)} were there.")
        return {"FINISHED"}


class MVP4D_OT_save_pose(_PoseOperator, bpy.types.Operator):
    """Keep the face as it is as a pose asset"""

    bl_idname = "mvp4d.save_pose"
    bl_label = "Save Face as Pose Asset"

    asset_name: bpy.props.StringProperty(name="Name", description="Name of the asset", default="Face", maxlen=60)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context: bpy.types.Context) -> set[str]:
        avatar = chosen_avatar(context)
        face = sliders.face_bone(avatar.armature)
        action = poses.new_pose(avatar.armature, self.asset_name.strip() or "Face", {name: float(face[name]) for name in avatar.arkit})
        self.report({"INFO"}, f"Kept the face as the pose asset {action.name}.")
        return {"FINISHED"}


CLASSES = (MVP4D_OT_add_poses, MVP4D_OT_save_pose)
