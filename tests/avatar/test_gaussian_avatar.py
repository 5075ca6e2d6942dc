# SPDX-License-Identifier: Apache-2.0
"""Posing, the file, and the axes of splat files."""

from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.avatar import load_avatar, save_avatar
from mvp4d_core.avatar.file_space import to_file_space, write_posed_ply
from mvp4d_core.avatar.ply import read_ply
from mvp4d_core.errors import FormatError, InputError, MissingAssetError
from mvp4d_core.evaluation.flame_shaped_head import bare_head
from mvp4d_core.rig import Parameters, personalize, rest_parameters, skin, with_mouth
from mvp4d_core.rotations import quaternion_to_matrix
from tests.support.asserts import assert_arrays_close
from tests.support.toy_avatar import toy_avatar
from tests.support.toy_head import toy_head_model

AVATAR = toy_avatar(count=300)


def random_parameters(seed: int) -> Parameters:
    rng = np.random.default_rng(seed)
    expression = rng.uniform(0, 1, len(AVATAR.rig.expression_names)).astype(np.float32)
    return Parameters(expression, (rng.normal(size=(5, 3)) * 0.3).astype(np.float32), (rng.normal(size=3) * 0.05).astype(np.float32))


def test_pose_follows_the_triangle_by_triangle_formula():
    parameters = random_parameters(0)
    splats = AVATAR.pose(parameters)
    vertices = skin(
        AVATAR.rig, None, parameters.expression.astype(np.float64), parameters.rotations.astype(np.float64), parameters.translation
    )
    for k in range(0, len(AVATAR), 17):
        v0, v1, v2 = vertices[AVATAR.rig.faces[AVATAR.binding[k]]]
        a0 = (v1 - v0) / np.linalg.norm(v1 - v0)
        n = np.cross(a0, v2 - v0)
        n /= np.linalg.norm(n)
        a2 = -np.cross(n, a0)
        size = (np.linalg.norm(v1 - v0) + abs(a2 @ (v2 - v0))) / 2
        frame = np.stack([a0, n, a2], axis=1)
        assert_arrays_close(splats.means[k], size * frame @ AVATAR.means[k] + (v0 + v1 + v2) / 3, atol=1e-6)
        expected = frame @ quaternion_to_matrix(AVATAR.quats[k].astype(np.float64))
        assert_arrays_close(quaternion_to_matrix(splats.quats[k]), expected, atol=1e-4)
        assert_arrays_close(splats.scales[k], size * np.exp(AVATAR.log_scales[k]), rtol=1e-4)
    assert_arrays_close(splats.opacities, 1 / (1 + np.exp(-AVATAR.opacity_logits.astype(np.float64))), atol=1e-6)


def test_file_round_trip(tmp_path):
    save_avatar(tmp_path / "a.mvp4d", AVATAR)
    loaded = load_avatar(tmp_path / "a.mvp4d")
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN", "binding"):
        assert_arrays_close(getattr(loaded, name), getattr(AVATAR, name), name=name)
    assert loaded.metadata == AVATAR.metadata
    assert_arrays_close(loaded.pose(random_parameters(1)).means, AVATAR.pose(random_parameters(1)).means)


def test_the_official_safetensors_reads_the_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    save_avatar(tmp_path / "a.mvp4d", AVATAR)
    tensors = safetensors.load_file(tmp_path / "a.mvp4d")
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN", "binding"):
        np.testing.assert_array_equal(tensors[f"gaussians.{name}"], getattr(AVATAR, name), err_msg=name)
    np.testing.assert_array_equal(tensors["rig.exprdirs"], AVATAR.rig.exprdirs)


def test_a_licensed_head_stays_home(tmp_path):
    model = replace(toy_head_model(), licence="licensed")
    shape = np.linspace(-1, 1, model.shapedirs.shape[2]).astype(np.float32)
    offsets = np.full_like(model.v_template, 0.001)
    avatar = replace(AVATAR, rig=personalize(model, shape, offsets))
    path = tmp_path / "a.mvp4d"
    with pytest.raises(InputError, match="may not travel"):
        save_avatar(path, avatar)
    assert not path.exists()
    save_avatar(path, avatar, head_model=model, shape=shape)
    assert model.v_template.tobytes() not in path.read_bytes()
    with pytest.raises(MissingAssetError, match="licensed head"):
        load_avatar(path)
    with pytest.raises(InputError, match="wants the head"):
        load_avatar(path, head_model=toy_head_model(seed=1))
    assert_arrays_close(load_avatar(path, head_model=model).rig.v_template, avatar.rig.v_template)


def test_what_a_fit_found_travels_without_the_licensed_head(tmp_path):
    """A mouth of our own, corrections of the template and of the expressions: the person's, so they lie in the file."""
    model = replace(bare_head(), licence="licensed")
    shape = np.linspace(-1, 1, model.shapedirs.shape[2]).astype(np.float32)
    rig = with_mouth(personalize(model, shape, np.full_like(model.v_template, 0.001)))
    rng = np.random.default_rng(0)
    moved = {
        name: (getattr(rig, name) + 1e-3 * rng.normal(size=getattr(rig, name).shape)).astype(np.float32)
        for name in ("v_template", "exprdirs")
    }
    avatar = replace(AVATAR, rig=replace(rig, **moved), binding=rng.integers(0, len(rig.faces), len(AVATAR)).astype(np.int32))
    path = tmp_path / "a.mvp4d"
    save_avatar(path, avatar, head_model=model, shape=shape)
    for name in ("v_template", "exprdirs", "posedirs", "lbs_weights"):
        assert getattr(model, name).tobytes() not in path.read_bytes()
    parameters = random_parameters(1)
    assert_arrays_close(load_avatar(path, head_model=model).pose(parameters).means, avatar.pose(parameters).means, atol=1e-7)


def test_a_remeshed_licensed_head_is_not_written(tmp_path):
    model = replace(toy_head_model(), licence="licensed")
    rig = personalize(model, np.zeros(model.shapedirs.shape[2]), np.zeros_like(model.v_template))
    other = replace(rig, faces=rig.faces[:, [1, 2, 0]], uv_faces=rig.uv_faces[:, [1, 2, 0]])
    with pytest.raises(InputError, match="remesh"):
        save_avatar(tmp_path / "a.mvp4d", replace(AVATAR, rig=other), head_model=model, shape=np.zeros(model.shapedirs.shape[2]))
    assert not list(tmp_path.iterdir())


def test_arrays_that_cannot_be_an_avatar_are_refused():
    for change in (
        {"means": AVATAR.means[:-1]},
        {"binding": AVATAR.binding + 10**6},
        {"shN": np.zeros((len(AVATAR), 4, 3), np.float32)},
        {"opacity_logits": np.full(len(AVATAR), np.nan, np.float32)},
        {"sh0": AVATAR.sh0.astype(np.float64)},
    ):
        with pytest.raises(FormatError):
            replace(AVATAR, **change)


def test_convention_file_axes_flip_y_and_z(tmp_path):
    rest = rest_parameters(AVATAR.rig)
    splats = AVATAR.pose(rest)
    write_posed_ply(tmp_path / "a.ply", AVATAR, rest)
    stored = read_ply(tmp_path / "a.ply")
    assert_arrays_close(stored.means, splats.means * [1, -1, -1], atol=1e-7)
    flip = np.diag([1.0, -1, -1])
    covariance = lambda q, s: quaternion_to_matrix(q) @ (s[:, :, None] ** 2 * np.swapaxes(quaternion_to_matrix(q), 1, 2))  # noqa: E731
    expected = flip @ covariance(splats.quats.astype(np.float64), splats.scales) @ flip
    assert_arrays_close(covariance(stored.quats.astype(np.float64), np.exp(stored.log_scales)), expected, atol=1e-9)


def real_harmonics(direction: np.ndarray) -> np.ndarray:
    """The polynomials of degrees 0 to 3 up to positive constants, in 3DGS' order and signs."""
    x, y, z = direction
    xx, yy, zz = x * x, y * y, z * z
    return np.array(
        [1, -y, z, -x, x * y, -y * z, 2 * zz - xx - yy, -x * z, xx - yy, -y * (3 * xx - yy), x * y * z, -y * (4 * zz - xx - yy),
         z * (2 * zz - 3 * xx - 3 * yy), -x * (4 * zz - xx - yy), z * (xx - yy), -x * (xx - 3 * yy)]
    )  # fmt: skip


def test_colours_look_the_same_from_the_same_side():
    rng = np.random.default_rng(0)
    splats = AVATAR.pose(rest_parameters(AVATAR.rig))
    splats = replace(splats, sh=rng.normal(size=(len(AVATAR), 16, 3)).astype(np.float32))
    turned = to_file_space(splats)
    for _ in range(10):
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        seen = np.einsum("k,nkc->nc", real_harmonics(direction), splats.sh)
        assert_arrays_close(np.einsum("k,nkc->nc", real_harmonics(direction * [1, -1, -1]), turned.sh), seen, atol=1e-5)
