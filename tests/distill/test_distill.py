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
from mvp4d_core.distill.puppet import Puppet
from mvp4d_core.distill.targets import VideoPictures
from mvp4d_core.errors import Cancelled, FormatError, InputError, MVP4DError
from mvp4d_core.evaluation.avatar import evaluate_heldout, evaluate_reference
from mvp4d_core.evaluation.lpips import Lpips
from mvp4d_core.generate import MultiViewVideo, ProxyGenerator
from mvp4d_core.render.avatar import render_splats
from mvp4d_core.rig import bound_to_world as numpy_bound_to_world
from mvp4d_core.rig import showcase_performance, skin, triangle_frames
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model
from tests.support.toy_lpips import random_weights
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


EVERYTHING = replace(
    CONFIG, initial=0.8, coarse=((0.3, 4), (0.5, 2)), remesh=48, deformation="unet", unet_channels=4, unet_until=0.6, densify_every=4,
    growth=0.05, neck=1.0, appearance=0.1,
)  # fmt: skip


@pytest.mark.parametrize("config", [CONFIG, EVERYTHING])
def test_resuming_gives_what_not_stopping_gives(video, tmp_path, config):
    whole = distill_avatar(video, REFERENCE, config, head_model=MODEL)
    checkpoint = tmp_path / "fit.safetensors"

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "distill" and done == 23:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        distill_avatar(video, REFERENCE, config, head_model=MODEL, checkpoint=checkpoint, progress=stop)
    seen = []
    resumed = distill_avatar(
        video,
        REFERENCE,
        config,
        head_model=MODEL,
        checkpoint=checkpoint,
        progress=lambda s, d, t: seen.append(d) if s == "distill" else None,
    )
    assert seen[0] == 20  # the last checkpoint before the stop
    for name in ("means", "quats", "log_scales", "opacity_logits", "sh0", "shN"):
        assert_arrays_close(getattr(resumed, name), getattr(whole, name), name=name)
    assert_arrays_close(resumed.binding, whole.binding)
    assert_arrays_close(resumed.rig.exprdirs, whole.rig.exprdirs)


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
    with pytest.raises(MVP4DError, match=r"step 0: its parameter `gaussians.sh0` is no longer finite"):
        distill_avatar(video, REFERENCE, replace(CONFIG, sh0_lr=float("nan")), head_model=MODEL)


@pytest.mark.parametrize(("deformation", "rate"), [("linear", 0.01), ("unet", 1e-3)])
def test_a_puppet_learns_how_another_face_moves(deformation, rate):
    """Its gradients lead to a head whose expressions are 1.8 times as strong, shown as vertices."""
    strong = replace(RIG, exprdirs=RIG.exprdirs * np.float32(1.8))
    performance = showcase_performance(MODEL).select(list(range(0, 144, 12)))
    puppet = Puppet(RIG, performance, performance[0], replace(CONFIG, deformation=deformation, unet_channels=16))
    optimiser = torch.optim.Adam(puppet.deformation.parameters(), rate)
    posed = [skin(strong, None, p.expression, p.rotations, p.translation) for p in (performance[f] for f in range(len(performance)))]
    wanted = [triangle_frames(vertices, RIG.faces).centres for vertices in posed]
    errors = []
    for _ in range(40):
        optimiser.zero_grad()
        found = [puppet.pose(frame)[0].centres for frame in range(len(wanted))]
        error = sum((one - torch.as_tensor(true)).square().sum() for one, true in zip(found, wanted, strict=True))
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < 0.5 * errors[0]


def test_densification_ends_at_its_budget_and_coarse_steps_see_the_same_head(video):
    config = replace(CONFIG, steps=60, splats=2500, initial=0.7, densify_every=5, densify_until=0.9, coarse=((0.4, 2),), growth=0.2)
    avatar = distill_avatar(video, REFERENCE, config, head_model=MODEL)
    assert 2500 * 0.95 < len(avatar) <= 2500
    assert evaluate_heldout(avatar, video, config)["heldout_psnr"] > 20


def test_codes_take_up_what_a_generator_did_not_keep_still(video):
    """Each frame has a colour cast of its own: with codes the avatar is nearer to the plain video."""
    rng = np.random.default_rng(0)
    cast = rng.uniform(0.8, 1.2, (1, 5, 1, 1, 3))
    tinted = np.clip(video.frames * cast, 0, 255).astype(np.uint8)
    tinted = np.where(video.alphas[..., None] > 0, tinted, video.frames)
    config = replace(CONFIG, steps=150, reference_every=2, heldout=0.0)
    errors = []
    for appearance in (0.0, 1e-3):
        fitted = replace(config, appearance=appearance, appearance_lr=2e-2)
        avatar = distill_avatar(replace(video, frames=tinted), REFERENCE, fitted, head_model=MODEL)
        errors.append(evaluate_reference(avatar, REFERENCE))
    assert errors[1] > errors[0] + 0.2


def test_a_neck_of_a_frames_own_turns_its_joint(video):
    puppet = Puppet(RIG, video.plan.performance, REFERENCE.parameters, replace(CONFIG, neck=2.0))
    turn = np.array([0.1, -0.2, 0.05], np.float32)
    with torch.no_grad():
        puppet.neck[3] = torch.as_tensor(turn)
    for frame, own in ((3, turn), (1, 0 * turn)):
        p = video.plan.performance[frame]
        rotations = p.rotations.copy()
        rotations[RIG.joint_names.index("neck")] += own
        found, terms = puppet.pose(frame)
        wanted = triangle_frames(skin(RIG, None, p.expression, rotations, p.translation), RIG.faces)
        assert_arrays_close(found.centres.detach().numpy(), wanted.centres, atol=1e-6)
        assert float(terms["neck"].detach()) == pytest.approx(2 * float(own @ own))


def test_a_fit_with_a_unet_ends_with_its_corrections_in_the_rig(video):
    config = replace(CONFIG, deformation="unet", unet_channels=4, unet_lr=1e-3, unet_until=0.5)
    avatar = distill_avatar(video, REFERENCE, config, head_model=MODEL)
    assert np.abs(avatar.rig.exprdirs - RIG.exprdirs).max() > 1e-4
    early = distill_avatar(video, REFERENCE, replace(config, unet_until=1.0), head_model=MODEL)
    assert np.abs(early.rig.exprdirs - RIG.exprdirs).max() > 1e-4  # also where the linear one learns nothing more


def test_small_pictures_are_means_seen_by_a_camera_as_much_smaller(video):
    whole = VideoPictures(video, "cpu").get([1, 3], 2)
    judged = whole.judged.clone()
    judged[0, 5, 9] = False
    small = replace(whole, judged=judged).shrunk(4)
    blocks = whole.images.numpy().reshape(2, 16, 4, 16, 4, 3).mean(axis=(2, 4))
    assert_arrays_close(small.images.numpy(), blocks, atol=1e-6)
    assert_arrays_close(small.alphas.numpy(), whole.alphas.numpy().reshape(2, 16, 4, 16, 4, 1).mean(axis=(2, 4)), atol=1e-6)
    assert not small.judged[0, 1, 2, 0] and int((~small.judged).sum()) == 1
    assert_arrays_close(small.Ks.numpy(), whole.Ks.numpy() * [[0.25], [0.25], [1]], atol=1e-6)
    assert_arrays_close(small.viewmats.numpy(), whole.viewmats.numpy())


def test_lpips_is_one_more_term_of_full_size_pictures(video):
    features, heads = random_weights("alex")
    tensors = {key.removeprefix("features."): torch.as_tensor(value) for key, value in features.items()}
    tensors |= {key.removesuffix(".model.1.weight"): torch.as_tensor(value) for key, value in heads.items()}
    network = Lpips("alex", tensors, "toy")
    config = replace(CONFIG, heldout=0.0, reference_every=0, l1=0.0, ssim=0.0, alpha=0.0, lpips=1.0, lpips_from=0.0, lpips_full=0.1)
    distances = []
    for steps in (1, 60):
        avatar = distill_avatar(video, REFERENCE, replace(config, steps=steps), head_model=MODEL, lpips=network)
        images, _ = render_splats(avatar.pose(video.plan.performance[2]), video.plan.cameras)
        distances.append(float(network(torch.from_numpy(images), torch.from_numpy(video.frames[:, 2]).float() / 255).mean()))
    assert distances[1] < 0.8 * distances[0]
    ramp = replace(config, steps=100, lpips=0.2, lpips_from=0.2, lpips_full=0.6, coarse=((0.3, 2),))
    assert [ramp.lpips_at(step) for step in (0, 25, 40, 60, 99)] == pytest.approx([0, 0, 0.1, 0.2, 0.2])


def test_regularisers_are_their_formulas():
    config = DistillConfig(position=2.0, position_limit=1.0, scale=3.0, scale_limit=0.5, opacity=4.0)
    means = torch.tensor([[3.0, 0, 4], [0.1, 0, 0]])
    terms = regularisers(means, torch.tensor([[0.7, 0.5, 0.1]]), torch.tensor([0.5, 1.0]), config)
    assert float(terms["position"]) == pytest.approx(2 * (5 - 1) / 2)
    assert float(terms["scale"]) == pytest.approx(3 * 0.2 / 3)
    assert float(terms["opacity"]) == pytest.approx(4 * 0.25 / 2)


def test_impossible_settings_are_refused(video):
    wrong = ({"deformation": "magic"}, {"coarse": ((0.5, 3),)}, {"coarse": ((0.5, 2), (0.2, 2))}, {"initial": 0.0}, {"remesh": 5000})
    for change in ({"splats": 0}, {"sh_degree": 4}, {"heldout": 0.9}, {"steps": -1}, *wrong):
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
