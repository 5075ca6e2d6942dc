# SPDX-License-Identifier: Apache-2.0
"""The rig in Blender against float64 skinning."""

from dataclasses import replace

import bpy
import numpy as np

from blender_addon import bridge, rig
from blender_addon.import_avatar import import_avatar
from mvp4d_core.rig import Parameters, rest_parameters, skin
from tests.support.poses import random_parameters
from tests.support.toy_avatar import toy_avatar
from tests.support.toy_head import toy_head_model


def head_vertices(imported) -> np.ndarray:
    return bridge.head_from_blender(bridge.evaluated_vertices(imported.head).astype(np.float64))


def exact_vertices(avatar, parameters) -> np.ndarray:
    """float64 from the first operation on."""
    return skin(
        avatar.rig, None, *(np.asarray(a, np.float64) for a in (parameters.expression, parameters.rotations, parameters.translation))
    )


def test_rig_is_skinning_over_random_poses_and_expressions():
    avatar = toy_avatar(50)
    imported = import_avatar(avatar, "toy")
    errors = []
    for seed in range(10):
        parameters = random_parameters(avatar.rig, seed)
        rig.pose(imported.armature, imported.head, avatar.rig, parameters)
        errors.append(np.abs(head_vertices(imported) - exact_vertices(avatar, parameters)).max())
    assert max(errors) <= 1e-6, errors


def test_bone_axes_convention_is_the_heads():
    """A bone's own axes are head space's: x to the subject's left, y up, z out of the face. So axis-angles carry over unchanged."""
    avatar = toy_avatar(10)
    imported = import_avatar(avatar, "toy")
    for joint, name in enumerate(avatar.rig.joint_names):
        axes = np.array(imported.armature.data.bones[name].matrix_local.to_3x3()).T
        np.testing.assert_allclose(bridge.head_from_blender(axes), np.eye(3), atol=1e-6)
        for axis in range(3):
            rotations = np.zeros((5, 3), np.float32)
            rotations[joint, axis] = 0.4
            parameters = replace(rest_parameters(avatar.rig), rotations=rotations)
            rig.pose(imported.armature, imported.head, avatar.rig, parameters)
            np.testing.assert_allclose(head_vertices(imported), exact_vertices(avatar, parameters), atol=1e-6)


def test_offsets_shape_the_neutral_face_and_move_no_joint():
    avatar = toy_avatar(10)
    assert np.abs(avatar.rig.static_offsets).max() > 1e-3
    imported = import_avatar(avatar, "toy")
    np.testing.assert_allclose(head_vertices(imported), avatar.rig.v_template + avatar.rig.static_offsets, atol=1e-7)
    joints = [bridge.head_from_blender(np.array(bone.head_local)) for bone in imported.armature.data.bones]
    np.testing.assert_allclose(joints, avatar.rig.J_regressor @ avatar.rig.v_template, atol=1e-7)


def test_correctives_are_driven_without_python():
    avatar = toy_avatar(10)
    imported = import_avatar(avatar, "toy")
    drivers = list(imported.head.data.shape_keys.animation_data.drivers)
    assert len(drivers) == 36
    drivers += imported.splats.modifiers[0].node_group.animation_data.drivers  # the size of the picture
    assert len(drivers) == 38
    assert all(curve.driver.is_simple_expression and curve.driver.is_valid for curve in drivers)


def test_correctives_that_do_nothing_are_left_out():
    avatar = toy_avatar(10)
    posedirs = avatar.rig.posedirs.copy()
    posedirs[:, :, :30] = 0
    imported = import_avatar(replace(avatar, rig=replace(avatar.rig, posedirs=posedirs)), "toy")
    assert len(imported.head.data.shape_keys.animation_data.drivers) == 6


def test_sliders_have_the_expressions_names_and_sensible_ranges():
    avatar = toy_avatar(10)
    imported = import_avatar(avatar, "toy")
    keys = imported.head.data.shape_keys.key_blocks
    assert [key.name for key in keys][: 1 + len(avatar.rig.expression_names)] == ["Basis", *avatar.rig.expression_names]
    assert (keys["jawOpen"].slider_min, keys["jawOpen"].slider_max) == (0, 1)
    names = tuple(f"expr_{index}" for index in range(len(avatar.rig.expression_names)))
    other = import_avatar(replace(avatar, rig=replace(avatar.rig, expression_names=names)), "other").head.data.shape_keys.key_blocks
    assert (other["expr_0"].slider_min, other["expr_0"].slider_max) == (-5, 5)


def test_an_expression_beyond_its_slider_is_not_clamped():
    avatar = toy_avatar(10)
    imported = import_avatar(avatar, "toy")
    expression = np.linspace(-1.5, 2.5, len(avatar.rig.expression_names)).astype(np.float32)
    parameters = Parameters(expression, np.zeros((5, 3), np.float32), np.zeros(3, np.float32))
    rig.pose(imported.armature, imported.head, avatar.rig, parameters)
    np.testing.assert_allclose(head_vertices(imported), exact_vertices(avatar, parameters), atol=1e-6)


def test_head_is_hidden_from_renders_and_selectable():
    imported = import_avatar(toy_avatar(10), "toy")
    assert imported.head.hide_render and not imported.head.hide_select and not imported.head.hide_viewport
    assert not imported.splats.hide_render
    assert {o.name for o in imported.collection.objects} == {"toy rig", "toy head", "toy splats"}


def test_joints_that_move_with_the_expression_are_reported():
    avatar = toy_avatar(10)
    moving = replace(avatar, rig=replace(avatar.rig, J_regressor=toy_head_model().J_regressor))
    drift = rig.joint_drift(moving.rig)
    assert drift > 1e-4
    (note,) = import_avatar(moving, "moving").notes
    assert f"{1000 * drift:.2f} mm" in note
    assert import_avatar(avatar, "still").notes == ()


def test_a_moved_avatar_moves_as_a_whole():
    avatar = toy_avatar(100)
    imported = import_avatar(avatar, "toy")
    parameters = random_parameters(avatar.rig, 3)
    rig.pose(imported.armature, imported.head, avatar.rig, parameters)
    imported.armature.location = (1, 2, 3)
    bpy.context.view_layer.update()
    assert tuple(imported.splats.matrix_world.translation) == (1, 2, 3)
    np.testing.assert_allclose(head_vertices(imported), exact_vertices(avatar, parameters), atol=1e-6)
