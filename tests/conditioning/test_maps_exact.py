# SPDX-License-Identifier: Apache-2.0
"""The conditioning maps against ray casting in float64, torch against numba, and against committed values."""

import math

import numpy as np
import pytest
import torch

from mvp4d_core.conditioning import bench, condition_maps, device_maps, kernels_maps
from mvp4d_core.errors import InputError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import personalize, skin
from tests.support.asserts import assert_arrays_close
from tests.support.map_oracle import trace_maps
from tests.support.map_scenes import GOLDENS, golden_maps, oblique_cameras, portrait_camera
from tests.support.poses import random_performance
from tests.support.toy_head import toy_head_model

MODEL = toy_head_model()
# corners snap to 1/4096 px, which each band of the positions shows twice as large as the one before; random frames lie far apart
SLOPES = np.concatenate([np.tile(2.0 ** np.arange(7), 6), np.ones(8), np.full(9, 8.0)])[:, None]


def test_agrees_with_ray_casting_in_float64():
    shape = np.random.default_rng(3).normal(size=MODEL.shapedirs.shape[2]).astype(np.float32)
    rig = personalize(MODEL, shape, np.zeros_like(MODEL.v_template))
    performance = random_performance(MODEL, 5)
    reference, cameras = portrait_camera(0.3, -0.2), oblique_cameras(width=72, height=96)
    maps = condition_maps(MODEL, rig, cameras, performance, reference_camera=reference, latent_size=(9, 7))
    compared = 0
    for view, camera in enumerate(cameras):
        for latent in range(2):
            expected, clear = trace_maps(MODEL, rig, camera, performance, latent, reference, (9, 7))
            seen = expected[:42].any(axis=0) & clear
            compared += seen.sum()
            found = maps[view, latent].numpy()
            name = f"view {view}, latent {latent}"
            assert_arrays_close(found[:, clear] / SLOPES, expected[:, clear] / SLOPES, atol=2e-4, rtol=2e-4, name=name)
    assert compared > 50


def drawing(size: tuple[int, int], frames: int = 9) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
    """Arguments of both `draw_maps`, and the zeros they draw on."""
    generator = np.random.default_rng(0)
    performance = random_performance(MODEL, frames)
    posed = np.stack([skin(MODEL, None, p.expression, p.rotations, p.translation) for p in (performance[f] for f in range(frames))])
    latents, count = 1 + (frames - 1) // 4, len(MODEL.v_template)
    cameras = oblique_cameras()
    scale = np.diag([2 * size[1] / 96, 2 * size[0] / 96, 1])
    projections = np.stack([scale @ camera.K @ camera.camera_from_world[:3] for camera in cameras])
    painted = [generator.normal(size=shape).astype(np.float32) for shape in ((latents, count, 3), (count, 3))]
    outputs = [np.zeros((len(cameras), latents, channels, *size), np.float32) for channels in (42, 3, 9)]
    return (posed.astype(np.float32), *painted, MODEL.faces, projections, np.array([2.0, 3.0, 50.0])), outputs


@pytest.mark.parametrize("size", [(12, 12), (5, 33)])
@pytest.mark.parametrize("frames", [1, 9, 129])
def test_torch_draws_what_numba_draws(size, frames):
    arguments, outputs = drawing(size, frames)
    kernels_maps.draw_maps(0, outputs[0].shape[0] * outputs[0].shape[1], *arguments, *outputs)
    frames_, deformation, *rest = arguments
    tensors = [torch.zeros(output.shape) for output in outputs]
    device_maps.draw_maps(torch.from_numpy(frames_), torch.from_numpy(deformation), *rest, *tensors)
    assert all(output.any() for output in outputs[: 3 if frames > 1 else 2])
    for name, output, tensor in zip(("positions", "expression", "motion"), outputs, tensors, strict=True):
        # a corner may snap to the neighbouring 1/4096 px
        assert_arrays_close(tensor, output, atol=2e-3, rtol=1e-5, name=name)


def test_triangles_that_share_edges_through_pixel_centres_are_drawn_once_by_both():
    # a quad of two triangles whose edges and diagonal run exactly through sample centres
    quad = np.array([[0.5, 0.5, 1], [4.5, 0.5, 1], [4.5, 4.5, 1], [0.5, 4.5, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    projection = np.eye(3, 4)[None]
    ones = np.ones((1, 4, 3), np.float32)
    expected = np.zeros((6, 6))
    expected[:4, :4] = 1
    expected = expected.reshape(3, 2, 3, 2).mean(axis=(1, 3))
    for winding in (faces, faces[:, ::-1].copy()):
        outputs = [np.zeros((1, 1, channels, 3, 3), np.float32) for channels in (42, 3, 9)]
        kernels_maps.draw_maps(0, 1, quad[None], ones, quad, winding, projection, np.ones(3), *outputs)
        tensors = [torch.zeros(output.shape) for output in outputs]
        device_maps.draw_maps(torch.from_numpy(quad)[None], torch.from_numpy(ones), quad, winding, projection, np.ones(3), *tensors)
        for drawn in (outputs, tensors):
            assert_arrays_close(drawn[1][0, 0, 0], expected, atol=1e-6, name="coverage")


@pytest.mark.gpu
def test_cuda_draws_what_the_cpu_draws():
    performance, cameras = random_performance(MODEL, 9), oblique_cameras()
    options = {"reference_camera": cameras[0], "latent_size": (16, 16)}
    cpu, cuda = (condition_maps(MODEL, MODEL, cameras, performance, device=device, **options) for device in ("cpu", "cuda"))
    assert cuda.device.type == "cuda"
    differing = (cuda.cpu() - cpu).abs() > 1e-3  # float32 poses may differ by a rounding, and so may a sample at an edge
    assert differing.float().mean() < 1e-3


def test_the_encoding_is_exact_for_every_angle_a_head_can_have():
    angles = np.linspace(-6, 6, 1001)
    rows = np.zeros((14, len(angles)), np.float32)
    scratch = np.zeros((2, len(angles)))
    kernels_maps._add_encoding(angles, np.ones(len(angles)), 0, len(angles), *scratch, rows)
    expected = np.stack([wave(2.0**band * angles) for wave in (np.sin, np.cos) for band in range(7)])
    assert_arrays_close(rows, expected, atol=2e-7, name="sines and cosines")


def test_maps_are_those_of_the_golden_file():
    goldens, _ = safetensors_numpy.read(GOLDENS)
    found = golden_maps()
    assert goldens.keys() == found.keys()
    for name, golden in goldens.items():
        assert_arrays_close(found[name], golden, atol=2e-3, name=name)


def test_bench_reports_every_figure_and_draws_what_trimesh_and_embree_see():
    calls = []
    figures = bench.bench_conditions(views=4, size=96, traced_views=4, progress=lambda *call: calls.append(call))
    assert figures.keys() == {"seconds_200_views", "speedup", "seconds_200_views_trimesh_embreex", "maps", "largest_difference"}
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    assert figures["speedup"] == figures["seconds_200_views_trimesh_embreex"] / figures["seconds_200_views"]
    assert figures["maps"] == 400 and figures["largest_difference"] < 5e-3
    assert calls[0][1:] == (0, 5) and calls[-1][1:] == (5, 5)
    with pytest.raises(InputError, match="`views` must be at least 20, got 3"):
        bench.bench_conditions(views=3)
