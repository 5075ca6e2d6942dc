# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything the add-on hangs into Blender, and takes out again."""

import bpy

from . import operators, panels, properties

CLASSES = (*properties.CLASSES, *operators.CLASSES, *panels.CLASSES)


def register() -> None:
    """Registers the classes, the settings and the entry of the import menu; undoes what it did when one of them fails."""
    done = []
    try:
        for cls in CLASSES:
            bpy.utils.register_class(cls)
            done.append(cls)
        properties.attach()
    except Exception:
        for cls in reversed(done):
            bpy.utils.unregister_class(cls)
        raise
    bpy.types.TOPBAR_MT_file_import.append(operators.draw_import_entry)


def unregister() -> None:
    """Leaves Blender as it was before `register`."""
    bpy.types.TOPBAR_MT_file_import.remove(operators.draw_import_entry)
    properties.detach()
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
