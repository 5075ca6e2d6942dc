# SPDX-License-Identifier: Apache-2.0
"""The readers of published data sets, on small files of the same layout: pictures whose colours are their own pixel coordinates tell
whether cameras, crops and frames are where they should be.
"""

import csv
import io
import json
import zipfile
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
from PIL import Image

from mvp4d_core.cameras import Camera, orbit_camera, project
from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.io.video import LOSSLESS, write_video
from mvp4d_core.rig import Performance, personalize, skin
from mvp4d_core.rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_axis_angle
from mvp4d_core.training.adapters.ava256 import read_ava256
from mvp4d_core.training.adapters.captures import distorted
from mvp4d_core.training.adapters.nersemble import read_nersemble
from mvp4d_core.training.adapters.renderme360 import read_renderme360
from mvp4d_core.training.adapters.tracks import Track, face_the_front, load_track, save_track
from mvp4d_core.training.adapters.vfhq import read_vfhq
from mvp4d_core.training.curriculum import Curriculum, Modality, Stage, nano_curriculum
from mvp4d_core.training.recipes import gather, split_people
from tests.support.toy_head import toy_head_model

MODEL = toy_head_model()
WIDTH, HEIGHT, SIZE = 96, 128, 32
FRAMES = np.array([1, 2, 4, 5, 6])  # of a recording of eight
# the recordings' world: turned and moved against head space, so that nothing works by luck
TURN, SHIFT = np.array([0.4, -2.0, 0.9]), np.array([0.3, 1.2, -0.7])


def track(K=None):
    rng = np.random.default_rng(3)
    rotations = rng.normal(scale=0.05, size=(len(FRAMES), len(MODEL.joint_names), 3))
    rotations[:, 0] += TURN
    performance = Performance(
        rng.uniform(0, 0.5, (len(FRAMES), len(MODEL.expression_names))), rotations, SHIFT + rng.normal(scale=0.003, size=(len(FRAMES), 3)),
        25.0, MODEL.expression_names, MODEL.joint_names,
    )  # fmt: skip
    return Track(performance, np.full(len(MODEL.shape_names), 0.3, np.float32), FRAMES, K)


def posed(a_track):
    rig = personalize(MODEL, a_track.shape, np.zeros_like(MODEL.v_template))
    poses = [a_track.performance[f] for f in range(len(FRAMES))]
    return np.stack([skin(rig, None, p.expression, p.rotations, p.translation) for p in poses])


def cameras():
    """Two cameras that see the head of `track` in its world."""
    world_from_head = np.eye(4)
    world_from_head[:3, :3], world_from_head[:3, 3] = axis_angle_to_matrix(TURN), SHIFT
    options = {"target": np.zeros(3), "distance": 1.1, "fov_y": np.deg2rad(24), "width": WIDTH, "height": HEIGHT}
    around = [orbit_camera(azimuth, 0.1, **options) for azimuth in (0.2, -0.6)]
    return [replace(c, camera_from_world=c.camera_from_world @ np.linalg.inv(world_from_head)) for c in around]


def picture(frame):
    """Red and green are the pixel's place, blue is the frame's number."""
    x, y = np.meshgrid((np.arange(WIDTH) + 0.5) / WIDTH, (np.arange(HEIGHT) + 0.5) / HEIGHT)
    return np.rint(np.stack([x, y, np.full_like(x, (frame + 1) / 10)], axis=-1) * 255).astype(np.uint8)


def check(clip, a_track, source_cameras, distortion=None, tolerance=3.0):
    """The crop shows at each vertex the colour of the place where the original camera sees it; blue tells the frame."""
    rig = personalize(MODEL, a_track.shape, np.zeros_like(MODEL.v_template))
    assert clip.frames.shape == (len(source_cameras), len(FRAMES), SIZE, SIZE, 3)
    for frame in range(len(FRAMES)):
        p = clip.performance[frame]
        ours, original = skin(rig, None, p.expression, p.rotations, p.translation), posed(a_track)[frame]
        for view, camera in enumerate(source_cameras):
            pixels, _ = project(ours, clip.cameras[view])
            row, column = np.floor(pixels[:, 1]).astype(int), np.floor(pixels[:, 0]).astype(int)
            assert row.min() >= 0 and row.max() < SIZE and column.min() >= 0 and column.max() < SIZE
            whole = clip.alphas[view, frame, row, column] > 250  # not where the original picture ends
            colors = clip.frames[view, frame, row, column].astype(float)[whole]
            assert whole.mean() > 0.95
            if distortion is None:
                seen, _ = project(original, camera)
            else:
                turn, _ = cv2.Rodrigues(camera.camera_from_world[:3, :3])
                seen = cv2.projectPoints(original, turn, camera.camera_from_world[:3, 3], camera.K, distortion)[0][:, 0]
            scale = camera.K[0, 0] / clip.cameras[view].K[0, 0]  # source pixels a crop pixel
            error = np.abs(colors[:, :2] / 255 * [WIDTH, HEIGHT] - seen[whole])
            assert error.max() < 0.5 * scale + tolerance * WIDTH / 255
            assert np.abs(colors[:, 2] - (FRAMES[frame] + 1) * 25.5).max() < 6
    assert (clip.alphas[clip.inside[:, None].repeat(len(FRAMES), 1)] > 120).all() and clip.inside.mean() > 0.5


def write_recordings(folder, names):
    for name in names:
        write_video(folder / name, [picture(f) for f in range(8)], 25.0, quality=LOSSLESS)


def write_mattes(folder, names):
    folder.mkdir(parents=True)
    for name in names:
        write_video(folder / name, np.full((8, HEIGHT, WIDTH, 3), 255, np.uint8), 25.0, quality=LOSSLESS)


def test_facing_the_front_convention():
    """The middle frame's root is at rest, and every posed point projects where it did."""
    a_track = track()
    performance, moved = face_the_front(a_track, tuple(cameras()), MODEL)
    rig = personalize(MODEL, a_track.shape, np.zeros_like(MODEL.v_template))
    assert np.abs(performance.rotations[2, 0]).max() < 1e-6 and np.abs(performance.translation[2]).max() < 1e-6
    for frame, old in enumerate(posed(a_track)):
        p = performance[frame]
        new = skin(rig, None, p.expression, p.rotations, p.translation)
        for before, after in zip(cameras(), moved, strict=True):
            np.testing.assert_allclose(project(new, after)[0], project(old, before)[0], atol=2e-3)


def test_distortion_is_opencv_s():
    rng = np.random.default_rng(0)
    points, terms = rng.uniform(-0.6, 0.6, (200, 2)), rng.normal(scale=0.05, size=5)
    homogeneous = np.concatenate([points, np.ones((200, 1))], axis=1)
    expected = cv2.projectPoints(homogeneous, np.zeros(3), np.zeros(3), np.eye(3), terms)[0][:, 0]
    np.testing.assert_allclose(distorted(points, terms), expected, atol=1e-12)


def test_tracks_round_trip_and_damage(tmp_path):
    a_track = track(K=np.eye(3))
    save_track(a_track, tmp_path / "t.safetensors")
    back = load_track(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(back.performance.rotations, a_track.performance.rotations)
    np.testing.assert_array_equal(back.frames, FRAMES)
    np.testing.assert_array_equal(back.K, np.eye(3))
    data = (tmp_path / "t.safetensors").read_bytes()
    for damaged in (data[:50], data.replace(b"mvp4d-track/1", b"mvp4d-track/7"), data.replace(b'"frames"', b'"flames"')):
        (tmp_path / "t.safetensors").write_bytes(damaged)
        with pytest.raises(FormatError):
            load_track(tmp_path / "t.safetensors")
    with pytest.raises(InputError, match="rising"):
        Track(a_track.performance, a_track.shape, FRAMES[::-1].copy())


def nersemble(tmp_path):
    serials, sources = ("222200036", "221501007"), cameras()
    images = tmp_path / "data" / "017" / "sequences" / "EXP-2-eyes" / "images"
    images.mkdir(parents=True)
    (tmp_path / "data" / "017" / "calibration").mkdir()
    write_recordings(images, [f"cam_{serial}.mp4" for serial in serials])
    K = np.diag([2200 / WIDTH, 2200 / WIDTH, 1]) @ sources[0].K
    poses = {serial: camera.camera_from_world.tolist() for serial, camera in zip(serials, sources, strict=True)}
    text = json.dumps({"world_2_cam": poses, "intrinsics": K.tolist()})
    (tmp_path / "data" / "017" / "calibration" / "camera_params.json").write_text(text)
    tracks = tmp_path / "tracks"
    write_mattes(tracks / "017_EXP-2-eyes", [f"alpha_{serial}.mp4" for serial in serials])
    save_track(track(), tracks / "017_EXP-2-eyes.safetensors")
    return tmp_path / "data", tracks, [sources[1], sources[0]]  # serials in order of their names


def test_nersemble(tmp_path):
    folder, tracks, sources = nersemble(tmp_path)
    (source,) = read_nersemble(folder, tracks, MODEL)
    assert source.holes == () and source.identity == "nersemble 017"
    check(source.load(SIZE), track(), sources)


def test_nersemble_with_holes(tmp_path):
    folder, tracks, _ = nersemble(tmp_path)
    (tracks / "017_EXP-2-eyes" / "alpha_222200036.mp4").unlink()
    (folder / "017" / "calibration" / "camera_params.json").unlink()
    (tracks / "017_EXP-2-eyes.safetensors").unlink()
    (source,) = read_nersemble(folder, tracks, MODEL)
    assert [next(w for w in ("calibration", "mattes", "track") if w in hole) for hole in source.holes] == ["calibration", "mattes", "track"]
    with pytest.raises(InputError, match="incomplete"):
        source.load(SIZE)


def test_ava256(tmp_path):
    sources = cameras()
    decoder = tmp_path / "data" / "m--20230101--0900--ABC123--GHS" / "decoder"
    for kind in ("image", "segmentation_parts"):
        (decoder / kind).mkdir(parents=True)
    entries = []
    for number, camera in enumerate(sources):
        K = np.diag([2668 / WIDTH, 2668 / WIDTH, 1]) @ camera.K
        K[:2, 2] -= 0.5
        T = camera.camera_from_world.copy()
        T[:3, 3] *= 1000
        entries.append({"cameraId": f"4000{number}", "K": K.T.tolist(), "T": T.T.tolist(), "distortion": [0.1, 0, 0, 0]})
        parts = np.full((HEIGHT, WIDTH), 2, np.uint8)
        parts[0, :] = 3  # a chair
        with (
            zipfile.ZipFile(decoder / "image" / f"cam4000{number}.zip", "w") as images,
            zipfile.ZipFile(decoder / "segmentation_parts" / f"cam4000{number}.zip", "w") as masks,
        ):
            for frame in range(8):
                images.writestr(f"cam4000{number}/{frame:06d}.avif", encoded(picture(frame), "AVIF", quality=100, subsampling="4:4:4"))
                masks.writestr(f"{frame:06d}.png", encoded(parts, "PNG"))
    (decoder / "camera_calibration.json").write_text(json.dumps({"KRT": entries}))
    with (decoder / "frame_list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("seg_id", "frame_id"), *(("EXP_jaw", str(frame)) for frame in range(8))])
    (tmp_path / "tracks").mkdir()
    save_track(track(), tmp_path / "tracks" / "m--20230101--0900--ABC123--GHS_EXP_jaw.safetensors")
    (source,) = read_ava256(tmp_path / "data", tmp_path / "tracks", MODEL)
    assert source.holes == ()
    check(source.load(SIZE), track(), sources)
    (decoder / "segmentation_parts" / "cam40001.zip").unlink()
    (source,) = read_ava256(tmp_path / "data", tmp_path / "tracks", MODEL)
    assert "1 of 2 cameras lack segmentation_parts" in source.holes[0]


def encoded(array, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def test_renderme360(tmp_path):
    h5py = pytest.importorskip("h5py")
    sources, D = cameras(), np.array([-0.12, 0.05, 0.002, -0.003, 0.01])
    (tmp_path / "0026").mkdir()
    with h5py.File(tmp_path / "0026" / "0026_e0_raw.smc", "w") as raw, h5py.File(tmp_path / "0026" / "0026_e0_anno.smc", "w") as anno:
        for number, camera in enumerate(sources):
            name = f"{number:02d}"
            for frame in range(8):
                raw[f"Camera/{name}/color/{frame}"] = np.frombuffer(encoded(picture(frame), "PNG"), np.uint8)
                mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
                anno[f"Camera/{name}/mask/{frame}"] = np.frombuffer(encoded(mask, "PNG"), np.uint8)
            anno[f"Calibration/{name}/K"], anno[f"Calibration/{name}/D"] = camera.K, D
            anno[f"Calibration/{name}/RT"] = np.linalg.inv(camera.camera_from_world)
    save_track(track(), tmp_path / "0026_e0.safetensors")
    (source,) = read_renderme360(tmp_path, tmp_path, MODEL)
    assert source.holes == () and source.identity == "renderme360 0026" and source.made_of
    assert (source.views, source.frames) == (len(sources), len(track().frames))
    check(source.load(SIZE), track(), sources, distortion=D)
    with h5py.File(tmp_path / "0026" / "0026_e0_anno.smc", "a") as anno:
        del anno["Camera/00"]
    (source,) = read_renderme360(tmp_path, tmp_path, MODEL)
    assert "lacks the mattes of 1 cameras, such as 00" in source.holes[0]
    (tmp_path / "0026" / "0026_e0_anno.smc").unlink()
    (source,) = read_renderme360(tmp_path, tmp_path, MODEL)
    assert "no group Calibration" in source.holes[0]
    (tmp_path / "0026" / "0026_e0_raw.smc").write_bytes(b"no")
    (source,) = read_renderme360(tmp_path, tmp_path, MODEL)
    assert "no sound .smc" in source.holes[0]


@pytest.mark.parametrize("kind", ["pictures", "video"])
def test_vfhq(tmp_path, kind):
    camera, name = cameras()[0], "Clip+00a-bcde+P2+C1+F100-108"
    if kind == "pictures":
        (tmp_path / "data" / "part1" / name).mkdir(parents=True)
        for frame in range(8):
            Image.fromarray(picture(frame)).save(tmp_path / "data" / "part1" / name / f"{frame:08d}.png")
    else:
        (tmp_path / "data").mkdir()
        write_recordings(tmp_path / "data", [f"{name}.mp4"])
    write_mattes(tmp_path / "tracks" / name, ["alpha.mp4"])
    # the track of one uncalibrated camera is in that camera's axes
    world, a_track = camera.camera_from_world, track(camera.K)
    moved = in_camera_axes(a_track, world)
    save_track(moved, tmp_path / "tracks" / f"{name}.safetensors")
    (source,) = read_vfhq(tmp_path / "data", tmp_path / "tracks", MODEL)
    assert source.holes == () and source.identity == "vfhq 00a-bcde+P2"
    check(source.load(SIZE), moved, [Camera(camera.K, np.eye(4), WIDTH, HEIGHT)])


def in_camera_axes(a_track, camera_from_world):
    """The same head as the camera sees it from the origin."""
    performance, turn = a_track.performance, camera_from_world[:3, :3]
    rig = personalize(MODEL, a_track.shape, np.zeros_like(MODEL.v_template))
    joints = np.stack([rig.J_regressor[0] @ (rig.v_template + rig.exprdirs @ e) for e in performance.expression])
    rotations = performance.rotations.copy()
    rotations[:, 0] = quaternion_to_axis_angle(matrix_to_quaternion(turn @ axis_angle_to_matrix(rotations[:, 0].astype(float))))
    translation = (joints + performance.translation) @ turn.T + camera_from_world[:3, 3] - joints
    return replace(a_track, performance=replace(performance, rotations=rotations, translation=translation))


def test_gather_tells_holes_and_splits_people(tmp_path):
    folder, tracks, _ = nersemble(tmp_path)
    curriculum = Curriculum((Stage(1, SIZE, 1e-3, 0.0, (Modality("multiview", 2, 5, 1.0, 1),)),))
    options = {"head_model": MODEL, "tracks": tracks}
    data = gather([f"nersemble:{folder}"], 0, 0, curriculum, **options)
    assert len(data.train) == 1 and data.heldout == [] and data.holes == []
    with pytest.raises(InputError, match="No clip of 1 has 3 views x 1 frames, which `static` needs"):
        gather([f"nersemble:{folder}"], 0, 0, nano_curriculum(), **options)
    with pytest.raises(InputError, match="No held-out clip of 2 has"):  # two forms for the three kinds of clips
        gather([], 9, 2, nano_curriculum(), head_model=MODEL)
    (tracks / "017_EXP-2-eyes.safetensors").unlink()
    with pytest.raises(InputError, match=r"017_EXP-2-eyes: its track .* is missing"):
        gather([f"nersemble:{folder}"], 0, 0, curriculum, **options)
    with pytest.raises(InputError, match="no clip to train on"):
        gather([f"nersemble:{folder}"], 0, 0, curriculum, skip_incomplete=True, **options)
    with pytest.raises(InputError, match="--tracks"):
        gather([f"nersemble:{folder}"], 0, 0, curriculum, head_model=MODEL)
    with pytest.raises(InputError, match="no prepared clip"):
        gather([str(folder)], 0, 0, curriculum, head_model=MODEL)
    many = [replace(data.train[0], name=f"clip {k}", identity=f"person {k // 3}") for k in range(30)]
    kept, judged = split_people(many, 5)
    assert len(judged) == 6 and not {s.identity for s in kept} & {s.identity for s in judged}
    assert {s.name for s in split_people(many[::-1], 5)[1]} == {s.name for s in judged}


def test_long_recordings_become_pieces(tmp_path):
    folder, tracks, _ = nersemble(tmp_path)
    long = track().performance.select([0] * 102)
    save_track(Track(long, track().shape, np.arange(102)), tracks / "017_EXP-2-eyes.safetensors")
    sources = list(read_nersemble(folder, tracks, MODEL))
    assert [source.name for source in sources] == ["017_EXP-2-eyes-000", "017_EXP-2-eyes-001"]
    assert all(a.name < b.name for a, b in pairwise(sources))
    with pytest.raises(FormatError, match="ends after 8 of 49"):
        sources[0].load(SIZE)


def test_synthetic_clips_know_how_they_are_made():
    def made(presets=(120,), **settings):
        data = gather([], 12, 12, nano_curriculum(), head_model=MODEL, presets=presets, **settings)
        return data.train[0].made_of, data.heldout[0].made_of

    assert made() == made(device="cuda") and made()[0] != made((360,))[0]
    assert json.loads(made()[0])[0]["outcrops"] > 0 and json.loads(made()[1])[0]["outcrops"] == 0
