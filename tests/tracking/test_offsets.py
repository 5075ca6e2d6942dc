# SPDX-License-Identifier: Apache-2.0
"""Offsets: the points agree, the surface stays honest."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from mvp4d_core.cameras import project
from mvp4d_core.rig import face_normals, load_head_model, personalize, skin
from mvp4d_core.rig.surface import parts
from mvp4d_core.tracking import landmark_sets as sets
from mvp4d_core.tracking.fit import eye_distance, fit_head, landmark_error_percent
from mvp4d_core.tracking.offsets import landmark_offsets, to_rest_pose
from mvp4d_core.tracking.regions import mask_of
from tests.tracking.test_fit import HEIGHT, WIDTH, seen


@pytest.fixture(scope="module")
def tracked():
    """The open head, a fit of landmarks that no head has exactly, and the offsets."""
    model = load_head_model()
    landmarks, _, _ = seen(model, expression={"jawOpen": 0.3, "mouthSmileLeft": 0.4}, gaze=(0.05, 0.1), yaw=0.15)
    x, y = (landmarks[:, :2] - landmarks[:, :2].mean(axis=0)).T / eye_distance(landmarks)
    bend = 0.04 * eye_distance(landmarks) * np.column_stack([np.sin(2 * y + 1), np.cos(3 * x)])  # smooth, and no identity direction
    landmarks[:, :2] += bend
    fit = fit_head(model, landmarks, WIDTH, HEIGHT)
    return model, landmarks, fit, landmark_offsets(model, fit, landmarks)


def posed(model, fit, offsets):
    parameters = fit.parameters
    rig = personalize(model, fit.shape, offsets)
    return skin(rig, None, parameters.expression.astype(np.float64), parameters.rotations, parameters.translation)


def test_points_come_closer_than_one_percent(tracked):
    model, landmarks, fit, offsets = tracked
    pixels, _ = project(model.landmarks(posed(model, fit, offsets)), fit.camera)
    error = landmark_error_percent(pixels, landmarks)
    assert error <= 1.0 and error < fit.error


def test_the_face_neither_folds_nor_spikes(tracked):
    model, _, fit, offsets = tracked
    before, after = posed(model, fit, np.zeros_like(offsets)), posed(model, fit, offsets)
    faces = model.faces[mask_of(model, "face")[model.faces].all(axis=1)]
    area = np.linalg.norm(face_normals(before, faces), axis=1)
    cosine = np.einsum("fd,fd->f", face_normals(before, faces), face_normals(after, faces))
    cosine /= np.maximum(area * np.linalg.norm(face_normals(after, faces), axis=1), 1e-20)
    assert np.percentile(cosine[area > 2e-6], 1) > 0.8
    assert np.linalg.norm(offsets, axis=1).max() < 0.012


def test_offsets_lie_in_the_picture_plane(tracked):
    model, _, fit, offsets = tracked
    moves = posed(model, fit, offsets) - posed(model, fit, np.zeros_like(offsets))
    eyes = model.v_template[mask_of(model, "eyeball")]
    far = cKDTree(eyes).query(model.v_template)[0] > 0.012  # lids may be pushed out of the eyeballs
    assert np.abs(moves[far] @ fit.camera.camera_from_world[2, :3]).max() < 2e-4


def test_eyeballs_teeth_and_tongue_move_as_rigid_bodies(tracked):
    model, _, fit, offsets = tracked
    moves = posed(model, fit, offsets) - posed(model, fit, np.zeros_like(offsets))
    labels = parts(model.faces, len(moves))
    face = labels[np.nonzero(mask_of(model, "face"))[0][0]]
    for label in set(labels.tolist()) - {face}:
        assert np.ptp(moves[labels == label], axis=0).max() < 1e-6


def test_lips_that_meet_at_rest_stay_together(tracked):
    model, _, _, offsets = tracked
    moved = model.landmarks(offsets)
    upper, lower = np.array(sets.LIP_PAIRS).T
    assert np.abs(moved[upper] - moved[lower]).max() < 0.0012


def test_perfect_points_ask_for_nothing():
    model = load_head_model()
    landmarks, _, _ = seen(model, yaw=0.0)
    fit = fit_head(model, landmarks, WIDTH, HEIGHT)
    offsets = landmark_offsets(model, fit, np.column_stack([fit.points, landmarks[:, 2]]))
    assert np.abs(offsets).max() < 5e-4  # nothing but lids that lie on the eyeballs


def test_moves_of_turned_vertices_are_taken_back_to_rest(tracked):
    model, _, fit, _ = tracked
    moves = np.random.default_rng(1).normal(scale=0.002, size=model.v_template.shape)
    rest = to_rest_pose(model, fit.parameters, moves)
    np.testing.assert_allclose(posed(model, fit, rest) - posed(model, fit, np.zeros_like(rest)), moves, atol=2e-7)
