# SPDX-License-Identifier: Apache-2.0
"""The splats in Blender against `GaussianAvatar.pose`, and a render against the rasteriser."""

from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from PIL import Image

from blender_addon import bridge, build, compat, nodes, rig, scene, splats
from blender_addon.graph import Graph
from blender_addon.import_avatar import import_avatar
from mvp4d_core.cameras import BLENDER_FROM_HEAD, Camera, orbit_camera, project
from mvp4d_core.errors import InputError
from mvp4d_core.rig import bound_to_world, rest_parameters, triangle_frames
from mvp4d_core.rotations import quaternion_to_matrix
from tests.support.poses import random_parameters
from tests.support.toy_avatar import toy_avatar

FLAT_TRIANGLE = 3


def probe(imported) -> dict[str, np.ndarray]:
    """Mean, rotation and scale of each splat as the follow group has them."""
    tree = bpy.data.node_groups.new("probe", "GeometryNodeTree")
    sockets = tree.interface
    sockets.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    sockets.new_socket("Head", in_out="INPUT", socket_type="NodeSocketObject")
    sockets.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    graph = Graph(tree)
    entry = graph.node("NodeGroupInput").outputs
    follow = graph.node("GeometryNodeGroup", node_tree=nodes.follow_tree())
    tree.links.new(entry["Head"], follow.inputs["Head"])
    geometry = entry["Geometry"]
    for name, kind in (("Mean", "FLOAT_VECTOR"), ("Rotation", "QUATERNION"), ("Scale", "FLOAT_VECTOR")):
        geometry = graph.stored(geometry, name, kind, follow.outputs[name])
    graph.node("NodeGroupOutput", {"Geometry": geometry})
    imported.splats.modifiers[0].node_group = tree
    compat.set_modifier_input(imported.splats.modifiers[0], "Head", imported.head)
    mesh = imported.splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    return {name: bridge.read_attribute(mesh, name) for name in ("Mean", "Rotation", "Scale")}


def head_rotations(found: dict[str, np.ndarray]) -> np.ndarray:
    return BLENDER_FROM_HEAD.T @ quaternion_to_matrix(found["Rotation"].astype(np.float64))


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")) / 255


def test_splat_centres_are_those_of_pose():
    avatar = toy_avatar(500)
    imported = import_avatar(avatar, "toy")
    assert build.position_error(avatar, imported) <= 1e-5
    rest = avatar.pose(rest_parameters(avatar.rig))
    np.testing.assert_allclose(build.splat_centres(imported), rest.means, atol=1e-6)  # measuring leaves it at rest


@pytest.mark.parametrize("seed", range(3))
def test_splat_frames_are_those_of_the_evaluated_head(seed):
    avatar = toy_avatar(300)
    imported = import_avatar(avatar, "toy")
    parameters = random_parameters(avatar.rig, seed)
    rig.pose(imported.armature, avatar.rig, parameters)
    vertices = bridge.head_from_blender(bridge.evaluated_vertices(imported.head).astype(np.float64))
    means, quats, log_scales = (getattr(avatar, name).astype(np.float64) for name in ("means", "quats", "log_scales"))
    means, quats, scales = bound_to_world(means, quats, np.exp(log_scales), avatar.binding, triangle_frames(vertices, avatar.rig.faces))
    found = probe(imported)
    assert np.abs(bridge.head_from_blender(found["Mean"]) - means).max() <= 1e-6
    assert np.abs(head_rotations(found) - quaternion_to_matrix(quats)).max() <= 5e-6
    assert np.abs(found["Scale"] / scales - 1).max() <= 2e-6


@pytest.mark.parametrize("seed", range(3))
def test_splat_frames_are_those_of_pose(seed):
    """Looser than against the evaluated head: a tenth of a micrometre turns a triangle of a millimetre by 1e-4."""
    avatar = toy_avatar(300)
    imported = import_avatar(avatar, "toy")
    parameters = random_parameters(avatar.rig, seed)
    rig.pose(imported.armature, avatar.rig, parameters)
    found, wanted = probe(imported), avatar.pose(parameters)
    assert np.abs(bridge.head_from_blender(found["Mean"]) - wanted.means).max() <= 1e-5
    assert np.abs(head_rotations(found) - quaternion_to_matrix(wanted.quats.astype(np.float64))).max() <= 1e-4
    assert np.abs(found["Scale"] / wanted.scales - 1).max() <= 1e-4


def test_a_triangle_without_area_gives_head_axes():
    avatar = toy_avatar(100)
    faces = avatar.rig.faces.copy()
    faces[FLAT_TRIANGLE] = faces[FLAT_TRIANGLE, 0]
    binding = np.full_like(avatar.binding, FLAT_TRIANGLE)
    avatar = replace(avatar, rig=replace(avatar.rig, faces=faces), binding=binding)
    found = probe(import_avatar(avatar, "flat"))
    wanted = avatar.pose(rest_parameters(avatar.rig))
    np.testing.assert_allclose(bridge.head_from_blender(found["Mean"]), wanted.means, atol=1e-6)
    np.testing.assert_allclose(head_rotations(found), quaternion_to_matrix(wanted.quats.astype(np.float64)), atol=1e-5)


@pytest.mark.parametrize("crooked", [False, True])
def test_camera_convention_blender_projects_as_the_core_does(crooked):
    """Points through Blender's own projection land where `cameras.project` puts them: principal point, pixel shape, axes."""
    camera = orbit_camera(0.7, -0.3, target=np.array([0.01, -0.02, 0.03]), distance=0.9, fov_y=0.4, width=300, height=200)
    if crooked:
        matrix = camera.K.copy()
        matrix[0, 2] += 31
        matrix[1, 2] -= 17
        matrix[1, 1] *= 1.1
        camera = replace(camera, K=matrix)
    placed = scene.add_camera(camera, "camera", bpy.context.scene.collection)
    bpy.context.view_layer.update()
    render = bpy.context.scene.render
    projection = placed.calc_matrix_camera(
        bpy.context.evaluated_depsgraph_get(),
        x=render.resolution_x,
        y=render.resolution_y,
        scale_x=render.pixel_aspect_x,
        scale_y=render.pixel_aspect_y,
    )
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (20, 3))
    in_blender = np.concatenate([bridge.blender_from_head(points), np.ones((20, 1))], axis=1)
    clip = in_blender @ (np.array(projection) @ np.array(placed.matrix_world.inverted())).T
    normalized = clip[:, :2] / clip[:, 3:]
    pixels = np.stack([(normalized[:, 0] + 1) / 2 * camera.width, (1 - normalized[:, 1]) / 2 * camera.height], axis=1)
    np.testing.assert_allclose(pixels, project(points, camera)[0], atol=2e-2)


def test_a_camera_with_skew_is_refused():
    camera = orbit_camera(0, 0, target=np.zeros(3), distance=1, fov_y=0.4, width=64, height=64)
    skewed = camera.K + np.array([[0, 3, 0], [0, 0, 0], [0, 0, 0]])
    with pytest.raises(InputError, match="no skew"):
        scene.add_camera(replace(camera, K=skewed), "camera", bpy.context.scene.collection)
    assert not bpy.data.cameras


def render_and_reference(avatar, camera: Camera, path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from mvp4d_core.render.avatar import render_avatar

    imported = import_avatar(avatar, "toy")
    parameters = random_parameters(avatar.rig, seed)
    parameters = replace(parameters, expression=0.3 * parameters.expression)
    rig.pose(imported.armature, avatar.rig, parameters)
    scene.add_camera(camera, "camera", bpy.context.scene.collection)
    scene.match_training(bpy.context.scene)
    scene.render_still(path, 1)
    reference, alpha = render_avatar(avatar, parameters, camera)
    return picture(path), reference, alpha


@pytest.mark.parametrize(("sh_degree", "azimuth"), [(0, 0.0), (1, -0.9), (2, 0.6), (3, 2.6)])
def test_eevee_renders_what_the_rasteriser_does(tmp_path, sh_degree, azimuth):
    pytest.importorskip("torch")
    camera = orbit_camera(azimuth, 0.15, target=np.array([0, -0.01, 0]), distance=0.8, fov_y=0.45, width=200, height=240)
    image, reference, alpha = render_and_reference(toy_avatar(3000, sh_degree=sh_degree), camera, tmp_path / "still.png", sh_degree)
    foreground = alpha > 0.01
    assert foreground.mean() > 0.1
    error = ((image - reference)[foreground] ** 2).mean()
    assert -10 * np.log10(error) >= 45
    assert np.abs(image - reference)[~foreground].max() <= 2 / 255


def test_harmonics_convention_is_that_of_gaussian_splatting():
    """Each splat has one coefficient; its colour in Blender against scipy's harmonics along the ray from the camera, in head axes."""
    special = pytest.importorskip("scipy.special")
    count = 15 * 40
    avatar = toy_avatar(count, sh_degree=3)
    coefficients = np.zeros_like(avatar.shN)
    which = np.arange(count) % 15
    coefficients[np.arange(count), which] = 0.4
    avatar = replace(avatar, shN=coefficients, sh0=np.full_like(avatar.sh0, 3.0))
    camera = orbit_camera(0.8, 0.4, target=np.zeros(3), distance=0.3, fov_y=0.45, width=64, height=64)
    imported = import_avatar(avatar, "toy")
    scene.add_camera(camera, "camera", bpy.context.scene.collection)
    mesh = imported.splats.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    found, means = bridge.read_attribute(mesh, splats.COLOR), bridge.read_attribute(mesh, splats.BIND_MEAN)
    assert not any(attribute.name.startswith("radiance:sh_") for attribute in mesh.attributes)

    ray = avatar.pose(rest_parameters(avatar.rig)).means.astype(np.float64) - camera.position
    x, y, z = (ray / np.linalg.norm(ray, axis=1, keepdims=True)).T
    degree = np.repeat([1, 2, 3], [3, 5, 7])[which]
    order = np.concatenate([np.arange(-d, d + 1) for d in (1, 2, 3)])[which]
    harmonic = special.sph_harm_y(degree, np.abs(order), np.arccos(z), np.arctan2(y, x))
    real = np.where(order < 0, np.sqrt(2) * harmonic.imag, np.where(order > 0, np.sqrt(2) * harmonic.real, harmonic.real))
    wanted = 0.5 + 3.0 * splats.SH_C0 + 0.4 * real
    drawn, stored = np.lexsort(means.T), np.lexsort(avatar.means.T)  # Blender has sorted them by depth
    np.testing.assert_allclose(found[drawn], np.repeat(wanted[stored, None], 3, axis=1), atol=2e-6)


def test_an_orthographic_camera_sees_quads_too(tmp_path):
    imported = import_avatar(toy_avatar(2000), "toy")
    camera = orbit_camera(0.3, 0, target=np.zeros(3), distance=5.0, fov_y=0.07, width=128, height=128)
    scene.match_training(bpy.context.scene)
    placed = scene.add_camera(camera, "camera", bpy.context.scene.collection)
    scene.render_still(tmp_path / "near.png", 1)
    placed.data.type, placed.data.ortho_scale = "ORTHO", 2 * 5.0 * np.tan(0.035)
    scene.render_still(tmp_path / "ortho.png", 1)
    near, ortho = picture(tmp_path / "near.png"), picture(tmp_path / "ortho.png")
    assert imported.splats.name and (near < 0.9).any()
    assert np.abs(near - ortho).mean() < 0.01  # from five metres both views are nearly the same
