# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators on the chosen avatar share."""

from typing import ClassVar

import bpy

from . import sliders
from .properties import chosen_avatar


class AvatarOperator:
    """Undoable, and at hand only where an avatar with its head is chosen."""

    bl_options: ClassVar = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        avatar = chosen_avatar(context)
        if avatar is None:
            cls.poll_message_set("Select an avatar")
        elif avatar.head is None:
            cls.poll_message_set("The head mesh of this avatar was deleted. Import it again")
        elif sliders.face_bone(avatar.armature) is None:
            cls.poll_message_set("The bone `face` of this avatar, which has its sliders, was deleted. Import it again")
        elif avatar.armature.library is not None:
            cls.poll_message_set("This avatar is linked. Make a library override of it first")
        else:
            return True
        return False
