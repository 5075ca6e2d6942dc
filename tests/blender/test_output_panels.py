# SPDX-License-Identifier: Apache-2.0
"""What the panels of splats, output and ComfyUI show."""

import bpy
import pytest

from blender_addon import compat, look, nodes, output_panels
from blender_addon.import_avatar import import_avatar
from tests.blender.test_panels import Layout
from tests.support.toy_avatar import toy_avatar


class Sidebar(Layout):
    """A layout that also knows progress bars and the fields of modifiers."""

    def progress(self, text, factor, **_):
        self.drawn.append((text, factor))

    def prop(self, owner, name, text="", **_):
        assert owner.path_resolve(name) is not None
        self.drawn.append(text or name)


def drawn() -> list:
    layout = Sidebar()
    for panel in output_panels.CLASSES:
        if not hasattr(panel, "poll") or panel.poll(bpy.context):
            panel.draw(type("Panel", (), {"layout": layout}), bpy.context)
    return layout.drawn


def test_without_an_avatar_there_is_comfyui_alone(addon):
    assert drawn()[-2:] == ["mvp4d.make_avatar", "mvp4d.watch_folder"]


def test_an_avatar_has_its_controls_and_outputs(addon):
    import_avatar(toy_avatar(20), "toy")
    shown = drawn()
    assert {"Density", "Opacity", "Scale", "mvp4d.show_splats", "mvp4d.turntable", "mvp4d.bake_splats", "mvp4d.export_glb"} <= set(shown)
    (splats,) = look.splats_in(bpy.context.scene)
    compat.set_modifier_input(look.splat_modifier(splats), nodes.DENSITY, 0.5)
    assert compat.modifier_input(look.splat_modifier(splats), nodes.DENSITY) == pytest.approx(0.5)
    bpy.data.objects.remove(splats)
    assert "Density" not in drawn() and "mvp4d.turntable" in drawn()


def test_what_comfyui_does_is_shown(addon):
    link = bpy.context.window_manager.mvp4d_link
    link.making, link.stage, link.share, link.watching = True, "MVP4D Distill Avatar", 0.25, True
    try:
        assert drawn() == [("MVP4D Distill Avatar", 0.25), "mvp4d.stop_making", "mvp4d.stop_watching"]
        assert bpy.ops.mvp4d.stop_making() == {"FINISHED"} and not link.making
    finally:
        link.making = link.watching = False
