# SPDX-License-Identifier: GPL-3.0-or-later
"""Live capture as an operator that runs until it is stopped."""

import ipaddress
from typing import ClassVar

import bpy

from mvp4d_core.errors import InputError, MVP4DError

from . import animation, live, preferences
from .avatar_operator import AvatarOperator
from .properties import chosen_avatar

_EVERY = 1 / 60  # seconds


class MVP4D_OT_live(AvatarOperator, bpy.types.Operator):
    """Let a phone's face capture move the chosen avatar: Live Link Face, or OSC with ARKit's names, on the preferences' port"""

    bl_idname = "mvp4d.live"
    bl_label = "Live Capture"
    bl_options: ClassVar = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not super().poll(context):
            return False
        if context.window_manager.mvp4d.live:
            cls.poll_message_set("Live capture is running")
            return False
        if not chosen_avatar(context).arkit:
            cls.poll_message_set("This avatar has no ARKit sliders")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        try:
            self._session = open_session(context)
        except MVP4DError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self._armature = chosen_avatar(context).armature.name
        manager = context.window_manager
        manager.mvp4d.live = True
        self._timer = manager.event_timer_add(_EVERY, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        settings = context.window_manager.mvp4d
        armature = context.scene.objects.get(self._armature)
        if not settings.live or armature is None:
            return self._stop(context, armature)
        if event.type == "TIMER" and step(self._session, armature, settings):
            _redraw(context)
        return {"PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        self._stop(context, None)

    def _stop(self, context: bpy.types.Context, armature: bpy.types.Object | None) -> set[str]:
        manager = context.window_manager
        manager.event_timer_remove(self._timer)
        manager.mvp4d.live = False
        self._session.close()
        action = None if armature is None else keep_recording(self._session, armature, context.scene)
        if action is not None:
            self.report({"INFO"}, f"Keyed the recording as the action {action.name}.")
            bpy.ops.ed.undo_push(message="Live Recording")
        _redraw(context)
        return {"FINISHED"}


def open_session(context: bpy.types.Context) -> live.LiveSession:
    """Listens where the preferences say.

    Raises:
        InputError: an address that is none, or one of the network while Blender may not go online.
        StorageError: it cannot be listened on.
    """
    host, port = preferences.live_address(context)
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise InputError(f"Live capture listens on an IPv4 address such as 127.0.0.1 or 0.0.0.0, got `{host}`.") from None
    if not address.is_loopback and not bpy.app.online_access:
        raise InputError(
            f"Live capture on {host} hears the network, which Blender is not allowed to.\n"
            "Allow Online Access in Blender's preferences under System, or listen on 127.0.0.1."
        )
    return live.LiveSession(host, port)


def step(session: live.LiveSession, armature: bpy.types.Object, settings: bpy.types.PropertyGroup) -> bool:
    """Takes in what arrived and shows it; says whether the panel has something new to draw."""
    if settings.live_neutral:
        session.calibrate()
        settings.live_neutral = False
    fresh = session.receive()
    if fresh:
        live.show_face(armature, session.face, turn=settings.live_turn)
    if settings.live_record and session.received:
        session.record()
    text = f"{session.received} faces, {session.recorded} recorded" if session.received else "Waiting for a face"
    if session.refused:
        text += f", {session.refused} datagrams not understood"
    changed = text != settings.live_status
    settings.live_status = text
    return fresh or changed


def keep_recording(session: live.LiveSession, armature: bpy.types.Object, scene: bpy.types.Scene) -> bpy.types.Action | None:
    """Keys what was recorded from the current frame on; None where nothing was."""
    performance = session.take(min(240.0, max(1.0, animation.scene_rate(scene))))
    if performance is None:
        return None
    return animation.key_performance(armature, performance, "Live capture", start=scene.frame_current, tolerance=0.002)


def _redraw(context: bpy.types.Context) -> None:
    for area in context.screen.areas if context.screen else ():
        if area.type == "VIEW_3D":
            area.tag_redraw()


class MVP4D_OT_stop_live(bpy.types.Operator):
    """Stop live capture and key what was recorded"""

    bl_idname = "mvp4d.stop_live"
    bl_label = "Stop Live Capture"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if not context.window_manager.mvp4d.live:
            cls.poll_message_set("Live capture is not running")
        return context.window_manager.mvp4d.live

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.window_manager.mvp4d.live = False  # the running operator sees it and stops
        return {"FINISHED"}


CLASSES = (MVP4D_OT_live, MVP4D_OT_stop_live)
