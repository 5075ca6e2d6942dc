# SPDX-License-Identifier: Apache-2.0
"""Cameras of one's own: rings, a viewer's camera carried around, and what a plan makes of them."""

import numpy as np
import pytest

from mvp4d_core.cameras import orbit_camera, project
from mvp4d_core.conditioning import ViewCameras, head_centre, plan_views, preset_cameras, ring_cameras, turned_cameras
from mvp4d_core.errors import InputError
from mvp4d_core.rig import showcase_performance, skin
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model

MODEL = toy_head_model()
PERFORMANCE = showcase_performance(MODEL).select([0, 20, 75])


def places(cameras: ViewCameras) -> np.ndarray:
    return np.stack([camera.position for camera in cameras.cameras])


def angles(cameras: ViewCameras) -> np.ndarray:
    """(V, 2) azimuth and elevation in degrees, about the origin."""
    x, y, z = places(cameras).T
    return np.rad2deg(np.stack([np.arctan2(x, z), np.arctan2(y, np.hypot(x, z))], axis=1))


def test_convention_rings_go_from_the_subjects_right_to_its_left():
    cameras = ring_cameras([10.0], 3, azimuths=(-60, 60), distance=1.5)
    assert_arrays_close(angles(cameras), [[0, 10], [-60, 10], [60, 10]], atol=1e-6)
    assert_arrays_close(np.linalg.norm(places(cameras), axis=1), [1.5] * 3, atol=1e-9)
    for camera in cameras.cameras:  # each looks at the origin
        assert_arrays_close(project(np.zeros(3), camera)[0], [camera.width / 2] * 2, atol=1e-6)


def test_a_whole_turn_is_even_and_its_rings_are_staggered():
    cameras = ring_cameras([0, 30], 4, azimuths=(-180, 180))
    around = angles(cameras)
    low, high = (np.sort(around[np.abs(around[:, 1] - elevation) < 1e-6, 0] % 360) for elevation in (0, 30))
    assert_arrays_close(low, [0, 90, 180, 270], atol=1e-6)
    assert_arrays_close(high, [45, 135, 225, 315], atol=1e-6)
    assert_arrays_close(around[0], [0, 0], atol=1e-6)


def test_one_camera_of_a_ring_stands_in_its_middle():
    assert_arrays_close(angles(ring_cameras([0], 1, azimuths=(20, 60))), [[40, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"elevations": []}, "none"),
        ({"elevations": [90]}, "-85 to 85"),
        ({"elevations": [float("nan")]}, "-85 to 85"),
        ({"per_ring": 0}, "a camera"),
        ({"azimuths": (10, -10)}, "azimuths"),
        ({"azimuths": (-200, 200)}, "azimuths"),
        ({"distance": 0.2}, "m away"),
        ({"fov": -1}, "degrees"),
        ({"per_ring": 1001}, "1 to 1000"),
    ],
)
def test_impossible_rings_are_refused(changes, part):
    with pytest.raises(InputError, match=part):
        ring_cameras(**({"elevations": [0], "per_ring": 2} | changes))


def test_a_plan_of_the_presets_own_cameras_is_the_presets():
    by_name = plan_views(MODEL, PERFORMANCE, preset=180, views=5, size=96)
    by_cameras = plan_views(MODEL, PERFORMANCE, size=96, cameras=preset_cameras(180, 5))
    assert by_cameras.preset == 180
    for one, other in zip(by_name.cameras, by_cameras.cameras, strict=True):
        assert_arrays_close(one.K, other.K, atol=1e-9)
        assert_arrays_close(one.camera_from_world, other.camera_from_world, atol=1e-9)


def test_rings_stand_about_the_persons_head_and_frame_it():
    plan = plan_views(MODEL, PERFORMANCE, size=64, cameras=ring_cameras([0], 3, azimuths=(-40, 40), distance=0.8))
    assert plan.preset == 120 and plan.shape == (3, 3, 64, 64)
    for camera in plan.cameras:
        assert np.linalg.norm(camera.position - head_centre(MODEL)) == pytest.approx(0.8)
        pixels = np.concatenate([project(_posed(frame), camera)[0] for frame in range(3)])
        assert np.ptp(pixels, axis=0).max() == pytest.approx(64 / 1.2, abs=1e-3)


def test_a_field_of_view_is_kept():
    plan = plan_views(MODEL, PERFORMANCE, size=100, cameras=ring_cameras([0], 2, azimuths=(-20, 20), fov=40))
    for camera in plan.cameras:
        assert_arrays_close(project(head_centre(MODEL), camera)[0], [50, 50], atol=1e-6)
        assert 2 * np.rad2deg(np.arctan2(50, camera.K[0, 0])) == pytest.approx(40)


def test_a_viewers_camera_is_carried_around_what_it_looks_at():
    target = np.array([0.01, 0.02, 0.03])
    camera = orbit_camera(0.2, 0.1, target=target, distance=0.9, fov_y=0.5, width=256, height=256)
    cameras = turned_cameras(camera, target, 3, (-30, 30), framed=False)
    plan = plan_views(MODEL, PERFORMANCE, size=128, cameras=cameras)
    assert_arrays_close(plan.cameras[0].position, camera.position, atol=1e-9)
    expected = orbit_camera(0.2 - np.deg2rad(30), 0.1, target=target, distance=0.9, fov_y=0.5, width=128, height=128)
    assert_arrays_close(plan.cameras[1].camera_from_world, expected.camera_from_world, atol=1e-9)
    assert_arrays_close(plan.cameras[1].K, expected.K, atol=1e-9)


@pytest.mark.parametrize("framed", [True, False])
def test_a_camera_within_the_head_is_refused(framed):
    camera = orbit_camera(0, 0, target=np.zeros(3), distance=0.05, fov_y=0.5, width=64, height=64)
    with pytest.raises(InputError, match="before the whole head"):
        plan_views(MODEL, PERFORMANCE, size=64, cameras=turned_cameras(camera, np.zeros(3), 1, (0, 0), framed=framed))


def _posed(frame: int) -> np.ndarray:
    p = PERFORMANCE[frame]
    return skin(MODEL, None, p.expression, p.rotations, p.translation)
