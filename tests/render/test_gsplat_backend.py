# SPDX-License-Identifier: Apache-2.0
"""gsplat on CUDA against the CPU kernels; without CUDA, only that its absence is told."""

from dataclasses import replace

import pytest
import torch

from mvp4d_core.errors import MissingAssetError
from mvp4d_core.render import gsplat_backend
from mvp4d_core.render.splats import rasterize_splats
from tests.support.asserts import assert_arrays_close
from tests.support.splat_scenes import Scene, relative_errors, settled_cloud


def on_cuda(scene: Scene) -> Scene:
    tensors = {name: value.cuda() for name, value in vars(scene).items() if isinstance(value, torch.Tensor)}
    return replace(scene, **tensors)


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{"channels": 3}, {"channels": 4, "views": 2}, {"sh_degree": 3, "views": 3}])
@pytest.mark.parametrize("mode", [{}, {"rasterize_mode": "antialiased"}, {"render_mode": "RGB+D"}, {"render_mode": "RGB+ED"}])
def test_gsplat_and_the_cpu_agree(options, mode):
    if "render_mode" in mode:
        options = options | {"channels": 3}
    scene = settled_cloud(count=200, **options)
    images, alphas, info = scene.render(rasterize_splats, **mode)
    other_images, other_alphas, other_info = on_cuda(scene).render(rasterize_splats, **mode)
    assert info["backend"] == "cpu" and other_info["backend"] == "gsplat"
    assert_arrays_close(other_images.cpu(), images, atol=1e-3, name="images")
    assert_arrays_close(other_alphas.cpu(), alphas, atol=1e-3, name="alphas")
    found = [g.cpu() for g in on_cuda(scene).gradients(rasterize_splats, **mode)]
    errors = relative_errors(found, [g.double() for g in scene.gradients(rasterize_splats, **mode)])
    assert max(errors.values()) <= 1e-4, errors


@pytest.mark.gpu
def test_pixel_position_gradients_agree():
    scene = settled_cloud(count=200, views=2)
    gradients = []
    for place in (scene, on_cuda(scene)):
        means = place.means.clone().requires_grad_()
        images, _, info = replace(place, means=means).render(rasterize_splats, absgrad=True)
        images.square().sum().backward()
        gradients.append([info["means2d"].grad.cpu(), info["means2d"].absgrad.cpu()])
    for cpu, cuda in zip(*gradients, strict=True):
        assert_arrays_close(cuda, cpu, atol=1e-3, rtol=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_without_cuda_the_probe_names_the_reason_and_nothing_is_imported():
    assert gsplat_backend.why_unusable(0) == "no CUDA device is usable by this PyTorch"
    with pytest.raises(MissingAssetError, match="got tensors on cpu"):
        settled_cloud().render(rasterize_splats, backend="gsplat")
