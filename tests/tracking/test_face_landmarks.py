# SPDX-License-Identifier: Apache-2.0
"""ComfyUI's face landmarks in place of the suite's own detector."""

import numpy as np
import pytest

from mvp4d_core.errors import InputError, TrackingError
from mvp4d_core.rig import ARKIT_NAMES, load_head_model
from mvp4d_core.tracking import track_portrait
from mvp4d_core.tracking.face_landmarks import points_of_frame, sliders_of_frames
from mvp4d_core.tracking.face_models import FaceModels
from tests.support.asserts import assert_arrays_close

skimage_data = pytest.importorskip("skimage.data")


def as_comfyui_has_it(points: np.ndarray, size: tuple[int, int], turn: float = 0.3) -> dict:
    """One frame with one face: pixels, and the same points in a turned square of 192 px that the face was looked at in."""
    cosine, sine, scale = np.cos(turn), np.sin(turn), 192 / 140
    flat = (points[:, :2] - points[:, :2].mean(axis=0)) @ np.array([[cosine, -sine], [sine, cosine]]) * scale + 96
    face = {
        "bbox_xyxy": np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)]).astype(np.float32),
        "blendshapes": {"_neutral": 0.1, "jawOpen": 0.25, "eyeBlinkLeft": 1.2},
        "landmarks_xy": points[:, :2].astype(np.float32),
        "landmarks_3d": np.column_stack([flat, scale * points[:, 2]]).astype(np.float32),
        "presence": 9.0,
        "score": 0.9,
        "transformation_matrix": np.eye(4),
    }
    return {"frames": [[face]], "image_size": size, "connection_sets": {}}


@pytest.fixture(scope="module")
def points() -> np.ndarray:
    with FaceModels() as models:
        return models.landmarks(skimage_data.astronaut())[0]


def test_points_come_back_with_their_depth(points):
    given = as_comfyui_has_it(points, (512, 512))
    assert_arrays_close(points_of_frame(given, 512, 512), points[None], atol=1e-3)
    given["frames"].append([])
    assert points_of_frame(given, 512, 512, 1).shape == (0, 478, 3)


def test_a_portrait_is_tracked_from_them(points):
    astronaut, model = skimage_data.astronaut().astype(np.float32) / np.float32(255), load_head_model()
    found = points_of_frame(as_comfyui_has_it(points, (512, 512)), 512, 512)
    beside = found * [0.5, 0.5, 0.5] + [250.0, 0, 0]  # a smaller face is the second
    reference = track_portrait(astronaut, None, head_model=model, points=np.concatenate([beside, found]))
    own = track_portrait(astronaut, None, head_model=model)
    assert (reference.face, reference.faces_found) == (1, 2) and "2 faces found" in reference.notices[0]
    assert_arrays_close(reference.landmarks, points[:, :2], atol=1e-2)
    assert np.abs(reference.landmarks - own.landmarks).mean() < 1.0
    assert reference.landmark_error_percent == pytest.approx(own.landmark_error_percent, abs=0.5)
    with pytest.raises(TrackingError, match="of no face"):
        track_portrait(astronaut, None, head_model=model, points=np.zeros((0, 478, 3)))
    for wrong in (np.zeros((1, 468, 3)), np.zeros((478, 3)), np.full((1, 478, 3), np.nan), np.zeros((1, 478, 3), int)):
        with pytest.raises(InputError, match="`points` must be finite"):
            track_portrait(astronaut, None, head_model=model, points=wrong)


def test_sliders_have_arkits_order_and_gaps_where_the_face_is_lost(points):
    given = as_comfyui_has_it(points, (512, 512))
    given["frames"] += [[], given["frames"][0]]
    curves = sliders_of_frames(given)
    assert curves.shape == (3, 52) and np.isnan(curves[1]).all()
    assert curves[2, ARKIT_NAMES.index("jawOpen")] == np.float32(0.25)
    assert curves[0, ARKIT_NAMES.index("eyeBlinkLeft")] == 1 and curves[0, ARKIT_NAMES.index("tongueOut")] == 0
    assert np.isnan(sliders_of_frames(given, face=1)).all()


def test_what_is_no_face_is_refused(points):
    good = as_comfyui_has_it(points, (512, 512))
    face = good["frames"][0][0]
    with pytest.raises(InputError, match="of a picture of"):
        points_of_frame(good, 512, 300)
    for frame in (-1, 1):
        with pytest.raises(InputError, match="`frame` of the face landmarks must be from 0 to 0"):
            points_of_frame(good, 512, 512, frame)
    for wrong in ({}, {"frames": []}, {"frames": [face]}, {"frames": 3}, []):
        with pytest.raises(InputError, match="must have `frames`"):
            sliders_of_frames(wrong)
    for damage in ({"landmarks_xy": face["landmarks_xy"][:468]}, {"landmarks_3d": np.nan * face["landmarks_3d"]}):
        with pytest.raises(InputError, match="finite `landmarks_xy`"):
            points_of_frame({**good, "frames": [[{**face, **damage}]]}, 512, 512)
    with pytest.raises(InputError, match="no `blendshapes`"):
        sliders_of_frames({"frames": [[{**face, "blendshapes": None}]]})
