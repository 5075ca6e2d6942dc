# SPDX-License-Identifier: Apache-2.0
"""Target of the eyes, handle of the jaw, locks and shapes; and the face's operators."""

import bpy
import numpy as np
import pytest

from blender_addon import animation, bridge, controls, rig, sliders
from blender_addon.import_avatar import import_avatar
from mvp4d_core.rig import rest_parameters
from tests.blender.test_rig import exact_vertices, flame_like, head_vertices, no_python_runs
from tests.support.poses import random_parameters, random_performance
from tests.support.toy_avatar import toy_avatar


@pytest.fixture
def imported():
    return import_avatar(toy_avatar(30), "toy")


def gaze(imported, eye: str) -> np.ndarray:
    """Where an eye looks, in head space: the z axis of its bone."""
    bone = imported.armature.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones[eye]
    return bridge.head_from_blender(np.array(bone.matrix)[:3, 2])


def place(imported, bone: str) -> np.ndarray:
    posed = imported.armature.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones[bone]
    return bridge.head_from_blender(np.array(posed.matrix)[:3, 3])


@pytest.mark.parametrize("move", [(0.2, 0.1, 0.0), (-0.1, -0.15, -0.1)])
def test_eyes_look_at_their_target(imported, move):
    bones = imported.armature.pose.bones
    bones[controls.EYE_TARGET].location = move
    assert np.allclose(gaze(imported, "left_eye"), [0, 0, 1], atol=1e-6)  # not before they are told to
    bones[controls.EYE_TARGET][controls.FOLLOW] = 1.0
    imported.armature.update_tag()
    for eye in controls.EYES:
        wanted = place(imported, controls.target_of(eye)) - place(imported, eye)
        np.testing.assert_allclose(gaze(imported, eye), wanted / np.linalg.norm(wanted), atol=1e-5)
    bones["neck"].rotation_quaternion = (0.96, 0.0, 0.28, 0.0)
    wanted = place(imported, controls.target_of("left_eye")) - place(imported, "left_eye")
    np.testing.assert_allclose(gaze(imported, "left_eye"), wanted / np.linalg.norm(wanted), atol=1e-5)


def test_eyes_that_follow_a_target_at_rest_do_not_move(imported):
    before = head_vertices(imported)
    imported.armature.pose.bones[controls.EYE_TARGET][controls.FOLLOW] = 1.0
    imported.armature.update_tag()
    np.testing.assert_allclose(head_vertices(imported), before, atol=1e-6)


@pytest.mark.parametrize(("axis", "way", "name"), [(1, -1, "jawOpen"), (0, 1, "jawLeft"), (0, -1, "jawRight"), (2, 1, "jawForward")])
def test_the_jaws_handle_adds_to_the_sliders(imported, axis, way, name):
    """Half the way is half of the slider; the axes are the head's, x to the subject's left."""
    key = imported.head.data.shape_keys.key_blocks[name]
    handle = imported.armature.pose.bones[controls.JAW_HANDLE]

    def value(distance: float, slider: float) -> float:
        handle.location[axis] = way * distance
        sliders.set_sliders(imported.armature, {name: slider})
        bpy.context.view_layer.update()
        return key.value

    assert value(0.015, 0.0) == pytest.approx(0.5, abs=1e-5)
    assert value(0.015, 0.25) == pytest.approx(0.75, abs=1e-5)
    assert value(0.03, 0.5) == pytest.approx(1.0, abs=1e-5)
    assert value(0.03, 1.5) == pytest.approx(1.5, abs=1e-5)
    assert value(-0.03, 0.25) == pytest.approx(0.25, abs=1e-5)


def test_flame_heads_have_the_same_controls():
    imported = import_avatar(flame_like(toy_avatar(30)), "flame")
    imported.armature.pose.bones[controls.JAW_HANDLE].location[1] = -0.03
    bpy.context.view_layer.update()
    assert imported.head.data.shape_keys.key_blocks["jawOpen"].value == pytest.approx(1, abs=1e-5)
    assert no_python_runs(imported)


def test_what_must_not_move_is_locked(imported):
    bones = imported.armature.pose.bones
    assert not any(bones["root"].lock_location) and all(bones["jaw"].lock_location) and not any(bones["jaw"].lock_rotation)
    assert all(bones["face"].lock_location) and all(bones[controls.JAW_HANDLE].lock_rotation)
    assert {c.name: c.is_visible for c in imported.armature.data.collections} == {"Controls": True, "Joints": True, "Mechanism": False}
    assert all(bones[name].custom_shape is not None for name in ("face", controls.EYE_TARGET, controls.JAW_HANDLE))


def test_shapes_are_shared_by_all_avatars(imported):
    count = len(bpy.data.objects)
    import_avatar(toy_avatar(30), "second")
    assert len(bpy.data.objects) == count + 3


def test_rest_takes_everything_back(addon, imported):
    avatar = toy_avatar(30)
    rig.pose(imported.armature, avatar.rig, random_parameters(avatar.rig, 0))
    imported.armature.pose.bones[controls.JAW_HANDLE].location = (0, -0.02, 0)
    assert bpy.ops.mvp4d.rest() == {"FINISHED"}
    np.testing.assert_allclose(head_vertices(imported), exact_vertices(avatar, rest_parameters(avatar.rig)), atol=1e-6)


@pytest.mark.parametrize("mode", ["SWAP", "TO_RIGHT", "TO_LEFT"])
def test_mirrored_faces(addon, imported, mode):
    face = imported.armature.pose.bones["face"]
    sliders.set_sliders(imported.armature, {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.2, "jawLeft": 0.5, "jawOpen": 0.3})
    assert bpy.ops.mvp4d.mirror_face(mode=mode) == {"FINISHED"}
    smiles = {"SWAP": (0.2, 0.8), "TO_RIGHT": (0.8, 0.8), "TO_LEFT": (0.2, 0.2)}[mode]
    assert (face["mouthSmileLeft"], face["mouthSmileRight"]) == pytest.approx(smiles)
    assert (face["jawLeft"], face["jawRight"], face["jawOpen"]) == pytest.approx((0, 0.5, 0.3) if mode == "SWAP" else (0.5, 0, 0.3))


def test_a_region_is_reset_and_keyed(addon, imported):
    face = imported.armature.pose.bones["face"]
    sliders.set_sliders(imported.armature, {"browInnerUp": 1, "jawOpen": 1})
    assert bpy.ops.mvp4d.reset_face(region="BROWS") == {"FINISHED"}
    assert (face["browInnerUp"], face["jawOpen"]) == (0, 1)
    bpy.context.scene.frame_set(3)
    assert bpy.ops.mvp4d.key_face(region="ALL", bones=True) == {"FINISHED"}
    sliders.set_sliders(imported.armature, {"jawOpen": 0})
    bpy.context.scene.frame_set(9)
    sliders.set_sliders(imported.armature, {"jawOpen": 0})
    assert bpy.ops.mvp4d.key_face(region="JAW") == {"FINISHED"}
    for frame, wanted in ((3, 1), (9, 0)):
        bpy.context.scene.frame_set(frame)
        assert imported.head.data.shape_keys.key_blocks["jawOpen"].value == pytest.approx(wanted, abs=1e-6)


def test_a_scaled_and_turned_avatar_keeps_its_face(imported):
    """Controls and seats work wherever the avatar stands."""
    avatar = flame_like(toy_avatar(30))
    moved = import_avatar(avatar, "moved")
    moved.armature.location, moved.armature.scale, moved.armature.rotation_euler = (1, 2, 3), (2, 2, 2), (0.3, 0.2, 1.0)
    parameters = random_parameters(avatar.rig, 2)
    rig.pose(moved.armature, avatar.rig, parameters)
    np.testing.assert_allclose(head_vertices(moved), exact_vertices(avatar, parameters), atol=2e-6, rtol=0)


def test_half_a_rig_still_acts(addon):
    """Bones, keys and the points of the joints that somebody deleted are missed, and the rest goes on."""
    avatar = flame_like(toy_avatar(30))
    imported = import_avatar(avatar, "flame")
    bpy.ops.object.mode_set(mode="EDIT")
    for name in ("jaw", "left_eye", controls.EYE_TARGET, controls.JAW_HANDLE):
        imported.armature.data.edit_bones.remove(imported.armature.data.edit_bones[name])
    bpy.ops.object.mode_set(mode="OBJECT")
    imported.head.shape_key_remove(imported.head.data.shape_keys.key_blocks["expr003"])
    bpy.data.objects.remove(bpy.data.objects["flame joints"])
    performance = random_performance(avatar.rig, 3)
    animation.key_performance(imported.armature, performance, "take")
    bpy.context.scene.frame_set(2)
    assert imported.head.data.shape_keys.key_blocks["expr000"].value == pytest.approx(performance.expression[1, 0], abs=1e-6)
    for operator in (bpy.ops.mvp4d.rest, bpy.ops.mvp4d.mirror_face, bpy.ops.mvp4d.reset_face, bpy.ops.mvp4d.add_poses):
        assert operator() == {"FINISHED"}
    assert bpy.ops.mvp4d.key_face(region="ALL", bones=True) == {"FINISHED"}
