# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that make the chosen avatar act, as keys."""

from pathlib import Path
from typing import ClassVar

import bpy
from bpy_extras.io_utils import ImportHelper

from mvp4d_core.errors import MVP4DError
from mvp4d_core.rig.performance_edit import resample

from . import acting_files, animation, preferences
from .acting_files import ActingOptions, read_acting
from .avatar_operator import AvatarOperator
from .properties import chosen_avatar


class MVP4D_OT_load_performance(AvatarOperator, bpy.types.Operator, ImportHelper):
    """Key a file on the sliders and bones of the chosen avatar: a performance, Live Link Face, sliders, a track, mouth cues or a voice"""

    bl_idname = "mvp4d.load_performance"
    bl_label = "Load Performance"
    bl_options: ClassVar = {"REGISTER", "UNDO", "PRESET"}

    filename_ext = ".safetensors"
    filter_glob: bpy.props.StringProperty(default=";".join(f"*{e}" for e in acting_files.ENDINGS), options={"HIDDEN"})
    filepath: bpy.props.StringProperty(name="File", subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})  # set by a drop alone
    start: bpy.props.IntProperty(name="Start Frame", description="Scene frame of the first frame of the performance", default=1)
    strip: bpy.props.BoolProperty(name="NLA Strip", description="Put the action on a strip of the NLA, above the others", default=False)
    whole_frames: bpy.props.BoolProperty(
        name="Whole Frames", description="Bring the performance to the scene's frame rate, so that keys lie on whole frames", default=True
    )
    tolerance: bpy.props.FloatProperty(
        name="Tolerance",
        description="Leave out keys as long as curves stay this close to the performance: weights, radians, tenths of a metre. 0 keeps all",
        default=0.002, min=0.0, max=0.1, precision=4, step=0.1,
    )  # fmt: skip
    match_range: bpy.props.BoolProperty(
        name="Match Scene Range", description="Let the scene begin and end with the performance", default=True
    )
    angles: bpy.props.EnumProperty(
        name="Angles",
        description="Unit of the head's rotation in a Live Link Face take",
        items=[
            ("radians", "Radians", "As the app writes them"),
            ("degrees", "Degrees", "As some converters write them"),
            ("half-turns", "Half Turns", "-1 to 1 for -180 to 180 degrees"),
        ],
    )
    strength: bpy.props.FloatProperty(name="Speech", description="How far jaw and lips go for a voice", default=1.0, min=0.0, max=2.0)
    idle: bpy.props.FloatProperty(
        name="Idle Motion",
        description="Gaze, brows and head beside a voice; 0 leaves them and the lids still",
        default=1.0,
        min=0.0,
        max=3.0,
    )
    seed: bpy.props.IntProperty(name="Seed", description="Of blinks, gaze and idle motion beside a voice", default=0, min=0)
    sound: bpy.props.BoolProperty(
        name="Add Sound", description="Also put a voice into the sequencer, from the start frame on", default=True
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return self.invoke_popup(context)  # asks for a file unless one was dropped

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        for name in ("start", "strip", "whole_frames", "tolerance", "match_range"):
            layout.prop(self, name)
        ending = Path(self.filepath).suffix.lower()
        if ending == ".csv":
            layout.prop(self, "angles")
        if ending in (acting_files.VOICE, acting_files.CUES, ".json"):
            for name in ("strength", "idle", "seed"):
                layout.prop(self, name)
        if ending == acting_files.VOICE:
            layout.prop(self, "sound")

    def execute(self, context: bpy.types.Context) -> set[str]:
        avatar, path = chosen_avatar(context), Path(self.filepath)
        rate = animation.scene_rate(context.scene)
        context.window_manager.progress_begin(0, 2)
        try:
            acting = read_acting(path, avatar.all_sliders, self._options(context, rate))
            context.window_manager.progress_update(1)
            performance = acting.performance
            if self.whole_frames and performance.fps != rate:
                performance = resample(performance, rate)
            tolerance = self.tolerance or None
            action = animation.key_performance(avatar.armature, performance, path.stem, start=self.start, tolerance=tolerance)
        except MVP4DError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        finally:
            context.window_manager.progress_end()
        kept, name = len(performance), action.name
        if self.strip:
            animation.onto_strip(avatar.armature, action)
        if self.match_range:
            animation.use_range(context.scene, performance, self.start)
        if self.sound and path.suffix.lower() == acting_files.VOICE:
            animation.add_sound(context.scene, path, self.start)
        self.report({"INFO"}, " ".join([f"Keyed {kept} frames as the action {name}.", *acting.notes]))
        return {"FINISHED"}

    def _options(self, context: bpy.types.Context, rate: float) -> ActingOptions:
        return ActingOptions(rate, self.angles, self.strength, self.idle, self.seed, preferences.flame_path(context))


class MVP4D_FH_performance(bpy.types.FileHandler):
    """Performances dropped into Blender."""

    bl_idname = "MVP4D_FH_performance"
    bl_label = "MVP4D performance"
    bl_import_operator = "mvp4d.load_performance"
    bl_file_extensions = ".safetensors;.csv;.npz;.tsv"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        return (
            context.area is not None and context.area.type in {"VIEW_3D", "DOPESHEET_EDITOR", "NLA_EDITOR"} and bool(chosen_avatar(context))
        )


CLASSES = (MVP4D_OT_load_performance, MVP4D_FH_performance)
