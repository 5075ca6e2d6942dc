# SPDX-License-Identifier: Apache-2.0
"""Pictures of a plan: cameras on the right side of the head, maps in their cells."""

import numpy as np
import pytest

from mvp4d_core.conditioning import ViewCameras, condition_maps, picture_maps, plan_views, reference_camera, ring_cameras
from mvp4d_core.conditioning.plan_pictures import MAPS_SIZE, PANEL, ZOOM, cameras_picture, maps_picture
from mvp4d_core.rig import personalize, showcase_performance
from tests.support.toy_head import toy_head_model
from tests.support.toy_reference import toy_reference

MODEL = toy_head_model()
REFERENCE = toy_reference(MODEL)
FIRST = (0xD1, 0x49, 0x5B)  # the colour of view 0


def middle_of_first(picture: np.ndarray) -> np.ndarray:
    """(x, y) of view 0 from the middle of its panel."""
    rows, columns = np.nonzero((np.abs(picture.astype(int) - FIRST) < 8).all(axis=-1))
    assert len(rows) > 20
    return np.array([columns.mean(), rows.mean()]) - PANEL / 2


@pytest.mark.parametrize(
    ("azimuth", "elevation", "above", "beside"),
    [(0, 0, (0, 1), (1, 0)), (90, 0, (1, 0), (0, 0)), (180, 0, (0, -1), (-1, 0)), (-90, 0, (-1, 0), (0, 0)), (0, 80, (0, 0), (0, -1))],
)
def test_convention_cameras_are_drawn_where_they_stand(azimuth, elevation, above, beside):
    """From above the face looks down the page and the subject's left is at the right; from the side it looks to the right."""
    picture = cameras_picture(ring_cameras([elevation], 1, azimuths=(azimuth, azimuth)))
    assert picture.shape == (PANEL, 2 * PANEL, 3) and picture.dtype == np.uint8
    for panel, direction in enumerate((above, beside)):
        found = middle_of_first(picture[:, panel * PANEL : (panel + 1) * PANEL])
        assert np.abs(found / (PANEL / 2) - direction).max() < 0.35, (panel, found)


def test_all_cameras_fit_the_picture():
    cameras = ring_cameras([0, 40], 6, distance=5.0).cameras
    picture = cameras_picture(ViewCameras(cameras, about_head=False))
    assert (picture[0] == 255).all() and (picture[-1] == 255).all() and (picture < 200).any()


def test_maps_are_those_of_the_first_and_middle_frame():
    plan = plan_views(REFERENCE.rig(MODEL), showcase_performance(MODEL).select(list(range(40, 49))), preset=120, views=5, size=64)
    picture = maps_picture(plan, REFERENCE, MODEL, most_views=3)
    rig = personalize(MODEL, REFERENCE.shape, np.zeros_like(MODEL.v_template))
    camera, cell = reference_camera(REFERENCE, REFERENCE.rig(MODEL), MAPS_SIZE), MAPS_SIZE // 8
    # the middle frame is 4, an anchor of the clip of all frames, so its maps are those of the second latent frame
    whole = condition_maps(MODEL, rig, plan.cameras, plan.performance, reference_camera=camera, latent_size=(cell, cell))
    for row, (view, latent) in enumerate((view, latent) for view in (0, 2, 4) for latent in (0, 1)):
        wanted = picture_maps(whole[view, latent], zoom=ZOOM)
        height = len(wanted)
        shown = picture[picture.shape[0] - (6 - row) * height :][:height, picture.shape[1] - wanted.shape[1] :]
        assert np.abs(shown / 255 - wanted).max() < 0.003, (view, latent)


def test_maps_of_one_frame_and_one_view():
    plan = plan_views(REFERENCE.rig(MODEL), showcase_performance(MODEL).select([3]), preset=60, views=1, size=64)
    assert maps_picture(plan, REFERENCE, MODEL).shape[0] < 2 * MAPS_SIZE // 8 * ZOOM
