# SPDX-License-Identifier: GPL-3.0-or-later
"""ComfyUI in Blender: a photo goes there and an avatar comes back, and avatars that it lays ready are taken up."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
from bpy_extras.io_utils import ImportHelper

from mvp4d_core.avatar.handover import Handover, read_handover
from mvp4d_core.errors import Cancelled, InputError, MVP4DError

from . import comfyui, preferences
from .stepwise import StepwiseOperator

_PAUSE = 0.05  # seconds between two looks, where Blender has no interface that waits by itself
_LOOK_EVERY = 1.0  # seconds between two looks into the folder that is watched
_WORKFLOWS = tuple(comfyui.shipped_workflows())
_PHOTOS = "*.png;*.jpg;*.jpeg;*.webp;*.bmp;*.tif;*.tiff"


class MVP4D_PG_link(bpy.types.PropertyGroup):
    """What the link to ComfyUI is doing. Switching `making` or `watching` off ends it."""

    making: bpy.props.BoolProperty(name="Making", description="Whether an avatar is being made", options={"HIDDEN", "SKIP_SAVE"})
    stage: bpy.props.StringProperty(name="Stage", description="What ComfyUI is doing", options={"HIDDEN", "SKIP_SAVE"})
    share: bpy.props.FloatProperty(name="Done", min=0, max=1, subtype="FACTOR", options={"HIDDEN", "SKIP_SAVE"})
    watching: bpy.props.BoolProperty(name="Watching", description="Whether a folder is watched", options={"HIDDEN", "SKIP_SAVE"})


def _link() -> MVP4D_PG_link:
    """Asked for anew each time: another file may have been opened since."""
    return bpy.context.window_manager.mvp4d_link


@dataclass(frozen=True)
class _Taken:
    """A handover that was imported, and the name of the armature it became."""

    handover: Handover
    armature: str


class _Errand(threading.Thread):
    """`make_avatar` in a thread of its own. `at` is how far it is, `error` why it ended, None if it went well."""

    def __init__(self, address: comfyui.Address, workflow: Path, photo: Path, target: Path) -> None:
        super().__init__(daemon=True, name="MVP4D and ComfyUI")
        self.at = (comfyui.UPLOAD, 0, 1)
        self.error: MVP4DError | None = None
        self.unwanted = threading.Event()
        self._job = (address, workflow, photo, target)

    def run(self) -> None:
        try:
            comfyui.make_avatar(*self._job, self._progress)
        except MVP4DError as error:
            self.error = error
        except Exception as error:  # a thread has nobody else to tell
            self.error = MVP4DError(f"The link to ComfyUI broke: {type(error).__name__}: {error}")

    def _progress(self, stage: str, done: int, total: int) -> None:
        self.at = (stage, done, total)
        if self.unwanted.is_set():
            raise Cancelled("Stopped; ComfyUI was told.")


def _label(workflow: str) -> str:
    """`Full MVP4D` of `full_mvp4d`."""
    return workflow.replace("_", " ").title().replace("Mvp4D", "MVP4D")


class MVP4D_OT_make_avatar(StepwiseOperator, bpy.types.Operator, ImportHelper):
    """Send a photo to the ComfyUI in the preferences, and import the avatar that it makes of it"""

    bl_idname = "mvp4d.make_avatar"
    bl_label = "Avatar from Photo"

    stops_on_escape = False  # it takes minutes, in which Esc is pressed for other reasons
    filter_glob: bpy.props.StringProperty(default=_PHOTOS, options={"HIDDEN"})
    filter_image: bpy.props.BoolProperty(default=True, options={"HIDDEN"})
    workflow: bpy.props.EnumProperty(
        name="Workflow", description="What ComfyUI does with the photo", items=[(name, _label(name), name) for name in _WORKFLOWS]
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not bpy.app.online_access:
            cls.poll_message_set("Online access is off. Allow it in Preferences > System > Network")
        elif _link().making:
            cls.poll_message_set("ComfyUI is making an avatar already")
        elif context.mode != "OBJECT":
            cls.poll_message_set("Avatars are imported in object mode. Leave the mode you are in first")
        return bpy.app.online_access and not _link().making and context.mode == "OBJECT"

    def work(self, context: bpy.types.Context) -> Iterator[tuple[int, int]]:
        photo = Path(bpy.path.abspath(self.filepath))
        target = _free_path(avatar_folder(), photo.stem)
        address = comfyui.read_address(preferences.server(context))
        errand = _Errand(address, comfyui.shipped_workflows()[self.workflow], photo, target)
        _link().making = True
        errand.start()
        try:
            while errand.is_alive():
                stage, done, total = errand.at
                _link().stage, _link().share = stage, done / max(total, 1)
                _redraw(context)
                if not _link().making:
                    errand.unwanted.set()
                yield done, total
                if bpy.app.background:
                    time.sleep(_PAUSE)
        finally:
            errand.unwanted.set()
            _link().making, _link().stage = False, ""
            _redraw(context)
        if errand.error is not None:
            raise errand.error
        import_avatar_file(target)
        self.report({"INFO"}, f"ComfyUI made {target.name} of {photo.name}.")


class MVP4D_OT_stop_making(bpy.types.Operator):
    """Stop the avatar that ComfyUI is making"""

    bl_idname = "mvp4d.stop_making"
    bl_label = "Stop"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _link().making

    def execute(self, context: bpy.types.Context) -> set[str]:
        _link().making = False
        return {"FINISHED"}


class MVP4D_OT_watch_folder(StepwiseOperator, bpy.types.Operator):
    """Import each avatar that ComfyUI's node Export for Blender lays ready in its folder output/mvp4d/blender, as soon as it is there"""

    bl_idname = "mvp4d.watch_folder"
    bl_label = "Watch Folder"

    stops_on_escape = False
    directory: bpy.props.StringProperty(name="Folder", subtype="DIR_PATH")
    filter_folder: bpy.props.BoolProperty(default=True, options={"HIDDEN"})
    present: bpy.props.BoolProperty(name="Those There", description="Also import what lies in the folder already", default=True)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if _link().watching:
            cls.poll_message_set("A folder is watched already")
        return not _link().watching

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def work(self, context: bpy.types.Context) -> Iterator[tuple[int, int]]:
        folder = Path(bpy.path.abspath(self.directory))
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder. Choose ComfyUI's output/mvp4d/blender.")
        _link().watching = True
        seen = {} if self.present else {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
        taken: dict[str, _Taken] = {}
        try:
            while _link().watching:
                for path in sorted(folder.glob("*.json")):
                    if seen.get(path) != (moment := path.stat().st_mtime_ns) and context.mode == "OBJECT":
                        seen[path] = moment
                        self._take(context, path, taken)
                until = time.monotonic() + _LOOK_EVERY
                while _link().watching and time.monotonic() < until:
                    yield 0, 1
                if bpy.app.background:
                    return  # nobody could ever stop it
        finally:
            _link().watching = False
            _redraw(context)

    def _take(self, context: bpy.types.Context, path: Path, taken: dict[str, _Taken]) -> None:
        """Brings the scene up to date with a manifest: an avatar that has changed replaces the one before, which is hidden."""
        try:
            handover = read_handover(path)
            before = taken.get(handover.name)
            armature = None if before is None else context.scene.objects.get(before.armature)
            if before is None or armature is None or before.handover.avatar_sha256 != handover.avatar_sha256:
                import_avatar_file(handover.avatar)
                _hide(armature)
                armature, before = context.object, None
            taken[handover.name] = _Taken(handover, armature.name)
            if handover.performance and (before is None or before.handover.performance_sha256 != handover.performance_sha256):
                context.view_layer.objects.active = armature
                _run(bpy.ops.mvp4d.load_performance, handover.performance)
        except MVP4DError as error:
            self.report({"ERROR"}, str(error))


class MVP4D_OT_stop_watching(bpy.types.Operator):
    """Stop watching the folder"""

    bl_idname = "mvp4d.stop_watching"
    bl_label = "Stop Watching"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _link().watching

    def execute(self, context: bpy.types.Context) -> set[str]:
        _link().watching = False
        return {"FINISHED"}


def avatar_folder() -> Path:
    """Where avatars that come from elsewhere are kept: the extension's own folder."""
    if __package__.startswith("bl_ext."):
        return Path(bpy.utils.extension_path_user(__package__, path="avatars", create=True))
    return Path(bpy.utils.user_resource("DATAFILES", path="mvp4d", create=True))


def import_avatar_file(path: Path) -> None:
    """Imports an avatar as the menu does, which chooses it; raises InputError with what that says."""
    _run(bpy.ops.mvp4d.import_avatar, path)


def _run(operator: Any, path: Path) -> None:
    try:
        operator("EXEC_DEFAULT", True, filepath=str(path))
    except RuntimeError as error:  # how bpy reports an operator's error
        raise InputError(str(error).strip().removeprefix("Error: ")) from None


def _hide(armature: bpy.types.Object | None) -> None:
    """Hides what belongs to an avatar."""
    for thing in () if armature is None else (armature, *armature.children):
        thing.hide_viewport = thing.hide_render = True


def _free_path(folder: Path, name: str) -> Path:
    """A file of this name that is not there yet."""
    paths = (folder / f"{name}{ending}.mvp4d" for ending in ("", *(f"_{number}" for number in range(2, 10_000))))
    return next(path for path in paths if not path.exists())


def _redraw(context: bpy.types.Context) -> None:
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                area.tag_redraw()


CLASSES = (MVP4D_PG_link, MVP4D_OT_make_avatar, MVP4D_OT_stop_making, MVP4D_OT_watch_folder, MVP4D_OT_stop_watching)


def attach() -> None:
    bpy.types.WindowManager.mvp4d_link = bpy.props.PointerProperty(type=MVP4D_PG_link)


def detach() -> None:
    del bpy.types.WindowManager.mvp4d_link
