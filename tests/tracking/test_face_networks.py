# SPDX-License-Identifier: Apache-2.0
"""The face networks' file, what makes it, and the steps that torch has no one word for."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from mvp4d_core.io import safetensors_numpy
from mvp4d_core.tracking import face_networks
from mvp4d_core.tracking.face_networks import ASSET, Network, load_network
from tests.support.asserts import assert_arrays_close
from tools import convert_mediapipe

ROOT = Path(__file__).parents[2]
needs_mediapipe = pytest.mark.skipif(importlib.util.find_spec("mediapipe") is None, reason="needs mediapipe")


def network(step: dict, weights: dict[int, np.ndarray] | None = None) -> Network:
    """One step that reads value 0 (and weights) and writes value 9."""
    tensors = {value: torch.from_numpy(array) for value, array in (weights or {}).items()}
    return Network((4, 4), 0, (9,), ({"in": [0, *tensors], "out": 9, **step},), tensors)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 5, 7, 4)).astype(np.float32)


def test_the_file_is_small_and_says_where_it_comes_from():
    tensors, metadata = safetensors_numpy.read(ASSET)
    assert ASSET.stat().st_size <= 10e6
    assert (
        metadata["license"] == "Apache-2.0" and "The MediaPipe Authors" in metadata["attribution"] and "Changes" in metadata["attribution"]
    )
    assert len(json.loads(metadata["sources_sha256"])) == 4
    assert {str(array.dtype) for array in tensors.values()} <= {"float16", "float32"}


@needs_mediapipe
def test_the_tool_rebuilds_the_file_byte_by_byte(tmp_path, monkeypatch):
    packages = Path(importlib.util.find_spec("mediapipe").origin).parents[1]
    monkeypatch.setattr(sys, "argv", ["convert", str(packages), "-o", str(tmp_path / "made.safetensors")])
    convert_mediapipe.main()
    assert (tmp_path / "made.safetensors").read_bytes() == ASSET.read_bytes()


def test_tracking_imports_no_mediapipe():
    code = (
        "import sys, numpy as np; from mvp4d_core.tracking.face_models import FaceModels\n"
        "with FaceModels() as models: models.landmarks(np.zeros((64, 64, 3), np.uint8)); models.matte(np.zeros((64, 64, 3), np.uint8))\n"
        "assert not {'mediapipe', 'cv2', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_flexbuffers_are_read_as_their_own_library_writes_them():
    flexbuffers = pytest.importorskip("flatbuffers.flexbuffers")
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Int("output_width", 16)
        builder.Float("scale_x", 1.5)
        builder.Key("subset_idxs")
        builder.TypedVectorFromElements([61, 146, 300, 7, 9])
    assert convert_mediapipe.read_flexbuffer(bytes(builder.Finish())) == {
        "output_width": 16,
        "scale_x": 1.5,
        "subset_idxs": [61, 146, 300, 7, 9],
    }


def test_same_padding_puts_the_odd_pixel_right_and_below(picture):
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(3, 4, 3, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    step = {"op": "convolve", "stride": [2, 2], "padding": [0, 1, 1, 1], "groups": 1, "act": "relu6"}
    (made,) = network(step, {1: kernel, 2: bias}).run(picture)
    padded = np.pad(picture, ((0, 0), (1, 1), (0, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    assert_arrays_close(made, np.clip(np.einsum("nyxcij,ocij->nyxo", windows, kernel) + bias, 0, 6), 1e-4)


def test_reshaping_and_joining_keep_channels_last(picture):
    (flat,) = network({"op": "reshape", "shape": [35, 4]}).run(picture)
    np.testing.assert_array_equal(flat, picture.reshape(2, 35, 4))
    (back,) = network({"op": "reshape", "shape": [7, 5, 4]}).run(picture)
    np.testing.assert_array_equal(back, picture.reshape(2, 7, 5, 4))
    (more,) = network({"op": "more_channels", "count": 2}).run(picture)
    np.testing.assert_array_equal(more, np.pad(picture, ((0, 0), (0, 0), (0, 0), (0, 2))))
    (blocks,) = network({"op": "depth_to_space", "block": 2}).run(picture)
    np.testing.assert_array_equal(blocks[..., 0], picture.reshape(2, 5, 7, 2, 2).transpose(0, 1, 3, 2, 4).reshape(2, 10, 14))


def test_growing_pictures_have_half_pixel_centres(picture):
    (grown,) = network({"op": "resize", "size": [10, 14]}).run(picture)
    rows, columns = (np.mgrid[:10, :14] + 0.5) / 2 - 0.5
    known = np.stack([ndimage.map_coordinates(picture[0, ..., c], [rows, columns], order=1, mode="nearest") for c in range(4)], axis=-1)
    assert_arrays_close(grown[0], known, 1e-5)


def test_a_crop_is_level_and_as_large_as_its_points():
    rng = np.random.default_rng(2)
    points = torch.from_numpy(rng.uniform(10, 40, (2, 9, 3)).astype(np.float32))
    step = {"points": [2, 3, 5, 8], "from": 0, "to": 1, "turn": 0.0, "scale": [1.5, 2.0], "size": [16, 16]}
    matrix = face_networks._crop_matrix(step, points).numpy().astype(np.float64)
    for own, found in zip(points.numpy().astype(np.float64), matrix, strict=True):
        crop_from_points = np.linalg.inv(found)
        in_crop = own[:, :2] @ crop_from_points[:2, :2].T + crop_from_points[:2, 3]
        level = in_crop[1] - in_crop[0]
        chosen = in_crop[[2, 3, 5, 8]]
        extent = np.stack([chosen.min(axis=0), chosen.max(axis=0)])
        assert_arrays_close(extent.mean(axis=0), np.full(2, 8.0), 1e-3)
        assert_arrays_close(np.ptp(chosen, axis=0), 16 / np.array([1.5, 2.0]), 1e-3)
        assert abs(level[1]) < 1e-3 and level[0] > 0
        placed = face_networks._place_points({}, torch.from_numpy(in_crop[None]).float(), torch.from_numpy(found[None]).float())
        assert_arrays_close(placed[0].numpy(), own[:, :2], 1e-3)


def test_a_crop_samples_between_pixels_and_is_nought_beyond(picture):
    value = torch.from_numpy(picture).permute(0, 3, 1, 2)
    matrix = torch.eye(4).repeat(2, 1, 1)
    matrix[:, :2, :2] = torch.tensor([[0.4, 0.1], [-0.1, 0.5]])
    matrix[:, :2, 3] = torch.tensor([1.3, 1.6])
    crop = face_networks._crop({"size": [9, 8]}, value, matrix).permute(0, 2, 3, 1).numpy()
    y, x = np.mgrid[:8, :9] + 0.5
    columns, rows = 0.4 * x + 0.1 * y + 1.3 - 0.5, -0.1 * x + 0.5 * y + 1.6 - 0.5
    beyond = (columns < 0) | (columns > 6) | (rows < 0) | (rows > 4)
    for channel in range(4):
        known = ndimage.map_coordinates(picture[1, ..., channel], [rows, columns], order=1, mode="nearest")
        assert_arrays_close(crop[1, ..., channel], np.where(beyond, 0, known), 1e-5)
    assert 0 < beyond.mean() < 1


def test_pictures_of_a_batch_do_not_touch_each_other():
    rng = np.random.default_rng(3)
    mesh = load_network("mesh")
    pictures = rng.random((2, *mesh.size, 3)).astype(np.float32)
    together = mesh.run(pictures)
    for index in range(2):
        for part, alone in zip(together, mesh.run(pictures[index : index + 1]), strict=True):
            assert_arrays_close(part[index], alone[0], 2e-3)
