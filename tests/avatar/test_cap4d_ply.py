# SPDX-License-Identifier: Apache-2.0
"""CAP4D's animation PLY, there and back, by plyfile, and the head that is made of its mesh."""

import numpy as np
import plyfile
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.avatar import load_avatar
from mvp4d_core.avatar.baked_rig import bake_rig
from mvp4d_core.avatar.cap4d_ply import import_cap4d, read_cap4d, write_cap4d
from mvp4d_core.avatar.import_avatar import import_avatar
from mvp4d_core.errors import Cancelled, FormatError, InputError
from mvp4d_core.io.limits import Limits
from mvp4d_core.rig import showcase_performance, skin
from mvp4d_core.rotations import axis_angle_to_matrix
from tests.support.asserts import assert_arrays_close
from tests.support.mutation import assert_refuses_cleanly, peak_memory
from tests.support.toy_avatar import toy_avatar

AVATAR = toy_avatar(150, sh_degree=1)
PERFORMANCE = showcase_performance(AVATAR.rig).select([10, 30, 60, 80, 110])
XYZ = ("x", "y", "z")


def posed(frame):
    return skin(AVATAR.rig, None, *(getattr(PERFORMANCE, name)[frame] for name in ("expression", "rotations", "translation")))


@pytest.fixture
def path(tmp_path):
    write_cap4d(tmp_path / "a.ply", AVATAR, PERFORMANCE)
    return tmp_path / "a.ply"


def xyz(element):
    return np.stack([element[axis] for axis in XYZ], axis=1)


@pytest.mark.parametrize(("small", "code"), [(False, "f4"), (True, "u1")])
def test_files_are_as_published(tmp_path, small, code):
    write_cap4d(tmp_path / "a.ply", AVATAR, PERFORMANCE, small=small)
    data = plyfile.PlyData.read(tmp_path / "a.ply")
    frames = [name + f"{frame:05d}" for frame in range(5) for name in ("meta_delta_min_", "meta_delta_max_", "delta_vertex_")]
    assert [element.name for element in data] == ["faces", "base_vertex", "vertex", *frames]
    assert [prop.val_dtype for prop in data["faces"].properties] == ["u4"] * 3
    assert data["delta_vertex_00003"].data.dtype[0] == np.dtype(code)
    np.testing.assert_array_equal(np.stack([data["faces"][f"index_{k}"] for k in range(3)], axis=1), AVATAR.rig.faces)
    np.testing.assert_array_equal(data["vertex"]["binding"], AVATAR.binding)
    np.testing.assert_array_equal(xyz(data["vertex"]), AVATAR.means)
    assert "nx" not in data["vertex"].data.dtype.names
    assert_arrays_close(xyz(data["base_vertex"]), posed(0), atol=1e-7)
    for frame in range(5):
        low, high = (xyz(data[f"meta_delta_{end}_{frame:05d}"]) for end in ("min", "max"))
        part = xyz(data[f"delta_vertex_{frame:05d}"]) / (254 if small else 1)
        assert 0 <= part.min() and part.max() <= 1
        assert_arrays_close(posed(0) + low + part * (high - low), posed(frame), atol=(high - low).max() / 500 if small else 1e-6)


@pytest.mark.parametrize("small", [False, True])
def test_round_trip(tmp_path, small):
    write_cap4d(tmp_path / "a.ply", AVATAR, PERFORMANCE, small=small)
    read = read_cap4d(tmp_path / "a.ply")
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN"):
        np.testing.assert_array_equal(getattr(read.splats, name), getattr(AVATAR, name), err_msg=name)
    np.testing.assert_array_equal(read.binding, AVATAR.binding)
    np.testing.assert_array_equal(read.faces, AVATAR.rig.faces)
    span = max(np.ptp(posed(frame) - posed(0), axis=0).max() for frame in range(5))
    assert_arrays_close(read.vertices, np.stack([posed(frame) for frame in range(5)]), atol=span / 500 if small else 1e-6)


def test_imported_avatar_plays_the_animation(path, tmp_path):
    imported = import_cap4d(path, fps=24)
    assert imported.performance is not None and len(imported.performance) == 5 and imported.performance.fps == 24
    for frame in range(5):
        moved = skin(
            imported.avatar.rig, None, *(getattr(imported.performance, n)[frame] for n in ("expression", "rotations", "translation"))
        )
        assert_arrays_close(moved[:-1], posed(frame), atol=1.5e-4)
        splats, wanted = imported.avatar.pose(imported.performance[frame]), AVATAR.pose(PERFORMANCE[frame])
        assert_arrays_close(splats.means, wanted.means, atol=5e-4)
        np.testing.assert_array_equal(splats.sh, wanted.sh)
    imported.save(tmp_path / "a.mvp4d")
    assert load_avatar(tmp_path / "a.mvp4d").rig.joint_names == ("root",)


def test_files_whose_y_points_down(path):
    upright, turned = import_avatar(path), import_avatar(path, upright=False)
    flip = np.array([1, -1, -1])
    for frame in (0, 3):
        one, other = (each.avatar.pose(each.performance[frame]) for each in (upright, turned))
        assert_arrays_close(other.means, one.means * flip, atol=2e-4)
    assert_arrays_close(turned.avatar.shN, upright.avatar.shN * np.array([-1, -1, 1])[:, None])


def rewrite(path, change):
    """The file again with its tables changed by `change(tables)`, written by plyfile."""
    tables = {element.name: element.data.copy() for element in plyfile.PlyData.read(path)}
    change(tables)
    plyfile.PlyData([plyfile.PlyElement.describe(table, name) for name, table in tables.items()], byte_order="<").write(path)


def set_value(name, column, value):
    return lambda tables: tables[name][column].__setitem__(0, value)


def test_frames_that_do_not_move_may_be_divided_by_zero(path):
    rewrite(path, lambda tables: [tables["delta_vertex_00000"].__setitem__(axis, np.nan) for axis in XYZ])
    assert_arrays_close(read_cap4d(path).vertices[0], posed(0), atol=1e-6)


def test_bytes_that_reach_255(tmp_path):
    write_cap4d(tmp_path / "a.ply", AVATAR, PERFORMANCE, small=True)

    def stretch(tables):
        for name in (name for name in tables if name.startswith("delta_vertex")):
            for axis in XYZ:
                tables[name][axis] = np.rint(tables[name][axis] * (255 / 254))

    rewrite(tmp_path / "a.ply", stretch)
    span = max(np.ptp(posed(frame) - posed(0), axis=0).max() for frame in range(5))
    assert_arrays_close(read_cap4d(tmp_path / "a.ply").vertices[3], posed(3), atol=span / 250)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("faces"), "0 elements named `faces`"),
        (lambda t: t.pop("meta_delta_min_00002"), "frame 00002"),
        (lambda t: t.pop("delta_vertex_00002"), "promises|2"),
        (lambda t: t.update(delta_vertex_00001=t["delta_vertex_00001"][:-1]), "frame 00001"),
        (lambda t: t.update(base_vertex=t["base_vertex"][:0]), "base_vertex"),
        (set_value("faces", "index_1", 10**6), "faces name number 1000000"),
        (set_value("vertex", "binding", 10**6), "binding name number 1000000"),
        (set_value("vertex", "binding", 0.5), "rides on the triangle 0.5"),
        (set_value("base_vertex", "y", np.inf), "not finite"),
        (set_value("meta_delta_max_00001", "y", 1e30), "further than"),
        (set_value("vertex", "scale_0", np.nan), "`log_scales` that is not finite"),
    ],
)
def test_files_that_lie(path, change, says):
    rewrite(path, change)
    if says == "promises|2":  # a frame less is a shorter animation
        assert len(read_cap4d(path).vertices) == 4
        return
    with pytest.raises(FormatError, match=says):
        read_cap4d(path)


def test_damage_limits_and_memory(path):
    sound = path.read_bytes()
    with pytest.raises(InputError, match="150 splats, more than the 149"):
        read_cap4d(path, Limits(elements=149))
    with pytest.raises(InputError, match="vertices in all frames"):
        read_cap4d(path, Limits(elements=1000))
    count = str(len(AVATAR.rig.v_template)).encode()
    path.write_bytes(sound.replace(b"element base_vertex " + count, b"element base_vertex 19000000"))
    assert peak_memory(lambda: read_cap4d(path)) < 1_000_000
    assert assert_refuses_cleanly(read_cap4d, sound, path, 300) > 200


def test_writing_can_be_stopped(tmp_path):
    def cancel(_stage, done, _total):
        if done == 2:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        write_cap4d(tmp_path / "a.ply", AVATAR, PERFORMANCE, progress=cancel)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), frames=st.integers(1, 6), vertices=st.integers(1, 40), turning=st.floats(0, 3), wobble=st.floats(0, 0.02)
)
def test_a_baked_head_goes_where_the_mesh_went(seed, frames, vertices, turning, wobble):
    rng = np.random.default_rng(seed)
    rest = 0.1 * rng.normal(size=(vertices, 3))
    turns = axis_angle_to_matrix(turning * rng.normal(size=(frames, 3)) / 2)
    moved = np.einsum("tij,tvj->tvi", turns, rest + wobble * rng.normal(size=(frames, vertices, 3))) + rng.normal(size=(frames, 1, 3))
    moved = moved.astype(np.float32)
    rig, performance = bake_rig(moved, np.zeros((1, 3), np.int32), fps=25, name="baked")
    for frame in range(frames):
        went = skin(rig, None, performance.expression[frame], performance.rotations[frame], performance.translation[frame])
        assert_arrays_close(went[:-1], moved[frame], atol=1.1e-4)  # the last vertex is the joint's
    assert np.abs(performance.expression).max(initial=0) <= 1 + 1e-5
    assert len(rig.expression_names) <= max(0, frames)


def test_a_head_that_only_turns_has_no_movements():
    rest = np.random.default_rng(0).normal(size=(30, 3)) * 0.1
    turns = axis_angle_to_matrix(np.linspace(0, 2, 9)[:, None] * [0, 1, 0])
    rig, performance = bake_rig((rest @ np.swapaxes(turns, 1, 2)).astype(np.float32), np.zeros((1, 3), np.int32), fps=25, name="baked")
    assert rig.expression_names == ()
    assert_arrays_close(performance.rotations[:, 0, 1], np.linspace(0, 2, 9), atol=1e-4)
