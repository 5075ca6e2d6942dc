# SPDX-License-Identifier: Apache-2.0
"""Faces as pose assets: marked, applied and blended by Blender's own pose library."""

import bpy
import pytest

from blender_addon import animation, poses, sliders
from blender_addon.import_avatar import import_avatar
from mvp4d_core.rig import ARKIT_NAMES
from mvp4d_core.rig.faces import EXPRESSIONS, VISEMES, both_sides
from tests.blender.test_rig import flame_like
from tests.support.poses import random_performance
from tests.support.toy_avatar import toy_avatar


@pytest.fixture
def imported(addon):
    return import_avatar(toy_avatar(30), "toy")


def face_of(imported) -> dict[str, float]:
    face = imported.armature.pose.bones["face"]
    return {name: face[name] for name in ARKIT_NAMES}


def test_the_library_becomes_assets_once(imported):
    assert bpy.ops.mvp4d.add_poses() == {"FINISHED"}
    assets = [action for action in bpy.data.actions if action.asset_data is not None]
    assert len(assets) == len(EXPRESSIONS) + len(VISEMES)
    assert all("MVP4D" in action.asset_data.tags and action.asset_data.description for action in assets)
    assert bpy.ops.mvp4d.add_poses() == {"FINISHED"}
    assert len(bpy.data.actions) == len(assets)
    assert imported.armature.animation_data.action is None


def test_blender_applies_and_blends_them(imported):
    bpy.ops.mvp4d.add_poses()
    joy = both_sides(EXPRESSIONS["joy"])
    sliders.set_sliders(imported.armature, {"browInnerUp": 1.0})
    imported.armature.pose.apply_pose_from_action(bpy.data.actions["Joy"], evaluation_time=1.0)
    assert face_of(imported) == pytest.approx({name: joy.get(name, 0.0) for name in ARKIT_NAMES}, abs=1e-6)
    imported.armature.pose.blend_pose_from_action(bpy.data.actions["Neutral"], blend_factor=0.5, evaluation_time=1.0)
    assert face_of(imported)["mouthSmileLeft"] == pytest.approx(joy["mouthSmileLeft"] / 2, abs=1e-6)


def test_visemes_leave_brows_and_lids(imported):
    bpy.ops.mvp4d.add_poses()
    sliders.set_sliders(imported.armature, {"browInnerUp": 0.5, "eyeBlinkLeft": 1.0, "jawOpen": 1.0})
    imported.armature.pose.apply_pose_from_action(bpy.data.actions["Viseme PP"], evaluation_time=1.0)
    found = face_of(imported)
    assert (found["browInnerUp"], found["eyeBlinkLeft"], found["jawOpen"]) == (0.5, 1.0, 0.0)
    assert found["mouthPressLeft"] == pytest.approx(VISEMES["PP"]["mouthPress"], abs=1e-6)


def test_the_face_as_it_is_can_be_kept(imported):
    action = animation.key_performance(imported.armature, random_performance(toy_avatar(30).rig, 3), "take")
    slot = imported.armature.animation_data.action_slot
    bpy.context.view_layer.update()
    sliders.set_sliders(imported.armature, {"jawOpen": 0.4, "tongueOut": 0.3})
    before = face_of(imported)
    assert bpy.ops.mvp4d.save_pose(asset_name="My face") == {"FINISHED"}
    assert imported.armature.animation_data.action == action and imported.armature.animation_data.action_slot == slot
    sliders.set_sliders(imported.armature, dict.fromkeys(ARKIT_NAMES, 0.0))
    imported.armature.pose.apply_pose_from_action(bpy.data.actions["My face"], evaluation_time=1.0)
    assert face_of(imported) == pytest.approx(before, abs=1e-6)


def test_assets_of_one_avatar_suit_another(imported):
    bpy.ops.mvp4d.add_poses()
    other = import_avatar(flame_like(toy_avatar(30)), "flame")
    other.armature.pose.apply_pose_from_action(bpy.data.actions["Surprise"], evaluation_time=1.0)
    wanted = both_sides(EXPRESSIONS["surprise"])
    assert face_of(other)["jawOpen"] == pytest.approx(wanted["jawOpen"], abs=1e-6)


def test_every_pose_names_sliders_that_are_there():
    for name, face in poses.library_poses().items():
        assert set(face) <= set(ARKIT_NAMES) and all(0 <= weight <= 1 for weight in face.values()), name
