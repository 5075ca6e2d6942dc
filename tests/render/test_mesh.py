# SPDX-License-Identifier: Apache-2.0
"""The mesh rasteriser against ray casting, analytic cases and the properties of a watertight z-buffer."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.cameras import Camera, look_at, orbit_camera, project
from mvp4d_core.errors import InputError
from mvp4d_core.render.mesh import (
    MeshBuffers,
    interpolate,
    rasterize_mesh,
    rasterize_uv,
    render_textured_mesh,
    sample_texture,
)
from tests.support.asserts import assert_arrays_close


def front_camera(size: int = 32, focal: float = 32.0) -> Camera:
    """At the origin, looking down +z, world axes = camera axes."""
    return Camera(np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]), np.eye(4), size, size)


def sphere(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.uv_sphere(radius=1, count=[count, count])
    return np.asarray(mesh.vertices) * [0.9, 1.1, 0.8], np.asarray(mesh.faces, np.int32)


def cast_rays(vertices: np.ndarray, faces: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moeller-Trumbore through every pixel centre: depth, face id, and how clearly each ray misses all edges (barycentric margin)."""
    y, x = np.mgrid[: camera.height, : camera.width] + 0.5
    pixels = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
    directions = pixels @ np.linalg.inv(camera.K).T  # camera space, unit depth
    corners = (vertices @ camera.camera_from_world[:3, :3].T + camera.camera_from_world[:3, 3])[faces]
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    p = np.cross(directions[:, None], edge2[None])
    determinant = np.einsum("fk,rfk->rf", edge1, p)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = -np.einsum("fk,rfk->rf", corners[:, 0], p) / determinant
        q = np.cross(-corners[:, 0], edge1)
        v = np.einsum("rk,fk->rf", directions, q) / determinant
        depth = np.einsum("fk,fk->f", edge2, q) / determinant
    inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (depth > 0)
    depth = np.where(inside, depth, np.inf)
    nearest = depth.argmin(1)
    shape = camera.height, camera.width
    margin = np.nan_to_num(np.abs(np.stack([u, v, 1 - u - v])).min(0), nan=1.0).min(1)
    ids = np.where(np.isfinite(depth.min(1)), nearest, -1)
    return depth.min(1).reshape(shape), ids.reshape(shape), margin.reshape(shape)


@pytest.mark.parametrize("azimuth", [0.0, 0.7, 2.9])
def test_agrees_with_ray_casting(azimuth):
    vertices, faces = sphere()
    camera = orbit_camera(azimuth, 0.4, target=np.zeros(3), distance=3.0, fov_y=0.8, width=60, height=44)
    buffers = rasterize_mesh(vertices, faces, camera)
    depth, ids, margin = cast_rays(vertices, faces, camera)
    clear = margin > 1e-3
    assert clear.mean() > 0.9
    assert_arrays_close(buffers.face_ids[clear], ids[clear], name="face ids")
    assert_arrays_close(buffers.depth[clear], depth[clear], atol=2e-3, name="depth")
    # near silhouettes the surface is steep, so compare the hit points across the image by their reprojection as well
    points = interpolate(buffers, faces, vertices)[buffers.mask]
    pixels, depths = project(points, camera)
    rows, columns = np.nonzero(buffers.mask)
    assert_arrays_close(pixels, np.stack([columns, rows], axis=1) + 0.5, atol=2e-3, name="pixels of the interpolated positions")
    assert_arrays_close(depths, buffers.depth[buffers.mask], atol=1e-5, name="depth of the interpolated positions")


def test_culling_drops_what_is_seen_from_behind_and_keeps_a_closed_mesh_as_it_is():
    vertices, faces = sphere()
    camera = orbit_camera(0.5, 0.2, target=np.zeros(3), distance=3.0, fov_y=0.8, width=64, height=64)
    both, culled = (rasterize_mesh(vertices, faces, camera, cull_backfaces=cull) for cull in (False, True))
    assert_arrays_close(culled.face_ids, both.face_ids)
    assert not rasterize_mesh(vertices, faces[:, ::-1], camera, cull_backfaces=True).depth[both.mask].min() < both.depth[both.mask].min()
    single = front_camera()
    triangle = np.array([[-1.0, -1, 4], [1, -1, 4], [0, 1, 4]])
    counter_clockwise_for_the_camera = np.array([[0, 2, 1]])  # y points down in the image
    assert rasterize_mesh(triangle, counter_clockwise_for_the_camera, single, cull_backfaces=True).mask.any()
    assert not rasterize_mesh(triangle, counter_clockwise_for_the_camera[:, ::-1], single, cull_backfaces=True).mask.any()


def test_convention_pixel_centres_are_at_one_half():
    # a square from pixel 3.5 to 9.5: centres 3.5 .. 8.5 belong to it by the top-left rule
    corners = np.array([[3.5, 3.5], [9.5, 3.5], [9.5, 9.5], [3.5, 9.5]])
    vertices = np.concatenate([(corners - 16) / 32 * 2, np.full((4, 1), 2.0)], axis=1)
    mask = rasterize_mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]), front_camera()).mask
    expected = np.zeros((32, 32), bool)
    expected[3:9, 3:9] = True
    assert_arrays_close(mask, expected)


def test_convention_uv_zero_is_at_the_lower_left():
    texture = np.zeros((4, 4, 3), np.float32)
    texture[3, 0] = [1, 0, 0]  # bottom row, left column of the picture
    assert_arrays_close(sample_texture(texture, np.array([1 / 8, 1 / 8])), [1, 0, 0], atol=1e-6)
    buffers = rasterize_uv(np.array([[0, 0], [0.5, 0], [0, 0.5]]), np.array([[0, 1, 2]]), 8)
    assert buffers.mask[7, 0] and not buffers.mask[0, 0]


def test_barycentrics_are_perspective_correct():
    camera = front_camera(64, 64.0)
    vertices = np.array([[-1.0, -1, 2], [3, -1, 8], [-1, 2, 5]])
    buffers = rasterize_mesh(vertices, np.array([[0, 1, 2]]), camera)
    y, x = np.nonzero(buffers.mask)
    expected = np.linalg.solve(vertices.T, (np.stack([(x + 0.5 - 32) / 64, (y + 0.5 - 32) / 64, np.ones(len(x))])))
    expected = (expected / expected.sum(0)).T
    assert_arrays_close(buffers.barycentrics[buffers.mask], expected, atol=2e-4)
    assert_arrays_close(buffers.barycentrics.sum(-1)[buffers.mask], np.ones(len(x)), atol=1e-6)
    assert not buffers.barycentrics[~buffers.mask].any() and np.isinf(buffers.depth[~buffers.mask]).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000), jitter=st.floats(0, 0.49), snap=st.booleans())
def test_a_mesh_that_covers_the_image_leaves_no_gap_and_no_double(seed, jitter, snap):
    """A jittered grid larger than the image; with `snap` many vertices and edges fall exactly on pixel centres."""
    generator = np.random.default_rng(seed)
    cells, size = 12, 32
    grid = np.stack(np.meshgrid(np.arange(cells + 1), np.arange(cells + 1)), axis=-1).reshape(-1, 2) * (size + 8) / cells - 4
    grid = grid + generator.uniform(-jitter, jitter, grid.shape) * (size + 8) / cells * 0.6
    if snap:
        grid = np.round(grid * 2) / 2
    first = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).ravel()
    faces = np.concatenate([np.stack([first, first + 1, first + cells + 2], 1), np.stack([first, first + cells + 2, first + cells + 1], 1)])
    flip = generator.random(len(faces)) < 0.5
    faces[flip] = faces[flip][:, ::-1]  # winding must not matter
    corners = grid[faces]
    area = np.linalg.det(corners[:, 1:] - corners[:, :1])
    area[flip] *= -1
    if not (area > 0).all():
        return  # the jitter folded the grid over, so pixels are covered twice by right
    coverage = np.zeros((size, size), int)
    depths = generator.uniform(1, 3, len(grid))
    points = np.concatenate([(grid - 16) / 32 * depths[:, None], depths[:, None]], axis=1)
    for face in faces:
        coverage += rasterize_mesh(points, face[None], front_camera()).mask
    assert (coverage == 1).all(), f"covered {coverage.min()} to {coverage.max()} times"
    assert rasterize_mesh(points, faces, front_camera()).mask.all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_a_floor_through_the_camera_is_clipped_without_gaps_or_doubles(seed):
    """Triangles that pass beside, behind and through the camera: every pixel below the horizon sees the floor once, at the right depth."""
    generator = np.random.default_rng(seed)
    height = generator.uniform(0.3, 3)
    camera = front_camera(24, 20.0)
    centre = np.append(generator.uniform(-5, 5, 1), generator.uniform(-5, 5, 1))
    ring = np.linspace(0, 2 * np.pi, 8)[:-1] + generator.uniform(-0.2, 0.2, 7)
    rim = 1e4 * np.stack([np.cos(ring), np.sin(ring)], 1)
    plan = np.concatenate([centre[None], rim])
    vertices = np.stack([plan[:, 0], np.full(8, height), plan[:, 1]], 1)
    faces = np.array([[0, i + 1, (i + 1) % 7 + 1] for i in range(7)])
    coverage = np.zeros((24, 24), int)
    for face in faces:
        coverage += rasterize_mesh(vertices, face[None], camera).mask
    assert (coverage[:12] == 0).all()
    assert (coverage[13:] == 1).all()
    buffers = rasterize_mesh(vertices, faces, camera)
    rows = np.arange(13, 24)
    assert_arrays_close(buffers.depth[13:], np.repeat(20 * height / (rows - 11.5), 24).reshape(11, 24), rtol=2e-3)


def test_what_is_nearer_than_the_near_plane_or_behind_is_gone():
    vertices = np.array([[-1.0, -1, 0.5], [1, -1, 0.5], [0, 1, 0.5]])
    faces = np.array([[0, 1, 2]])
    assert rasterize_mesh(vertices, faces, front_camera(), near=0.4).mask.any()
    assert not rasterize_mesh(vertices, faces, front_camera(), near=0.6).mask.any()
    assert not rasterize_mesh(vertices * [1, 1, -1], faces, front_camera()).mask.any()


def test_the_nearer_face_wins_in_any_order():
    near = np.array([[-1.0, -1, 2], [1, -1, 2], [0, 1, 2]])
    vertices = np.concatenate([near, near * 2])  # the same outline, twice as far
    for faces, front in ((np.array([[0, 1, 2], [3, 4, 5]]), 0), (np.array([[3, 4, 5], [0, 1, 2]]), 1)):
        ids = rasterize_mesh(vertices, faces, front_camera()).face_ids
        assert set(np.unique(ids)) == {-1, front}


def test_supersampling_is_a_finer_picture_of_the_same_view():
    vertices, faces = sphere()
    camera = orbit_camera(0.2, 0.1, target=np.zeros(3), distance=3.0, fov_y=0.8, width=20, height=30)
    fine = replace(camera, K=np.diag([3, 3, 1]) @ camera.K, width=60, height=90)
    a, b = rasterize_mesh(vertices, faces, camera, supersample=3), rasterize_mesh(vertices, faces, fine)
    assert_arrays_close(a.face_ids, b.face_ids)
    assert_arrays_close(a.depth, b.depth)


def test_empty_and_degenerate_meshes():
    camera = front_camera()
    assert not rasterize_mesh(np.zeros((0, 3)), np.zeros((0, 3), int), camera).mask.any()
    flat = np.array([[0.0, 0, 2], [0.1, 0, 2], [0.2, 0, 2]])
    assert not rasterize_mesh(flat, np.array([[0, 1, 2], [0, 0, 1]]), camera).mask.any()


def test_interpolates_any_number_of_attributes():
    vertices, faces = sphere()
    camera = orbit_camera(0.2, 0.1, target=np.zeros(3), distance=3.0, fov_y=0.8, width=40, height=40)
    buffers = rasterize_mesh(vertices, faces, camera)
    attributes = np.random.default_rng(0).normal(size=(len(vertices), 5))
    values = interpolate(buffers, faces, attributes)
    expected = np.einsum("nk,nkd->nd", buffers.barycentrics[buffers.mask], attributes[faces[buffers.face_ids[buffers.mask]]])
    assert_arrays_close(values[buffers.mask], expected, atol=1e-5)
    assert not values[~buffers.mask].any()


def test_texture_lookup_is_bilinear_and_clamped():
    generator = np.random.default_rng(0)
    texture = generator.random((5, 7, 2)).astype(np.float32)
    uv = generator.uniform(-0.3, 1.3, (200, 2))
    x = np.clip(uv[:, 0] * 7 - 0.5, 0, 6)
    y = np.clip((1 - uv[:, 1]) * 5 - 0.5, 0, 4)
    x0, y0 = np.minimum(x.astype(int), 5), np.minimum(y.astype(int), 3)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    expected = (texture[y0, x0] * (1 - fx) + texture[y0, x0 + 1] * fx) * (1 - fy)
    expected += (texture[y0 + 1, x0] * (1 - fx) + texture[y0 + 1, x0 + 1] * fx) * fy
    assert_arrays_close(sample_texture(texture, uv), expected, atol=1e-5)
    assert sample_texture(texture, uv.reshape(10, 20, 2)).shape == (10, 20, 2)


def test_uv_atlas_texels_find_their_face():
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])
    uv_faces = np.array([[0, 1, 2], [0, 2, 3]])
    buffers = rasterize_uv(uvs, uv_faces, (6, 10))
    assert buffers.face_ids.shape == (6, 10) and buffers.mask.all()
    positions = interpolate(buffers, uv_faces, uvs)
    assert_arrays_close(positions[2, 3], [3.5 / 10, 1 - 2.5 / 6], atol=1e-6)
    assert_arrays_close(buffers.depth, np.ones((6, 10)), atol=1e-6)


def square_scene(size: float = 0.5) -> dict[str, np.ndarray]:
    """A square facing the camera, its uv corner to corner."""
    return {
        "vertices": np.array([[-size, -size, 2], [size, -size, 2], [size, size, 2], [-size, size, 2]]),
        "faces": np.array([[0, 1, 2], [0, 2, 3]]),
        "uvs": np.array([[0, 1], [1, 1], [1, 0], [0, 0.0]]),
        "uv_faces": np.array([[0, 1, 2], [0, 2, 3]]),
    }


def test_textured_picture_of_a_square():
    texture = np.random.default_rng(1).random((16, 16, 3)).astype(np.float32)
    camera = front_camera(32, 32.0)  # the square spans pixels 8 to 24, one texel a pixel
    image, alpha = render_textured_mesh(**square_scene(), texture=texture, camera=camera, supersample=1, background=np.zeros(3))
    assert_arrays_close(image[8:24, 8:24], texture, atol=1e-5)
    assert alpha[8:24, 8:24].min() == 1 and alpha.sum() == 256 and not image[alpha == 0].any()


def test_edges_blend_coverage_with_the_background_and_do_not_darken():
    texture = np.full((2, 2, 3), 0.25, np.float32)
    camera = front_camera(32, 32.0 * 16.5 / 16)  # the edge now cuts pixels: 7.75 to 24.25
    for background in (np.array([0.0, 0.5, 1.0]), np.random.default_rng(0).random((32, 32, 3))):
        image, alpha = render_textured_mesh(**square_scene(), texture=texture, camera=camera, supersample=4, background=background)
        assert alpha[16, 7].item() == pytest.approx(0.25, abs=1e-6)
        expected = 0.25 * alpha[..., None] + (1 - alpha[..., None]) * background
        assert_arrays_close(image, expected, atol=1e-5)
    white, alpha = render_textured_mesh(**square_scene(), texture=texture, camera=camera)
    assert_arrays_close(white, np.repeat(1 - 0.75 * alpha[..., None], 3, axis=2), atol=1e-5)


def test_views_render_side_by_side_in_threads():
    vertices, faces = sphere(24)
    cameras = [orbit_camera(a, 0.1, target=np.zeros(3), distance=3.0, fov_y=0.8, width=64, height=64) for a in np.linspace(0, 6, 12)]
    alone = [rasterize_mesh(vertices, faces, camera) for camera in cameras]
    with ThreadPoolExecutor(4) as pool:
        for a, b in zip(alone, pool.map(lambda camera: rasterize_mesh(vertices, faces, camera), cameras), strict=True):
            assert_arrays_close(a.face_ids, b.face_ids)
            assert_arrays_close(a.depth, b.depth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.zeros((4, 2))}, r"`vertices` must be \(N, 3\), got \(4, 2\)"),
        ({"vertices": np.full((4, 3), np.nan)}, r"`vertices` must be finite, but 12"),
        ({"faces": np.zeros((2, 4), int)}, r"`faces` must be whole numbers of shape \(F, 3\)"),
        ({"faces": np.zeros((2, 3))}, r"`faces` must be whole numbers"),
        ({"faces": np.full((2, 3), 4)}, r"`faces` must be from 0 to 3, got 4 to 4"),
        ({"faces": np.full((2, 3), -1)}, r"`faces` must be from 0 to 3, got -1 to -1"),
        ({"faces": np.array([[0, 1, 2]])}, r"`uv_faces` must have one row for each of the 1 faces, got 2"),
        ({"uvs": np.zeros((4, 3))}, r"`uvs` must be \(N, 2\)"),
        ({"texture": np.zeros((4, 4, 3), np.uint8)}, r"`texture` must be floating point"),
        ({"texture": np.zeros((0, 4, 3))}, r"`texture` must be floating point"),
        ({"supersample": 0}, r"`supersample` must be from 1 to 16"),
        ({"background": np.zeros(4)}, r"`background` must be \(3,\) or \(32, 32, 3\)"),
    ],
)
def test_refuses_wrong_input_in_one_line(change, message):
    arguments = square_scene() | {"texture": np.ones((4, 4, 3), np.float32), "camera": front_camera()}
    with pytest.raises(InputError, match=message) as caught:
        render_textured_mesh(**(arguments | change))
    assert "\n" not in str(caught.value)


def test_refuses_buffers_of_another_mesh_and_pictures_too_large():
    buffers = MeshBuffers(np.ones((1, 1), np.float32), np.full((1, 1), 5, np.int32), np.ones((1, 1, 3), np.float32))
    with pytest.raises(InputError, match="the buffers name face 5, but `faces` has 1"):
        interpolate(buffers, np.array([[0, 1, 2]]), np.zeros((3, 1)))
    with pytest.raises(InputError, match="from 1 to 16384 samples a side"):
        rasterize_mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]), replace(front_camera(), width=20_000))


def test_a_view_from_inside_sees_all_around():
    vertices, faces = sphere(16)
    matrix = look_at([0.1, 0.0, 0.05], [1.0, 0.3, 0.2])
    camera = replace(front_camera(40, 12.0), camera_from_world=matrix)
    assert rasterize_mesh(vertices, faces, camera).mask.all()


def test_meshes_render_without_torch():
    script = "import sys; import mvp4d_core.render.mesh, mvp4d_core.render; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=120, check=False).returncode == 0
