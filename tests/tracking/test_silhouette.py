# SPDX-License-Identifier: Apache-2.0
"""Hair growth against outlines whose truth is known: renders of heads with hair of given thickness."""

import numpy as np
import pytest

from mvp4d_core.cameras import Camera, orbit_camera
from mvp4d_core.render.mesh import rasterize_mesh
from mvp4d_core.rig import HeadModel, load_head_model, vertex_normals
from mvp4d_core.tracking.regions import mask_of, sides_of
from mvp4d_core.tracking.silhouette import find_outline, grow_hair

SIZE = 384


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_head_model()


def camera_at(azimuth: float = 0.0) -> Camera:
    return orbit_camera(azimuth, 0.0, target=np.zeros(3), distance=1.2, fov_y=0.34, width=SIZE, height=SIZE)


def with_hair(model: HeadModel, thickness: float) -> np.ndarray:
    """(V, 3) the template with hair that rises smoothly from the hair line."""
    vertices = model.v_template.astype(np.float64)
    scalp = mask_of(model, "scalp")
    face = vertices[mask_of(model, "face")]
    distance = np.linalg.norm(vertices[:, None] - face[None, ::7], axis=2).min(axis=1)
    rise = np.where(scalp, np.clip(distance / 0.05, 0, 1), 0)
    return vertices + thickness * rise[:, None] * vertex_normals(vertices, model.faces)


def mask_of_head(model: HeadModel, vertices: np.ndarray, camera: Camera) -> np.ndarray:
    return rasterize_mesh(vertices, model.faces, camera).mask


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def grown(model: HeadModel, mask: np.ndarray, camera: Camera, covered: np.ndarray | None = None) -> np.ndarray:
    vertices = model.v_template.astype(np.float64)
    covered = np.zeros(len(vertices), bool) if covered is None else covered
    return grow_hair(model, vertices, find_outline(mask), camera, covered)


@pytest.mark.parametrize("azimuth", [0.0, 0.4])
@pytest.mark.parametrize("thickness", [0.01, 0.04])
def test_the_outline_meets_the_matte(model, azimuth, thickness):
    camera = camera_at(azimuth)
    target = mask_of_head(model, with_hair(model, thickness), camera)
    moves = grown(model, target, camera)
    result = mask_of_head(model, model.v_template + moves, camera)
    assert overlap(result, target) > 0.985
    outline, wanted = find_outline(result), find_outline(target)
    above = wanted.points[:, 1] < SIZE / 2
    gaps = np.linalg.norm(wanted.points[above, None] - outline.points[None], axis=2).min(axis=1)
    assert np.percentile(gaps, 95) < 1.5 * SIZE / 256


def test_hair_covers_the_unseen_back(model):
    moves = grown(model, mask_of_head(model, with_hair(model, 0.03), camera_at()), camera_at())
    vertices = model.v_template
    back = mask_of(model, "scalp") & (vertices[:, 2] < np.percentile(vertices[:, 2], 4)) & (vertices[:, 1] > 0)
    outward = np.einsum("vd,vd->v", moves, vertex_normals(vertices.astype(np.float64), model.faces))[back]
    assert outward.min() > 0.002 and outward.max() < 0.06


def test_the_face_and_what_is_in_it_stay(model):
    moves = grown(model, mask_of_head(model, with_hair(model, 0.04), camera_at()), camera_at())
    held = mask_of(model, "face", "eyeball", "teeth", "tongue", "mouth_cavity")
    assert not moves[held].any()
    np.testing.assert_array_equal(model.landmarks(moves.astype(np.float32)), 0)


def test_a_head_that_fits_already_stays_as_it_is(model):
    camera = camera_at()
    moves = grown(model, mask_of_head(model, model.v_template, camera), camera)
    assert np.linalg.norm(moves, axis=1).max() < 0.003


def test_no_outline_no_hair(model):
    assert not grown(model, np.zeros((SIZE, SIZE), bool), camera_at()).any()


def test_no_spikes(model):
    """The thickness of neighbours differs by less than their distance."""
    moves = grown(model, mask_of_head(model, with_hair(model, 0.04), camera_at()), camera_at())
    scalp = mask_of(model, "scalp")
    edges = model.faces[scalp[model.faces].all(axis=1)][:, [0, 1]]
    step = np.linalg.norm(moves[edges[:, 0]] - moves[edges[:, 1]], axis=1)
    length = np.linalg.norm(model.v_template[edges[:, 0]] - model.v_template[edges[:, 1]], axis=1)
    assert np.percentile(step / length, 99) < 2.5


def test_covered_ears_are_laid_flat(model):
    left, right = sides_of(model, "ear")
    camera = camera_at()
    moves = grown(model, mask_of_head(model, with_hair(model, 0.03), camera), camera, left | right)
    flat = model.v_template + moves
    normals = vertex_normals(flat, model.faces)
    before = vertex_normals(model.v_template.astype(np.float64), model.faces)
    assert (before[left, 0] > 0).mean() < 0.95 and (before[right, 0] < 0).mean() < 0.95
    assert (normals[left, 0] > 0).mean() > 0.98 and (normals[right, 0] < 0).mean() > 0.98  # nothing looks inwards any more


def test_outline_points_lie_on_the_border_between_pixels():
    y, x = np.mgrid[:100, :100] + 0.5
    disc = (x - 50) ** 2 + (y - 48) ** 2 < 30**2
    outline = find_outline(disc)
    offset = outline.points - [50, 48]
    radius = np.linalg.norm(offset, axis=1)
    assert np.abs(radius - 30).max() < 0.8 and abs(radius.mean() - 30) < 0.15
    assert np.einsum("nd,nd->n", offset / radius[:, None], outline.normals).min() > 0.95


def test_the_pictures_resolution_hardly_matters(model):
    """The same outline at twice the pixels gives nearly the same hair."""
    coarse, fine = camera_at(), orbit_camera(0.0, 0.0, target=np.zeros(3), distance=1.2, fov_y=0.34, width=2 * SIZE, height=2 * SIZE)
    target = with_hair(model, 0.03)
    first, second = (grown(model, mask_of_head(model, target, camera), camera) for camera in (coarse, fine))
    apart = np.linalg.norm(first - second, axis=1)[mask_of(model, "scalp")]
    assert np.median(apart) < 0.003 and np.percentile(apart, 95) < 0.008
