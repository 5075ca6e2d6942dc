# SPDX-License-Identifier: Apache-2.0
"""Tracks of other people's trackers: files of the layouts that they publish, with heads in known places."""

import json

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.io import savemat

from mvp4d_core.avatar import ply_tables
from mvp4d_core.cameras import project
from mvp4d_core.errors import FormatError, InputError, MVP4DError, StorageError
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.io.images import write_image
from mvp4d_core.render.mesh import rasterize_mesh
from mvp4d_core.rig import personalize, retarget, skin
from mvp4d_core.rig.flowface import flowface_head, skin_flowface
from mvp4d_core.rotations import axis_angle_to_matrix
from mvp4d_core.tracking import load_reference, save_reference
from mvp4d_core.tracking.adapters.fit_reference import fit_references
from mvp4d_core.tracking.adapters.import_track import import_track
from mvp4d_core.tracks.flame_params import write_flame_param
from mvp4d_core.tracks.flowface import read_fit, read_orbit, rest_offset, write_fit, write_orbit
from tests.support.mutation import assert_refuses_cleanly

T = 3
HEAD = flame_head()


def rng():
    return np.random.default_rng(4)


def save_fit(path, *, neck=True, frames=T, blink=0.0, **changes):
    r = rng()
    extr = np.tile(np.eye(4), (2, 1, 1))
    extr[1, :3, :3], extr[1, :3, 3] = axis_angle_to_matrix(np.array([0.0, 0.15, 0])), [0.15, 0, 0.1]
    arrays = {
        "fx": np.full((2, 1), 900.0), "fy": np.full((2, 1), 910.0), "cx": np.full((2, 1), 250.0), "cy": np.full((2, 1), 260.0),
        "extr": extr, "resolutions": np.array([[512, 500], [512, 500]]), "camera_order": np.array(["cam0", "cam1"]),
        "shape": r.normal(size=150), "expr": 0.6 * r.normal(size=(frames, 65)), "rot": 0.3 * r.normal(size=(frames, 3)),
        "tra": np.array([0, 0, -1.1]) + 0.05 * r.normal(size=(frames, 3)), "eye_rot": 0.2 * r.normal(size=(frames, 3)),
        "jaw_rot": 0.1 * r.normal(size=(frames, 3)), "fps": np.array(24.0), "n_timesteps": np.array(frames), "n_views": np.array(2),
        "error": np.array([{}], object),
    }  # fmt: skip
    arrays["expr"][:, 64] = blink
    if neck:
        arrays["neck_rot"] = 0.2 * r.normal(size=(frames, 3))
    np.savez(path, **(arrays | changes))
    return arrays | changes


@pytest.mark.parametrize("neck", [False, True])
def test_convention_flowface_heads_stand_where_that_skinning_puts_them(tmp_path, neck):
    given = save_fit(tmp_path / "fit.npz", neck=neck)
    track = read_fit(tmp_path / "fit.npz", HEAD)
    theirs = flowface_head(HEAD, np.zeros_like(HEAD.v_template))
    rig = personalize(HEAD, np.pad(track.shape, (0, 150)), track.offsets)
    ours = retarget(track.performance, rig)
    on_root = HEAD.lbs_weights[:, 0] > 1e-4
    assert (~on_root).sum() > 2000
    for frame in range(T):
        pose = ours[frame]
        mine = skin(rig, None, pose.expression.astype(np.float64), pose.rotations, pose.translation)
        wanted = skin_flowface(
            theirs, given["shape"], given["expr"][frame], given["rot"][frame], given["tra"][frame], given["eye_rot"][frame],
            given["neck_rot"][frame] if neck else None, given["jaw_rot"][frame],
        )  # fmt: skip
        distance = np.linalg.norm(mine - wanted, axis=1)
        if neck:  # the neck's correctives differ, which is said in the module
            assert distance[~on_root].max() < 1e-4
        else:
            assert distance.max() < 2e-6
    assert track.kind == "FlowFace" and track.performance.fps == 24 and track.views == ("cam0", "cam1")


def test_convention_flowface_cameras_see_the_head_before_them(tmp_path):
    given = save_fit(tmp_path / "fit.npz")
    track = read_fit(tmp_path / "fit.npz", HEAD)
    point = given["tra"][0]
    for index, camera in enumerate(track.cameras):
        pixel, depth = project(point[None], camera)
        x, y, z = (given["extr"][index] @ np.append(point * [1, -1, -1], 1))[:3]
        np.testing.assert_allclose(pixel[0], [900 * x / z + 250, 910 * y / z + 260], atol=1e-3)
        assert depth[0] > 0.8 and (camera.width, camera.height) == (500, 512)


@pytest.mark.parametrize("blink", [0.0, 0.6])
def test_fits_are_written_as_they_were_read(tmp_path, blink):
    given = save_fit(tmp_path / "fit.npz", blink=blink)
    track = read_fit(tmp_path / "fit.npz", HEAD)
    np.testing.assert_allclose(track.performance.expression[:, -2:], blink)
    assert write_fit(tmp_path / "again.npz", track.performance, HEAD, track.shape, track.cameras) == ()
    with np.load(tmp_path / "again.npz", allow_pickle=False) as again:
        for name in given.keys() - {"error"}:
            if given[name].dtype.kind == "U":
                assert again[name].tolist() == given[name].tolist()
            else:
                np.testing.assert_allclose(again[name], given[name], atol=3e-6, err_msg=name)


def test_orbits_there_and_back(tmp_path):
    save_fit(tmp_path / "fit.npz")
    cameras = read_fit(tmp_path / "fit.npz", HEAD).cameras
    write_orbit(tmp_path / "orbit.npz", cameras, 12.0)
    with np.load(tmp_path / "orbit.npz", allow_pickle=False) as file:
        assert file["extr"].shape == (2, 4, 4) and file["fx"].shape == (2, 1) and file["resolution"].tolist() == [512, 500]
    again, fps = read_orbit(tmp_path / "orbit.npz")
    assert fps == 12
    for a, b in zip(again, cameras, strict=True):
        np.testing.assert_allclose(a.camera_from_world, b.camera_from_world, atol=1e-6)
        np.testing.assert_allclose(a.K, b.K)
    with pytest.raises(InputError, match="path of a camera"):
        import_track(tmp_path / "orbit.npz", HEAD)


def flame_arrays(frames=T):
    r = rng()
    joints = {name: 0.2 * r.normal(size=(frames, 3)).astype("f4") for name in ("rotation", "neck_pose", "jaw_pose", "translation")}
    expr, eyes = r.normal(size=(frames, 100)).astype("f4"), 0.1 * r.normal(size=(frames, 6)).astype("f4")
    return {"shape": r.normal(size=300).astype("f4"), "expr": expr, "eyes_pose": eyes, **joints}


def check_flame(performance, arrays):
    np.testing.assert_array_equal(performance.expression, arrays["expr"])
    for joint, name in enumerate(("rotation", "neck_pose", "jaw_pose")):
        np.testing.assert_array_equal(performance.rotations[:, joint], arrays[name])
    np.testing.assert_array_equal(performance.rotations[:, 3:].reshape(T, 6), arrays["eyes_pose"])
    np.testing.assert_array_equal(performance.translation, arrays["translation"])


def test_gaussian_avatars_there_and_back(tmp_path):
    arrays = flame_arrays()
    static = np.zeros((1, 5143, 3), "f4")
    static[0, 7] = 0.002
    np.savez(tmp_path / "flame_param.npz", **arrays, static_offset=static, dynamic_offset=np.full((T, 5143, 3), 1e-4, "f4"))
    track = import_track(tmp_path / "flame_param.npz")
    assert track.kind == "GaussianAvatars" and "dynamic_offset" in track.notes[0] and not track.cameras
    check_flame(track.performance, arrays)
    np.testing.assert_array_equal(track.offsets, static[0, :5023])
    assert write_flame_param(tmp_path / "b.npz", track.performance, track.shape, track.offsets) == ()
    with np.load(tmp_path / "b.npz", allow_pickle=False) as again:
        for name, array in {**arrays, "static_offset": static}.items():
            np.testing.assert_array_equal(again[name], array)


def test_vhaps_tracks_and_its_folder_of_frames(tmp_path):
    arrays = flame_arrays()
    more = {"timestep_id": np.array(["00000", "00001", "00002"]), "n_processed_frames": np.array(T), "focal_length": np.array([1.5], "f4")}
    np.savez(tmp_path / "tracked_flame_params_30.npz", **arrays, focal_length=more["focal_length"], n_processed_frames=np.array(T))
    track = import_track(tmp_path / "tracked_flame_params_30.npz", size=(1920, 1080), fps=30)
    check_flame(track.performance, arrays)
    assert track.kind == "VHAP" and track.performance.fps == 30
    pixel, depth = project(np.array([[0.1, 0.2, 0.0], [0, 0, 0.0]]), track.cameras[0])
    np.testing.assert_allclose(pixel, [[960 + 2880 * 0.1, 540 - 2880 * 0.2], [960, 540]], atol=1e-9)
    np.testing.assert_allclose(depth, 1)
    assert "--picture-size" in import_track(tmp_path / "tracked_flame_params_30.npz").notes[0]
    folder = tmp_path / "export" / "flame_param"
    folder.mkdir(parents=True)
    for frame in range(T):
        one = {name: array if name == "shape" else array[frame : frame + 1] for name, array in arrays.items()}
        np.savez(folder / f"{frame:05d}.npz", **one)
    check_flame(import_track(tmp_path / "export").performance, arrays)


CODES = {"DECA": ("shape", "exp", "pose", "cam"), "EMOCA": ("shapecode", "expcode", "posecode", "cam")}


@pytest.mark.parametrize("kind", ["DECA", "EMOCA"])
@pytest.mark.parametrize("way", ["npz", "mat", "frames of torch", "frames of npy"])
def test_deca_and_emoca(tmp_path, kind, way):
    if way == "frames of npy" and kind == "EMOCA":
        kind = "DECA"  # EMOCA's folders bear DECA's names
    r = rng()
    codes = {
        "shape": r.normal(size=(T, 100)), "exp": r.normal(size=(T, 50)), "pose": 0.2 * r.normal(size=(T, 6)),
        "cam": np.array([7, 0, 0]) + 0.02 * r.normal(size=(T, 3)),
    }  # fmt: skip
    codes = {name: array.astype("f4") for name, array in zip(CODES[kind], codes.values(), strict=True)}
    shape, exp, pose, cam = codes.values()
    path = tmp_path / f"codes.{way}"
    if way == "npz":
        np.savez(path, **codes)
    elif way == "mat":
        savemat(path, codes | {"light": np.ones((T, 9, 3)), "text": "x"})
    else:
        path = tmp_path / "frames"
        path.mkdir()
        for frame in range(T):
            if way == "frames of torch":
                torch.save({name: torch.tensor(array[frame : frame + 1]) for name, array in codes.items()}, path / f"{frame}.pt")
            else:
                (path / f"image{frame}").mkdir()
                for name, array in codes.items():
                    np.save(path / f"image{frame}" / f"{name}.npy", array[frame])
    track = import_track(path)
    assert track.kind == kind and len(track.performance) == T
    np.testing.assert_array_equal(track.performance.expression, exp)
    np.testing.assert_array_equal(track.performance.rotations[:, [0, 2]].reshape(T, 6), pose)
    np.testing.assert_allclose(track.shape, shape.mean(axis=0), atol=1e-6)
    s, tx, ty = cam[1]
    pixel, _ = project(np.array([[0.05, -0.08, 0.0]]), track.cameras[1])
    np.testing.assert_allclose(pixel[0], [112 + 112 * s * (0.05 + tx), 112 - 112 * s * (-0.08 + ty)], atol=1e-3)


def test_smirk(tmp_path):
    r = rng()
    out = {
        "pose_params": 0.2 * r.normal(size=(T, 3)), "cam": r.uniform(6, 8, (T, 3)), "shape_params": r.normal(size=(T, 300)),
        "expression_params": r.normal(size=(T, 50)), "eyelid_params": r.uniform(0, 1, (T, 2)), "jaw_params": 0.1 * r.normal(size=(T, 3)),
    }  # fmt: skip
    torch.save({name: torch.tensor(array, dtype=torch.float32) for name, array in out.items()}, tmp_path / "smirk.pt")
    track = import_track(tmp_path / "smirk.pt")
    assert track.kind == "SMIRK" and track.performance.expression_names[-2:] == ("eyeBlinkLeft", "eyeBlinkRight")
    np.testing.assert_allclose(
        track.performance.expression, np.concatenate([out["expression_params"], out["eyelid_params"]], axis=1), atol=1e-6
    )
    np.testing.assert_allclose(track.performance.rotations[:, 2], out["jaw_params"], atol=1e-7)
    assert len(track.cameras) == T and track.cameras_move


@pytest.mark.parametrize("sixes", [False, True])
@pytest.mark.parametrize("away", [-1.0, 1.0])
def test_convention_pixel3dmms_heads_turn_about_the_origin(tmp_path, sixes, away):
    r = rng()
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    frames = []
    for frame in range(T):
        turn, angles = axis_angle_to_matrix(0.3 * r.normal(size=3)), 0.1 * r.normal(size=(4, 3))
        as_file = [axis_angle_to_matrix(a)[:2].ravel() if sixes else a for a in angles]
        flame = {
            "exp": r.normal(size=(1, 100)), "shape": np.ones((1, 300)), "eyelids": r.uniform(0, 1, (1, 2)), "jaw": as_file[0][None],
            "neck": as_file[1][None], "eyes": np.concatenate(as_file[2:])[None], "R": turn[:2].reshape(1, 6),
            "R_rotation_matrix": turn[None], "t": 0.05 * r.normal(size=(1, 3)),
        }  # fmt: skip
        camera = {"R_base_0": np.eye(3)[None], "t_base_0": np.array([[0, 0, away]]), "fl": np.array([[5.0]]), "pp": np.array([[0.1, -0.2]])}
        held = {
            "flame": flame,
            "camera": camera,
            "img_size": np.array([512, 512]),
            "frame_id": frame,
            "joint_transforms": np.zeros((1, 5, 4, 4)),
        }
        torch.save(
            {k: {n: a.astype("f4") for n, a in v.items()} if isinstance(v, dict) else v for k, v in held.items()},
            folder / f"{frame:05d}.frame",
        )
        frames.append((flame, angles))
    track = import_track(tmp_path, HEAD)
    rig = personalize(HEAD, track.shape, np.zeros_like(HEAD.v_template))
    ours = retarget(track.performance, rig)
    for frame, (flame, angles) in enumerate(frames):
        rotations = np.stack([np.zeros(3), angles[1], angles[0], angles[2], angles[3]])
        still = skin(rig, None, flame["exp"][0], rotations, np.zeros(3))
        pose = ours[frame]
        mine = skin(rig, None, pose.expression.astype(np.float64), pose.rotations, pose.translation)
        assert np.abs(mine - (still @ flame["R_rotation_matrix"][0].T + flame["t"][0])).max() < 3e-6
    pixel, depth = project(np.zeros((1, 3)), track.cameras[0])
    assert depth[0] > 0
    np.testing.assert_allclose(pixel[0], [128 * 1.1, 128 * 0.8], atol=1e-4)
    with pytest.raises(InputError, match="--rig"):
        import_track(tmp_path)


@pytest.mark.parametrize("way", ["ply", "npz", "landmarks"])
def test_any_tracker_by_its_vertices(tmp_path, way):
    head = flame_head(0, 30, 40)
    arrays = flame_arrays()
    np.savez(tmp_path / "flame_param.npz", **arrays | {"neck_pose": np.zeros((T, 3), "f4"), "expr": 0.5 * arrays["expr"]})
    performance = retarget(import_track(tmp_path / "flame_param.npz").performance, head)
    vertices = posed(head, None, performance)
    points = np.stack([head.landmarks(v) for v in vertices])
    path = tmp_path / "track.npz"
    if way == "ply":
        path = tmp_path / "mesh"
        path.mkdir()
        for frame in range(T):
            faces = ply_tables.rows(("a", "b", "c"), head.faces, "u4")
            ply_tables.write_tables(path / f"{frame}.ply", {"vertex": ply_tables.rows(("x", "y", "z"), vertices[frame]), "face": faces})
    else:
        np.savez(path, **({"vertices": vertices} if way == "npz" else {"landmarks": points}))
    track = import_track(path, head)
    assert track.kind == "vertices" and "mm" in track.notes[0]
    again = posed(head, track.shape, track.performance)
    if way == "landmarks":
        again, vertices = np.stack([head.landmarks(v) for v in again]), points
    assert np.linalg.norm(again - vertices, axis=2).max() < 1e-3


def posed(head, shape, performance):
    frames = [performance[index] for index in range(len(performance))]
    return np.stack([skin(head, shape, frame.expression, frame.rotations, frame.translation) for frame in frames])


def test_references_of_a_flowface_folder(tmp_path):
    save_fit(tmp_path / "fit.npz", neck=False)
    track = read_fit(tmp_path / "fit.npz", HEAD)
    pose = retarget(track.performance, HEAD)[2]
    rig = personalize(HEAD, np.pad(track.shape, (0, 150)), track.offsets)
    moved = skin(rig, None, pose.expression, pose.rotations, pose.translation)
    seen = rasterize_mesh(moved, HEAD.faces, track.cameras[1]).mask
    assert 0.02 < seen.mean() < 0.6
    (tmp_path / "images" / "cam1").mkdir(parents=True)
    picture = np.where(seen[..., None], np.array([0.8, 0.6, 0.5]), 1).astype(np.float32)
    for frame in range(T):
        write_image(tmp_path / "images" / "cam1" / f"{frame}.png", picture)
    (tmp_path / "reference_images.json").write_text(json.dumps([["cam1", 2]]))
    (reference,) = fit_references(tmp_path, HEAD)
    assert np.array_equal(reference.matte > 0.5, ndimage.binary_fill_holes(seen)) and reference.head_matte[seen].mean() > 0.7
    own = skin(reference.rig(HEAD), None, *vars(reference.parameters).values())
    np.testing.assert_allclose(project(own, reference.camera)[0], project(moved, track.cameras[1])[0], atol=0.01)
    np.testing.assert_allclose(reference.landmarks, project(HEAD.landmarks(moved), track.cameras[1])[0], atol=0.01)
    save_reference(reference, tmp_path / "r.safetensors")
    np.testing.assert_array_equal(load_reference(tmp_path / "r.safetensors").head_matte, reference.head_matte)
    for text in ("[", "[]", '[["cam9", 0]]', '[["cam1", 99]]', '[["../x", 0]]', "{}", '[["cam0", 0]]'):
        (tmp_path / "reference_images.json").write_text(text)
        with pytest.raises(FormatError):
            fit_references(tmp_path, HEAD)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rot": np.zeros((2, 3))}, "as many frames"),
        ({"expr": np.zeros((T, 64))}, r"axes \(65\)"),
        ({"expr": np.full((T, 65), np.nan)}, "finite"),
        ({"extr": np.zeros((2, 4, 4))}, "rotations"),
        ({"resolutions": np.array([[0, 5], [5, 5]])}, "size in pixels"),
        ({"resolutions": np.zeros((3, 2))}, "sizes of pictures"),
        ({"camera_order": np.array(["../a", "b"])}, "folders"),
        ({"rot": np.array([{}], object)}, "not numbers"),
        ({"tra": np.array(["a"])}, "not numbers"),
    ],
)
def test_fits_that_lie(tmp_path, changes, says):
    save_fit(tmp_path / "fit.npz", **changes)
    with pytest.raises(FormatError, match=says):
        import_track(tmp_path / "fit.npz", HEAD)


def test_what_is_no_track_gets_one_line(tmp_path):
    with pytest.raises(StorageError, match="no such file"):
        import_track(tmp_path / "none.npz")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="no kind that trackers leave"):
        import_track(tmp_path / "a.txt")
    with pytest.raises(InputError, match="holds no files of a tracker"):
        import_track(tmp_path)
    np.savez(tmp_path / "b.npz", what=np.zeros(3))
    with pytest.raises(FormatError, match="no track of FlowFace"):
        import_track(tmp_path / "b.npz")
    safetensors_numpy.write(tmp_path / "c.safetensors", {"shape": np.zeros(100, "f4")})
    with pytest.raises(FormatError, match="it holds shape"):
        import_track(tmp_path / "c.safetensors")
    save_fit(tmp_path / "fit.npz")
    with pytest.raises(InputError, match="--rig"):
        import_track(tmp_path / "fit.npz")


@pytest.mark.parametrize("ending", ["npz", "mat", "pt", "safetensors"])
def test_mutants_are_refused_cleanly(tmp_path, ending):
    arrays = {"shape": np.ones((2, 100), "f4"), "exp": np.ones((2, 50), "f4"), "pose": np.ones((2, 6), "f4"), "cam": np.ones((2, 3), "f4")}
    path = tmp_path / f"a.{ending}"
    if ending == "npz":
        np.savez(path, **arrays)
    elif ending == "mat":
        savemat(path, arrays)
    elif ending == "pt":
        torch.save(arrays, path)
    else:
        safetensors_numpy.write(path, arrays)
    assert assert_refuses_cleanly(import_track, path.read_bytes(), path, 150) > 20


def test_mutated_fits_are_refused_cleanly(tmp_path):
    path = tmp_path / "fit.npz"
    save_fit(path)
    sound = path.read_bytes()
    assert assert_refuses_cleanly(lambda p: import_track(p, HEAD), sound, path, 60) > 20
    path.write_bytes(sound[: len(sound) // 2])
    with pytest.raises(MVP4DError):
        import_track(path, HEAD)


def test_the_constant_of_flowfaces_skinning_is_what_it_adds_at_rest():
    theirs = flowface_head(HEAD, np.zeros_like(HEAD.v_template))
    rest = skin_flowface(theirs, np.zeros(1), np.zeros(65), np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(rest - HEAD.v_template, rest_offset(HEAD), atol=1e-6)
