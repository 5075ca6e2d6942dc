# SPDX-License-Identifier: Apache-2.0
"""The mmvdm generator: real classes at toy size on the toy head."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mvp4d_core.cameras import crop_camera
from mvp4d_core.conditioning import ViewPlan, judged_pixels, plan_views, reference_camera
from mvp4d_core.diffusion.generator import MMVDMGenerator, finish, inside_photo, make_scene, picture_size
from mvp4d_core.diffusion.memory import MemoryPlan, ModelConfig, choose_plan, estimate_memory
from mvp4d_core.diffusion.pipeline import MVP4DPipeline
from mvp4d_core.diffusion.rollout import Block, plan_blocks
from mvp4d_core.diffusion.sampling import Sampling, _Conditions, _given_latents, _sample_in_groups, sample_grid
from mvp4d_core.errors import Cancelled, FormatError, InputError, MissingAssetError
from mvp4d_core.generate import MultiViewVideo
from mvp4d_core.progress import silent
from mvp4d_core.rig import personalize, showcase_performance
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model
from tests.support.toy_mmvdm import SIZE, toy_pipeline, toy_transformer, toy_vae
from tests.support.toy_reference import toy_reference

MODEL = toy_head_model()
REFERENCE = toy_reference(MODEL)
RIG = REFERENCE.rig(MODEL)
PLAN = plan_views(RIG, showcase_performance(MODEL).select(list(range(40, 47))), preset=120, views=5, size=48)
SETTINGS = dict(steps=2, view_block=3, frame_block=5, overlap=1, neighbours=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "toy"
    toy_pipeline().save_folder(folder)
    return folder


def make(weights: Path, plan: ViewPlan = PLAN, *, seed: int = 0, progress=silent, folder: Path | None = None, **changes) -> MultiViewVideo:
    generator = MMVDMGenerator(weights, **(SETTINGS | changes))
    return generator.generate(REFERENCE, plan, head_model=MODEL, seed=seed, progress=progress, folder=folder)


def assert_same(first: MultiViewVideo, second: MultiViewVideo) -> None:
    assert_arrays_close(first.frames, second.frames, name="frames")
    assert_arrays_close(first.alphas, second.alphas, name="alphas")


@pytest.mark.parametrize("changes", [{}, {"mode": "stochastic"}, {"sample_independently": True}])
def test_a_video_of_the_plan_with_its_provenance(weights, changes):
    video = make(weights, **changes)
    assert video.frames.shape == (5, 7, 48, 48, 3)
    assert (video.frames[video.alphas == 0] == 255).all()
    assert video.frames.std() > 1
    assert video.provenance["generator"] == "mmvdm" and video.provenance["source_sha256"] == "toy"
    assert len(video.provenance["weights_sha256"]) == 64 and video.provenance["steps"] == "2" and video.provenance["solver"] == "dpm"
    assert all(isinstance(text, str) for text in video.provenance.values())
    assert_same(video, make(weights, **changes))
    assert np.abs(video.frames.astype(int) - make(weights, seed=1, **changes).frames).max() > 0


@pytest.mark.parametrize("mode", ["rollout", "stochastic"])
def test_a_run_stopped_anywhere_ends_as_if_it_had_not_been(weights, tmp_path, mode):
    whole = make(weights, mode=mode)
    calls = 0

    def stop_after(limit: int):
        def progress(stage: str, done: int, total: int) -> None:
            nonlocal calls
            calls += 1
            if calls == limit:
                raise Cancelled("stop")

        return progress

    for limit in (3, 5, 8):  # within the first block, within later ones, each time a little further
        calls = 0
        with pytest.raises(Cancelled):
            make(weights, mode=mode, folder=tmp_path, progress=stop_after(limit))
    assert any(tmp_path.iterdir())
    (tmp_path / "block_0001.safetensors").write_bytes(b"damaged")
    assert_same(make(weights, mode=mode, folder=tmp_path), whole)


def test_finished_blocks_are_not_made_again(weights, tmp_path):
    make(weights, folder=tmp_path)
    told: list[tuple[int, int]] = []
    make(weights, folder=tmp_path, progress=lambda stage, done, total: told.append((done, total)) if stage == "generate" else None)
    blocks = len(plan_blocks(5, 7, view_block=3, frame_block=5, overlap=1, neighbours=1))
    assert told == [(2 * (block + 1), 2 * blocks) for block in range(blocks)]
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    make(weights, folder=tmp_path, seed=1)
    assert len(stamps) == blocks and all(path.stat().st_mtime_ns != stamp for path, stamp in stamps.items())


KILLED = """
import os, signal
from pathlib import Path
from tests.diffusion.test_generator import make

def kill(stage, done, total):
    if stage == "generate" and done == 5:
        os.kill(os.getpid(), signal.SIGKILL)

make(Path({weights!r}), folder=Path({folder!r}), progress=kill)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_process_is_continued(weights, tmp_path):
    code = KILLED.format(weights=str(weights), folder=str(tmp_path))
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=300, env=environment, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert len(list(tmp_path.glob("block_*"))) == 2
    assert_same(make(weights, folder=tmp_path), make(weights))


def test_finished_frames_stay_and_later_blocks_heed_them():
    pipeline, scene = toy_pipeline(), make_scene(REFERENCE, PLAN, MODEL, SIZE)
    blocks = plan_blocks(5, 7, view_block=3, frame_block=5, overlap=1, neighbours=1)
    sampling = Sampling(steps=2, view_block=3)
    grid = sample_grid(pipeline, scene, blocks, sampling)
    first = sample_grid(pipeline, scene, blocks[:1], sampling)
    made = np.ix_(blocks[0].new_views, range(blocks[0].start, blocks[0].stop))
    assert_arrays_close(grid[made], first[made])
    changed = [blocks[0], replace(blocks[1], prefix=0), *blocks[2:]]
    other = sample_grid(pipeline, scene, changed, sampling)
    assert np.abs(other.astype(int) - grid).max() > 0  # without its prefix the second clip comes out otherwise


def test_blocks_are_given_whole_views_and_prefixes():
    """The latents that a block is given are those of the finished frames, and no others are."""
    pipeline = toy_pipeline()
    grid = np.random.default_rng(0).integers(0, 256, (4, 9, SIZE, SIZE, 3), np.uint8)
    block = Block(given_views=(3,), new_views=(0, 2), start=0, stop=9, prefix=5)
    given, latents = _given_latents(pipeline, grid, block)
    assert given.tolist() == [[True, True, True], [True, True, False], [True, True, False]]
    whole = pipeline.encode_videos(torch.from_numpy(grid[3:4]).float() / 255)[0]
    prefixes = pipeline.encode_videos(torch.from_numpy(grid[[0, 2], :5]).float() / 255)
    assert_arrays_close(latents[0], whole.float(), atol=1e-5)
    assert_arrays_close(latents[1:, :2], prefixes.float(), atol=1e-5)
    assert latents[1:, 2].abs().max() == 0


def test_views_sampled_independently_do_not_know_of_each_other(weights):
    cameras = (*PLAN.cameras[:2], PLAN.cameras[4])
    first, second = ViewPlan(PLAN.cameras[:3], PLAN.performance, 120), ViewPlan(cameras, PLAN.performance, 120)
    alone = [make(weights, plan, sample_independently=True).frames[:2] for plan in (first, second)]
    joint = [make(weights, plan).frames[:2] for plan in (first, second)]
    assert_arrays_close(*alone)
    assert np.abs(joint[0].astype(int) - joint[1]).max() > 0


def test_one_group_of_all_views_is_the_pipelines_own_sampling():
    pipeline = toy_pipeline()
    generator = torch.Generator().manual_seed(3)
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    given = torch.zeros((3, 2), dtype=torch.bool)
    given[0], given[:, 0] = True, True
    conditions = _Conditions(draw(3, 2, 59, 4, 4), draw(1, 4, 4, 4), draw(1, 59, 4, 4), given, draw(3, 2, 4, 4, 4))
    sampling = Sampling(steps=4, view_block=3)
    grouped = _sample_in_groups(pipeline, conditions, sampling, 11, silent)
    whole = pipeline(**conditions.of_views(np.arange(3)), num_inference_steps=4, guidance_scale=2.0, seed=11)
    assert_arrays_close(grouped, whole, atol=1e-5)
    assert torch.equal(grouped[given], conditions.given_latents[given])
    apart = _sample_in_groups(pipeline, conditions, replace(sampling, view_block=2), 11, silent)
    assert (apart - whole).abs().max() > 1e-4
    assert torch.equal(apart[given], conditions.given_latents[given])


@pytest.mark.parametrize("name", ["positions", "expression", "rays", "motion"])
def test_maps_that_are_left_out_change_the_result(weights, name):
    plan = ViewPlan(PLAN.cameras[:2], PLAN.performance.select(list(range(5))), 120)
    difference = np.abs(make(weights, plan).frames.astype(int) - make(weights, plan, without_maps=(name,)).frames)
    assert difference.max() > 0


def test_the_scene_is_the_plan_at_the_models_size():
    scene = make_scene(REFERENCE, PLAN, MODEL, SIZE)
    for wanted, camera in zip(PLAN.cameras, scene.cameras, strict=True):
        assert (camera.width, camera.height) == (SIZE, SIZE)
        back = crop_camera(camera, np.array([0, 0, SIZE, SIZE]), wanted.width, wanted.height)
        assert_arrays_close(back.K, wanted.K, atol=1e-9)
    assert_arrays_close(scene.rig.v_template, personalize(MODEL, REFERENCE.shape, np.zeros_like(MODEL.v_template)).v_template)
    assert scene.photo.dtype == np.float32 and scene.photo.shape == (SIZE, SIZE, 3)
    corners = scene.photo[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() > 0.99


def test_convention_inside_tells_the_pixels_whose_centres_the_photo_has():
    whole = REFERENCE.camera
    crop = crop_camera(whole, np.array([-40.0, 30.0, 88.0, 158.0]), 64, 64)
    inside = inside_photo(whole, crop)
    assert_arrays_close(inside, np.broadcast_to(np.arange(64) >= 20, (64, 64)))
    beyond = crop_camera(whole, np.array([whole.width - 88.0, whole.height - 98.0, whole.width + 40.0, whole.height + 30.0]), 64, 64)
    pixels = np.arange(64)
    assert_arrays_close(inside_photo(whole, beyond), (pixels < 49)[:, None] & (pixels < 44))
    camera = reference_camera(REFERENCE, RIG, SIZE)
    assert not (judged_pixels(REFERENCE, camera) & ~inside_photo(whole, camera)).any()


def test_finished_frames_have_the_plans_size_and_clear_white():
    rig = personalize(MODEL, REFERENCE.shape, np.zeros_like(MODEL.v_template))
    plan = ViewPlan(PLAN.cameras[:1], PLAN.performance.select([0]), 120)
    painted = np.full((1, 1, SIZE, SIZE, 3), 254, np.uint8)
    frames, alphas = finish(painted, rig, plan)
    assert frames.shape == (1, 1, 48, 48, 3) and alphas.shape == (1, 1, 48, 48)
    assert alphas.max() == 255 and alphas[0, 0, 0].max() == 0
    assert (frames[alphas == 0] == 255).all()


def refused(error: type, part: str, work) -> None:
    with pytest.raises(error, match=part) as caught:
        work()
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"steps": 0}, "`steps`"),
        ({"guidance_scale": -1.0}, "`guidance_scale`"),
        ({"solver": "euler"}, "`solver`"),
        ({"mode": "sideways"}, "`mode`"),
        ({"view_block": 0}, "view a block"),
        ({"frame_block": 8}, "`frame_block`"),
        ({"without_maps": ("hair",)}, "`without_maps`"),
        ({"without_maps": ("reference_mask",)}, "`without_maps`"),
    ],
)
def test_impossible_settings_are_refused_at_once(changes, part):
    refused(InputError, part, lambda: MMVDMGenerator(**changes))


def test_what_cannot_work_is_refused_before_any_sampling(weights, tmp_path):
    def never(stage: str, done: int, total: int) -> None:
        raise AssertionError("work began")

    def attempt(plan: ViewPlan = PLAN, folder: Path = weights, **changes):
        return lambda: make(folder, plan, progress=never, **changes)

    refused(MissingAssetError, "mvp4d train", attempt(folder=tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    refused(MissingAssetError, "empty", attempt(folder=tmp_path / "empty"))
    refused(InputError, "`overlap`", attempt(overlap=5))
    refused(InputError, "`device`", attempt(device="tpu"))
    refused(InputError, "GB", attempt(gpu_gb=1e-6))
    wide = tuple(replace(camera, height=32) for camera in PLAN.cameras)
    refused(InputError, "square", attempt(ViewPlan(wide, PLAN.performance, 120)))
    long = PLAN.performance.select(np.zeros(1000, int))
    large = tuple(replace(camera, width=2048, height=2048) for camera in PLAN.cameras)
    refused(InputError, "fewer views or frames", attempt(ViewPlan(large, long, 120)))
    other = replace(PLAN.performance, expression_names=tuple(f"x{n}" for n in PLAN.performance.expression_names))
    refused(InputError, "retarget", attempt(ViewPlan(PLAN.cameras, other, 120)))


def test_parts_that_do_not_fit_are_named():
    folder = Path("here")
    small_vae = toy_vae(
        down_block_types=("CogVideoXDownBlock3D",) * 3, up_block_types=("CogVideoXUpBlock3D",) * 3, block_out_channels=(4, 4, 8)
    )
    refused(FormatError, "compresses", lambda: picture_size(toy_pipeline(vae=small_vae), folder))
    refused(FormatError, "50 maps", lambda: picture_size(toy_pipeline(transformer=toy_transformer(map_channels=50)), folder))
    refused(FormatError, "not squares", lambda: picture_size(toy_pipeline(transformer=toy_transformer(sample_width=6)), folder))
    assert picture_size(toy_pipeline(), folder) == SIZE


def test_a_check_finds_what_sampling_would_without_reading_weights(weights, tmp_path):
    MMVDMGenerator(weights, **SETTINGS).check(5, 7)
    copy = tmp_path / "copy"
    shutil.copytree(weights, copy)
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    generator = MMVDMGenerator(copy, **SETTINGS)
    refused(FormatError, "not a whole safetensors file", lambda: generator.check(5, 7))
    refused(MissingAssetError, "model_index", lambda: MMVDMGenerator(tmp_path).check(5, 7))
    refused(InputError, "`device`", lambda: MMVDMGenerator(weights, device="mps").check(5, 7))
    refused(InputError, "GB", lambda: MMVDMGenerator(weights, gpu_gb=1e-6).check(5, 7))
    refused(InputError, "overlap", lambda: MMVDMGenerator(weights, frame_block=5, overlap=5).check(5, 7))


@pytest.mark.parametrize(("mode", "views"), [("rollout", 3), ("stochastic", 5)])
def test_each_step_shows_the_views_of_its_block(weights, mode, views):
    seen: list[tuple[int, torch.Size]] = []

    def look(step: int, pictures: torch.Tensor) -> None:
        assert 0 <= pictures.min() and pictures.max() <= 1
        seen.append((step, pictures.shape))

    video = make(weights, mode=mode, on_step=look)
    assert [step for step, _ in seen] == [0, 1] * (len(seen) // 2)
    assert all(shape[2:] == (SIZE // 8, SIZE // 8, 3) for _, shape in seen)
    assert max(shape[0] for _, shape in seen) == views
    assert_same(video, make(weights, mode=mode))  # looking changes nothing


def test_a_run_that_is_stopped_frees_the_device(monkeypatch):
    pipeline, freed = toy_pipeline(), []
    monkeypatch.setattr(pipeline, "maybe_free_model_hooks", lambda: freed.append(True))
    blocks = plan_blocks(5, 7, view_block=3, frame_block=5, overlap=1, mode="stochastic")

    def stop(stage: str, done: int, total: int) -> None:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        sample_grid(pipeline, make_scene(REFERENCE, PLAN, MODEL, SIZE), blocks, Sampling(steps=2, view_block=3), progress=stop)
    assert freed


def test_a_card_with_room_takes_the_whole_grid_at_once(weights):
    assert make(weights, gpu_gb=64.0).provenance["blocks"] == "5 views x 9 frames"


def test_weights_may_be_placed_by_somebody_else(weights):
    pipeline, placed = toy_pipeline(), []

    @contextmanager
    def placement(folder: Path, memory: MemoryPlan, device: str) -> Iterator[MVP4DPipeline]:
        placed.append((folder, memory.offload, device))
        yield pipeline
        placed.append("done")

    assert_same(make(weights), make(weights, placement=placement))
    assert placed == [(weights, "none", "cpu"), "done"]


def test_the_estimate_is_that_of_the_plan_it_will_sample_by(weights):
    generator = MMVDMGenerator(weights, gpu_gb=64.0, **SETTINGS)
    config = ModelConfig.from_folder(weights)
    wanted = estimate_memory(config, 5, 7, SIZE, choose_plan(config, 64.0, 5, 7, SIZE))
    assert generator.estimate(5, 7).parts == wanted.parts and wanted.parts["activations"] > 0
