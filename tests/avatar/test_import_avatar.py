# SPDX-License-Identifier: Apache-2.0
"""Splats that stand still, bound to a head; and what is said about files that cannot be an avatar."""

from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.avatar import load_avatar, save_avatar
from mvp4d_core.avatar.bind_splats import bind_splats
from mvp4d_core.avatar.file_space import stored_pose, turned
from mvp4d_core.avatar.import_avatar import import_avatar
from mvp4d_core.avatar.posed_files import SPLAT_ENDINGS, write_posed, write_splats
from mvp4d_core.errors import FormatError, InputError, StorageError
from mvp4d_core.rig import rest_parameters, skin, triangle_frames
from mvp4d_core.rotations import quaternion_to_matrix
from tests.support.asserts import assert_arrays_close
from tests.support.toy_avatar import toy_avatar

AVATAR = toy_avatar(400, sh_degree=1)
REST = rest_parameters(AVATAR.rig)
HEAD = AVATAR.rig


def covariances(splats):
    matrices = quaternion_to_matrix(splats.quats.astype(np.float64))
    return matrices @ (splats.scales[:, :, None].astype(np.float64) ** 2 * np.swapaxes(matrices, 1, 2))


def test_bound_splats_stand_where_they_stood():
    bound = bind_splats(stored_pose(AVATAR, REST), HEAD, {"generator": "tests"})
    before, after = AVATAR.pose(REST), bound.pose(REST)
    assert_arrays_close(after.means, before.means, atol=1e-7)
    assert_arrays_close(covariances(after), covariances(before), atol=1e-9)
    for name in ("opacities", "sh"):
        assert_arrays_close(getattr(after, name), getattr(before, name), atol=1e-7)
    frames = triangle_frames((HEAD.v_template + HEAD.static_offsets).astype(np.float64), HEAD.faces)
    distances = np.linalg.norm(before.means[:, None] - frames.centres[None], axis=2)
    assert_arrays_close(np.take_along_axis(distances, bound.binding[:, None], axis=1)[:, 0], distances.min(axis=1), atol=1e-9)


def test_bound_splats_move_with_the_head():
    bound = bind_splats(stored_pose(AVATAR, REST), HEAD, {})
    turned_head = replace(REST, rotations=REST.rotations + np.eye(5, 3, dtype=np.float32) * 0.5, translation=np.ones(3, np.float32))
    vertices = skin(HEAD, None, turned_head.expression, turned_head.rotations, turned_head.translation)
    centres = triangle_frames(vertices, HEAD.faces).centres[bound.binding]
    assert np.linalg.norm(bound.pose(turned_head).means - centres, axis=1).max() < 0.05


def test_splats_elsewhere_are_refused_and_fitted():
    splats = turned(stored_pose(AVATAR, REST))  # in head axes
    elsewhere = splats._replace(means=splats.means * 40 + np.float32(7), log_scales=splats.log_scales + np.log(np.float32(40)))
    with pytest.raises(InputError, match=r"do not lie on the head.*\n.*--fit"):
        bind_splats(elsewhere, HEAD, {}, upright=True)
    fitted = bind_splats(elsewhere, HEAD, {}, fit=True, upright=True).pose(REST)
    wanted = AVATAR.pose(REST)
    assert np.median(np.linalg.norm(fitted.means - wanted.means, axis=1)) < 0.015
    assert_arrays_close(np.log(fitted.scales), np.log(wanted.scales), atol=0.15)


@pytest.mark.parametrize("ending", SPLAT_ENDINGS)
def test_stills_need_a_head(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_posed(path, AVATAR, REST)
    with pytest.raises(InputError, match=r"400 splats that stand still, and no head.*\n.*--rig open-head"):
        import_avatar(path)
    imported = import_avatar(path, HEAD)
    imported.save(tmp_path / "a.mvp4d")
    loaded = load_avatar(tmp_path / "a.mvp4d").pose(REST).means
    wanted = AVATAR.pose(REST).means
    assert_arrays_close(loaded[np.lexsort(np.round(loaded.T, 4))], wanted[np.lexsort(np.round(wanted.T, 4))], atol=1e-4)
    assert load_avatar(tmp_path / "a.mvp4d").metadata["source"] == path.name


def test_files_whose_y_points_up(tmp_path):
    write_splats(tmp_path / "a.ply", turned(stored_pose(AVATAR, REST)))
    imported = import_avatar(tmp_path / "a.ply", HEAD, upright=True)
    assert_arrays_close(imported.avatar.pose(REST).means, AVATAR.pose(REST).means, atol=1e-7)
    assert_arrays_close(imported.avatar.shN, AVATAR.shN)


def test_an_avatar_of_ours_stays_as_it_is(tmp_path):
    save_avatar(tmp_path / "a.mvp4d", AVATAR)
    import_avatar(tmp_path / "a.mvp4d").save(tmp_path / "b.mvp4d")
    assert (tmp_path / "a.mvp4d").read_bytes() == (tmp_path / "b.mvp4d").read_bytes()


def test_what_cannot_be_imported(tmp_path):
    (tmp_path / "a.glb").write_bytes(b"glTF")
    with pytest.raises(InputError, match=r"a\.glb.*\.mvp4d, \.ply, \.splat, \.spz, or the folder"):
        import_avatar(tmp_path / "a.glb")
    with pytest.raises(StorageError, match=r"point_cloud\.ply"):
        import_avatar(tmp_path)
    (tmp_path / "a.ply").write_bytes(b"solid")
    with pytest.raises(FormatError, match="not a sound PLY file"):
        import_avatar(tmp_path / "a.ply")
    empty = stored_pose(AVATAR, REST)
    write_splats(tmp_path / "e.ply", type(empty)(*(column[:0] for column in empty)))
    with pytest.raises(InputError, match="no splats"):
        import_avatar(tmp_path / "e.ply", HEAD)
