# SPDX-License-Identifier: GPL-3.0-or-later
"""The Blender add-on: imports 4D Gaussian head avatars, poses them and renders them.

`registration` is imported when Blender asks for it, so that `python -m blender_addon.headless` can itself say that bpy is missing.
"""


def register() -> None:
    """Called by Blender when the add-on is enabled."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Called by Blender when the add-on is disabled."""
    from . import registration

    registration.unregister()
