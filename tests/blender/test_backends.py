# SPDX-License-Identifier: Apache-2.0
"""The ways to show splats, the controls they share, and several avatars drawn as one."""

from dataclasses import replace

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from blender_addon import bake, bridge, compat, compose, look, native_names, nodes, rig, scene, splats
from blender_addon.import_avatar import ImportedAvatar, import_avatar
from mvp4d_core.avatar.harmonics import SH_C0, sh_colors
from mvp4d_core.cameras import BLENDER_FROM_HEAD, orbit_camera
from mvp4d_core.rig import rest_parameters
from mvp4d_core.rotations import quaternion_to_matrix
from tests.support.pictures import read_picture
from tests.support.poses import random_parameters
from tests.support.toy_avatar import toy_avatar

CAMERA = orbit_camera(0.3, 0.1, target=np.zeros(3), distance=0.9, fov_y=0.5, width=96, height=96)


def modifier(imported: ImportedAvatar) -> bpy.types.NodesModifier:
    return look.splat_modifier(imported.splats)


def read(imported: ImportedAvatar, name: str) -> np.ndarray:
    """An attribute of the quads, in the order they are drawn."""
    evaluated = bridge.evaluated_geometry(imported.splats)
    return bridge.read_attribute(evaluated.mesh, name)


def control(imported: ImportedAvatar, **values: object) -> None:
    names = {"viewport": nodes.VIEWPORT, "density": nodes.DENSITY, "opacity": nodes.OPACITY, "scale": nodes.SCALE,
             "linear": nodes.LINEAR, "turn": nodes.TURN}  # fmt: skip
    for name, value in values.items():
        compat.set_modifier_input(modifier(imported), names[name], value)


def test_each_way_shows_every_gaussian():
    avatar = toy_avatar(300, sh_degree=1)
    imported = import_avatar(avatar, "toy")
    scene.add_camera(CAMERA, "camera", bpy.context.scene.collection)
    assert {compat.modifier_input(modifier(imported), where) for where in (nodes.VIEWPORT, nodes.RENDER)} == {nodes.QUADS}
    assert len(bridge.evaluated_geometry(imported.splats).mesh.polygons) == 300
    control(imported, viewport=nodes.DOTS)
    assert compat.modifier_input(modifier(imported), nodes.VIEWPORT) == nodes.DOTS
    clear = 1 / (1 + np.exp(-avatar.opacity_logits)) > 0.4
    evaluated = bridge.evaluated_geometry(imported.splats)
    dots = evaluated.pointcloud
    assert len(dots.points) == clear.sum()
    middle = np.sort(avatar.pose(rest_parameters(avatar.rig)).scales, axis=1)[clear, 1]
    np.testing.assert_allclose(bridge.read_attribute(dots, "radius"), 2.0 * middle, rtol=1e-4)
    control(imported, viewport=nodes.NATIVE)
    assert len(bridge.evaluated_geometry(imported.splats).pointcloud.points) == 300
    control(imported, viewport=nodes.QUADS)
    assert len(bridge.evaluated_geometry(imported.splats).mesh.polygons) == 300


@pytest.mark.parametrize("seed", range(2))
def test_native_splats_convention_is_that_of_blenders_sources(seed):
    """Linear scales and opacities, raw harmonics in the object's axes, under the names Blender 5.3 reads."""
    avatar = toy_avatar(200, sh_degree=3)
    imported = import_avatar(avatar, "toy")
    parameters = random_parameters(avatar.rig, seed)
    rig.pose(imported.armature, avatar.rig, parameters)
    with bake.gaussians_of(imported.splats) as twin:
        evaluated = bridge.evaluated_geometry(twin)
        points = evaluated.pointcloud
        found = {name: bridge.read_attribute(points, name) for name in ("position", "scale", "rotation", "radiance:base")}
        harmonics = np.stack([bridge.read_attribute(points, f"radiance:sh_{k}") for k in range(15)], axis=1)
    wanted = avatar.pose(parameters)
    assert np.abs(bridge.head_from_blender(found["position"]) - wanted.means).max() <= 1e-5
    rotations = BLENDER_FROM_HEAD.T @ quaternion_to_matrix(found["rotation"].astype(np.float64))
    assert np.abs(rotations - quaternion_to_matrix(wanted.quats.astype(np.float64))).max() <= 1e-4
    np.testing.assert_allclose(found["scale"], wanted.scales, rtol=1e-4)
    np.testing.assert_allclose(found["radiance:base"][:, 3], wanted.opacities, atol=1e-6)
    np.testing.assert_allclose(found["radiance:base"][:, :3], avatar.sh0, atol=1e-5)
    directions = np.random.default_rng(0).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    in_blender = np.concatenate([found["radiance:base"][:, None, :3], harmonics], axis=1)
    np.testing.assert_allclose(sh_colors(in_blender, bridge.blender_from_head(directions)), sh_colors(wanted.sh, directions), atol=1e-5)


def test_only_a_blender_that_has_native_splats_shows_them_by_itself():
    """Untested beyond this until there is a Blender 5.3."""
    assert nodes.native_is_known() == hasattr(bpy.types, native_names.NODE)
    if nodes.native_is_known():
        pytest.skip("this Blender has native splats: test them")
    assert "native" not in nodes.splat_tree_name(0)


def test_density_keeps_the_same_few_and_grows_them():
    avatar = toy_avatar(2000)
    imported = import_avatar(avatar, "toy")

    def left() -> tuple[np.ndarray, np.ndarray]:
        with bake.gaussians_of(imported.splats) as twin:
            evaluated = bridge.evaluated_geometry(twin)
            points = evaluated.pointcloud
            return bridge.read_attribute(points, splats.BIND_MEAN), bridge.read_attribute(points, "scale")

    everything, sizes = left()
    control(imported, density=0.25)
    few, grown = left()
    assert 400 < len(few) < 600
    places = {tuple(row): size for row, size in zip(everything.tolist(), sizes, strict=True)}
    np.testing.assert_allclose(grown, 2 * np.stack([places[tuple(row)] for row in few.tolist()]), rtol=1e-5)
    control(imported, density=0.5)
    assert {tuple(row) for row in few.tolist()} <= {tuple(row) for row in left()[0].tolist()}
    control(imported, density=0.0)
    assert len(bridge.evaluated_geometry(imported.splats).mesh.polygons) == 0
    control(imported, density=1.0, scale=3.0)
    np.testing.assert_allclose(left()[1], 3 * sizes, rtol=1e-6)


def test_opacity_fades_and_colours_turn_into_light():
    imported = import_avatar(toy_avatar(200), "toy")
    opacity, color = read(imported, splats.OPACITY), read(imported, splats.COLOR)
    control(imported, opacity=0.5, linear=True)
    np.testing.assert_allclose(read(imported, splats.OPACITY), opacity / 2, rtol=1e-6)
    light = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(read(imported, splats.COLOR), light, atol=1e-6)


def test_colours_turn_with_the_triangle_if_asked():
    """A head that turns as a whole, seen from a camera that turns along, has the colours it had."""
    avatar = toy_avatar(150, sh_degree=2)
    imported = import_avatar(avatar, "toy")
    placed = scene.add_camera(CAMERA, "camera", bpy.context.scene.collection)

    def colors() -> np.ndarray:
        return read(imported, splats.COLOR)[np.lexsort(read(imported, splats.BIND_MEAN).T)]

    control(imported, turn=True)
    rest = colors()
    root = imported.armature.data.bones[avatar.rig.joint_names[0]].head_local
    parameters = rest_parameters(avatar.rig)
    parameters.rotations[0, 1] = 0.8
    rig.pose(imported.armature, avatar.rig, parameters)
    about = Matrix.Translation(root) @ Matrix.Rotation(0.8, 4, "Z") @ Matrix.Translation(-root)
    placed.matrix_world = about @ placed.matrix_world
    np.testing.assert_allclose(colors(), rest, atol=2e-4)
    control(imported, turn=False)
    assert np.abs(colors() - rest).max() > 0.05


def overlapping() -> tuple[ImportedAvatar, ImportedAvatar]:
    """Two heads that stand in each other, one of them blue."""
    first = import_avatar(toy_avatar(1500), "first")
    blue = toy_avatar(1500, seed=1)
    second = import_avatar(replace(blue, sh0=blue.sh0 * 0 + np.array([-1.2, -1.2, 1.5], np.float32)), "second")
    second.armature.location = (0.06, 0.0, 0.01)
    scene.add_camera(CAMERA, "camera", bpy.context.scene.collection)
    scene.match_training(bpy.context.scene)
    return first, second


def test_avatars_that_overlap_are_drawn_as_one(tmp_path):
    pytest.importorskip("torch")
    from mvp4d_core.avatar import PosedSplats
    from mvp4d_core.render.avatar import render_splats

    first, second = overlapping()
    poses = []
    for imported in (first, second):
        with bake.gaussians_of(imported.splats) as twin:
            poses.append(bake.posed_splats(twin))
    scene.render_still(tmp_path / "apart.png", 1)
    together = compose.compose(bpy.context.scene)
    assert compose.compose(bpy.context.scene) == together and first.splats.hide_render
    scene.render_still(tmp_path / "together.png", 1)
    joined = [np.concatenate(parts) for parts in zip(*(bake.turned(pose) for pose in poses), strict=True)]
    means, quats, log_scales, logits, sh0, shN = joined
    splat_set = PosedSplats(means, quats, np.exp(log_scales), 1 / (1 + np.exp(-logits)), np.concatenate([sh0[:, None], shN], axis=1))
    (expected,), (alpha,) = render_splats(splat_set, [CAMERA])
    inside = alpha > 0.5
    errors = {name: ((read_picture(tmp_path / f"{name}.png") - expected)[inside] ** 2).mean() for name in ("apart", "together")}
    assert -10 * np.log10(errors["together"]) >= 45
    assert -10 * np.log10(errors["apart"]) <= 30
    compose.separate(bpy.context.scene)
    assert not compose.is_composed(bpy.context.scene) and not first.splats.hide_render and not first.splats.hide_viewport
    assert compose.NAME not in bpy.data.collections


def test_a_later_avatar_joins_the_others():
    import_avatar(toy_avatar(50), "first")
    together = compose.compose(bpy.context.scene)
    assert len(bridge.evaluated_geometry(together).mesh.polygons) == 50
    import_avatar(toy_avatar(70), "second")
    assert compose.compose(bpy.context.scene) == together
    assert len(bridge.evaluated_geometry(together).mesh.polygons) == 120


def test_names_that_are_taken_do_no_harm():
    """The user's own data may have any name, and ours may be renamed."""
    taken = (nodes.splat_tree_name(0), nodes.FOLLOW, nodes.COMPOSITE)
    for name in taken:
        bpy.data.node_groups.new(name, "GeometryNodeTree")
    bpy.data.materials.new("MVP4D Splats v2")
    bpy.data.objects.new(compose.NAME, None)
    world = bpy.data.worlds.new("MVP4D background")
    imported = import_avatar(toy_avatar(30), "toy")
    scene.match_training(bpy.context.scene)
    assert bpy.context.scene.world != world and world.library is None
    assert len(bridge.evaluated_geometry(imported.splats).mesh.polygons) == 30
    modifier(imported).node_group.name = "mine"
    assert look.splat_modifier(import_avatar(toy_avatar(30), "toy").splats).node_group.name == "mine"
    together = compose.compose(bpy.context.scene)
    assert len(bridge.evaluated_geometry(together).mesh.polygons) == 60
    together.modifiers.clear()
    assert not compose.is_composed(bpy.context.scene)
    assert compose.compose(bpy.context.scene) != together
    compose.separate(bpy.context.scene)
    assert not imported.splats.hide_viewport


def test_stored_base_is_the_constant_harmonic():
    avatar = toy_avatar(20)
    mesh = splats.new_splat_mesh("toy", avatar)
    np.testing.assert_allclose((bridge.read_attribute(mesh, splats.COLOR) - 0.5) / SH_C0, avatar.sh0, atol=1e-5)
