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
