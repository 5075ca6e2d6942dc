# SPDX-License-Identifier: Apache-2.0
"""Cameras and axes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp4d_core import cameras
from mvp4d_core.errors import InputError
from tests.support.asserts import assert_arrays_close

angles = st.floats(-1.4, 1.4)


def orbit(azimuth: float, elevation: float) -> cameras.Camera:
    return cameras.orbit_camera(azimuth, elevation, target=np.array([0, 0.1, 0.02]), distance=1.2, fov_y=0.3, width=200, height=100)


@given(st.floats(-3.1, 3.1), angles)
def test_orbit_sees_its_target_in_the_middle(azimuth, elevation):
    camera = orbit(azimuth, elevation)
    pixel, depth = cameras.project(np.array([0, 0.1, 0.02]), camera)
    assert_arrays_close(pixel, [100, 50], atol=1e-9)
    assert abs(depth - 1.2) < 1e-9
    assert abs(np.linalg.norm(camera.position - [0, 0.1, 0.02]) - 1.2) < 1e-9
    rotation = camera.camera_from_world[:3, :3]
    assert_arrays_close(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) > 0


def test_convention_camera_is_opencv_and_head_looks_along_z():
    camera = orbit(0, 0)
    assert_arrays_close(camera.position, [0, 0.1, 1.22], atol=1e-12)  # in front of the face
    centre, _ = cameras.project(np.array([0, 0.1, 0.02]), camera)
    left, _ = cameras.project(np.array([0.01, 0.1, 0.02]), camera)  # the subject's left
    above, _ = cameras.project(np.array([0, 0.11, 0.02]), camera)
    assert left[0] > centre[0] and left[1] == pytest.approx(centre[1])  # is on the right of the picture
    assert above[1] < centre[1]  # up is towards row 0


def test_convention_positive_azimuth_is_the_subjects_left_and_positive_elevation_is_above():
    assert orbit(0.5, 0).position[0] > 0
    assert orbit(0, 0.5).position[1] > 0.1


def test_convention_blender_and_file_axes():
    assert_arrays_close(cameras.BLENDER_FROM_HEAD @ [1, 2, 3], [1, -3, 2])
    assert_arrays_close(cameras.FILE_FROM_HEAD @ [1, 2, 3], [1, -2, -3])
    for matrix in (cameras.BLENDER_FROM_HEAD, cameras.FILE_FROM_HEAD, cameras.OPENGL_FROM_OPENCV):
        assert_arrays_close(matrix @ matrix.T, np.eye(3))
        assert np.linalg.det(matrix) == pytest.approx(1)


@given(st.floats(1, 90), st.floats(1, 40), st.floats(5, 100), st.integers(1, 300))
def test_crop_moves_and_scales_pixels(x, y, side, size):
    camera = orbit(0.3, 0.2)
    cropped = cameras.crop_camera(camera, np.array([x, y, x + side, y + side]), size, size)
    points = np.array([[0, 0.1, 0], [0.05, 0.12, 0.03]])
    before, _ = cameras.project(points, camera)
    after, _ = cameras.project(points, cropped)
    assert_arrays_close(after, (before - [x, y]) * size / side, atol=1e-8)


def test_bad_cameras_are_refused():
    with pytest.raises(InputError, match="positive size"):
        cameras.Camera(np.eye(3), np.eye(4), 0, 5)
    with pytest.raises(InputError, match="finite"):
        cameras.Camera(np.eye(3) * np.nan, np.eye(4), 5, 5)
    with pytest.raises(InputError, match="K"):
        cameras.Camera(np.eye(4), np.eye(4), 5, 5)
    with pytest.raises(InputError, match="look_at"):
        cameras.look_at(np.zeros(3), np.array([0, 1, 0]))


def viewer_rows(info: dict, point: np.ndarray) -> np.ndarray:
    """What three.js shows of a point: right and up of the picture's middle, in units of half its smaller side; written from its manual."""
    x, y, z, w = (info["quaternion"][axis] for axis in "xyzw")
    axes = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    right, up, back = axes.T @ (point - np.array([info["position"][axis] for axis in "xyz"]))
    return np.array([right, up]) / -back / np.tan(np.deg2rad(info["fov"]) / 2) * info["zoom"]


@given(st.floats(-3.1, 3.1), angles, st.sampled_from([(200, 100), (100, 200), (64, 64)]))
def test_convention_viewers_cameras_look_down_minus_z_with_y_up(azimuth, elevation, size):
    width, height = size
    target, point = np.array([0, 0.1, 0.02]), np.array([0.03, 0.14, 0.05])
    given_camera = cameras.orbit_camera(azimuth, elevation, target=target, distance=1.2, fov_y=0.3, width=width, height=height)
    info = cameras.viewer_info(given_camera, target)
    camera, seen = cameras.camera_of_viewer(info, width, height)
    assert_arrays_close(camera.camera_from_world, given_camera.camera_from_world, atol=1e-9)
    assert_arrays_close(camera.K, given_camera.K, rtol=1e-9, atol=1e-9)
    assert_arrays_close(seen, target, atol=1e-12)
    pixel, _ = cameras.project(point, camera)
    half = min(width, height) / 2
    assert_arrays_close((pixel - [width / 2, height / 2]) / half * [1, -1], viewer_rows(info, point), atol=1e-9)


def test_viewers_camera_without_a_rotation_looks_at_its_target():
    info = {
        "position": {"x": 0.3, "y": 0.2, "z": 1},
        "target": {"x": 0, "y": 0.1, "z": 0},
        "fov": 20,
        "zoom": 2,
        "cameraType": "perspective",
    }
    camera, target = cameras.camera_of_viewer(info, 80, 60)
    assert_arrays_close(cameras.project(target, camera)[0], [40, 30], atol=1e-9)
    assert camera.K[1, 1] == pytest.approx(2 * 30 / np.tan(np.deg2rad(10)))
    unsaid = cameras.camera_of_viewer({**info, "fov": 0, "zoom": None}, 80, 60)[0]
    assert unsaid.K[1, 1] == pytest.approx(30 / np.tan(np.deg2rad(cameras.VIEWER_FOV / 2)))


@pytest.mark.parametrize(
    "change",
    [
        {"cameraType": "orthographic"},
        {"position": None},
        {"position": {"x": 0, "y": float("nan"), "z": 1}},
        {"target": {"x": 0, "y": 0.1}},
        {"target": {"x": 0, "y": 0, "z": 1}},
        {"fov": "wide"},
        {"fov": 179},
        {"zoom": -1},
        {"quaternion": {"x": 0, "y": 0, "z": 0, "w": 0}},
    ],
)
def test_viewers_cameras_that_cannot_be_are_refused(change):
    info = {"position": {"x": 0, "y": 0, "z": 1}, "target": {"x": 0, "y": 0, "z": 0}, "fov": 20}
    with pytest.raises(InputError):
        cameras.camera_of_viewer(info | change, 64, 64)
    with pytest.raises(InputError):
        cameras.camera_of_viewer(None, 64, 64)


@given(st.floats(-3, 3), angles, st.floats(-6, 6))
def test_an_orbited_camera_is_the_one_at_the_other_azimuth(azimuth, elevation, angle):
    turned = cameras.orbited(orbit(azimuth, elevation), angle, np.array([0, 0.1, 0.02]))
    assert_arrays_close(turned.camera_from_world, orbit(azimuth + angle, elevation).camera_from_world, atol=1e-9)
