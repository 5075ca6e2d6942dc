# SPDX-License-Identifier: GPL-3.0-or-later
"""What the interface knows: which avatar is chosen, and the panel's own settings."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import bpy

from mvp4d_core.rig import ARKIT_NAMES

from . import sliders
from .face_regions import PAIRS, REGIONS
from .import_avatar import HEAD, INFO, PART, SPLATS


@dataclass(frozen=True)
class ChosenAvatar:
    """An avatar in the file. `head` and `splats` are None where somebody deleted them; `info` is what the import wrote down."""

    armature: bpy.types.Object
    head: bpy.types.Object | None
    splats: bpy.types.Object | None
    info: dict[str, Any]

    @property
    def expressions(self) -> list[str]:
        """The sliders of the head's own expressions, in its order."""
        return self._sliders("expressions")

    @property
    def arkit(self) -> list[str]:
        """The sliders with ARKit's names, in ARKit's order: the head's own or those it was given."""
        return sliders.slider_names(self.armature, ARKIT_NAMES)

    @property
    def identity(self) -> list[str]:
        """The sliders that change whose head it is."""
        return self._sliders("identity")

    @property
    def joints(self) -> list[str]:
        """The bones that turn."""
        return [name for name in self._texts("joints") if name in self.armature.pose.bones]

    @property
    def all_sliders(self) -> list[str]:
        """Every slider once."""
        return list(dict.fromkeys([*self.arkit, *self.expressions, *self.identity]))

    def _sliders(self, kind: str) -> list[str]:
        return sliders.slider_names(self.armature, self._texts(kind))

    def _texts(self, kind: str) -> list[str]:
        texts = self.info.get(kind)
        return [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else []


def chosen_avatar(context: bpy.types.Context) -> ChosenAvatar | None:
    """The avatar that the active object belongs to: its armature, or what hangs on it."""
    candidate = context.object
    while candidate is not None and INFO not in candidate:
        candidate = candidate.parent
    if candidate is None or candidate.type != "ARMATURE":
        return None
    return ChosenAvatar(candidate, _companion(candidate, HEAD, context), _companion(candidate, SPLATS, context), _info(candidate))


def _companion(armature: bpy.types.Object, part: str, context: bpy.types.Context) -> bpy.types.Object | None:
    """The head or the splats, found among what hangs on the armature, so that copies and overrides have their own."""
    return next((child for child in armature.children if child.get(PART) == part and child.name in context.scene.objects), None)


def _info(armature: bpy.types.Object) -> dict[str, Any]:
    try:
        info = json.loads(armature[INFO])
    except (TypeError, ValueError):  # anyone may edit a custom property
        return {}
    return info if isinstance(info, dict) else {}


class MVP4D_PG_panel(bpy.types.PropertyGroup):
    """Settings of the sidebar panel."""

    expression_filter: bpy.props.StringProperty(
        name="Filter", description="Show only the sliders whose name contains this", options={"TEXTEDIT_UPDATE", "SKIP_SAVE"}
    )
    region: bpy.props.EnumProperty(
        name="Region", description="The part of the face whose sliders are shown", items=[(r.key, r.label, r.label) for r in REGIONS]
    )
    both_sides: bpy.props.BoolProperty(
        name="Both Sides", description="One slider moves the left and the right side of the face. What it does is keyed with Key Face"
    )
    live: bpy.props.BoolProperty(name="Live", description="Whether live capture runs", options={"HIDDEN", "SKIP_SAVE"})
    live_status: bpy.props.StringProperty(name="Status", description="What live capture hears", options={"HIDDEN", "SKIP_SAVE"})
    live_turn: bpy.props.BoolProperty(name="Turn the Head", description="Live capture also turns the neck", default=True)
    live_record: bpy.props.BoolProperty(
        name="Record", description="Keep what live capture shows; it is keyed from the current frame on when live capture stops"
    )
    live_neutral: bpy.props.BoolProperty(name="Set Neutral", description="Take the actor's face as it is now for the face at rest")


def _mean_of(pair: tuple[str, str]) -> Callable[[bpy.types.PropertyGroup], float]:
    def mean(_: bpy.types.PropertyGroup) -> float:
        avatar = chosen_avatar(bpy.context)
        known = [] if avatar is None else sliders.slider_names(avatar.armature, pair)
        return sum(float(sliders.face_bone(avatar.armature)[name]) for name in known) / 2

    return mean


def _set_both(pair: tuple[str, str]) -> Callable[[bpy.types.PropertyGroup, float], None]:
    def set_both(_: bpy.types.PropertyGroup, value: float) -> None:
        if (avatar := chosen_avatar(bpy.context)) is not None:
            sliders.set_sliders(avatar.armature, dict.fromkeys(sliders.slider_names(avatar.armature, pair), value))

    return set_both


def _pair_property(pair: tuple[str, str], label: str) -> Any:
    return bpy.props.FloatProperty(
        name=label, description=f"{pair[0]} and {pair[1]}", min=-sliders.LIMIT, max=sliders.LIMIT, soft_min=0.0, soft_max=1.0,
        get=_mean_of(pair), set=_set_both(pair), options=set(),
    )  # fmt: skip


class MVP4D_PG_both_sides(bpy.types.PropertyGroup):
    """A slider for each pair of ARKit's left and right, of the chosen avatar.

    They hold nothing of their own and are not animated. They hang on the scene, because Blender undoes what belongs to a scene.
    """

    __annotations__ = {stem: _pair_property(pair, stem) for stem, pair in PAIRS.items()}


CLASSES = (MVP4D_PG_panel, MVP4D_PG_both_sides)


def attach() -> None:
    bpy.types.WindowManager.mvp4d = bpy.props.PointerProperty(type=MVP4D_PG_panel)
    bpy.types.Scene.mvp4d_both_sides = bpy.props.PointerProperty(type=MVP4D_PG_both_sides)


def detach() -> None:
    del bpy.types.Scene.mvp4d_both_sides
    del bpy.types.WindowManager.mvp4d
