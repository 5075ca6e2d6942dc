# SPDX-License-Identifier: Apache-2.0
"""Plans: where cameras stand, how they crop, and their file."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates, minimum_filter

from mvp4d_core.cameras import project
from mvp4d_core.conditioning import DEFAULT_VIEWS, load_plan, plan_views, reference_camera, resample_photo, save_plan
from mvp4d_core.conditioning.view_plan import ELLIPSES, view_directions
from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import showcase_performance, skin
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model
from tests.support.toy_reference import toy_reference

MODEL = toy_head_model()
PERFORMANCE = showcase_performance(MODEL).select([0, 20, 75, 110])


@pytest.mark.parametrize("preset", DEFAULT_VIEWS)
@pytest.mark.parametrize("views", [1, 2, 7, 24])
def test_views_are_distinct_and_within_the_preset(preset, views):
    degrees = np.rad2deg(view_directions(preset, views))
    assert len(np.unique(degrees.round(6), axis=0)) == views
    if preset in ELLIPSES:
        assert (((degrees / ELLIPSES[preset]) ** 2).sum(axis=1) <= 1 + 1e-9).all()
        assert_arrays_close(degrees[0], [0, 0], atol=1e-9)
    elif views == 24:
        around = np.sort(degrees[:, 0] % 360)
        assert np.diff(np.append(around, around[0] + 360)).max() <= 30  # the back is seen too


def test_each_view_crops_once_and_holds_every_frame():
    plan = plan_views(MODEL, PERFORMANCE, preset=180, views=5, size=96)
    assert plan.shape == (5, 4, 96, 96)
    for camera in plan.cameras:
        boxes = []
        for frame in range(4):
            p = PERFORMANCE[frame]
            pixels, depth = project(skin(MODEL, None, p.expression, p.rotations, p.translation), camera)
            assert depth.min() > 0
            boxes.append((pixels.min(axis=0), pixels.max(axis=0)))
        low, high = np.min([b[0] for b in boxes], axis=0), np.max([b[1] for b in boxes], axis=0)
        assert_arrays_close((low + high) / 2, [48, 48], atol=1e-3)
        assert (high - low).max() == pytest.approx(96 / 1.2, abs=1e-3)  # the convention of the crop: 20 % margin


def test_file_round_trip_and_damage(tmp_path):
    plan = plan_views(MODEL, PERFORMANCE, preset=120, views=3, size=64)
    save_plan(plan, tmp_path / "plan.safetensors")
    loaded = load_plan(tmp_path / "plan.safetensors")
    assert loaded.shape == plan.shape and loaded.preset == 120
    for a, b in zip(loaded.cameras, plan.cameras, strict=True):
        assert_arrays_close(a.K, b.K)
        assert_arrays_close(a.camera_from_world, b.camera_from_world)
    tensors, metadata = safetensors_numpy.read(tmp_path / "plan.safetensors")
    for bad_tensors, bad_metadata in (
        ({**tensors, "K": tensors["K"][:2]}, metadata),
        (tensors, {**metadata, "size": "[64]"}),
        (tensors, {**metadata, "schema": "?"}),
        ({}, metadata),
    ):
        safetensors_numpy.write(tmp_path / "bad.safetensors", bad_tensors, bad_metadata)
        with pytest.raises(FormatError):
            load_plan(tmp_path / "bad.safetensors")


def test_impossible_plans_are_refused():
    for change in ({"preset": 90}, {"views": -1}, {"size": 4}, {"size": 10**5}):
        with pytest.raises(InputError):
            plan_views(MODEL, PERFORMANCE, **{"preset": 120, "size": 64, **change})


def test_convention_photo_crop_samples_where_its_camera_looks():
    """Against scipy's bilinear lookup at the photo pixel that each crop pixel's centre (+0.5) projects to."""
    reference = toy_reference(MODEL)
    fine = reference_camera(reference, reference.rig(MODEL), 320)
    image, matte = resample_photo(reference, fine)
    row, column = np.mgrid[:320, :320] + 0.5
    rays = np.stack([column, row, np.ones_like(row)], axis=-1) @ np.linalg.inv(fine.K).T
    pixels = (rays @ reference.camera.K.T)[..., :2] - 0.5
    where = [pixels[..., 1], pixels[..., 0]]
    assert_arrays_close(matte, map_coordinates(reference.head_matte, where, order=1), atol=1e-4)
    solid = map_coordinates(minimum_filter(reference.head_matte, 5), where, order=1) == 1
    assert solid.mean() > 0.2
    for channel in range(3):
        expected = map_coordinates(reference.image[..., channel], where, order=1)
        assert_arrays_close(image[solid, channel], expected[solid], atol=1e-4)
