# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person can do: import avatars, load a performance, return to rest, take over the look of the training."""

from pathlib import Path
from typing import ClassVar

import bpy
from bpy_extras.io_utils import ImportHelper

from mvp4d_core.errors import MVP4DError
from mvp4d_core.rig import load_performance

from . import animation, bridge, rig, scene
from .import_avatar import ImportedAvatar, import_file
from .properties import chosen_avatar

_FIRST_SIZE = 1080  # pixels of a picture, in a scene that had no camera


class MVP4D_OT_import_avatar(bpy.types.Operator, ImportHelper):
    """Import 4D Gaussian head avatars: a rigged head that carries its splats"""

    bl_idname = "mvp4d.import_avatar"
    bl_label = "Import Avatar"
    bl_options: ClassVar = {"REGISTER", "UNDO", "PRESET"}

    filename_ext = ".mvp4d"
    filter_glob: bpy.props.StringProperty(default="*.mvp4d", options={"HIDDEN"})
    filepath: bpy.props.StringProperty(name="File", subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})  # set by a drop alone
    files: bpy.props.CollectionProperty(type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    directory: bpy.props.StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    match_training: bpy.props.BoolProperty(
        name="Match Training Look",
        description="Set EEVEE, the Raw view transform and a white world, so that renders show the avatar as it was trained",
        default=True,
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set("Avatars are imported in object mode. Leave the mode you are in first")
        return context.mode == "OBJECT"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return self.invoke_popup(context)  # asks for a file unless one was dropped

    def execute(self, context: bpy.types.Context) -> set[str]:
        paths = [Path(self.directory, file.name) for file in self.files if file.name] or [Path(self.filepath)]
        imported, problems = [], []
        context.window_manager.progress_begin(0, len(paths))
        for done, path in enumerate(paths):
            context.window_manager.progress_update(done)
            try:
                imported.append(import_file(path))
            except MVP4DError as error:
                problems.append(str(error))
        context.window_manager.progress_end()
        if imported:
            self._finish(context, imported)
        for avatar in imported:
            self.report({"INFO"}, " ".join([f"Imported {avatar.collection.name}.", *avatar.notes]))
        for problem in problems:  # last, and as errors: these are what Blender keeps on the screen
            self.report({"ERROR"}, problem)
        return {"FINISHED"} if imported else {"CANCELLED"}

    def _finish(self, context: bpy.types.Context, imported: list[ImportedAvatar]) -> None:
        """Chooses the last avatar, and makes it visible: splats turn to the scene's camera, so there must be one."""
        for other in context.selected_objects:
            other.select_set(False)
        last = imported[-1]
        last.armature.select_set(True)
        context.view_layer.objects.active = last.armature
        if context.scene.camera is None:
            vertices = bridge.head_from_blender(bridge.evaluated_vertices(last.head))
            scene.add_camera(scene.portrait_camera(vertices, _FIRST_SIZE), "Camera", context.scene.collection)
        if self.match_training:
            scene.match_training(context.scene)


class MVP4D_FH_avatar(bpy.types.FileHandler):
    """Avatars dropped into Blender."""

    bl_idname = "MVP4D_FH_avatar"
    bl_label = "MVP4D avatar"
    bl_import_operator = "mvp4d.import_avatar"
    bl_file_extensions = ".mvp4d"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        return context.area is not None and context.area.type in {"VIEW_3D", "OUTLINER"}


class _AvatarOperator:
    """What operators on the chosen avatar share."""

    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        avatar = chosen_avatar(context)
        if avatar is None:
            cls.poll_message_set("Select an avatar")
        elif avatar.head is None:
            cls.poll_message_set("The head mesh of this avatar was deleted. Import it again")
        return avatar is not None and avatar.head is not None


class MVP4D_OT_load_performance(_AvatarOperator, bpy.types.Operator, ImportHelper):
    """Key a performance on the sliders and bones of the chosen avatar"""

    bl_idname = "mvp4d.load_performance"
    bl_label = "Load Performance"

    filename_ext = ".safetensors"
    filter_glob: bpy.props.StringProperty(default="*.safetensors", options={"HIDDEN"})
    start: bpy.props.IntProperty(name="Start Frame", description="Scene frame of the first frame of the performance", default=1)
    match_range: bpy.props.BoolProperty(
        name="Match Scene Range", description="Let the scene begin and end with the performance", default=True
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        avatar = chosen_avatar(context)
        try:
            performance = load_performance(self.filepath)
            action = animation.key_performance(avatar.armature, avatar.head, performance, Path(self.filepath).stem, start=self.start)
        except MVP4DError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if self.match_range:
            animation.use_range(context.scene, performance, self.start)
        self.report({"INFO"}, f"Keyed {len(performance)} frames as the action {action.name}.")
        return {"FINISHED"}


class MVP4D_OT_rest(_AvatarOperator, bpy.types.Operator):
    """Put every slider and bone of the chosen avatar back to rest. Keys stay"""

    bl_idname = "mvp4d.rest"
    bl_label = "Rest"

    def execute(self, context: bpy.types.Context) -> set[str]:
        avatar = chosen_avatar(context)
        rig.rest(avatar.armature, avatar.expressions)
        return {"FINISHED"}


class MVP4D_OT_match_training(bpy.types.Operator):
    """Set EEVEE, the Raw view transform and a white world, so that renders show avatars as they were trained"""

    bl_idname = "mvp4d.match_training"
    bl_label = "Match Training Look"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene.match_training(context.scene)
        return {"FINISHED"}


CLASSES = (
    MVP4D_OT_import_avatar,
    MVP4D_FH_avatar,
    MVP4D_OT_load_performance,
    MVP4D_OT_rest,
    MVP4D_OT_match_training,
)


def draw_import_entry(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
    """The entry of File > Import."""
    menu.layout.operator(MVP4D_OT_import_avatar.bl_idname, text="MVP4D Avatar (.mvp4d)")
