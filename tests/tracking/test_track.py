# SPDX-License-Identifier: Apache-2.0
"""The whole walk on real photographs."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mvp4d_core.cameras import crop_camera, project
from mvp4d_core.errors import Cancelled, InputError, MissingAssetError, TrackingError
from mvp4d_core.render.mesh import rasterize_mesh
from mvp4d_core.rig import HeadModel, load_head_model, skin
from mvp4d_core.tracking import Reference, draw_overlay, load_reference, save_reference, track_portrait
from mvp4d_core.tracking.crops import crop_square
from mvp4d_core.tracking.regions import mask_of
from mvp4d_core.tracking.zones import find_zones
from tests.support.toy_head import toy_head_model

skimage_data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_head_model()


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    return skimage_data.astronaut().astype(np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def reference(model, astronaut) -> Reference:
    return track_portrait(astronaut, None, head_model=model, source_sha256="ab" * 32)


def resized(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(np.rint(picture * 255).astype(np.uint8)).resize((width, height)), np.float32) / 255


def posed(reference: Reference, model: HeadModel) -> np.ndarray:
    parameters = reference.parameters
    return skin(reference.rig(model), None, parameters.expression.astype(np.float64), parameters.rotations, parameters.translation)


def overlap_with_matte(reference: Reference, model: HeadModel, size: int = 256) -> float:
    """Intersection over union of the head's outline and the head matte in a crop of `size` pixels, the neck and what is below left out."""
    vertices = posed(reference, model)
    pixels = project(vertices[~mask_of(model, "neck")], reference.camera)[0]
    centre, side = (pixels.min(axis=0) + pixels.max(axis=0)) / 2, 1.25 * float(np.ptp(pixels, axis=0).max())
    half = side / 2
    camera = crop_camera(reference.camera, np.array([*(centre - half), *(centre + half)]), size, size)
    matte = crop_square(reference.head_matte, centre, side, size) > 0.5
    zones = find_zones(model, vertices, camera)
    above = ~zones.neck & ~zones.below_neck
    mask = rasterize_mesh(vertices, model.faces, camera).mask & above
    return (mask & matte).sum() / (mask | matte & above).sum()


def test_the_astronaut_is_tracked_as_the_suite_promises(reference, model):
    assert reference.landmark_error_percent <= 1.5  # the promise is 3
    assert overlap_with_matte(reference, model) >= 0.97
    assert reference.warnings == () and reference.notices == ()
    assert (reference.faces_found, reference.face) == (1, 1)
    assert reference.image.shape == (512, 512, 3) and reference.source_sha256 == "ab" * 32
    smile = [reference.parameters.expression[model.expression_names.index(name)] for name in ("mouthSmileLeft", "mouthSmileRight")]
    assert max(smile) > 0.2


def test_the_error_it_reports_is_the_rigs(reference, model):
    pixels, _ = project(model.landmarks(posed(reference, model)), reference.camera)
    eyes = np.linalg.norm(reference.landmarks[468] - reference.landmarks[473])
    error = 100 * np.linalg.norm(pixels - reference.landmarks, axis=1).mean() / eyes
    assert abs(error - reference.landmark_error_percent) < 0.02


def test_suit_collar_and_background_are_not_head(reference):
    head = reference.head_matte
    assert not head[260:].any()  # the suit
    assert head[215:240, 150:280].mean() < 0.05  # the black collar in the ring
    assert head[150:200, 110:160].mean() < 0.05  # the ring itself
    assert not head[:, 320:].any()  # the shuttle
    assert head[60:120, 185:275].min() > 0.95 and head[50:100, 165:180].mean() > 0.95  # hair and face
    assert reference.matte[400, 200] > 0.9  # the suit is person


def test_it_is_deterministic(reference, model, astronaut):
    again = track_portrait(astronaut, None, head_model=model, source_sha256="ab" * 32)
    for name in ("offsets", "shape", "head_matte", "landmarks"):
        np.testing.assert_array_equal(getattr(again, name), getattr(reference, name), err_msg=name)


def test_a_saved_track_is_the_same_track(reference, tmp_path):
    save_reference(reference, tmp_path / "r.safetensors")
    loaded = load_reference(tmp_path / "r.safetensors")
    for name in ("image", "matte", "head_matte", "offsets"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(reference, name), err_msg=name)


def test_the_overlay_is_a_picture_of_it(reference, model):
    overlay = draw_overlay(reference, model)
    assert overlay.dtype == np.float32 and overlay.shape[1] == 3 * 512 + 40 and 0 <= overlay.min() and overlay.max() <= 1
    assert len(np.unique(overlay.reshape(-1, 3), axis=0)) > 5000
    worried = replace(reference, warnings=("This is a warning that is a good deal longer than what fits on one line of the caption. " * 3,))
    assert draw_overlay(worried, model).shape[0] > overlay.shape[0]
    with pytest.raises(InputError, match="tracked with the head"):
        draw_overlay(reference, toy_head_model())


def test_a_photo_on_its_side_is_turned_upright(reference, model, astronaut):
    turned = track_portrait(np.rot90(astronaut), None, head_model=model)
    assert "turned 90° to the right" in turned.notices[0]
    np.testing.assert_array_equal(turned.image, reference.image)
    np.testing.assert_allclose(turned.landmarks, reference.landmarks, atol=0.5)


def test_of_several_faces_the_largest_or_the_one_asked_for_is_taken(model, astronaut):
    both = np.full((512, 860, 3), 0.5, np.float32)
    both[:, :512] = astronaut
    both[100:440, 512:852] = resized(astronaut, 340, 340)
    largest = track_portrait(both, None, head_model=model)
    assert (largest.faces_found, largest.face) == (2, 1)
    assert "2 faces found; took the largest" in largest.notices[0]
    second = track_portrait(both, None, head_model=model, face=2)
    assert second.face == 2 and not second.notices
    assert largest.landmarks[:, 0].mean() < 512 < second.landmarks[:, 0].mean()
    assert not second.head_matte[:, :512].any()
    with pytest.raises(TrackingError, match="from 1 to 2"):
        track_portrait(both, None, head_model=model, face=3)


def test_transparency_is_the_matte(reference, model, astronaut):
    alpha = reference.matte
    cut = track_portrait(np.where(alpha[..., None] > 0.5, astronaut, 0), alpha, head_model=model)
    np.testing.assert_array_equal(cut.matte, alpha)
    assert np.abs(cut.head_matte - reference.head_matte).mean() < 0.01
    opaque = track_portrait(astronaut, np.ones((512, 512)), head_model=model)
    np.testing.assert_array_equal(opaque.head_matte, reference.head_matte)


def test_large_photos_and_small_faces(model, astronaut):
    large = track_portrait(resized(astronaut, 2200, 1900), None, head_model=model)
    assert large.image.shape == (1900, 2200, 3) and large.landmark_error_percent < 1.5
    wide = np.full((1200, 2400, 3), 0.55, np.float32)
    wide[600:1000, 1500:1900] = resized(astronaut, 400, 400)
    small = track_portrait(wide, None, head_model=model)
    assert 1500 < small.landmarks[:, 0].mean() < 1900
    assert any("face is small" in text for text in small.warnings)


def test_it_can_be_cancelled_at_every_step(model, astronaut):
    told = []

    def stop(stage: str, done: int, total: int) -> None:
        told.append((stage, done, total))
        if done == 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        track_portrait(astronaut, None, head_model=model, progress=stop)
    assert told == [("track", 0, 6), ("track", 1, 6), ("track", 2, 6)]


def test_without_torch_the_cure_is_named(model, astronaut, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else found(name, *rest))
    with pytest.raises(MissingAssetError, match=r"pip install 'mvp4d\[track\]'"):
        track_portrait(astronaut, None, head_model=model)


def test_tracking_keeps_quiet(model, astronaut, capfd):
    track_portrait(astronaut, None, head_model=model)
    written = capfd.readouterr()
    assert written.out == "" and written.err == ""
