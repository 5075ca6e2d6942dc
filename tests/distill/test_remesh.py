# SPDX-License-Identifier: Apache-2.0
"""The UV mesh: the same surface, the same joints, the same motion."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from mvp4d_core.distill.remesh import uv_remesh
from mvp4d_core.errors import InputError
from mvp4d_core.rig import load_head_model, personalize, showcase_performance, skin

RIG = personalize(head := load_head_model(), np.zeros(head.shapedirs.shape[2]), np.zeros_like(head.v_template))
FINE = uv_remesh(RIG, 128)


def surface(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of the head's surface about half a millimetre apart, and their triangles."""
    points, owners = trimesh.sample.sample_surface(trimesh.Trimesh(vertices, RIG.faces, process=False), 300_000, seed=0)
    return np.asarray(points), np.asarray(owners)


def test_it_lies_on_the_heads_surface_in_every_pose():
    performance = showcase_performance(RIG)
    for frame in (0, 40, 110):
        p = performance[frame]
        old, new = (skin(rig, None, p.expression, p.rotations, p.translation) for rig in (RIG, FINE))
        distance = cKDTree(surface(old)[0]).query(new[::7])[0]
        assert np.quantile(distance, 0.99) < 1.5e-3  # metres
        assert distance.max() < 4e-3


def test_joints_and_landmarks_stay_where_they_were():
    assert np.abs(FINE.J_regressor @ FINE.v_template - RIG.J_regressor @ RIG.v_template).max() < 1e-3
    assert np.abs(FINE.landmarks(FINE.v_template) - RIG.landmarks(RIG.v_template)).max() < 1.5e-3


def test_convention_triangles_look_outward_as_the_heads_do():
    def normals(rig):
        a, b, c = (rig.v_template[rig.faces[:, k]] for k in range(3))
        normal = np.cross(b - a, c - a)
        return normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)

    points, owners = surface(RIG.v_template)
    centres = FINE.v_template[FINE.faces[::11]].mean(axis=1)
    nearest = owners[cKDTree(points).query(centres)[1]]
    assert ((normals(RIG)[nearest] * normals(FINE)[::11]).sum(axis=1) > 0).mean() > 0.99


def test_triangles_are_of_even_size_in_the_atlas_and_charts_are_not_joined():
    sides = np.abs(np.diff(FINE.uvs[FINE.uv_faces][:, [0, 1, 2, 0]], axis=1)).max(axis=(1, 2)) * 128
    assert np.abs(sides - 1).max() < 1e-3
    edges = np.linalg.norm(np.diff(FINE.v_template[FINE.faces][:, [0, 1, 2, 0]], axis=1), axis=-1)
    assert edges.max() < 0.03  # no triangle spans two charts


def test_names_regions_and_weights_are_carried_over():
    assert FINE.expression_names == RIG.expression_names and FINE.licence == RIG.licence
    assert set(FINE.regions) == set(RIG.regions) and all(len(ids) for ids in FINE.regions.values())
    assert np.abs(FINE.lbs_weights.sum(axis=1) - 1).max() < 1e-5
    left, right = (FINE.v_template[FINE.regions[f"{side}_eyeball"]].mean(axis=0)[0] for side in ("left", "right"))
    assert left > 0.02 and right < -0.02


@pytest.mark.parametrize("resolution", [15, 1025])
def test_impossible_resolutions_are_refused(resolution):
    with pytest.raises(InputError, match="16 to 1024"):
        uv_remesh(RIG, resolution)
