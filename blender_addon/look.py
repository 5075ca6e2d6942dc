# SPDX-License-Identifier: GPL-3.0-or-later
"""How a scene is rendered: what each renderer needs to draw splats well, and what was changed to get there."""

from dataclasses import dataclass
from enum import Enum
from math import isclose
from typing import Any

import bpy

from . import compat, nodes

_SHARP = 0.0  # width of the pixel filter in pixels: a sample at the pixel's centre, as splat rasterisers take it
_LAYERS = 1024  # splats that a ray of Cycles goes through: as many as Blender allows


class Renderer(Enum):
    """Who draws. EEVEE sorts the splats of an object; Cycles follows rays through all of them, which is slower and takes shadows along."""

    EEVEE = "EEVEE"
    CYCLES = "CYCLES"


class Blending(Enum):
    """How splats mix: as they were trained, in display colours, or as light does, beside lit objects, a little brighter at soft edges."""

    TRAINED = "TRAINED"
    LIGHT = "LIGHT"


@dataclass(frozen=True)
class Change:
    """One setting that was changed, in words for the user."""

    setting: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.setting}: {self.before} to {self.after}"


def use_look(scene: bpy.types.Scene, renderer: Renderer, blending: Blending = Blending.TRAINED, samples: int = 1) -> list[Change]:
    """Sets up the scene's renderer, its view transform and the splats in it; gives what was different before.

    Args:
        samples: a pixel. One is exact for splats alone; raise it, and the pixel filter, for other things in the scene.
    """
    wanted = _settings(renderer, blending, samples)
    changes = [change for path, value in wanted if (change := _set(scene, path, value))]
    linear = blending is Blending.LIGHT
    for splats in splats_in(scene):
        if bool(compat.modifier_input(modifier := splat_modifier(splats), nodes.LINEAR)) != linear:
            compat.set_modifier_input(modifier, nodes.LINEAR, linear)
            changes.append(Change(f"{nodes.LINEAR} of {splats.name}", str(not linear), str(linear)))
    return changes


def splats_in(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """The objects of a scene that are an avatar's splats and may be changed, which linked ones may not."""
    return [thing for thing in scene.objects if thing.library is None and splat_modifier(thing) is not None]


def splat_modifier(thing: bpy.types.Object) -> Any:
    """The modifier that shows an object's splats, or None."""
    trees = [modifier for modifier in thing.modifiers if modifier.type == "NODES" and modifier.node_group is not None]
    return next((modifier for modifier in trees if nodes.is_splat_tree(modifier.node_group)), None)


def _settings(renderer: Renderer, blending: Blending, samples: int) -> list[tuple[str, Any]]:
    """Paths from the scene and their values; the engine first, since some settings are only known with it."""
    trained = blending is Blending.TRAINED
    common = [
        ("render.filter_size", _SHARP),
        ("render.dither_intensity", 0.0),
        ("display_settings.display_device", "sRGB"),
        ("view_settings.view_transform", "Raw" if trained else "Standard"),
        ("view_settings.look", "None"),
        ("view_settings.exposure", 0.0),
        ("view_settings.gamma", 1.0),
    ]
    if renderer is Renderer.EEVEE:
        return [
            ("render.engine", compat.EEVEE),
            *common,
            ("eevee.taa_render_samples", samples),
            *([("eevee.use_shadows", False), ("eevee.use_raytracing", False)] if trained else []),
        ]
    return [
        ("render.engine", "CYCLES"),
        *common,
        ("cycles.samples", samples),
        ("cycles.use_adaptive_sampling", False),
        ("cycles.use_denoising", False),
        ("cycles.transparent_max_bounces", _LAYERS),
        ("cycles.min_transparent_bounces", _LAYERS),  # else Cycles ends rays by chance, which is noise all over the face
        ("cycles.pixel_filter_type", "BOX"),
        ("cycles.filter_width", 0.01),
    ]


def _set(scene: bpy.types.Scene, path: str, value: Any) -> Change | None:
    """Sets one property; what changed, if anything did."""
    *owners, name = path.split(".")
    owner: Any = scene
    for step in owners:
        owner = getattr(owner, step)
    before = getattr(owner, name)
    if before == value or (isinstance(value, float) and isclose(before, value, rel_tol=1e-6)):
        return None
    setattr(owner, name, value)
    return Change(owner.bl_rna.properties[name].name, _shown(owner, name, before), _shown(owner, name, getattr(owner, name)))


def _shown(owner: Any, name: str, value: Any) -> str:
    """A value as the interface shows it."""
    item = getattr(owner.bl_rna.properties[name], "enum_items", {}).get(value) if isinstance(value, str) else None
    return item.name if item is not None else f"{value:g}" if isinstance(value, float) else str(value)
