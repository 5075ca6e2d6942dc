# SPDX-License-Identifier: Apache-2.0
"""Landmark, expression and identity distances on a photograph, and which cameras see a face."""

from dataclasses import replace

import numpy as np
import pytest
from skimage import data

from mvp4d_core.cameras import orbit_camera, project
from mvp4d_core.errors import MissingAssetError
from mvp4d_core.evaluation.faces import FaceTracker, SeenFace, compare_faces, known_landmarks, shown_faces, tracker_error
from mvp4d_core.rig import HeadModel, load_head_model, personalize, rest_parameters, single_frame, skin
from mvp4d_core.tracking.detect import find_faces
from mvp4d_core.tracking.face_models import FaceModels
from mvp4d_core.tracking.fit import face_scale, fit_head
from tests.support.toy_head import toy_head_model

SIZE = 200


def camera_at(azimuth: float, elevation: float = 0.0):
    return orbit_camera(np.radians(azimuth), np.radians(elevation), target=np.zeros(3), distance=1.2, fov_y=0.35, width=SIZE, height=SIZE)


def still(model: HeadModel, yaw: float = 0.0):
    parameters = rest_parameters(model)
    parameters.rotations[model.joint_names.index("root")] = [0, np.radians(yaw), 0]
    return single_frame(parameters, model)


def rig_of(model: HeadModel) -> HeadModel:
    return personalize(model, np.zeros(model.shapedirs.shape[2]), np.zeros_like(model.v_template))


def test_convention_faces_are_shown_to_cameras_they_look_at():
    rig = rig_of(toy_head_model())
    angles = (-170, -60, -40, 0, 40, 60, 120)
    cameras = [camera_at(angle) for angle in angles]
    assert {angles[view] for view, _ in shown_faces(rig, still(rig), cameras)} == {-40, 0, 40}
    # the head turns to its left, as the camera at positive azimuths stands
    assert {angles[view] for view, _ in shown_faces(rig, still(rig, 70), cameras)} == {40, 60}


def test_shown_landmarks_are_the_rigs_projected_and_inside():
    rig = rig_of(toy_head_model())
    camera = camera_at(10)
    shown = shown_faces(rig, still(rig), [camera])
    vertices = skin(rig, None, *(getattr(rest_parameters(rig), name) for name in ("expression", "rotations", "translation")))
    np.testing.assert_allclose(shown[0, 0], project(rig.landmarks(vertices), camera)[0], atol=1e-4)
    np.testing.assert_array_equal(shown[0, 0], known_landmarks(rig, still(rig), [camera], shown)[0, 0])
    near = replace(camera, K=np.diag([4.0, 4.0, 1.0]) @ camera.K)  # a crop of which most of the face lies outside
    assert shown_faces(rig, still(rig), [near]) == {}
    few = replace(rig, landmark_faces=rig.landmark_faces[:68], landmark_barycentrics=rig.landmark_barycentrics[:68])
    with pytest.raises(MissingAssetError, match="68 landmarks"):
        shown_faces(few, still(few), [camera])


@pytest.fixture(scope="module")
def astronaut():
    """A photograph, its person's rig, the performance and the camera that a fit gives, and its points."""
    picture, model = data.astronaut(), load_head_model()
    with FaceModels() as models:
        faces, _ = find_faces(models, picture)
    fit = fit_head(model, faces[0].points, *picture.shape[1::-1])
    rig = personalize(model, fit.shape, np.zeros_like(model.v_template))
    return picture, rig, single_frame(fit.parameters, rig), fit.camera, faces[0].points


def test_a_photograph_moved_by_pixels_is_that_many_off(astronaut):
    picture, rig, performance, camera, points = astronaut
    tracker = FaceTracker(lambda face: face.mean(axis=(0, 1)) / np.linalg.norm(face.mean(axis=(0, 1))))
    moved = np.roll(picture, (3, 4), axis=(0, 1))
    blank = np.full_like(picture, 255)
    pictures = np.stack([picture, moved, blank])[:, None]
    shown = dict.fromkeys([(0, 0), (1, 0), (2, 0)], shown_faces(rig, performance, [camera])[0, 0])
    seen = tracker.look(pictures, rig, shown)
    assert set(seen) == {(0, 0), (1, 0)} and "mediapipe" in tracker.name
    truth = dict.fromkeys(seen, seen[0, 0])
    figures = compare_faces(seen, truth, (3, 1), rig)
    assert figures["akd_px"][0, 0] == 0 and figures["akd_px"][1, 0] == pytest.approx(5, abs=0.6)
    assert figures["akd_percent"][1, 0] == pytest.approx(100 * figures["akd_px"][1, 0] / face_scale(points), rel=0.02)
    assert figures["expression_distance"][0, 0] == 0 and figures["expression_distance"][1, 0] < 0.4
    assert figures["csim"][0, 0] == pytest.approx(1) and figures["csim"][1, 0] > 0.999
    assert all(np.isnan(values[2, 0]) for values in figures.values())


def test_another_expression_is_farther_than_the_trackers_noise(astronaut):
    _, rig, performance, camera, points = astronaut
    open_mouth = performance.expression.copy()
    open_mouth[0, rig.expression_names.index("jawOpen")] = 0.8
    expressions = {
        name: replace(performance, expression=values) for name, values in (("same", performance.expression), ("open", open_mouth))
    }
    fitted = {}
    for name, deed in expressions.items():
        exact = points.copy()
        exact[:, :2] = known_landmarks(rig, deed, [camera], [(0, 0)])[0, 0]
        fitted[name] = {(0, 0): SeenFace(exact, fit_head(rig, exact, camera.width, camera.height).parameters.expression, None)}
    distance = compare_faces(fitted["open"], fitted["same"], (1, 1), rig)
    assert distance["expression_distance"][0, 0] > 0.5 and np.isnan(distance["csim"][0, 0])
    known = known_landmarks(rig, performance, [camera], [(0, 0)])
    error = tracker_error(fitted["same"], known, rig, performance)
    assert error["akd_px"] == 0 and error["akd_percent"] == 0
    assert 0 < error["expression_distance"] < 1  # several weights explain the same points: the fit takes few
    assert tracker_error({}, {}, rig, performance) == {}


def test_gaze_does_not_count_as_expression():
    rig = rig_of(toy_head_model())
    names = list(rig.expression_names)
    points = np.zeros((478, 3))
    points[473, 0] = 10.0  # between the eyes
    calm, looking = (SeenFace(points, np.zeros(len(names)), None) for _ in range(2))
    looking.expression[[names.index("eyeLookInLeft"), names.index("tongueOut")]] = 1
    assert compare_faces({(0, 0): looking}, {(0, 0): calm}, (1, 1), rig)["expression_distance"][0, 0] == 0
    looking.expression[names.index("mouthSmileLeft")] = 0.5
    assert compare_faces({(0, 0): looking}, {(0, 0): calm}, (1, 1), rig)["expression_distance"][0, 0] == 0.5
