# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's preferences, and what holds where there are none, as in a Blender that only imports the package."""

from pathlib import Path

import bpy

SERVER = "http://127.0.0.1:8188"  # ComfyUI's own address
LIVE_HOST, LIVE_PORT = "127.0.0.1", 11111  # this machine alone, and the port of Live Link Face


class MVP4D_AP_preferences(bpy.types.AddonPreferences):
    """Paths and addresses; kept with the user's preferences."""

    bl_idname = __package__

    flame: bpy.props.StringProperty(
        name="FLAME Head",
        description="Your FLAME head as `mvp4d import-flame` converts it (.safetensors), for avatars and tracks that ride on FLAME",
        subtype="FILE_PATH",
    )
    server: bpy.props.StringProperty(name="ComfyUI", description="Address of a running ComfyUI", default=SERVER)
    live_host: bpy.props.StringProperty(
        name="Listen On",
        description="Address on which live capture is received. 127.0.0.1 hears this machine alone; 0.0.0.0 hears phones in your network",
        default=LIVE_HOST,
    )
    live_port: bpy.props.IntProperty(
        name="Port", description="UDP port of live capture; Live Link Face sends to 11111", default=LIVE_PORT, min=1024, max=65535
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "flame")
        layout.prop(self, "server")
        column = layout.column(align=True, heading="Live Capture")
        column.prop(self, "live_host")
        column.prop(self, "live_port")


def _kept(context: bpy.types.Context) -> MVP4D_AP_preferences | None:
    addon = context.preferences.addons.get(__package__)
    return None if addon is None else addon.preferences


def flame_path(context: bpy.types.Context) -> Path | None:
    """The user's FLAME head, None where none is named."""
    kept = _kept(context)
    return Path(bpy.path.abspath(kept.flame)) if kept is not None and kept.flame else None


def server(context: bpy.types.Context) -> str:
    """ComfyUI's address."""
    kept = _kept(context)
    return SERVER if kept is None else kept.server


def live_address(context: bpy.types.Context) -> tuple[str, int]:
    """Host and port on which live capture is received."""
    kept = _kept(context)
    return (LIVE_HOST, LIVE_PORT) if kept is None else (kept.live_host, kept.live_port)


CLASSES = (MVP4D_AP_preferences,)
