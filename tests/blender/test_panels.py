# SPDX-License-Identifier: Apache-2.0
"""What the panels show, and what they say when something of an avatar is missing."""

import bpy
import pytest

from blender_addon import face_regions, panels, registration
from blender_addon.import_avatar import import_avatar
from mvp4d_core.rig import ARKIT_NAMES
from tests.blender.test_rig import flame_like
from tests.blender.test_translations import description_of, own_properties
from tests.support.toy_avatar import toy_avatar


class Layout:
    """Records what a panel draws; Blender hands out a real layout only on a screen."""

    def __init__(self):
        self.drawn = []

    def row(self, **_):
        return self

    column = grid_flow = row

    def label(self, text, **_):
        self.drawn.append(text)

    def operator(self, identifier, **_):
        module, name = identifier.split(".")
        assert getattr(getattr(bpy.ops, module), name).get_rna_type()
        self.drawn.append(identifier)
        return type("Settings", (), {})()

    def operator_menu_enum(self, identifier, name, **_):
        self.operator(identifier)

    def prop(self, owner, name, **_):
        assert owner.path_resolve(name) is not None
        self.drawn.append(name.strip('[]"'))


def drawn() -> list[str]:
    """Everything the panels draw now."""
    layout = Layout()
    for panel in panels.CLASSES:
        if not hasattr(panel, "poll") or panel.poll(bpy.context):
            panel.draw(type("Panel", (), {"layout": layout}), bpy.context)
    return layout.drawn


@pytest.fixture
def settings(addon):
    yield bpy.context.window_manager.mvp4d
    settings = bpy.context.window_manager.mvp4d
    settings.expression_filter, settings.region, settings.both_sides = "", "BROWS", False


def test_without_an_avatar_there_is_only_the_import(settings):
    assert drawn() == ["Select an avatar, or import one", "mvp4d.import_avatar"]


def test_the_chosen_avatar_is_described(settings):
    import_avatar(toy_avatar(200), "toy")
    shown = drawn()
    assert shown[:2] == ["toy", "200 Gaussians on toy-head (CC0-1.0)"]
    assert {"mvp4d.load_performance", "mvp4d.rest", "mvp4d.key_face", "mvp4d.mirror_face", "mvp4d.live", "follow"} <= set(shown)
    assert "expr000" not in shown


def test_every_slider_is_in_one_region(settings):
    import_avatar(toy_avatar(10), "toy")
    seen = []
    for region in face_regions.REGIONS:
        settings.region = region.key
        seen += [name for name in drawn() if name in ARKIT_NAMES]
    assert sorted(seen) == sorted(ARKIT_NAMES)


def test_both_sides_are_one_slider(settings):
    imported = import_avatar(toy_avatar(10), "toy")
    settings.region, settings.both_sides = "EYES", True
    assert {"eyeBlink", "eyeSquint", "eyeWide"} <= set(drawn()) and "eyeBlinkLeft" not in drawn()
    both = bpy.context.scene.mvp4d_both_sides
    both.eyeBlink = 0.75
    face = imported.armature.pose.bones["face"]
    assert (face["eyeBlinkLeft"], face["eyeBlinkRight"]) == (0.75, 0.75)
    face["eyeBlinkLeft"] = 0.25
    assert both.eyeBlink == 0.5
    with pytest.raises(TypeError):
        both.keyframe_insert("eyeBlink")


def test_a_head_of_other_names_shows_both_kinds(settings):
    import_avatar(flame_like(toy_avatar(10)), "flame")
    assert {"browInnerUp", "expr000", "expr051"} <= set(drawn())
    settings.expression_filter = "EXPR01"
    assert {"expr010", "expr019"} <= set(drawn()) and "expr000" not in drawn()


@pytest.mark.parametrize("part", ["head", "splats", "face"])
def test_what_was_deleted_by_hand_is_said(settings, part):
    imported = import_avatar(toy_avatar(10), "toy")
    bpy.context.view_layer.objects.active = imported.armature
    if part == "face":
        bpy.ops.object.mode_set(mode="EDIT")
        imported.armature.data.edit_bones.remove(imported.armature.data.edit_bones["face"])
        bpy.ops.object.mode_set(mode="OBJECT")
    else:
        bpy.data.objects.remove(getattr(imported, part))
    assert any("deleted; import the avatar again" in text and part in text for text in drawn())
    assert bpy.ops.mvp4d.rest.poll() == (part == "splats")
    assert "mvp4d" in imported.armature


def test_labels_and_descriptions_are_whole(addon):
    for cls in registration.CLASSES:
        if issubclass(cls, bpy.types.Operator):
            assert cls.bl_label and description_of(cls) and not description_of(cls).endswith("."), cls
            assert all(prop.name and prop.description for prop in own_properties(cls)), cls
