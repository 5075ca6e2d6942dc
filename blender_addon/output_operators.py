# SPDX-License-Identifier: GPL-3.0-or-later
"""What leaves Blender, and how it is set up to be rendered: presets, a turntable, pictures with alpha, splat files, GLB."""

from collections.abc import Iterator
from math import pi, radians
from pathlib import Path
from typing import ClassVar

import bpy
from bpy_extras.io_utils import ExportHelper

from mvp4d_core.avatar.glb import CONTENTS, write_glb
from mvp4d_core.errors import InputError, MVP4DError

from . import avatar_files, bake, look, preferences, sampling, scene, turntable
from .avatar_operator import AvatarOperator
from .import_avatar import SOURCE
from .look import Blending, Renderer
from .properties import chosen_avatar
from .stepwise import StepwiseOperator

_SHOWN_CHANGES = 6


def scene_frames(context: bpy.types.Context) -> range:
    """The frames of the scene's range."""
    return range(context.scene.frame_start, context.scene.frame_end + 1, context.scene.frame_step)


class MVP4D_OT_render_preset(bpy.types.Operator):
    """Set up the scene to render splats well, and say what was changed"""

    bl_idname = "mvp4d.render_preset"
    bl_label = "Render Preset"
    bl_options: ClassVar = {"REGISTER", "UNDO"}

    renderer: bpy.props.EnumProperty(
        name="Renderer",
        description="Which of Blender's renderers draws the scene",
        items=[
            (Renderer.EEVEE.value, "EEVEE", "Fast, and exact for avatars that do not overlap or are drawn together"),
            (Renderer.CYCLES.value, "Cycles", "Slow: rays go through every splat. Avatars may overlap"),
        ],
    )
    blending: bpy.props.EnumProperty(
        name="Splats Mix",
        description="How the colours of splats mix",
        items=[
            (Blending.TRAINED.value, "As Trained", "In display colours, through the Raw view transform: the avatar's own look"),
            (Blending.LIGHT.value, "As Light", "In linear light, beside lit objects; soft edges become a little brighter"),
        ],
    )
    samples: bpy.props.IntProperty(
        name="Samples", description="A pixel. One is exact for splats alone; raise it for other objects", default=1, min=1, max=4096
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        changes = look.use_look(context.scene, Renderer(self.renderer), Blending(self.blending), self.samples)
        shown = "; ".join(map(str, changes[:_SHOWN_CHANGES]))
        more = f"; and {len(changes) - _SHOWN_CHANGES} more, in the info log" if len(changes) > _SHOWN_CHANGES else ""
        for change in changes[_SHOWN_CHANGES:]:
            self.report({"INFO"}, f"Changed {change}.")
        self.report({"INFO"}, f"Changed {shown}{more}." if changes else "Everything was set up like this already.")
        return {"FINISHED"}


class MVP4D_OT_turntable(AvatarOperator, bpy.types.Operator):
    """Let a camera go around the chosen avatar, and the scene last as long"""

    bl_idname = "mvp4d.turntable"
    bl_label = "Turntable"

    frames: bpy.props.IntProperty(name="Frames", description="That one round takes", default=120, min=2, max=100_000)
    elevation: bpy.props.FloatProperty(
        name="Elevation", description="Above the face", default=radians(3), min=-1.4, max=1.4, subtype="ANGLE"
    )
    sweep: bpy.props.FloatProperty(
        name="Sweep", description="A whole circle loops; less swings past the face", default=2 * pi, min=0.01, max=2 * pi, subtype="ANGLE"
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        head = chosen_avatar(context).head
        camera = turntable.add_turntable(context.scene, head, self.frames, elevation=self.elevation, sweep=self.sweep)
        self.report({"INFO"}, f"`{camera.name}` is the scene's camera; frames {context.scene.frame_start} to {context.scene.frame_end}.")
        return {"FINISHED"}


class _OutputOperator:
    """What operators that write files share."""

    filename_ext = ""
    use_filter_folder = True

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        avatar = chosen_avatar(context)
        if avatar is None:
            cls.poll_message_set("Select an avatar")
        elif avatar.splats is None or look.splat_modifier(avatar.splats) is None:
            cls.poll_message_set("The splats of this avatar were deleted or come from another version. Import it again")
        elif avatar.head is None:
            cls.poll_message_set("The head mesh of this avatar was deleted. Import it again")
        else:
            return True
        return False


class MVP4D_OT_bake_splats(StepwiseOperator, _OutputOperator, bpy.types.Operator, ExportHelper):
    """Write the splats of every frame of the scene as files that splat viewers open, one a frame, into a folder"""

    bl_idname = "mvp4d.bake_splats"
    bl_label = "Export Splat Sequence"

    kind: bpy.props.EnumProperty(
        name="Kind",
        description="Of the files",
        items=[(".ply", "PLY", "3D Gaussian splatting's own"), (".spz", "SPZ", "Small"), (".splat", ".splat", "Small, without harmonics")],
    )

    def work(self, context: bpy.types.Context) -> Iterator[tuple[int, int]]:
        folder, frames = Path(bpy.path.abspath(self.filepath)), scene_frames(context)
        yield from bake.bake_sequence(chosen_avatar(context).splats, folder, frames, self.kind)
        self.report({"INFO"}, f"Wrote {len(frames)} files into {folder}.")


class MVP4D_OT_render_alpha(StepwiseOperator, _OutputOperator, bpy.types.Operator, ExportHelper):
    """Render the scene's frames without the background: pictures into a folder, or one film that editors lay over others"""

    bl_idname = "mvp4d.render_alpha"
    bl_label = "Render with Alpha"

    kind: bpy.props.EnumProperty(
        name="Kind",
        description="Of the files",
        items=[
            ("PICTURES", "PNG Pictures", "One a frame; can be stopped and keeps what it has"),
            ("FILM", "WebM Film", "VP9 with alpha. Blender cannot be stopped before its end"),
        ],
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.scene.camera is None:
            cls.poll_message_set("The scene has no camera. Add one, or a turntable")
        return context.scene.camera is not None

    def work(self, context: bpy.types.Context) -> Iterator[tuple[int, int]]:
        path, frames = Path(bpy.path.abspath(self.filepath)), scene_frames(context)
        if self.kind == "PICTURES":
            yield from scene.render_pictures(path, frames)
        else:
            path = path.with_suffix(".webm")
            scene.render_clip(path, frames, alpha=True)
            yield len(frames), len(frames)
        self.report({"INFO"}, f"Rendered {len(frames)} frames to {path}.")


class MVP4D_OT_export_glb(_OutputOperator, bpy.types.Operator, ExportHelper):
    """Write the chosen avatar with what it does in the scene as GLB: the rig as a mesh with bones and morph targets, the splats at rest"""

    bl_idname = "mvp4d.export_glb"
    bl_label = "Export GLB"

    filename_ext = ".glb"
    filter_glob: bpy.props.StringProperty(default="*.glb", options={"HIDDEN"})
    avatar: bpy.props.StringProperty(
        name="Avatar File", description="The file that the avatar was imported from: a scene has no room for all of it", subtype="FILE_PATH"
    )
    content: bpy.props.EnumProperty(name="Content", description="What the file holds", items=[(c, c.title(), "") for c in CONTENTS])
    animated: bpy.props.BoolProperty(name="Animation", description="What the rig does in the scene's frames", default=True)
    texture_size: bpy.props.EnumProperty(
        name="Texture",
        description="Width and height of the mesh's picture",
        items=[(str(n), f"{n} px", "") for n in (512, 1024, 2048, 4096)],
        default="1024",
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        self.avatar = self.avatar or str(chosen_avatar(context).armature.get(SOURCE, ""))
        return ExportHelper.invoke(self, context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            self._write(context)
        except MVP4DError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Wrote {self.filepath}.")
        return {"FINISHED"}

    def _write(self, context: bpy.types.Context) -> None:
        chosen = chosen_avatar(context)
        source = self.avatar or str(chosen.armature.get(SOURCE, ""))
        if not source:
            raise InputError("GLB wants the file that the avatar was imported from. Name it as `Avatar File`.")
        options = avatar_files.ImportOptions(preferences.flame_path(context))
        avatar = avatar_files.read_avatar(Path(bpy.path.abspath(source)), options).avatar
        if len(avatar.rig.v_template) != len(chosen.head.data.vertices):
            raise InputError(
                f"{Path(source).name} is not the file of `{chosen.armature.name}`: its head has {len(avatar.rig.v_template)} vertices,"
                f" not {len(chosen.head.data.vertices)}. Name the file that was imported."
            )
        performance = None
        if self.animated:
            performance = sampling.performance_of(chosen.armature, chosen.head, avatar.rig, scene_frames(context))
        write_glb(bpy.path.abspath(self.filepath), avatar, performance, content=self.content, texture_size=int(self.texture_size))


CLASSES = (MVP4D_OT_render_preset, MVP4D_OT_turntable, MVP4D_OT_bake_splats, MVP4D_OT_render_alpha, MVP4D_OT_export_glb)
