# SPDX-License-Identifier: GPL-3.0-or-later
"""Import of avatars, by the menu and by dropping files, and the look of the training."""

from pathlib import Path
from typing import ClassVar

import bpy
from bpy_extras.io_utils import ImportHelper

from mvp4d_core.errors import MVP4DError

from . import avatar_files, bridge, preferences, scene
from .avatar_files import ImportOptions
from .import_avatar import ImportedAvatar, import_file

_FIRST_SIZE = 1080  # pixels of a picture, in a scene that had no camera


class MVP4D_OT_import_avatar(bpy.types.Operator, ImportHelper):
    """Import 4D Gaussian head avatars: a rigged head that carries its splats"""

    bl_idname = "mvp4d.import_avatar"
    bl_label = "Import Avatar"
    bl_options: ClassVar = {"REGISTER", "UNDO", "PRESET"}

    filename_ext = ".mvp4d"
    filter_glob: bpy.props.StringProperty(default=";".join(f"*{ending}" for ending in avatar_files.ENDINGS), options={"HIDDEN"})
    filepath: bpy.props.StringProperty(name="File", subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})  # set by a drop alone
    files: bpy.props.CollectionProperty(type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"})
    directory: bpy.props.StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    match_training: bpy.props.BoolProperty(
        name="Match Training Look",
        description="Set EEVEE, the Raw view transform and a white world, so that renders show the avatar as it was trained",
        default=True,
    )
    motion: bpy.props.BoolProperty(name="Key Motion", description="Key the motion that the file holds, from frame 1 on", default=True)
    identity: bpy.props.BoolProperty(
        name="Identity Sliders", description="Also sliders that change whose head it is; the joints follow", default=False
    )
    fit: bpy.props.BoolProperty(
        name="Fit to Head", description="Move and scale splats that stand still onto the built-in head, and bind them to it", default=True
    )
    up: bpy.props.EnumProperty(
        name="Up Axis",
        description="Where y points in a PLY, .splat or SPZ file",
        items=[
            ("AUTO", "As Usual", "Down in splats that stand still, up in CAP4D's animation"),
            ("UP", "Y Up", "As head space has it"),
            ("DOWN", "Y Down", "As splat viewers have it"),
        ],
    )
    fps: bpy.props.FloatProperty(name="Frame Rate", description="Of a motion whose file does not say", default=25.0, min=1.0, max=240.0)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set("Avatars are imported in object mode. Leave the mode you are in first")
        return context.mode == "OBJECT"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return self.invoke_popup(context)  # asks for a file unless one was dropped

    def execute(self, context: bpy.types.Context) -> set[str]:
        paths = [Path(self.directory, file.name) for file in self.files if file.name] or [Path(self.filepath)]
        options = self._options(context)
        imported, problems = [], []
        context.window_manager.progress_begin(0, len(paths))
        for done, path in enumerate(paths):
            context.window_manager.progress_update(done)
            try:
                imported.append(import_file(path, options))
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

    def _options(self, context: bpy.types.Context) -> ImportOptions:
        upright = {"AUTO": None, "UP": True, "DOWN": False}[self.up]
        return ImportOptions(preferences.flame_path(context), self.fit, upright, self.fps, self.motion, self.identity)

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
    bl_file_extensions = ";".join(avatar_files.ENDINGS)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        return context.area is not None and context.area.type in {"VIEW_3D", "OUTLINER"}


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
    MVP4D_OT_match_training,
)


def draw_import_entry(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
    """The entry of File > Import."""
    menu.layout.operator(MVP4D_OT_import_avatar.bl_idname, text="MVP4D Avatar (.mvp4d, .ply, .spz, .splat)")
