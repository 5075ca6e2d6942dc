# SPDX-License-Identifier: Apache-2.0
"""GaussianAvatars' files, there and back, by plyfile and numpy's own reader, and what is wrong with them."""

from dataclasses import replace

import numpy as np
import plyfile
import pytest

from mvp4d_core.avatar import GaussianAvatar, load_avatar
from mvp4d_core.avatar.gaussian_avatars import read_gaussian_avatars, write_gaussian_avatars
from mvp4d_core.avatar.identity import recover_shape
from mvp4d_core.avatar.import_avatar import import_avatar
from mvp4d_core.errors import FormatError, InputError, MissingAssetError, StorageError
from mvp4d_core.evaluation.flame_shaped_head import FACES, VERTICES, flame_head
from mvp4d_core.rig import Performance, personalize
from tests.support.asserts import assert_arrays_close
from tests.support.mutation import assert_refuses_cleanly
from tests.support.toy_head import toy_head_model

HEAD = flame_head(shapes=12, expressions=8)
LOCAL = ("means", "quats", "log_scales", "opacity_logits", "sh0", "binding")


def person(count=200, seed=0):
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=len(HEAD.shape_names)).astype(np.float32)
    rig = personalize(HEAD, shape, 1e-3 * rng.normal(size=(VERTICES, 3)))
    arrays = {name: rng.normal(size=(count, *size)).astype(np.float32) for name, size in
              {"means": (3,), "quats": (4,), "log_scales": (3,), "opacity_logits": (), "sh0": (3,), "shN": (3, 3)}.items()}  # fmt: skip
    binding = rng.integers(0, FACES, count).astype(np.int32)
    return GaussianAvatar(**arrays, binding=binding, rig=rig), shape


def motion(frames=4, seed=1):
    rng = np.random.default_rng(seed)
    expression, rotations = rng.normal(size=(frames, len(HEAD.expression_names))), 0.2 * rng.normal(size=(frames, 5, 3))
    return Performance(expression, rotations, 0.1 * rng.normal(size=(frames, 3)), 25.0, HEAD.expression_names, HEAD.joint_names)


@pytest.fixture
def written(tmp_path):
    avatar, shape = person()
    write_gaussian_avatars(tmp_path / "point_cloud.ply", avatar, HEAD, motion())
    return tmp_path / "point_cloud.ply", avatar, shape


def test_files_are_as_published(written):
    path, avatar, shape = written
    vertex = plyfile.PlyData.read(path)["vertex"]
    rest = [f"f_rest_{index}" for index in range(45)]
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", *rest, "opacity"]
    names += [f"scale_{axis}" for axis in range(3)] + [f"rot_{part}" for part in range(4)] + ["binding_0"]
    assert [prop.name for prop in vertex.properties] == names
    np.testing.assert_array_equal(vertex["binding_0"], avatar.binding)
    np.testing.assert_array_equal(vertex["f_rest_16"], avatar.shN[:, 1, 1])
    assert not vertex["f_rest_3"].any()
    with np.load(path.with_name("flame_param.npz"), allow_pickle=False) as arrays:
        shapes = {name: arrays[name].shape for name in arrays}
        assert shapes == {
            "shape": (300,), "expr": (4, 100), **dict.fromkeys(("rotation", "neck_pose", "jaw_pose", "translation"), (4, 3)),
            "eyes_pose": (4, 6), "static_offset": (1, 5143, 3), "dynamic_offset": (4, 5143, 3),
        }  # fmt: skip
        assert_arrays_close(arrays["shape"][: len(shape)], shape, atol=1e-3)
        np.testing.assert_array_equal(arrays["eyes_pose"], motion().rotations[:, 3:].reshape(4, 6))
        assert not arrays["dynamic_offset"].any()


def test_round_trip(written):
    path, avatar, _ = written
    read = read_gaussian_avatars(path, HEAD)
    for name in LOCAL:
        np.testing.assert_array_equal(getattr(read.avatar, name), getattr(avatar, name), err_msg=name)
    np.testing.assert_array_equal(read.avatar.shN[:, :3], avatar.shN)
    assert read.notes == () and read.performance is not None and len(read.performance) == 4
    for frame in range(4):
        assert_arrays_close(read.avatar.pose(read.performance[frame]).means, avatar.pose(motion()[frame]).means, atol=2e-6)
    assert read.avatar.metadata["source"] == "point_cloud.ply" and len(read.avatar.metadata["source_sha256"]) == 64


def test_expressions_finer_than_flames_become_offsets(tmp_path):
    avatar, _ = person()
    finer = replace(avatar, rig=replace(avatar.rig, exprdirs=avatar.rig.exprdirs + np.float32(1e-3)))
    write_gaussian_avatars(tmp_path / "a.ply", finer, HEAD, motion())
    with np.load(tmp_path / "flame_param.npz") as arrays:
        assert_arrays_close(
            arrays["dynamic_offset"][:, 7], np.repeat(1e-3 * motion().expression.sum(axis=1)[:, None], 3, axis=1), atol=1e-6
        )
        assert not arrays["dynamic_offset"][:, VERTICES:].any()
    assert "dynamic_offset" in read_gaussian_avatars(tmp_path / "a.ply", HEAD).notes[0]


def rewrite(path, **changes):
    """Another `flame_param.npz`; None takes an array away."""
    archive = path.with_name("flame_param.npz")
    with np.load(archive) as arrays:
        kept = {name: arrays[name] for name in arrays} | changes
    np.savez(archive, **{name: array for name, array in kept.items() if array is not None})


def test_what_is_left_out_is_said(written):
    path, avatar, _ = written
    table = plyfile.PlyData.read(path, mmap=False)
    table["vertex"].data["binding_0"][:5] = FACES + 10  # on the added teeth
    table.write(path)
    expr = np.zeros((4, 100), np.float32)
    expr[2, 60] = 1
    rewrite(path, dynamic_offset=np.ones((4, 5143, 3)), expr=expr)
    read = read_gaussian_avatars(path, HEAD)
    assert len(read.avatar) == len(avatar) - 5 and len(read.notes) == 3
    assert "5 of 200 splats" in read.notes[0]
    table["vertex"].data["binding_0"][:] = FACES
    table.write(path)
    with pytest.raises(FormatError, match="no splat on a triangle of FLAME"):
        read_gaussian_avatars(path, HEAD)


def test_offsets_may_be_missing(written):
    path, _, _ = written
    rewrite(path, dynamic_offset=None, static_offset=None)
    assert not read_gaussian_avatars(path, HEAD).avatar.rig.static_offsets.any()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"expr": None}, "lacks `expr`"),
        ({"expr": np.zeros((0, 100))}, "`expr`"),
        ({"expr": np.zeros(100)}, "`expr`"),
        ({"jaw_pose": np.zeros((3, 3))}, "`jaw_pose`"),
        ({"eyes_pose": np.full((4, 6), np.nan)}, "`eyes_pose`"),
        ({"translation": np.full((4, 3), 1e300)}, "`translation`"),
        ({"static_offset": np.zeros((1, 77, 3))}, "77 vertices, FLAME has 5023"),
        ({"shape": np.array(["a"])}, "not numbers"),
        ({"shape": np.array([None])}, "not numbers"),
    ],
)
def test_parameters_that_are_wrong(written, changes, says):
    path, _, _ = written
    rewrite(path, **changes)
    with pytest.raises(FormatError, match=says):
        read_gaussian_avatars(path, HEAD)


@pytest.mark.parametrize("bad", [-1.0, 0.5, np.nan, 3e9])
def test_bindings_that_are_no_triangle(written, bad):
    path, _, _ = written
    table = plyfile.PlyData.read(path, mmap=False)
    table["vertex"].data["binding_0"][3] = bad
    table.write(path)
    with pytest.raises(FormatError, match="splat 3 rides on the triangle"):
        read_gaussian_avatars(path, HEAD)


def test_damaged_files_are_refused_cleanly(written):
    path, _, _ = written
    sound = path.read_bytes()
    assert assert_refuses_cleanly(lambda p: read_gaussian_avatars(p, HEAD), sound, path, 150) > 80
    path.write_bytes(sound)
    rewrite(path, dynamic_offset=None, static_offset=None)  # so that the mutations hit what is looked at
    archive = path.with_name("flame_param.npz")
    assert assert_refuses_cleanly(lambda _: read_gaussian_avatars(path, HEAD), archive.read_bytes(), archive, 150) > 80


def test_the_head_must_be_flame(written):
    path, avatar, _ = written
    with pytest.raises(InputError, match=r"5023 vertices.*toy-head.*\n.*--rig"):
        read_gaussian_avatars(path, toy_head_model())
    with pytest.raises(InputError, match="--rig"):
        import_avatar(path)
    path.with_name("flame_param.npz").unlink()
    with pytest.raises(StorageError, match=r"flame_param\.npz"):
        read_gaussian_avatars(path, HEAD)
    with pytest.raises(InputError, match="from any shape of"):
        write_gaussian_avatars(path, avatar, replace(HEAD, v_template=HEAD.v_template * 2), motion())
    with pytest.raises(InputError, match="other triangles"):
        write_gaussian_avatars(path, avatar, replace(HEAD, faces=HEAD.faces[::-1].copy()), motion())


def test_the_folder_imports_and_the_licensed_head_stays_home(written, tmp_path):
    path, avatar, shape = written
    imported = import_avatar(path.parent, HEAD)
    assert_arrays_close(recover_shape(HEAD, imported.avatar.rig), shape, atol=1e-3)
    imported.save(tmp_path / "a.mvp4d")
    with pytest.raises(MissingAssetError, match="--rig"):
        load_avatar(tmp_path / "a.mvp4d")
    loaded = load_avatar(tmp_path / "a.mvp4d", head_model=HEAD)
    assert_arrays_close(loaded.pose(motion()[1]).means, avatar.pose(motion()[1]).means, atol=2e-6)
