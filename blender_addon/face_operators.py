# SPDX-License-Identifier: GPL-3.0-or-later
"""The face picker's operators: back to rest, one side like the other, keys."""

import bpy

from mvp4d_core.rig import mirror_name

from . import controls, face_regions, rig, sliders
from .avatar_operator import AvatarOperator
from .properties import chosen_avatar

_REGIONS = [(face_regions.ALL, "Whole Face", "All sliders")] + [(r.key, r.label, r.label) for r in face_regions.REGIONS]


class MVP4D_OT_rest(AvatarOperator, bpy.types.Operator):
    """Put every slider and bone of the chosen avatar back to rest. Keys stay"""

    bl_idname = "mvp4d.rest"
    bl_label = "Rest"

    def execute(self, context: bpy.types.Context) -> set[str]:
        avatar = chosen_avatar(context)
        rig.rest(avatar.armature, [*avatar.arkit, *avatar.expressions])
        return {"FINISHED"}


class MVP4D_OT_reset_face(AvatarOperator, bpy.types.Operator):
    """Put the sliders of a part of the face back to 0. Keys stay"""

    bl_idname = "mvp4d.reset_face"
    bl_label = "Reset"

    region: bpy.props.EnumProperty(name="Region", description="The part of the face", items=_REGIONS)

    def execute(self, context: bpy.types.Context) -> set[str]:
        armature = chosen_avatar(context).armature
        sliders.set_sliders(armature, dict.fromkeys(sliders.slider_names(armature, face_regions.names_of(self.region)), 0.0))
        return {"FINISHED"}


class MVP4D_OT_mirror_face(AvatarOperator, bpy.types.Operator):
    """Make one side of the face like the other, or exchange them"""

    bl_idname = "mvp4d.mirror_face"
    bl_label = "Mirror"

    mode: bpy.props.EnumProperty(
        name="Mirror",
        description="Which side goes where; left and right are the avatar's own",
        items=[
            ("SWAP", "Swap Sides", "Exchange left and right"),
            ("TO_RIGHT", "Left to Right", "Give the right side what the left has"),
            ("TO_LEFT", "Right to Left", "Give the left side what the right has"),
        ],
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        avatar = chosen_avatar(context)
        face = sliders.face_bone(avatar.armature)
        before = {name: float(face[name]) for name in avatar.arkit}
        if self.mode == "SWAP":
            after = {name: before[mirror_name(name)] for name in before if mirror_name(name) in before}
        else:
            source, goal = (1, 0) if self.mode == "TO_LEFT" else (0, 1)
            after = {pair[goal]: before[pair[source]] for pair in face_regions.PAIRS.values() if set(pair) <= before.keys()}
        sliders.set_sliders(avatar.armature, after)
        return {"FINISHED"}


class MVP4D_OT_key_face(AvatarOperator, bpy.types.Operator):
    """Key the sliders of a part of the face where they are, in the current frame"""

    bl_idname = "mvp4d.key_face"
    bl_label = "Key Face"

    region: bpy.props.EnumProperty(name="Region", description="The part of the face", items=_REGIONS)
    bones: bpy.props.BoolProperty(name="Bones", description="Also key the turns of neck, jaw and eyes, and the handles", default=False)

    def execute(self, context: bpy.types.Context) -> set[str]:
        avatar = chosen_avatar(context)
        face = sliders.face_bone(avatar.armature)
        own = avatar.expressions if self.region == face_regions.ALL else []
        names = dict.fromkeys([*sliders.slider_names(avatar.armature, face_regions.names_of(self.region)), *own])
        for name in names:
            face.keyframe_insert(sliders.local_path(name), group=sliders.FACE)
        if self.bones:
            for name in avatar.joints:
                avatar.armature.pose.bones[name].keyframe_insert("rotation_quaternion", group=name)
            for name in (*avatar.joints[:1], controls.EYE_TARGET, controls.JAW_HANDLE):
                if name in avatar.armature.pose.bones:
                    avatar.armature.pose.bones[name].keyframe_insert("location", group=name)
        self.report({"INFO"}, f"Keyed {len(names)} sliders in frame {context.scene.frame_current}.")
        return {"FINISHED"}


CLASSES = (MVP4D_OT_rest, MVP4D_OT_reset_face, MVP4D_OT_mirror_face, MVP4D_OT_key_face)
