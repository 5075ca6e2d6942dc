# SPDX-License-Identifier: Apache-2.0
"""Presets, the turntable, pictures with alpha, splat files and GLB: what leaves Blender is what the core says."""

import json
import struct

import bpy
import numpy as np
import pytest

from blender_addon import animation, bake, compat, look, nodes, sampling, scene, turntable
from blender_addon.import_avatar import import_avatar
from mvp4d_core.avatar import save_avatar
from mvp4d_core.avatar.file_space import stored_pose
from mvp4d_core.avatar.ply import read_ply
from mvp4d_core.cameras import orbit_camera
from mvp4d_core.errors import InputError, StorageError
from mvp4d_core.rotations import quaternion_to_matrix
from tests.support.pictures import read_picture
from tests.support.poses import random_performance
from tests.support.toy_avatar import toy_avatar

CAMERA = orbit_camera(0.3, 0.1, target=np.zeros(3), distance=0.9, fov_y=0.5, width=64, height=64)


@pytest.fixture
def avatar_file(tmp_path):
    path = tmp_path / "toy.mvp4d"
    save_avatar(path, toy_avatar(200, sh_degree=2))
    return path


@pytest.fixture
def imported(addon, avatar_file):
    bpy.ops.mvp4d.import_avatar(filepath=str(avatar_file), match_training=False)
    return bpy.context.object


def splats_object() -> bpy.types.Object:
    (splats,) = look.splats_in(bpy.context.scene)
    return splats


@pytest.mark.parametrize("degree", [0, 3])
def test_a_baked_frame_is_the_pose(degree, tmp_path):
    avatar = toy_avatar(300, sh_degree=degree)
    toy = import_avatar(avatar, "toy")
    performance = random_performance(avatar.rig, 2)
    animation.use_timing(bpy.context.scene, performance)
    animation.key_performance(toy.armature, performance, "random", start=1)
    bpy.context.scene.frame_set(7)
    steps = list(bake.bake_sequence(toy.splats, tmp_path / "ply", range(1, 3)))
    assert steps == [(1, 2), (2, 2)] and bpy.context.scene.frame_current == 7
    assert [path.name for path in sorted((tmp_path / "ply").iterdir())] == ["frame_0001.ply", "frame_0002.ply"]
    assert look.splats_in(bpy.context.scene) == [toy.splats]  # no twin is left
    for frame in range(2):
        found, wanted = read_ply(tmp_path / "ply" / f"frame_{frame + 1:04d}.ply"), stored_pose(avatar, performance[frame])
        np.testing.assert_allclose(found.means, wanted.means, atol=1e-5)
        np.testing.assert_allclose(found.log_scales, wanted.log_scales, atol=1e-4)
        np.testing.assert_allclose(found.opacity_logits, wanted.opacity_logits, atol=1e-4)
        np.testing.assert_allclose(found.sh0, wanted.sh0, atol=1e-5)
        np.testing.assert_allclose(found.shN, wanted.shN, atol=1e-6)
        both = [quaternion_to_matrix(splats.quats.astype(np.float64)) * np.exp(splats.log_scales)[:, None] for splats in (found, wanted)]
        covariances = [m @ np.swapaxes(m, 1, 2) for m in both]  # a Gaussian has no direction along its axes
        np.testing.assert_allclose(*covariances, atol=1e-4 * np.exp(wanted.log_scales).max() ** 2)


def test_a_moved_and_grown_avatar_is_baked_where_it_stands(tmp_path):
    toy = import_avatar(toy_avatar(50, sh_degree=1), "toy")
    with bake.gaussians_of(toy.splats) as twin:
        before = bake.turned(bake.posed_splats(twin))
    toy.armature.location, toy.armature.rotation_mode = (1, 2, 3), "XYZ"
    toy.armature.rotation_euler, toy.armature.scale = (0, 0, np.pi / 2), (2, 2, 2)
    with bake.gaussians_of(toy.splats) as twin:
        after = bake.turned(bake.posed_splats(twin))
    x, y, z = 2 * before.means.T  # in head axes: a quarter turn about up, then Blender's (1, 2, 3)
    np.testing.assert_allclose(after.means, np.stack([z + 1, y + 3, -x - 2], axis=1), atol=1e-5)
    np.testing.assert_allclose(after.log_scales, before.log_scales + np.log(2), atol=1e-5)
    toy.armature.scale = (1, 2, 1)
    with pytest.raises(InputError, match="scaled unevenly"), bake.gaussians_of(toy.splats) as twin:
        bake.posed_splats(twin)


def test_the_operator_bakes_the_scenes_range(imported, tmp_path):
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 3, 5
    assert bpy.ops.mvp4d.bake_splats(filepath=str(tmp_path / "out"), kind=".spz") == {"FINISHED"}
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["frame_0003.spz", "frame_0004.spz", "frame_0005.spz"]
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match="can't be made a folder"):
        bpy.ops.mvp4d.bake_splats(filepath=str(tmp_path / "file"))


def test_what_the_rig_does_is_sampled_as_the_performance_it_was_keyed_from():
    avatar = toy_avatar(20)
    toy = import_avatar(avatar, "toy")
    performance = random_performance(avatar.rig, 4)
    animation.use_timing(bpy.context.scene, performance)
    animation.key_performance(toy.armature, performance, "random", start=11)
    found = sampling.performance_of(toy.armature, toy.head, avatar.rig, range(11, 15))
    np.testing.assert_allclose(found.expression, performance.expression, atol=1e-5)
    for frame in range(4):
        poses = [avatar.pose(acted[frame]).means for acted in (found, performance)]
        np.testing.assert_allclose(*poses, atol=2e-6)
    assert found.fps == pytest.approx(performance.fps)


def test_glb_has_the_morphs_and_what_the_scene_does(imported, tmp_path):
    bpy.context.scene.frame_end = 4
    target = tmp_path / "toy.glb"
    assert bpy.ops.mvp4d.export_glb(filepath=str(target), texture_size="512") == {"FINISHED"}
    data = target.read_bytes()
    (length,) = struct.unpack("<I", data[12:16])
    document = json.loads(data[20 : 20 + length])
    assert "jawOpen" in document["meshes"][0]["extras"]["targetNames"]
    assert document["accessors"][document["animations"][0]["samplers"][0]["input"]]["count"] == 4
    other = tmp_path / "other.mvp4d"
    other.write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"other\.mvp4d"):
        bpy.ops.mvp4d.export_glb(filepath=str(target), avatar=str(other))
    assert target.read_bytes() == data


def test_presets_say_what_they_change(imported):
    current = bpy.context.scene
    changes = look.use_look(current, look.Renderer.CYCLES)
    assert "Engine: EEVEE to CYCLES" in map(str, changes)
    assert current.cycles.transparent_max_bounces == current.cycles.min_transparent_bounces == 1024
    assert look.use_look(current, look.Renderer.CYCLES) == []
    light = look.use_look(current, look.Renderer.CYCLES, look.Blending.LIGHT)
    assert [str(change).partition(": ")[2] for change in light] == ["Raw to Standard", "False to True"]
    assert compat.modifier_input(look.splat_modifier(splats_object()), nodes.LINEAR)
    assert bpy.ops.mvp4d.render_preset(renderer="EEVEE", blending="TRAINED") == {"FINISHED"}
    assert current.render.engine == compat.EEVEE and current.view_settings.view_transform == "Raw"


def test_a_turntable_goes_round_once_and_sees_the_head(imported):
    current = bpy.context.scene
    current.frame_start = 5
    assert bpy.ops.mvp4d.turntable(frames=8) == {"FINISHED"}
    assert (current.frame_start, current.frame_end) == (5, 12)
    head = bpy.data.objects["toy head"]
    centre = np.array([np.array(head.matrix_world @ v.co) for v in head.data.vertices])
    centre = (centre.min(axis=0) + centre.max(axis=0)) / 2
    places = []
    for frame in range(5, 13):
        current.frame_set(frame)
        matrix = np.array(current.camera.matrix_world)
        towards = centre - matrix[:3, 3]
        np.testing.assert_allclose(towards / np.linalg.norm(towards), -matrix[:3, 2], atol=1e-5)
        places.append(matrix[:3, 3])
    assert places[0][1] < centre[1] - 0.3 and abs(places[0][0] - centre[0]) < 1e-6  # begins in front of the face
    angles = np.unwrap([np.arctan2(*(place - centre)[[0, 1]]) for place in places])
    np.testing.assert_allclose(np.diff(angles), -np.pi / 4, atol=1e-4)
    with pytest.raises(InputError, match="two frames or more"):
        turntable.add_turntable(current, head, 1)


def test_alpha_over_white_is_the_picture_on_white(imported, tmp_path):
    scene.add_camera(CAMERA, "camera", bpy.context.scene.collection)
    scene.match_training(bpy.context.scene)
    scene.render_still(tmp_path / "white.png", 1)
    bpy.context.scene.frame_end = 2
    assert bpy.ops.mvp4d.render_alpha(filepath=str(tmp_path / "pictures")) == {"FINISHED"}
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == ["frame_0001.png", "frame_0002.png"]
    layered = read_picture(tmp_path / "pictures" / "frame_0001.png", "RGBA")
    color, alpha = layered[..., :3], layered[..., 3:]
    assert alpha.min() == 0 and alpha.max() > 0.9
    np.testing.assert_allclose(color * alpha + 1 - alpha, read_picture(tmp_path / "white.png"), atol=2.5 / 255)
    assert not bpy.context.scene.render.film_transparent
    assert bpy.ops.mvp4d.render_alpha(filepath=str(tmp_path / "film"), kind="FILM") == {"FINISHED"}
    content = (tmp_path / "film.webm").read_bytes()
    assert content[:4] == b"\x1a\x45\xdf\xa3" and b"V_VP9" in content
    with pytest.raises(StorageError):
        scene.render_still(tmp_path / "nowhere" / "a.png", 1, alpha=True)


def test_nothing_is_exported_of_an_avatar_without_splats(imported):
    bpy.data.objects.remove(splats_object())
    assert not bpy.ops.mvp4d.bake_splats.poll() and not bpy.ops.mvp4d.export_glb.poll() and not bpy.ops.mvp4d.show_splats.poll()


def test_the_way_splats_are_shown_is_chosen(imported):
    assert bpy.ops.mvp4d.show_splats(way="Dots", where="Viewport") == {"FINISHED"}
    modifier = look.splat_modifier(splats_object())
    assert compat.modifier_input(modifier, nodes.VIEWPORT) == "Dots" and compat.modifier_input(modifier, nodes.RENDER) == "Quads"
    assert bpy.ops.mvp4d.compose() == {"FINISHED"}
    assert bpy.ops.mvp4d.separate.poll()
    assert bpy.ops.mvp4d.separate() == {"FINISHED"} and not bpy.ops.mvp4d.separate.poll()
