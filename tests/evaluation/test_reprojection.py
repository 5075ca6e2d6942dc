# SPDX-License-Identifier: Apache-2.0
"""RE@LG: triangulation against OpenCV, pairs against all permutations, and the networks' files."""

import itertools
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mvp4d_core.cameras import Camera, orbit_camera, project
from mvp4d_core.errors import FormatError, MissingAssetError
from mvp4d_core.evaluation.reprojection import DiskLightGlue, camera_pairs, consistency, reprojection_error, triangulate

SIZE = 200


def ring(*degrees: float) -> tuple[Camera, ...]:
    return tuple(orbit_camera(np.radians(a), 0.1, target=np.zeros(3), distance=1.2, fov_y=0.35, width=SIZE, height=SIZE) for a in degrees)


def points(seed: int = 0, count: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.1, 0.1, (count, 3))


@given(st.floats(5, 90), st.integers(0, 1000))
def test_exact_matches_give_their_points_and_no_error(angle, seed):
    cameras, cloud = ring(0, angle), points(seed)
    first, second = (project(cloud, camera)[0] for camera in cameras)
    np.testing.assert_allclose(triangulate(first, second, cameras), cloud, atol=1e-9)
    assert reprojection_error(first, second, cameras) < 1e-7


def test_triangulation_of_noisy_matches_is_opencvs():
    cameras, rng = ring(-10, 25), np.random.default_rng(1)
    first, second = (project(points(), camera)[0] + rng.normal(0, 2, (30, 2)) for camera in cameras)
    matrices = [camera.K @ camera.camera_from_world[:3] for camera in cameras]
    homogeneous = cv2.triangulatePoints(*matrices, first.T, second.T)
    expected = (homogeneous[:3] / homogeneous[3]).T
    ours = triangulate(first, second, cameras)
    # two linear systems that weigh rows differently: alike to a small part of the error that the noise makes
    error = np.linalg.norm(expected - points(), axis=1)
    assert (np.linalg.norm(ours - expected, axis=1) < 0.05 * error + 1e-4).all()


def test_error_is_in_percent_of_the_longer_side():
    cameras, cloud = ring(0, 30), points()
    first, second = (project(cloud, camera)[0] for camera in cameras)
    # across the epipolar lines, which run nearly level here, a shift of 4 px can't be explained away: half of it stays in each picture
    error = reprojection_error(first + [0, 4.0], second, cameras)
    assert error == pytest.approx(100 * 2 / SIZE, rel=0.05)


def test_pairs_are_the_best_of_all_permutations():
    cameras = ring(0, 8, 30, 45, 100)
    positions = np.stack([camera.position for camera in cameras])
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    derangements = [p for p in itertools.permutations(range(5)) if all(i != j for i, j in enumerate(p))]
    best = min(derangements, key=lambda p: sum(distance[i, j] for i, j in enumerate(p)))
    pairs = camera_pairs(cameras)
    assert pairs == sorted({(min(i, j), max(i, j)) for i, j in enumerate(best)})
    assert camera_pairs(cameras[:1]) == [] and camera_pairs(cameras[:2]) == [(0, 1)]


def test_consistency_follows_what_the_pictures_show():
    cameras, cloud = ring(0, 20), points()
    pictures = np.stack([np.full((SIZE, SIZE, 3), view, np.uint8) for view in range(2)])

    def matcher(first, second):
        return tuple(project(cloud, cameras[int(picture[0, 0, 0])])[0] for picture in (first, second))

    assert consistency(pictures, cameras, matcher)[0] < 1e-7
    assert np.isnan(consistency(pictures, cameras, lambda a, b: tuple(places[:4] for places in matcher(a, b)))[0])


def networks() -> tuple[torch.nn.Module, torch.nn.Module]:
    kornia = pytest.importorskip("kornia.feature")
    torch.manual_seed(0)
    return kornia.DISK(), kornia.LightGlue(None, input_dim=128)


def published(glue: torch.nn.Module) -> dict[str, torch.Tensor]:
    """LightGlue's tensors as its authors' file names them: transformers.3.self_attn -> self_attn.3."""
    renamed = {}
    for name, tensor in glue.state_dict().items():
        parts = name.split(".")
        renamed[".".join([parts[2], parts[1], *parts[3:]] if parts[0] == "transformers" else parts)] = tensor
    return renamed


def test_networks_take_the_weights_of_their_files(tmp_path):
    disk, glue = networks()
    torch.save({"extractor": disk.state_dict(), "discriminator": {}}, tmp_path / "depth-save.pth")
    torch.save(published(glue), tmp_path / "disk_lightglue.pth")
    matcher = DiskLightGlue([tmp_path / "depth-save.pth", tmp_path / "disk_lightglue.pth"])
    for network, loaded in ((disk, matcher._disk), (glue, matcher._glue)):
        assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters(), strict=True)) and not loaded.training
    picture = np.random.default_rng(0).integers(0, 256, (72, 90, 3), dtype=np.uint8)
    first, second = matcher(picture, np.roll(picture, 5, axis=1))
    assert first.shape == second.shape and first.shape[1] == 2
    assert ((first > 0) & (first < [90, 72])).all()
    with pytest.raises(FormatError, match="LightGlue wants the tensor"):
        DiskLightGlue([tmp_path / "depth-save.pth"])
    with pytest.raises(FormatError, match="DISK wants the tensor"):
        DiskLightGlue([tmp_path / "disk_lightglue.pth"])


def test_without_kornia_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(MissingAssetError, match="pip install kornia"):
        DiskLightGlue([tmp_path / "a.pth"])
