# SPDX-License-Identifier: Apache-2.0
"""Driving videos: points of known performances, and a real face that moves, hides, and comes back after a cut."""

import json

import numpy as np
import pytest

from mvp4d_core.cameras import orbit_camera, project
from mvp4d_core.cli.main import main
from mvp4d_core.errors import Cancelled, FormatError, InputError, TrackingError
from mvp4d_core.io.video import frame_times, write_video
from mvp4d_core.rig import HeadModel, Performance, load_head_model, load_performance, skin
from mvp4d_core.rotations import axis_angle_to_matrix
from mvp4d_core.tracking.time_smoothing import filled, shots, smooth_in_time
from mvp4d_core.tracking.video import track_points, track_video
from mvp4d_core.tracking.video_overlay import draw_track
from mvp4d_core.tracking.watch import WatchedVideo, watch_video
from tests.support.toy_head import toy_head_model

skimage_data = pytest.importorskip("skimage.data")
FRAMES, FPS = 30, 25.0


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_head_model()


@pytest.fixture(scope="module")
def acted(model) -> Performance:
    """A head that turns, opens its mouth and blinks once, in two frames."""
    times = np.arange(FRAMES) / FPS
    expression, rotations = np.zeros((FRAMES, 52)), np.zeros((FRAMES, 5, 3))
    expression[:, model.expression_names.index("jawOpen")] = 0.5 * np.clip(np.sin(5 * times), 0, 1)
    for side in ("Left", "Right"):
        expression[14:16, model.expression_names.index("eyeBlink" + side)] = 1.0
    rotations[:, 1] = np.stack([0.1 * np.sin(3 * times), 0.3 * np.sin(4 * times), 0 * times], axis=1)
    return Performance(expression, rotations, np.zeros((FRAMES, 3)), FPS, model.expression_names, model.joint_names)


def watched(model: HeadModel, acted: Performance, times: np.ndarray | None = None, cuts: tuple[int, ...] = ()) -> WatchedVideo:
    """The points that the detector would find of it if it found them exactly, but for the mean of its habits."""
    camera = orbit_camera(0, 0, target=np.zeros(3), distance=0.7, fov_y=0.6, width=1280, height=720)
    points = []
    for frame in range(len(acted)):
        p = acted[frame]
        pixels, depth = project(model.landmarks(skin(model, None, p.expression, p.rotations, p.translation)), camera)
        points.append(np.concatenate([pixels, (depth - depth.mean())[:, None] * camera.K[0, 0] / 0.7], axis=1))
    return WatchedVideo(np.array(points, np.float32), cuts, np.arange(len(acted)) / FPS if times is None else times, 1280, 720)


def turns_of(performance: Performance) -> np.ndarray:
    return axis_angle_to_matrix(performance.rotations[:, 1].astype(np.float64))


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.rad2deg(np.arccos(np.clip((np.einsum("nab,nab->n", a, b) - 1) / 2, -1, 1)))


def test_a_known_performance_comes_back(model, acted):
    track = track_points(watched(model, acted), head_model=model)
    relative = [np.einsum("ba,nbc->nac", turns[0], turns) for turns in (turns_of(track.performance), turns_of(acted))]
    assert degrees(*relative).mean() < 2.5
    blink = model.expression_names.index("eyeBlinkLeft")
    assert track.performance.expression[14:16, blink].min() > track.performance.expression[:, blink].min() + 0.4
    jaw = model.expression_names.index("jawOpen")
    assert np.corrcoef(track.performance.expression[:, jaw], acted.expression[:, jaw])[0, 1] > 0.98
    assert np.abs(track.performance.expression - acted.expression).mean() < 0.05
    assert track.seen.all() and track.cuts == () and track.notices == ()
    assert track.performance.fps == pytest.approx(FPS)


def test_convention_the_track_is_where_the_points_are(model, acted):
    """The performance before the camera shows the points: turns about the neck, travel and camera fit together."""
    track = track_points(watched(model, acted), head_model=model, smooth=0.0)
    detected = watched(model, acted).points
    for frame in (0, 10, 29):
        p = track.performance[frame]
        vertices = skin(model, track.shape.astype(np.float64), p.expression.astype(np.float64), p.rotations, p.translation)
        pixels, _ = project(model.landmarks(vertices), track.camera)
        eyes = np.linalg.norm(detected[frame, 468, :2] - detected[frame, 473, :2])
        assert np.linalg.norm(pixels - detected[frame, :, :2], axis=1).mean() < 0.08 * eyes


def test_frames_without_a_face_are_marked_and_bridged(model, acted):
    video = watched(model, acted, cuts=(20,))
    video.points[5:9] = np.nan
    track = track_points(video, head_model=model)
    assert track.seen.tolist() == [not 5 <= frame < 9 for frame in range(FRAMES)]
    assert track.cuts == (20,) and len(track.notices) == 2
    assert np.isfinite(track.performance.expression).all() and np.isnan(track.points[6]).all()
    assert degrees(turns_of(track.performance)[4:8], turns_of(track.performance)[5:9]).max() < 4


def test_the_gaze_stays_where_it_was_behind_closed_lids(model, acted):
    video = watched(model, acted)
    video.points[14:16, 468:478, 0] += 12  # what a detector makes up
    track = track_points(video, head_model=model)
    yaw = track.performance.rotations[:, 3:, 1]
    assert np.abs(yaw[14:16] - yaw[13]).max() < np.radians(4)


def test_uneven_times_become_an_even_beat(model, acted):
    times = np.concatenate([np.arange(15) / FPS, 15 / FPS + np.arange(15) * 2 / FPS])
    track = track_points(watched(model, acted, times=times), head_model=model)
    assert len(track.performance) == round(times[-1] * track.performance.fps) + 1 == len(track.seen)
    assert track.performance.fps == pytest.approx(FPS, rel=0.02) or track.performance.fps == pytest.approx(FPS / 2, rel=0.02)


def test_straight_ahead_is_the_persons_mean_where_it_is_wanted(model, acted):
    off = np.array([0.0, 0.35, 0.0])
    turned = acted.rotations.copy()
    turned[:, 1] += off
    aside = Performance(acted.expression, turned, acted.translation, FPS, acted.expression_names, acted.joint_names)
    track = track_points(watched(model, aside), head_model=model, straight="person")
    mean = turns_of(track.performance).mean(axis=0)
    u, _, vt = np.linalg.svd(mean)
    assert degrees((u @ vt)[None], np.eye(3)[None])[0] < 2


@pytest.mark.parametrize("seed", range(3))
def test_smoothing_takes_trembling_and_leaves_blinks(seed):
    rng = np.random.default_rng(seed)
    clean = np.zeros((60, 1))
    clean[30:33] = 1.0
    trembling = clean + rng.normal(size=clean.shape) * 0.02
    smooth = smooth_in_time(trembling, 2.0, 0.1)
    assert np.abs(smooth - clean)[:28].std() < 0.6 * np.abs(trembling - clean)[:28].std() or smooth[:28].std() < 0.7 * trembling[:28].std()
    assert smooth[30:33].max() > 0.9


def test_gaps_are_filled_with_lines_and_shots_split_at_cuts():
    values, seen = np.array([[0.0], [9.0], [9.0], [3.0], [9.0]]), np.array([True, False, False, True, False])
    assert np.allclose(filled(values, seen)[:, 0], [0, 1, 2, 3, 3])
    assert shots((3, 7), 10) == [slice(0, 3), slice(3, 7), slice(7, 10)] and shots((), 4) == [slice(0, 4)]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """The astronaut drifting for 10 frames, 4 frames of nothing, and mirrored for 6."""
    face = skimage_data.astronaut()[:300, 80:380]
    frames = []
    for k in range(20):
        canvas = np.full((360, 480, 3), 90, np.uint8)
        if not 10 <= k < 14:
            canvas[30:330, 60 + 3 * k : 360 + 3 * k] = face if k < 14 else face[:, ::-1]
        frames.append(canvas)
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_video(path, frames, 25)
    return path


def test_a_face_is_followed_lost_and_found_again(film):
    video = watch_video(film)
    assert video.seen[:10].all() and not video.seen[11:14].any() and video.seen[14:].all()
    assert set(video.cuts) & {10, 14}
    steps = np.diff(video.points[:10, 4, 0])
    assert np.abs(steps - 3).max() < 1.0


def test_a_stopped_run_continues_to_the_same_points(film, tmp_path):
    kept = tmp_path / "watched.safetensors"

    def stop(stage: str, done: int, total: int) -> None:
        if done == 7:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        watch_video(film, resume=kept, progress=stop)
    looked = []
    resumed = watch_video(film, resume=kept, progress=lambda stage, done, total: looked.append(done))
    assert looked[1] == 8
    whole = watch_video(film)
    np.testing.assert_allclose(resumed.points, whole.points, atol=0.02)
    assert resumed.cuts == whole.cuts
    kept.write_bytes(b"nonsense")
    np.testing.assert_array_equal(watch_video(film, resume=kept).points, whole.points)


def test_the_command_writes_a_performance_and_says_what_it_saw(film, tmp_path, capsys):
    assert main(["track-video", str(film), "-o", str(tmp_path / "out"), "--overlay", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    performance = load_performance(answer["performance"])
    assert len(performance) == 20 and answer["frames_with_face"] <= 17 and answer["landmark_error_percent"] < 5
    assert len(frame_times(answer["overlay"])) == 20
    assert sum(json.loads((tmp_path / "out" / "track.json").read_text())["seen"]) == answer["frames_with_face"]


def test_the_overlay_marks_what_was_not_seen(model, acted):
    video = watched(model, acted)
    video.points[3] = np.nan
    track = track_points(video, head_model=model)
    blank = np.zeros((720, 1280, 3), np.uint8)
    assert (draw_track(blank, track, 3)[0] == [0xE5, 0, 0x6D]).all()
    assert not (draw_track(blank, track, 0)[719] == [0xE5, 0, 0x6D]).all(axis=1).any()


def test_what_cannot_be_tracked_is_refused_in_one_line(tmp_path, model):
    path = tmp_path / "grey.mp4"
    write_video(path, [np.full((64, 64, 3), 90, np.uint8)] * 3, 25)
    with pytest.raises(TrackingError, match="No face"):
        track_video(path, head_model=model)
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    with pytest.raises(FormatError, match="video"):
        track_video(tmp_path / "no.mp4", head_model=model)
    with pytest.raises(InputError, match="straight"):
        track_video(path, head_model=model, straight="ahead")
    few = toy_head_model()
    if len(few.landmark_faces) != 478:
        with pytest.raises(InputError, match="478"):
            track_video(path, head_model=few)
