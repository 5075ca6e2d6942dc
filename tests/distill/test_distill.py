# SPDX-License-Identifier: Apache-2.0
"""The fit at toy size: it learns, it keeps its hands off what is held out, it resumes exactly, it stops at NaN."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mvp4d_core.conditioning import plan_views
from mvp4d_core.differentiable.binding import bound_to_world, frames_to_torch
from mvp4d_core.distill import DistillConfig, distill_avatar, heldout_split
from mvp4d_core.distill.initialise import back_project, sample_surface
from mvp4d_core.distill.losses import regularisers
from mvp4d_core.errors import Cancelled, FormatError, InputError, MVP4DError
from mvp4d_core.evaluation.avatar import evaluate_heldout, evaluate_reference
from mvp4d_core.generate import MultiViewVideo, ProxyGenerator
from mvp4d_core.rig import bound_to_world as numpy_bound_to_world
from mvp4d_core.rig import showcase_performance, skin, triangle_frames
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model
from tests.support.toy_reference import toy_reference

MODEL = toy_head_model()
REFERENCE = toy_reference(MODEL)
RIG = REFERENCE.rig(MODEL)
CONFIG = DistillConfig(splats=2500, steps=30, sh_degree=1, heldout=0.2, reference_every=5, checkpoint_every=10)


@pytest.fixture(scope="module")
def video() -> MultiViewVideo:
    plan = plan_views(RIG, showcase_performance(MODEL).select([0, 25, 70, 110, 130]), preset=120, views=5, size=64)
    return ProxyGenerator(texture_size=256, supersample=2).generate(REFERENCE, plan, head_model=MODEL, seed=0)


def test_binding_twin_is_the_ground_floors():
    rng = np.random.default_rng(0)
    frames = triangle_frames(RIG.v_template.astype(np.float64), RIG.faces)
    binding = rng.integers(len(RIG.faces), size=50)
    local = rng.normal(size=(50, 3)), rng.normal(size=(50, 4)), rng.uniform(0.1, 1, (50, 3))
    expected = numpy_bound_to_world(*local, binding, frames)
    tensors = frames_to_torch(frames, device="cpu", dtype=torch.float64)
    actual = bound_to_world(*(torch.as_tensor(a) for a in local), torch.as_tensor(binding), tensors)
    for a, b in zip(actual, expected, strict=True):
        assert_arrays_close(a.numpy(), b, atol=1e-12)


@pytest.mark.parametrize(("views", "frames"), [(1, 1), (1, 10), (8, 1), (20, 20), (24, 21), (2, 2)])
def test_heldout_split_is_whole_views_and_frames(views, frames):
    held_views, held_frames = heldout_split(views, frames, 0.1, seed=3)
    assert (held_views, held_frames) == heldout_split(views, frames, 0.1, seed=3)
    assert (len(held_views) < views and len(held_frames) < frames) or views * frames == 1
    part = 1 - (1 - len(held_views) / views) * (1 - len(held_frames) / frames)
    assert part > 0 or views * frames == 1
    if views * frames >= 400:
        assert 0.08 <= part <= 0.12


def test_surface_samples_cover_every_triangle():
    samples = sample_surface(RIG, 4000, seed=0)
    assert len(samples.binding) == 4000
    assert set(samples.binding.tolist()) == set(range(len(RIG.faces)))
    assert_arrays_close(samples.barycentrics.sum(axis=1), np.ones(4000), atol=1e-12)
    assert samples.barycentrics.min() >= 0
    corners = RIG.v_template[RIG.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert samples.area.sum() == pytest.approx(areas.sum(), rel=1e-6)


def test_back_projection_finds_the_pictures_colours(video):
    """On the frame that is painted one colour a view, a sample takes a mean of the views that see it."""
    flat = np.zeros_like(video.frames)
    flat[:] = [200, 60, 20]
    colors = back_project(replace(video, frames=flat), RIG, sample_surface(RIG, 2500, 0), [(v, 0) for v in range(5)])
    assert_arrays_close(colors, np.broadcast_to(np.array([200, 60, 20]) / 255, colors.shape), atol=1e-6)


def test_fit_improves_held_out_pictures(video):
    start = distill_avatar(video, REFERENCE, replace(CONFIG, steps=1), head_model=MODEL)
    fitted = distill_avatar(video, REFERENCE, replace(CONFIG, steps=120), head_model=MODEL)
    before, after = (evaluate_heldout(a, video, CONFIG) for a in (start, fitted))
    assert after["heldout_psnr"] > before["heldout_psnr"] + 1
    assert after["heldout_ssim"] > before["heldout_ssim"]
    assert after["heldout_psnr"] > 22
    assert evaluate_reference(fitted, REFERENCE) > 15  # at four times the size it was fitted at
    assert after["heldout_pictures"] == before["heldout_pictures"] > 0


def test_held_out_pictures_are_never_looked_at(video):
    held_views, held_frames = heldout_split(5, 5, CONFIG.heldout, CONFIG.seed)
    poisoned = video.frames.copy()
    poisoned[list(held_views)] = 7
    poisoned[:, list(held_frames)] = 7
    config = replace(CONFIG, steps=5)
    clean = distill_avatar(video, REFERENCE, config, head_model=MODEL)
    other = distill_avatar(replace(video, frames=poisoned), REFERENCE, config, head_model=MODEL)
    assert_arrays_close(other.sh0, clean.sh0)
    assert_arrays_close(other.means, clean.means)


def test_resuming_gives_what_not_stopping_gives(video, tmp_path):
    whole = distill_avatar(video, REFERENCE, CONFIG, head_model=MODEL)
    checkpoint = tmp_path / "fit.safetensors"

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "distill" and done == 23:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        distill_avatar(video, REFERENCE, CONFIG, head_model=MODEL, checkpoint=checkpoint, progress=stop)
    seen = []
    resumed = distill_avatar(
        video,
        REFERENCE,
        CONFIG,
        head_model=MODEL,
        checkpoint=checkpoint,
        progress=lambda s, d, t: seen.append(d) if s == "distill" else None,
    )
    assert seen[0] == 20  # the last checkpoint before the stop
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN"):
        assert_arrays_close(getattr(resumed, name), getattr(whole, name), name=name)


def test_a_checkpoint_of_another_fit_is_not_continued_and_a_damaged_one_is_refused(video, tmp_path):
    checkpoint = tmp_path / "fit.safetensors"
    distill_avatar(video, REFERENCE, replace(CONFIG, steps=10), head_model=MODEL, checkpoint=checkpoint)
    seen = []
    distill_avatar(
        video,
        REFERENCE,
        replace(CONFIG, steps=12),
        head_model=MODEL,
        checkpoint=checkpoint,
        progress=lambda s, d, t: seen.append(d) if s == "distill" else None,
    )
    assert seen[0] == 0
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(FormatError):
        distill_avatar(video, REFERENCE, CONFIG, head_model=MODEL, checkpoint=checkpoint)


def test_nan_stops_with_step_and_term(video):
    with pytest.raises(MVP4DError, match=r"step 0: its parameter `sh0` is no longer finite"):
        distill_avatar(video, REFERENCE, replace(CONFIG, sh0_lr=float("nan")), head_model=MODEL)


def test_regularisers_are_their_formulas():
    config = DistillConfig(position=2.0, position_limit=1.0, scale=3.0, scale_limit=0.5, opacity=4.0)
    means = torch.tensor([[3.0, 0, 4], [0.1, 0, 0]])
    terms = regularisers(means, torch.tensor([[0.7, 0.5, 0.1]]), torch.tensor([0.5, 1.0]), config)
    assert float(terms["position"]) == pytest.approx(2 * (5 - 1) / 2)
    assert float(terms["scale"]) == pytest.approx(3 * 0.2 / 3)
    assert float(terms["opacity"]) == pytest.approx(4 * 0.25 / 2)


def test_impossible_settings_are_refused(video):
    for change in ({"splats": 0}, {"sh_degree": 4}, {"heldout": 0.9}, {"steps": -1}):
        with pytest.raises(InputError):
            replace(CONFIG, **change)
    with pytest.raises(InputError, match="quality"):
        DistillConfig.preset("best")
    with pytest.raises(InputError, match="tracked with the head"):
        distill_avatar(video, REFERENCE, CONFIG, head_model=toy_head_model(seed=1))


def test_avatar_moves_with_its_rig(video):
    avatar = distill_avatar(video, REFERENCE, replace(CONFIG, steps=5), head_model=MODEL)
    rest, opened = video.plan.performance[0], video.plan.performance[3]
    vertices = [skin(RIG, None, p.expression, p.rotations, p.translation) for p in (rest, opened)]
    moved = np.linalg.norm(avatar.pose(opened).means - avatar.pose(rest).means, axis=1)
    triangle_motion = np.linalg.norm((vertices[1] - vertices[0])[RIG.faces].mean(axis=1), axis=1)[avatar.binding]
    assert np.corrcoef(moved, triangle_motion)[0, 1] > 0.9
