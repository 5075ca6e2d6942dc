# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the add-on hangs into Blender, and takes out again."""

import bpy

from . import (
    face_operators,
    link_operators,
    live_operators,
    operators,
    output_operators,
    output_panels,
    panels,
    performance_operators,
    pose_operators,
    preferences,
    properties,
    splat_operators,
    translations,
)

CLASSES = (
    *preferences.CLASSES,
    *properties.CLASSES,
    *operators.CLASSES,
    *performance_operators.CLASSES,
    *face_operators.CLASSES,
    *pose_operators.CLASSES,
    *live_operators.CLASSES,
    *splat_operators.CLASSES,
    *output_operators.CLASSES,
    *link_operators.CLASSES,
    *panels.CLASSES,
    *output_panels.CLASSES,
)


def register() -> None:
    """Registers the classes, the settings, the entry of the import menu and the translations; undoes what it did when one fails."""
    done = []
    try:
        for cls in CLASSES:
            bpy.utils.register_class(cls)
            done.append(cls)
        properties.attach()
        link_operators.attach()
    except Exception:
        for cls in reversed(done):
            bpy.utils.unregister_class(cls)
        raise
    bpy.types.TOPBAR_MT_file_import.append(operators.draw_import_entry)
    bpy.app.translations.register(__package__, translations.TRANSLATIONS)


def unregister() -> None:
    """Leaves Blender as it was before `register`."""
    bpy.app.translations.unregister(__package__)
    bpy.types.TOPBAR_MT_file_import.remove(operators.draw_import_entry)
    link_operators.detach()
    properties.detach()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
