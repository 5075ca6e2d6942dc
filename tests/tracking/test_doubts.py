# SPDX-License-Identifier: Apache-2.0
"""Photos that cannot be tracked, and photos whose track is doubtful."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mvp4d_core.errors import InputError, TrackingError
from mvp4d_core.rig import HeadModel, load_head_model
from mvp4d_core.tracking import track_portrait

skimage_data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_head_model()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage_data.astronaut().astype(np.float32) / np.float32(255)


def test_doubtful_photos_get_a_warning(model, astronaut):
    def warned(picture: np.ndarray, words: str, alpha: np.ndarray | None = None) -> bool:
        return any(words in text for text in track_portrait(picture.astype(np.float32), alpha, head_model=model).warnings)

    half = astronaut.copy()
    half[100:180, 180:226] = (0.1, 0.2, 0.7)
    assert warned(half, "not of the colour of skin")
    glasses = astronaut.copy()
    glasses[92:108, 185:265] = 0.05
    assert warned(glasses, "sunglasses")
    assert warned(astronaut[70:185, 160:285], "border cuts the head off")
    profile = np.repeat(skimage_data.camera()[..., None].astype(np.float32) / 255, 3, axis=2)
    assert warned(profile, "turned") and warned(profile, "fits no head well")
    nothing = np.zeros((512, 512), np.float32)
    nothing[80:150, 180:226] = 1  # a cut-out of half a face
    assert warned(astronaut, "matte covers only", nothing)


@pytest.mark.parametrize("name", ["coins", "brick", "page"])
def test_no_face(model, name):
    picture = np.repeat(getattr(skimage_data, name)()[..., None].astype(np.float32) / 255, 3, axis=2)
    with pytest.raises(TrackingError, match="No face found in the picture of"):
        track_portrait(picture, None, head_model=model)


def test_a_face_too_small(model, astronaut):
    small = np.asarray(Image.fromarray(np.rint(astronaut * 255).astype(np.uint8)).resize((150, 150)), np.float32) / 255
    with pytest.raises(TrackingError, match="too small: it must be at least 48 px wide, got 2"):
        track_portrait(small, None, head_model=model)


def test_what_is_no_photo_is_refused(model, astronaut):
    with pytest.raises(InputError, match="`rgb` must be floating point"):
        track_portrait((astronaut * 255).astype(np.uint8), None, head_model=model)
    with pytest.raises(InputError, match=r"`rgb` must lie in 0\.\.1"):
        track_portrait(astronaut * 255, None, head_model=model)
    with pytest.raises(InputError, match="`rgb` must lie in"):
        track_portrait(np.full((9, 9, 3), np.nan, np.float32), None, head_model=model)
    with pytest.raises(InputError, match="`alpha` must be"):
        track_portrait(astronaut, np.zeros((2, 2)), head_model=model)
    pointless = replace(model, landmark_faces=model.landmark_faces[:468], landmark_barycentrics=model.landmark_barycentrics[:468])
    with pytest.raises(InputError, match="478 face points"):
        track_portrait(astronaut, None, head_model=pointless)
