# SPDX-License-Identifier: Apache-2.0
"""What holds for any scene: conventions, symmetries, determinism, edge cases and refusals."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.errors import InputError, MissingAssetError
from mvp4d_core.render.jit import Team, team
from mvp4d_core.render.splats import rasterize_splats, warm_up
from tests.support.asserts import assert_arrays_close
from tests.support.splat_scenes import Scene, cloud, settled_cloud


def one_splat(mean=(0.0, 0.0, 2.0), quat=(1.0, 0, 0, 0), scale=(0.05, 0.05, 0.05), opacity=0.8, color=(1.0, 1, 1), size=33) -> Scene:
    """One splat before a camera at the origin whose optical axis meets the centre of the middle pixel."""
    return Scene(
        means=torch.tensor([mean]), quats=torch.tensor([quat]), scales=torch.tensor([scale]), opacities=torch.tensor([opacity]),
        colors=torch.tensor([color]), backgrounds=torch.zeros(1, 3), viewmats=torch.eye(4)[None],
        Ks=torch.tensor([[[50.0, 0, size / 2], [0, 50.0, size / 2], [0, 0, 1]]]), width=size, height=size,
    )  # fmt: skip


def test_convention_pixel_centres_are_at_one_half():
    alphas = one_splat().render(rasterize_splats)[1][0, ..., 0]
    assert alphas[16, 16].item() == pytest.approx(0.8, abs=1e-6)
    assert_arrays_close(alphas, alphas.flip(0), atol=1e-6)
    assert_arrays_close(alphas, alphas.flip(1), atol=1e-6)


def test_convention_camera_axes_are_opencv():
    right = one_splat(mean=(0.3, 0.0, 2.0)).render(rasterize_splats)[1][0, ..., 0]
    assert divmod(int(right.argmax()), 33) == (16, 16 + 7), "x points right: 50 * 0.3 / 2 = 7.5 px"
    down = one_splat(mean=(0.0, 0.2, 2.0)).render(rasterize_splats)[1][0, ..., 0]
    assert divmod(int(down.argmax()), 33) == (16 + 5, 16), "y points down"
    assert one_splat(mean=(0.0, 0.0, -2.0)).render(rasterize_splats)[1].max() == 0, "z points forward"


def test_convention_viewmats_are_camera_from_world():
    moved = torch.eye(4)[None].clone()
    moved[0, 0, 3] = 0.3
    scene = replace(one_splat(), viewmats=moved)
    assert_arrays_close(scene.render(rasterize_splats)[0], one_splat(mean=(0.3, 0.0, 2.0)).render(rasterize_splats)[0], atol=1e-6)


def test_convention_quaternions_are_wxyz():
    half = math.sqrt(0.5)
    long = (0.3, 0.02, 0.02)
    flat = one_splat(scale=long).render(rasterize_splats)[1][0, ..., 0]
    assert flat[16, 22] > 0.1 and flat[22, 16] == 0
    turned = one_splat(scale=long, quat=(half, 0.0, 0.0, half)).render(rasterize_splats)[1][0, ..., 0]  # 90 degrees about z
    assert_arrays_close(turned, flat.T, atol=1e-5)


def test_convention_scales_are_standard_deviations_and_eps2d_adds_variance():
    alphas = one_splat(scale=(0.2, 0.2, 0.2), opacity=1.0).render(rasterize_splats)[1][0, 16, :, 0]
    sigma2 = (50 * 0.2 / 2) ** 2 + 0.3
    for distance in (3, 6, 9):
        assert alphas[16 + distance].item() == pytest.approx(math.exp(-(distance**2) / (2 * sigma2)), abs=1e-5)


def test_nearer_splats_hide_farther_ones():
    scene = one_splat(opacity=0.6)
    order = torch.tensor([3.0, 2.0])
    pair = replace(
        scene, means=torch.stack([torch.zeros(2), torch.zeros(2), order], dim=1), quats=scene.quats.repeat(2, 1),
        scales=scene.scales.repeat(2, 1), opacities=scene.opacities.repeat(2), colors=torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]),
    )  # fmt: skip
    pixel = pair.render(rasterize_splats)[0][0, 16, 16]
    assert_arrays_close(pixel, [0.4 * 0.6, 0.6, 0.0], atol=1e-6)


def test_antialiased_splats_thinner_than_a_pixel_keep_their_light():
    """A disc of a tenth of a pixel adds the light of its own area; the classic mode adds that of a pixel's."""
    speck = one_splat(scale=(0.004, 0.004, 0.004))  # a standard deviation of 0.1 px
    light = speck.render(rasterize_splats, rasterize_mode="antialiased")[1].sum().item()
    assert light < 0.8 * 2 * math.pi * 0.31 * 0.1  # far below a pixel's, by the ratio of the areas 0.01 / 0.31 but for what 1/255 cuts off
    assert speck.render(rasterize_splats)[1].sum().item() > 8 * light
    large = one_splat(scale=(0.2, 0.2, 0.2))
    classic, antialiased = (large.render(rasterize_splats, rasterize_mode=mode)[1] for mode in ("classic", "antialiased"))
    assert_arrays_close(antialiased, classic * (25 / 25.3), atol=1.01 / 255)  # what falls below 1/255 is cut off


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), sh_degree=st.sampled_from([None, 0, 3]), threads=st.integers(2, 5))
def test_images_and_gradients_are_bitwise_the_same_for_any_number_of_threads(seed, sh_degree, threads):
    scene = cloud(seed, count=3000, views=2, sh_degree=sh_degree)
    one, many = (scene.render(rasterize_splats, threads=n) for n in (1, threads))
    assert torch.equal(one[0], many[0]) and torch.equal(one[1], many[1])
    for a, b in zip(*(scene.gradients(rasterize_splats, threads=n) for n in (1, threads)), strict=True):
        assert torch.equal(a, b)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_the_splats_does_not_matter(seed):
    scene = cloud(seed, count=500, sh_degree=2)
    shuffled = torch.randperm(500, generator=torch.Generator().manual_seed(seed))
    other = replace(scene, **{n: getattr(scene, n)[shuffled] for n in ("means", "quats", "scales", "opacities", "colors")})
    assert torch.equal(scene.render(rasterize_splats)[0], other.render(rasterize_splats)[0])
    for a, b in zip(scene.gradients(rasterize_splats)[:5], other.gradients(rasterize_splats)[:5], strict=True):
        assert torch.equal(a[shuffled], b)


@settings(max_examples=10, deadline=None)
@given(angle=st.floats(-3, 3), shift=st.lists(st.floats(-2, 2), min_size=3, max_size=3))
def test_moving_the_camera_and_the_world_together_changes_nothing(angle, shift):
    scene = settled_cloud()
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)
    quat = torch.tensor([math.cos(angle / 2), 0, math.sin(angle / 2), 0])
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = turn, torch.tensor(shift, dtype=torch.float64)
    w, x, y, z = scene.quats.unbind(-1)
    a, _, b, _ = quat.tolist()
    moved = replace(
        scene,
        means=(scene.means.double() @ turn.T + motion[:3, 3]).float(),
        quats=torch.stack([a * w - b * y, a * x + b * z, a * y + b * w, a * z - b * x], dim=-1),
        viewmats=(scene.viewmats.double() @ torch.linalg.inv(motion)).float(),
    )
    # 1e-2 allows for one splat that crosses the 1/255 threshold; rounding alone moves pixels by less than 1e-4
    difference = (scene.render(rasterize_splats)[0] - moved.render(rasterize_splats)[0]).abs()
    assert difference.max() < 1e-2 and difference.mean() < 1e-5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-4, 50), spread=st.floats(0, 20), width=st.integers(1, 70), height=st.integers(1, 70))
def test_alphas_stay_between_zero_and_one_and_images_between_the_colours(seed, scale, spread, width, height):
    scene = cloud(seed, count=80, scale=scale, spread=spread, width=width, height=height)
    images, alphas, _ = scene.render(rasterize_splats)
    assert alphas.min() >= 0 and alphas.max() <= 1
    assert images.min() >= -1e-6 and images.max() <= 1 + 1e-5
    for gradient in scene.gradients(rasterize_splats):
        assert torch.isfinite(gradient).all()


def test_views_together_are_the_views_one_by_one():
    scene = cloud(count=400, views=3, sh_degree=3)
    together = scene.render(rasterize_splats)[0]
    for view in range(3):
        alone = replace(
            scene, viewmats=scene.viewmats[view : view + 1], Ks=scene.Ks[view : view + 1], backgrounds=scene.backgrounds[view : view + 1]
        )
        assert torch.equal(together[view], alone.render(rasterize_splats)[0][0])


def test_many_tiles_and_long_lists():
    scene = cloud(count=6000, width=400, height=300, scale=0.3)
    images, alphas, info = scene.render(rasterize_splats)
    assert info["n_isects"] > 100_000
    assert torch.isfinite(images).all() and alphas.max() <= 1


def test_no_splats_show_the_background():
    scene = cloud(count=0, views=2)
    images, alphas, info = scene.render(rasterize_splats)
    assert_arrays_close(images, scene.backgrounds[:, None, None, :].expand_as(images))
    assert alphas.max() == 0 and info["n_isects"] == 0
    assert [g.shape for g in scene.gradients(rasterize_splats)] == [t.shape for t in (*scene.splats, scene.backgrounds)]


def test_no_views_give_no_images():
    scene = cloud()
    images, _, _ = rasterize_splats(*scene.splats, torch.zeros(0, 4, 4), torch.zeros(0, 3, 3), 8, 9)
    assert images.shape == (0, 9, 8, 3)


def test_splats_that_cannot_be_seen_get_zero_gradients():
    scene = cloud(count=50)
    hidden = torch.arange(50) % 2 == 0
    opacities = torch.where(hidden, torch.tensor(0.003), scene.opacities)  # below 1/255
    for gradient in replace(scene, opacities=opacities).gradients(rasterize_splats)[:5]:
        assert gradient[hidden].abs().max() == 0
        assert gradient[~hidden].abs().max() > 0


def test_renders_from_several_threads_at_once():
    scene = cloud(count=2000, views=2)
    expected = scene.render(rasterize_splats)[0]
    with ThreadPoolExecutor(4) as pool:
        for images, _, _ in pool.map(lambda _: scene.render(rasterize_splats, threads=3), range(8)):
            assert torch.equal(images, expected)


def test_a_team_covers_a_range_once_and_passes_errors_on():
    seen = []
    team(4).run(lambda first, last: seen.extend(range(first, last)), 10_000, grain=7)
    assert sorted(seen) == list(range(10_000))

    def fail(first: int, last: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Team(3).run(fail, 100, grain=1)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_warm_up_works_in_any_mode_and_reports_progress(mode):
    calls = []
    with mode():
        assert warm_up(lambda stage, done, total: calls.append((done, total))) > 0
    assert calls[0] == (0, 4) and calls[-1] == (4, 4)


def test_renders_in_inference_mode():
    scene = cloud()
    with torch.inference_mode():
        images, _, info = scene.render(rasterize_splats)
    assert torch.equal(images, scene.render(rasterize_splats)[0]) and not info["means2d"].requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"means": torch.zeros(120, 2)}, r"`means` must be .*\(120, 3\), got torch.float32 \(120, 2\)"),
        ({"means": torch.zeros(3)}, r"`means` must be a tensor \(N, 3\)"),
        ({"quats": torch.zeros(119, 4)}, r"`quats` must be .*\(120, 4\)"),
        ({"scales": torch.zeros(120, 3, dtype=torch.float64)}, r"`scales` must be torch.float32"),
        ({"opacities": torch.zeros(120, 1)}, r"`opacities` must be .*\(120,\)"),
        ({"opacities": torch.zeros(120, dtype=torch.int64)}, r"`opacities` must be floating point"),
        ({"colors": torch.zeros(120, 5)}, r"`colors` must be .*\(120, 3\)"),
        ({"colors": torch.zeros(120, 16, 3)}, r"`colors` must be .*\(120, 3\)"),
        ({"colors": torch.zeros(120, 8, 3), "sh_degree": 2}, r"K >= 9 for `sh_degree` 2"),
        ({"colors": torch.zeros(120, 25, 3), "sh_degree": 4}, r"`sh_degree` must be from 0 to 3, got 4"),
        ({"means": torch.full((120, 3), math.nan)}, r"`means` must be finite, but 360 of 360"),
        ({"scales": torch.full((120, 3), math.inf)}, r"`scales` must be finite"),
        ({"viewmats": torch.eye(4)}, r"`viewmats` must be .*\(1, 4, 4\)"),
        ({"Ks": torch.eye(3)[None].repeat(2, 1, 1)}, r"`Ks` must be .*\(1, 3, 3\)"),
        ({"viewmats": torch.eye(4)[None].requires_grad_()}, r"`viewmats` must not require gradients"),
        ({"backgrounds": torch.zeros(3)}, r"`backgrounds` must be .*\(1, 3\)"),
        ({"width": 0}, r"`width` and `height` must be from 1 to 16384"),
        ({"height": 10**6}, r"`width` and `height` must be from 1 to 16384"),
        ({"backend": "vulkan"}, r"`backend` must be"),
        ({"rasterize_mode": "smooth"}, r"`rasterize_mode` must be one of classic, antialiased"),
        ({"render_mode": "D"}, r"`render_mode` must be one of RGB, RGB\+D, RGB\+ED"),
        ({"render_mode": "RGB+D", "colors": torch.zeros(120, 4)}, r"wants three colour channels, got 4"),
        ({"threads": 0}, r"`threads` must be from 1"),
        ({"near": 0.0}, r"0 < near < far"),
    ],
)
def test_refuses_wrong_input_in_one_line(change, message):
    scene = cloud()
    given_arguments = {
        "means": scene.means, "quats": scene.quats, "scales": scene.scales, "opacities": scene.opacities, "colors": scene.colors,
        "viewmats": scene.viewmats, "Ks": scene.Ks, "width": scene.width, "height": scene.height,
    }  # fmt: skip
    with pytest.raises(InputError, match=message) as caught:
        rasterize_splats(**(given_arguments | change))
    assert "\n" not in str(caught.value)


def test_gsplat_without_cuda_says_so():
    with pytest.raises(MissingAssetError, match="gsplat renders CUDA tensors only"):
        cloud().render(rasterize_splats, backend="gsplat")


def test_large_finite_numbers_pass_the_check_for_finite_ones():
    scene = cloud()
    far = scene.means.clone()
    far[:2] = 3e38
    images, _, _ = replace(scene, means=far).render(rasterize_splats)
    assert torch.isfinite(images).all()
