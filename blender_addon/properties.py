# SPDX-License-Identifier: GPL-3.0-or-later
"""What the interface knows: which avatar is chosen, and the panel's own settings."""

import json
from dataclasses import dataclass
from typing import Any

import bpy

from . import rig
from .import_avatar import HEAD, INFO, SPLATS


@dataclass(frozen=True)
class ChosenAvatar:
    """An avatar in the file. `head` and `splats` are None where somebody deleted them; `info` is what the import wrote down."""

    armature: bpy.types.Object
    head: bpy.types.Object | None
    splats: bpy.types.Object | None
    info: dict[str, Any]

    @property
    def expressions(self) -> list[bpy.types.ShapeKey]:
        """The sliders a person moves, in the order of the head."""
        keys = self.head.data.shape_keys if self.head is not None else None
        names = self.info.get("expressions", [])
        return [keys.key_blocks[name] for name in names if keys is not None and name in keys.key_blocks and name != rig.BASIS]


def chosen_avatar(context: bpy.types.Context) -> ChosenAvatar | None:
    """The avatar that the active object belongs to: its armature, or what hangs on it."""
    candidate = context.object
    while candidate is not None and INFO not in candidate:
        candidate = candidate.parent
    if candidate is None or candidate.type != "ARMATURE":
        return None
    return ChosenAvatar(candidate, _companion(candidate, HEAD, context), _companion(candidate, SPLATS, context), _info(candidate))


def _companion(armature: bpy.types.Object, name: str, context: bpy.types.Context) -> bpy.types.Object | None:
    """The head or the splats. An object that was deleted by hand may live on in the pointer, outside the scene."""
    companion = armature.get(name)
    return companion if isinstance(companion, bpy.types.Object) and companion.name in context.scene.objects else None


def _info(armature: bpy.types.Object) -> dict[str, Any]:
    try:
        info = json.loads(armature[INFO])
    except (TypeError, ValueError):  # anyone may edit a custom property
        return {}
    return info if isinstance(info, dict) else {}


class MVP4D_PG_panel(bpy.types.PropertyGroup):
    """Settings of the sidebar panel."""

    expression_filter: bpy.props.StringProperty(
        name="Filter", description="Show only the expressions whose name contains this", options={"TEXTEDIT_UPDATE", "SKIP_SAVE"}
    )


CLASSES = (MVP4D_PG_panel,)


def attach() -> None:
    bpy.types.WindowManager.mvp4d = bpy.props.PointerProperty(type=MVP4D_PG_panel)


def detach() -> None:
    del bpy.types.WindowManager.mvp4d
