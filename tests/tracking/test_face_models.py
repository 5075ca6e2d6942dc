# SPDX-License-Identifier: Apache-2.0
"""Faces, points and mattes against MediaPipe's own package, on a photograph and on rendered people."""

import importlib.util
import time

import numpy as np
import pytest
from PIL import Image

from mvp4d_core.cameras import orbit_camera
from mvp4d_core.errors import InputError
from mvp4d_core.evaluation.face_agreement import compare_with_mediapipe, faces_per_second
from mvp4d_core.evaluation.mediapipe_oracle import MediaPipe
from mvp4d_core.rig import load_head_model
from mvp4d_core.tracking.crops import crop_square
from mvp4d_core.tracking.face_models import Candidate, Detector, FaceModels, Square, decode_candidates, merge_candidates, sample_square
from mvp4d_core.training.synthetic.scenes import render_frame
from mvp4d_core.training.synthetic.studio import scene
from tests.support.asserts import assert_arrays_close

skimage_data = pytest.importorskip("skimage.data")
needs_mediapipe = pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="needs mediapipe")


def close_up(size: int = 256) -> np.ndarray:
    return crop_square(skimage_data.astronaut(), np.array([222.0, 115.0]), 190.0, size)


def turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(90, 110, 130)))


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    astronaut, near = skimage_data.astronaut(), close_up()
    camera = np.repeat(skimage_data.camera()[..., None], 3, axis=2)  # a face from the side, which the mesh does not take
    rng = np.random.default_rng(0)
    noisy = np.clip(near + rng.normal(0, 20, near.shape), 0, 255).astype(np.uint8)
    pictures = [astronaut, near, near[:, ::-1], turned(near, 25), turned(near, -40), near // 3, noisy, camera]
    pictures += [astronaut[:300, 60:420], astronaut[:, 130:330], crop_square(astronaut, np.array([222.0, 115.0]), 120.0, 256)]
    pictures += [np.concatenate([near, near[:, ::-1]], axis=1), np.zeros((64, 80, 3), np.uint8)]
    return [np.ascontiguousarray(picture) for picture in pictures]


@pytest.fixture(scope="module")
def rendered() -> list[np.ndarray]:
    """Three people of the studio, each from the front and from a side."""
    head = load_head_model()
    pictures = []
    for seed in range(3):
        person = scene(seed, head_model=head, frames=1, size=128)
        for azimuth in (0.0, 0.6 - 0.4 * seed):
            camera = orbit_camera(azimuth, 0.1, target=np.zeros(3), distance=1.2, fov_y=0.35, width=256, height=256)
            image, alpha = render_frame(person, camera, 0)
            pictures.append(np.rint(255 * (image + (1 - alpha[..., None]) * 0.8)).astype(np.uint8))
    return pictures


@needs_mediapipe
def test_photographs_give_what_mediapipe_gives(photographs):
    agreement = compare_with_mediapipe(photographs)
    assert agreement.faces >= 10 and agreement.strays == 0
    assert agreement.landmark_error_px < 0.05 and agreement.box_error_px < 0.01 and agreement.matte_error < 1e-4


@needs_mediapipe
def test_rendered_people_give_what_mediapipe_gives(rendered):
    agreement = compare_with_mediapipe(rendered)
    assert agreement.faces >= 5 and agreement.strays == 0
    assert agreement.landmark_error_px < 0.05 and agreement.box_error_px < 0.01 and agreement.matte_error < 1e-4


@needs_mediapipe
def test_depth_and_irises_are_mediapipes_too():
    picture = close_up()
    with FaceModels() as ours, MediaPipe() as theirs:
        assert_arrays_close(ours.landmarks(picture), theirs.landmarks(picture), atol=0.05)


@needs_mediapipe
@pytest.mark.filterwarnings("ignore")
def test_following_a_face_is_mediapipes_video_mode():
    from mediapipe.python.solutions.face_mesh import FaceMesh

    frames = [crop_square(skimage_data.astronaut(), np.array([222.0 + 2 * i, 115.0 - i]), 190.0, 256) for i in range(4)]
    with FaceMesh(static_image_mode=False, max_num_faces=1, refine_landmarks=True) as mesh, FaceModels() as models:
        known = models.landmarks(frames[0])[0]
        mesh.process(frames[0])
        for frame in frames[1:]:
            points = models.follow(frame, known)
            (found,) = (face.landmark for face in mesh.process(frame).multi_face_landmarks)
            known = np.array([(256 * p.x, 256 * p.y) for p in found])
            assert_arrays_close(points[:, :2], known, atol=0.02)


def test_a_lost_face_is_not_followed():
    picture = close_up()
    with FaceModels() as models:
        (points,) = models.landmarks(picture)
        assert models.follow(np.full_like(picture, 128), points) is None


def test_fifteen_faces_a_second_of_one_core():
    picture = close_up(512)
    with FaceModels() as models:
        models.landmarks(picture)
        spent = []
        for _ in range(8):
            start = time.thread_time()
            models.landmarks(picture)
            spent.append(time.thread_time() - start)
    assert min(spent) < 1 / 15
    assert faces_per_second(picture, rounds=3) > 0
    with pytest.raises(InputError, match="has none"):
        faces_per_second(np.zeros((64, 64, 3), np.uint8))


def test_convention_a_square_turns_clockwise_and_is_sampled_so():
    square = Square(np.array([40.0, 30.0]), 20.0, np.pi / 2)
    assert_arrays_close(square.to_picture(np.array([[0.5, 0.5], [1.0, 0.5], [0.5, 1.0]])), [[40, 30], [40, 40], [30, 30]], atol=1e-9)
    picture = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    whole = Square(np.array([40.0, 30.0]), 60.0)
    np.testing.assert_array_equal(sample_square(picture, whole, 60, edges=True), picture[:, 10:70])
    half_turn = sample_square(picture, Square(np.array([40.0, 30.0]), 60.0, np.pi), 60, edges=True)
    np.testing.assert_array_equal(half_turn[1:, 1:], picture[1:, 11:70][::-1, ::-1])


@pytest.mark.parametrize("edges", [True, False])
def test_sampling_is_opencvs(edges):
    cv2 = pytest.importorskip("cv2")
    picture = np.random.default_rng(2).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    square = Square(np.array([30.0, 28.0]), 61.3, 0.37)
    corners = square.to_picture(np.array([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, np.array([[0, 48], [0, 0], [48, 0], [48, 48]], np.float32))
    border = cv2.BORDER_REPLICATE if edges else cv2.BORDER_CONSTANT
    known = cv2.warpPerspective(picture, matrix, (48, 48), flags=cv2.INTER_LINEAR, borderMode=border)
    difference = np.abs(sample_square(picture, square, 48, edges=edges).astype(int) - known)
    assert np.mean(difference > 1) < 0.02  # places halfway between two steps of 1/32 may be rounded either way


def test_candidates_are_decoded_cell_by_cell():
    boxes, scores = np.zeros((4 * 2 + 1 * 6, 16), np.float32), np.full(14, -50.0, np.float32)
    detector = Detector((8, 16, 16, 16), 2, 0.5)
    boxes[5, :8], scores[5] = [1, 2, 8, 4, -1, 0, 3, 0], 2.0  # grid of 2 x 2 cells of 8 px, two each: the third cell
    boxes[11, :8], scores[11] = [0, 0, 16, 16, 0, 0, 0, 0], 1.0  # the one cell of 16 px
    boxes[12], scores[12] = -1, 3.0  # a box turned inside out
    first, second = decode_candidates(boxes, scores, 16, detector)
    assert_arrays_close(16 * first.box, [4 + 1 - 4, 12 + 2 - 2, 4 + 1 + 4, 12 + 2 + 2], atol=1e-6)
    assert_arrays_close(16 * first.eyes, [[3, 12], [7, 12]], atol=1e-6)
    assert_arrays_close(16 * second.box, [0, 0, 16, 16], atol=1e-6)
    assert first.score == pytest.approx(1 / (1 + np.exp(-2)))


def test_candidates_of_one_face_are_averaged_by_their_scores():
    def candidate(x: float, score: float) -> Candidate:
        return Candidate(np.array([x, 0, x + 1, 1.0]), np.array([[x, 0], [x + 1, 0]]), score)

    one, far = merge_candidates([candidate(0.1, 0.6), candidate(5, 0.8), candidate(0.0, 0.9)])
    assert_arrays_close(one.box, [0.04, 0, 1.04, 1], atol=1e-9)
    assert_arrays_close(one.eyes[:, 0], [0.04, 1.04], atol=1e-9)
    assert (one.score, far.score) == (0.9, 0.8)
    assert merge_candidates([]) == []
    assert len(merge_candidates([Candidate(np.zeros(4), np.zeros((2, 2)), 0.7)])) == 1
