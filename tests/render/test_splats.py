# SPDX-License-Identifier: Apache-2.0
"""The CPU rasteriser against the float64 oracle: images by their worst pixel, gradients by group."""

from dataclasses import replace

import pytest
import torch

from mvp4d_core.render.reference import (
    blend,
    pixel_centers,
    project,
    rasterize_dense,
    rasterize_tiled,
    shade,
    spherical_harmonics,
    splat_alphas,
)
from mvp4d_core.render.splats import rasterize_splats
from tests.support.asserts import assert_arrays_close
from tests.support.splat_scenes import Scene, cloud, relative_errors, settled, settled_cloud

IMAGE_TOLERANCE = 5e-6
GRADIENT_TOLERANCE = 1e-5


def check(scene: Scene, gradient_tolerance: float = GRADIENT_TOLERANCE, image_tolerance: float = IMAGE_TOLERANCE, **options) -> None:
    images, alphas, _ = scene.render(rasterize_splats, **options)
    true_images, true_alphas = scene.render(rasterize_dense, torch.float64, **options)
    assert_arrays_close(images, true_images, atol=image_tolerance, name="images")
    assert_arrays_close(alphas, true_alphas, atol=IMAGE_TOLERANCE, name="alphas")
    found, true = scene.gradients(rasterize_splats, **options), scene.gradients(rasterize_dense, torch.float64, **options)
    errors = relative_errors(found, true)
    assert max(errors.values()) <= gradient_tolerance, errors


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("views", [1, 3])
def test_matches_the_oracle_with_colors(channels, views):
    check(settled_cloud(views=views, channels=channels))


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_matches_the_oracle_with_harmonics(sh_degree):
    scene = settled_cloud(sh_degree=sh_degree, views=2)
    assert (scene.render(rasterize_splats)[0] == 0).sum() == 0, "the backgrounds keep every pixel off zero"
    check(scene)


def test_uses_the_first_harmonics_when_more_are_given():
    scene = settled_cloud(sh_degree=3, views=2)
    low = replace(scene, sh_degree=1)
    check(settled(low, lambda s, attempt: replace(s, means=s.means + 1e-3 * attempt)))
    only = replace(low, colors=scene.colors[:, :4].contiguous())
    assert torch.equal(low.render(rasterize_splats)[0], only.render(rasterize_splats)[0])


def test_harmonic_colors_below_zero_are_clamped_without_gradient():
    scene = settled_cloud(sh_degree=1)
    dark = replace(scene, colors=scene.colors - torch.tensor([[20.0], [0], [0], [0]]))
    images, _, _ = dark.render(rasterize_splats)
    assert images.min() >= 0
    assert dark.gradients(rasterize_splats)[4].abs().max() == 0


@pytest.mark.parametrize("scale", [0.004, 0.5, 3.0])
def test_matches_the_oracle_from_specks_to_huge_splats(scale):
    check(settled_cloud(count=60, scale=scale))


def test_matches_the_oracle_for_splats_outside_the_image_and_behind_the_camera():
    def change(scene: Scene, attempt: int) -> Scene:
        shift = torch.zeros_like(scene.means)
        shift[::3, 0] = 1.6 + 1e-3 * attempt  # centres outside the image, footprints partly inside: the slope limit acts
        shift[1::3, 2] = 3.2  # around and behind the camera
        return replace(scene, means=scene.means + shift)

    scene = settled(cloud(3, count=150, scale=0.6, spread=0.4), change)
    depths = scene.render(rasterize_splats)[2]["depths"]
    assert (depths < 0.01).any()
    check(scene)


def test_opaque_splats_are_capped_and_end_pixels():
    def change(scene: Scene, attempt: int) -> Scene:
        return replace(scene, opacities=torch.linspace(0.97, 1.0, len(scene.means)), means=scene.means * (1 + 1e-3 * attempt))

    # Few splats: two capped ones on top of each other leave exactly 1e-4, where float32 and float64 may decide differently.
    scene = settled(cloud(2, count=8, scale=0.3, spread=0.4), change)
    alphas = scene.render(rasterize_splats)[1]
    assert 0.99 < alphas.max() < 1, "a pixel never reaches full coverage"
    check(scene)


def test_image_sizes_that_do_not_fill_tiles():
    for width, height in ((1, 1), (16, 16), (17, 33), (5, 50)):
        check(settled_cloud(width=width, height=height, count=40, scale=0.3))


@pytest.mark.parametrize("scale", [0.01, 0.3])
@pytest.mark.parametrize("sh_degree", [None, 2])
def test_antialiased_matches_the_oracle(scale, sh_degree):
    options = {"rasterize_mode": "antialiased"}
    scene = settled(cloud(), lambda _, attempt: cloud(attempt, scale=scale, sh_degree=sh_degree, views=2), **options)
    assert (scene.render(rasterize_splats)[1] - scene.render(rasterize_splats, **options)[1]).max() > 0.01
    check(scene, **options)


@pytest.mark.parametrize("sh_degree", [None, 2])
def test_depths_match_the_oracle(sh_degree):
    scene = settled_cloud(sh_degree=sh_degree, views=2)
    check(scene, render_mode="RGB+D", image_tolerance=2e-5)
    # the mean depth is a quotient by alpha, which is as small as 1/255
    check(scene, render_mode="RGB+ED", image_tolerance=255 * 2e-6, gradient_tolerance=1e-4)
    plain, with_depth = scene.render(rasterize_splats)[0], scene.render(rasterize_splats, render_mode="RGB+ED")[0]
    assert torch.equal(plain, with_depth[..., :3])
    front = scene.render(rasterize_splats)[2]["depths"]
    covered = scene.render(rasterize_splats)[1][..., 0] > 0
    assert front.min() - 1e-3 < with_depth[..., 3][covered].min() and with_depth[..., 3][covered].max() < front.max() + 1e-3
    assert (with_depth[..., 3][~covered] == 0).all()


@pytest.mark.parametrize("options", [{}, {"rasterize_mode": "antialiased", "render_mode": "RGB+D"}])
def test_absolute_gradients_are_sums_over_pixels(options):
    """Against autograd of each pixel alone, in float64."""
    scene = settled(cloud(), lambda _, attempt: cloud(attempt, count=12, width=20, height=18, scale=0.3))
    means = scene.means.clone().requires_grad_()
    images, alphas, info = replace(scene, means=means).render(rasterize_splats, absgrad=True, **options)
    generator = torch.Generator().manual_seed(3)
    weights, coverage = torch.randn(images.shape, generator=generator), torch.randn(alphas.shape, generator=generator)
    ((weights * images).sum() + (coverage * alphas).sum()).backward()

    true = [t.double() for t in (*scene.splats, scene.viewmats[0], scene.Ks[0])]
    antialiased = options.get("rasterize_mode") == "antialiased"
    splats = project(*true[:4], *true[5:], scene.width, scene.height, 0.01, 1e10, 0.3, antialiased)
    splats = replace(splats, means2d=splats.means2d.clone().requires_grad_())
    ids = torch.argsort(splats.depths)
    values = shade(true[0], true[4], true[5], None, splats.depths if "render_mode" in options else None)[ids]
    image, transmittance = blend(splat_alphas(splats, ids, pixel_centers(scene.width, scene.height, true[0])), values)
    backdrop = torch.cat([scene.backgrounds[0].double(), torch.zeros(1, dtype=torch.float64)])[: image.shape[-1]]
    image = image + transmittance[:, None] * backdrop
    losses = (weights.double().reshape(image.shape) * image).sum(-1) + coverage.double().reshape(-1) * (1 - transmittance)
    each = torch.stack([torch.autograd.grad(loss, splats.means2d, retain_graph=True)[0] for loss in losses])
    assert_arrays_close(info["means2d"].grad[0], each.sum(dim=0), atol=2e-5, rtol=1e-5)
    assert_arrays_close(info["means2d"].absgrad[0], each.abs().sum(dim=0), atol=2e-5, rtol=1e-5)


def test_black_is_the_default_background():
    scene = cloud()
    black = replace(scene, backgrounds=torch.zeros_like(scene.backgrounds))
    args = (*scene.splats, scene.viewmats, scene.Ks, scene.width, scene.height)
    assert torch.equal(rasterize_splats(*args)[0], black.render(rasterize_splats)[0])


def test_gradient_of_the_pixel_positions_is_kept_in_info():
    scene = settled_cloud(views=2, sh_degree=None)
    means = scene.means.clone().requires_grad_()
    images, _, info = replace(scene, means=means).render(rasterize_splats)
    info_means2d = info["means2d"]
    images.square().sum().backward()
    # Moving all pixel positions of a view alike is the same as moving its principal point: compare with finite differences in
    # float64.
    for view in range(2):
        for axis in range(2):
            losses = []
            for step in (-1e-5, 1e-5):
                Ks = scene.Ks.double().clone()
                Ks[view, axis, 2] += step
                tensors = [t.double() for t in (*scene.splats, scene.viewmats)]
                images, _ = rasterize_dense(*tensors, Ks, scene.width, scene.height, backgrounds=scene.backgrounds.double())
                losses.append(images.square().sum())
            slope = ((losses[1] - losses[0]) / 2e-5).item()
            assert info_means2d.grad[view, :, axis].double().sum().item() == pytest.approx(slope, rel=2e-3, abs=2e-3)


def test_info_describes_the_projection():
    scene = cloud(views=2)
    info = scene.render(rasterize_splats)[2]
    assert info["backend"] == "cpu"
    assert info["n_isects"] > 0
    in_camera = torch.einsum("cij,nj->cni", scene.viewmats[:, :3, :3], scene.means) + scene.viewmats[:, None, :3, 3]
    assert_arrays_close(info["depths"], in_camera[..., 2], atol=1e-5)
    projected = torch.einsum("cij,cnj->cni", scene.Ks, in_camera)
    drawn = (info["radii"] > 0).all(-1)
    assert drawn.any()
    assert_arrays_close(info["means2d"][drawn], (projected[..., :2] / projected[..., 2:])[drawn], atol=1e-4)


def test_without_gradients_nothing_is_recorded():
    images, alphas, info = cloud().render(rasterize_splats)
    assert not images.requires_grad and not alphas.requires_grad and not info["means2d"].requires_grad


def test_tiled_torch_rasteriser_matches_the_oracle():
    for scene in (settled_cloud(views=2, sh_degree=2), settled_cloud(width=17, height=33, scale=0.5)):
        images, alphas = scene.render(rasterize_tiled, torch.float64, batch_elements=20_000)
        true_images, true_alphas = scene.render(rasterize_dense, torch.float64)
        assert_arrays_close(images, true_images, atol=1e-12)
        assert_arrays_close(alphas, true_alphas, atol=1e-12)
        errors = relative_errors(scene.gradients(rasterize_tiled, torch.float64), scene.gradients(rasterize_dense, torch.float64))
        assert max(errors.values()) < 1e-9, errors


def test_convention_harmonics_are_those_of_gaussian_splatting_files():
    direction = torch.nn.functional.normalize(torch.tensor([[0.3, -0.5, 0.7]], dtype=torch.float64), dim=-1)
    x, y, z = direction[0].tolist()
    expected = [
        0.28209479177387814, -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x,
        1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (2 * z * z - x * x - y * y),
        -1.0925484305920792 * x * z, 0.5462742152960396 * (x * x - y * y), -0.5900435899266435 * y * (3 * x * x - y * y),
        2.890611442640554 * x * y * z, -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
        0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y), -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
        1.445305721320277 * z * (x * x - y * y), -0.5900435899266435 * x * (x * x - 3 * y * y),
    ]  # fmt: skip
    assert_arrays_close(spherical_harmonics(direction, 3)[0], expected, atol=1e-12)
