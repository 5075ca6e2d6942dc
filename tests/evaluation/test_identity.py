# SPDX-License-Identifier: Apache-2.0
"""The face that CSIM's network sees against scikit-image, and the network against numpy."""

import sys

import numpy as np
import pytest
from skimage import data, transform

from mvp4d_core.errors import FormatError, MissingAssetError
from mvp4d_core.evaluation.identity import POINTS, SIDE, TEMPLATE, FaceEmbedder, align_face
from tests.support.mutation import assert_refuses_cleanly
from tests.support.toy_onnx import write_linear_network


def face_points(turn: float = 0.2, scale: float = 1.3) -> np.ndarray:
    """478 points of which the five lie on the template, turned, scaled, moved, and a little off."""
    rng = np.random.default_rng(0)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = rng.uniform(0, 512, (478, 2))
    points[list(POINTS)] = (TEMPLATE - 56) @ rotation.T + [223.0, 120.0] + rng.normal(0, 1.5, (5, 2))
    return points


def test_alignment_is_scikit_images_similarity_and_bilinear_warp():
    picture, points = data.astronaut(), face_points()
    estimate = transform.SimilarityTransform.from_estimate(points[list(POINTS)] - 0.5, TEMPLATE - 0.5)  # its pixel centres are whole
    expected = transform.warp(picture.astype(np.float64), estimate.inverse, order=1, mode="edge", output_shape=(SIDE, SIDE))
    np.testing.assert_allclose(align_face(picture, points), expected, atol=2e-2)


def test_alignment_convention_template_in_place_changes_nothing():
    picture = data.astronaut()[:SIDE, 150 : 150 + SIDE]
    points = np.zeros((478, 2))
    points[list(POINTS)] = TEMPLATE
    np.testing.assert_allclose(align_face(picture, points), picture, atol=1e-3)


def test_embedding_is_numpys(tmp_path):
    pytest.importorskip("onnxruntime")
    matrix = np.random.default_rng(1).normal(size=(3 * SIDE**2, 8)).astype(np.float32)
    write_linear_network(tmp_path / "net.onnx", matrix)
    embed = FaceEmbedder(tmp_path / "net.onnx")
    face = align_face(data.astronaut(), face_points())
    expected = ((face.astype(np.float64) - 127.5) / 127.5).transpose(2, 0, 1).ravel() @ matrix
    np.testing.assert_allclose(embed(face), expected / np.linalg.norm(expected), atol=1e-5)
    assert "net.onnx" in embed.name


def test_what_is_no_such_network_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    matrix = np.zeros((3 * 64**2, 8), np.float32)
    write_linear_network(tmp_path / "small.onnx", matrix, side=64)
    write_linear_network(tmp_path / "flat.onnx", np.zeros((3 * SIDE**2, 1), np.float32))
    for name in ("small", "flat"):
        with pytest.raises(FormatError, match=f"{name}.onnx"):
            FaceEmbedder(tmp_path / f"{name}.onnx")
    write_linear_network(tmp_path / "net.onnx", np.ones((3 * SIDE**2, 2), np.float32))
    sound = (tmp_path / "net.onnx").read_bytes()
    assert assert_refuses_cleanly(FaceEmbedder, sound[:3000], tmp_path / "cut.onnx", 40) == 40
    assert assert_refuses_cleanly(FaceEmbedder, sound, tmp_path / "changed.onnx", 40) > 5


def test_without_onnxruntime_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingAssetError, match="pip install onnxruntime"):
        FaceEmbedder(tmp_path / "net.onnx")
