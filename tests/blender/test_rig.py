# SPDX-License-Identifier: Apache-2.0
"""The rig in Blender against float64 skinning."""

from dataclasses import replace

import bpy
import numpy as np
import pytest

from blender_addon import bridge, movements, rig, sliders
from blender_addon.import_avatar import import_avatar
from mvp4d_core.errors import InputError
from mvp4d_core.rig import ARKIT_NAMES, Parameters, Performance, load_head_model, perform_on, rest_parameters, skin
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
        rig.pose(imported.armature, avatar.rig, parameters)
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
            rig.pose(imported.armature, avatar.rig, parameters)
            np.testing.assert_allclose(head_vertices(imported), exact_vertices(avatar, parameters), atol=1e-6)


def test_offsets_shape_the_neutral_face_and_move_no_joint():
    avatar = toy_avatar(10)
    assert np.abs(avatar.rig.static_offsets).max() > 1e-3
    imported = import_avatar(avatar, "toy")
    np.testing.assert_allclose(head_vertices(imported), avatar.rig.v_template + avatar.rig.static_offsets, atol=1e-7)
    bones = imported.armature.data.bones
    joints = [bridge.head_from_blender(np.array(bones[name].head_local)) for name in avatar.rig.joint_names]
    np.testing.assert_allclose(joints, avatar.rig.J_regressor @ avatar.rig.v_template, atol=1e-7)


def test_correctives_are_driven_without_python():
    avatar = toy_avatar(10)
    imported = import_avatar(avatar, "toy")
    drivers = corrective_drivers(imported)
    assert len(drivers) == 36 and all(driver.is_simple_expression and driver.is_valid for driver in drivers)
    assert no_python_runs(imported)


def corrective_drivers(imported) -> list[bpy.types.Driver]:
    curves = imported.head.data.shape_keys.animation_data.drivers
    return [curve.driver for curve in curves if curve.data_path.startswith('key_blocks["corrective')]


def no_python_runs(imported) -> bool:
    """Every driver of the rig is valid and one of those that Blender evaluates by itself."""
    owners = [imported.head.data.shape_keys, imported.armature]
    drivers = [curve.driver for owner in owners for curve in (owner.animation_data.drivers if owner.animation_data else ())]
    return all(driver.is_valid and (driver.type == "SUM" or driver.is_simple_expression) for driver in drivers)


def test_correctives_that_do_nothing_are_left_out():
    avatar = toy_avatar(10)
    posedirs = avatar.rig.posedirs.copy()
    posedirs[:, :, :30] = 0
    imported = import_avatar(replace(avatar, rig=replace(avatar.rig, posedirs=posedirs)), "toy")
    assert len(corrective_drivers(imported)) == 6


def test_sliders_have_the_expressions_names_and_sensible_ranges():
    avatar = toy_avatar(10)
    imported = import_avatar(avatar, "toy")
    keys = imported.head.data.shape_keys.key_blocks
    assert [key.name for key in keys][: 1 + len(avatar.rig.expression_names)] == ["Basis", *avatar.rig.expression_names]
    assert reach(imported, "jawOpen") == (0, 1)
    other = import_avatar(flame_like(avatar), "other")
    assert reach(other, "expr000") == (-5, 5) and reach(other, "jawOpen") == (0, 1)


def flame_like(avatar):
    """The avatar with FLAME's names for its expressions, and joints that move with them."""
    names = tuple(f"expr{index:03d}" for index in range(len(avatar.rig.expression_names)))
    return replace(avatar, rig=replace(avatar.rig, expression_names=names, J_regressor=toy_head_model().J_regressor))


def reach(imported, name: str) -> tuple[float, float]:
    settings = imported.armature.pose.bones["face"].id_properties_ui(name).as_dict()
    return settings["soft_min"], settings["soft_max"]


def test_an_expression_beyond_its_slider_is_not_clamped():
    avatar = toy_avatar(10)
    imported = import_avatar(avatar, "toy")
    expression = np.linspace(-1.5, 2.5, len(avatar.rig.expression_names)).astype(np.float32)
    parameters = Parameters(expression, np.zeros((5, 3), np.float32), np.zeros(3, np.float32))
    rig.pose(imported.armature, avatar.rig, parameters)
    np.testing.assert_allclose(head_vertices(imported), exact_vertices(avatar, parameters), atol=1e-6)


def test_head_is_hidden_from_renders_and_selectable():
    imported = import_avatar(toy_avatar(10), "toy")
    assert imported.head.hide_render and not imported.head.hide_select and not imported.head.hide_viewport
    assert not imported.splats.hide_render
    assert {o.name for o in imported.collection.objects} == {"toy rig", "toy head", "toy splats"}


def test_joints_that_move_with_the_expression_are_followed():
    avatar = flame_like(toy_avatar(10))
    assert movements.joint_drift(movements.expression_movements(avatar.rig)) > 1e-4
    imported = import_avatar(avatar, "moving")
    for seed in range(5):
        parameters = random_parameters(avatar.rig, seed)
        rig.pose(imported.armature, avatar.rig, parameters)
        np.testing.assert_allclose(head_vertices(imported), exact_vertices(avatar, parameters), atol=1e-6, rtol=0)
    assert no_python_runs(imported)


def test_identity_re_seats_the_joints():
    """Sliders of identity against skinning with those coefficients, in turned poses: joints must be where the new shape has them."""
    avatar = toy_avatar(10)
    model = toy_head_model()
    avatar = replace(
        avatar, rig=replace(avatar.rig, shapedirs=model.shapedirs, shape_names=model.shape_names, J_regressor=model.J_regressor)
    )
    imported = import_avatar(avatar, "anyone", identity=model)
    shape = np.array([1.5, -1, 0.5, 2, -0.5, 1])
    sliders.set_sliders(imported.armature, dict(zip(model.shape_names, shape, strict=True)))
    parameters = random_parameters(avatar.rig, 1)
    rig.pose(imported.armature, avatar.rig, parameters)
    acted = (np.asarray(a, np.float64) for a in (parameters.expression, parameters.rotations, parameters.translation))
    wanted = skin(avatar.rig, shape, *acted)
    assert np.abs(wanted - exact_vertices(avatar, parameters)).max() > 5e-3
    np.testing.assert_allclose(head_vertices(imported), wanted, atol=1e-6, rtol=0)
    plain = import_avatar(toy_avatar(10), "somebody", identity=load_head_model())
    assert "no sliders of identity" in plain.notes[0]


def test_a_head_of_other_names_gets_arkits_sliders():
    """A slider moves the landmarks as the core's conversion of that performance does, but for its bounds and the arc of the jaw."""
    avatar = flame_like(toy_avatar(10))
    imported = import_avatar(avatar, "flame")
    assert set(ARKIT_NAMES) <= set(imported.armature.pose.bones["face"].keys())
    neutral = avatar.rig.landmarks(exact_vertices(avatar, rest_parameters(avatar.rig)))
    for name in ("jawOpen", "browInnerUp", "mouthSmileLeft"):
        sliders.set_sliders(imported.armature, {name: 1.0})
        found = avatar.rig.landmarks(head_vertices(imported)) - neutral
        single = Performance(np.eye(52)[[ARKIT_NAMES.index(name)]], np.zeros((1, 0, 3)), np.zeros((1, 3)), 24, ARKIT_NAMES, ())
        wanted = avatar.rig.landmarks(exact_vertices(avatar, perform_on(single, avatar.rig)[0])) - neutral
        alike = (found * wanted).sum() / np.linalg.norm(found) / np.linalg.norm(wanted)
        assert alike > 0.9, (name, alike)
        sliders.set_sliders(imported.armature, {name: 0.0})


def test_names_that_blender_cannot_tell_apart_are_refused():
    avatar = toy_avatar(10)
    for change in (
        {"expression_names": ("Basis", *ARKIT_NAMES[1:])},
        {"expression_names": ("n" * 64, *ARKIT_NAMES[1:])},
        {"joint_names": ("root", "neck", "face", "left_eye", "right_eye")},
        {"joint_names": ("root", "neck", "root seat", "left_eye", "right_eye")},
    ):
        with pytest.raises(InputError, match="Rename it"):
            import_avatar(replace(avatar, rig=replace(avatar.rig, **change)), "odd")
        assert not bpy.data.objects and not bpy.data.collections


def test_a_moved_avatar_moves_as_a_whole():
    avatar = toy_avatar(100)
    imported = import_avatar(avatar, "toy")
    parameters = random_parameters(avatar.rig, 3)
    rig.pose(imported.armature, avatar.rig, parameters)
    imported.armature.location = (1, 2, 3)
    bpy.context.view_layer.update()
    assert tuple(imported.splats.matrix_world.translation) == (1, 2, 3)
    np.testing.assert_allclose(head_vertices(imported), exact_vertices(avatar, parameters), atol=1e-6)
