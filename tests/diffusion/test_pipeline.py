# SPDX-License-Identifier: Apache-2.0
"""Guidance, sampling and files of the pipeline with real parts at toy size."""

import json

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel, DDIMScheduler

from mvp4d_core.conditioning.maps import MAP_SLICES
from mvp4d_core.diffusion.guidance import drop_conditions, guide, model_input
from mvp4d_core.diffusion.pipeline import MVP4DPipeline
from mvp4d_core.diffusion.schedule import base_scheduler, draw_noise, snr_shift
from mvp4d_core.errors import Cancelled, FormatError, InputError, MissingAssetError, MVP4DError
from tests.support.asserts import assert_arrays_close
from tests.support.toy_conditions import CHANNELS, SIZE, toy_conditions, toy_given
from tests.support.toy_mmvdm import toy_pipeline, toy_transformer, toy_vae

MASK = MAP_SLICES["reference_mask"]


@pytest.fixture(scope="module")
def pipeline():
    return toy_pipeline()


@pytest.fixture
def forwards(pipeline):
    """The keywords of every forward of the transformer."""
    calls = []
    hook = pipeline.transformer.register_forward_pre_hook(lambda module, positional, named: calls.append(named), with_kwargs=True)
    yield calls
    hook.remove()


def written_out(pipeline, conditions, known, steps: int, scale: float, seed: int) -> torch.Tensor:
    """DDIM with guidance and overwriting as formulas, with diffusers' scheduler, for numbers of steps where that is exact."""
    given = known["given"]
    clean = torch.where(given[..., None, None, None], known["given_latents"], 0)
    scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, snr_shift_scale=snr_shift(3.0, int((~given).sum())))
    scheduler.set_timesteps(steps)
    mask = given[..., None, None, None].float()
    maps = conditions["maps"].clone()
    maps[:, :, MASK] = mask
    latents = draw_noise(clean.shape, seed)
    for timestep in scheduler.timesteps:
        velocities = []
        for on in (1.0, 0.0):
            latents = torch.where(given[..., None, None, None], clean * on, latents)
            velocities.append(
                pipeline.transformer(
                    latents[None], timestep[None], maps=maps[None] * on, reference_maps=conditions["reference_maps"][None] * on,
                    reference_hidden_states=conditions["reference_latents"][None] * on,
                ).sample[0].detach()
            )  # fmt: skip
        velocity = velocities[1] + scale * (velocities[0] - velocities[1])
        latents = scheduler.step(velocity, timestep, latents).prev_sample
    return torch.where(given[..., None, None, None], clean, latents)


def test_sampling_is_the_written_out_loop(pipeline):
    conditions, known = toy_conditions(), toy_given()
    result = pipeline(**conditions, **known, num_inference_steps=5, guidance_scale=2.5, solver="ddim", seed=3)
    assert_arrays_close(result, written_out(pipeline, conditions, known, 5, 2.5, 3), atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("solver", ["ddim", "dpm"])
def test_given_latents_come_back_bit_for_bit(dtype, solver):
    pipeline, known = toy_pipeline().to(torch.device("cpu"), dtype), toy_given()
    result = pipeline(**toy_conditions(), **known, num_inference_steps=3, solver=solver)
    given = known["given"]
    assert torch.equal(result[given], known["given_latents"][given])
    assert result.dtype == torch.float32 and result.isfinite().all()
    known["given_latents"] = known["given_latents"].to(torch.bfloat16)
    narrow = pipeline(**toy_conditions(), **known, num_inference_steps=1, solver=solver)
    assert torch.equal(narrow[given].to(torch.bfloat16), known["given_latents"][given])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_start_from_the_same_noise_and_end_nearby(pipeline, forwards, dtype):
    conditions = toy_conditions()
    wide = pipeline(**conditions, num_inference_steps=4, seed=7)
    narrow = toy_pipeline().to(torch.device("cpu"), dtype)
    seen = []
    narrow.transformer.register_forward_pre_hook(lambda module, positional, named: seen.append(named["hidden_states"]), with_kwargs=True)
    assert_arrays_close(narrow(**conditions, num_inference_steps=4, seed=7), wide, atol=0.15)
    assert torch.equal(seen[0], forwards[0]["hidden_states"].to(dtype))
    assert torch.equal(forwards[0]["hidden_states"][0], draw_noise((2, 3, CHANNELS, SIZE, SIZE), 7))


def test_a_seed_is_a_result(pipeline):
    conditions = toy_conditions()
    state = torch.get_rng_state()
    first = pipeline(**conditions, num_inference_steps=2, seed=1)
    assert torch.equal(first, pipeline(**conditions, num_inference_steps=2, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(first, pipeline(**conditions, num_inference_steps=2, noise=draw_noise(first.shape, 1), seed=9))
    assert not torch.equal(first, pipeline(**conditions, num_inference_steps=2, seed=2))
    assert torch.equal(state, torch.get_rng_state()), "the global generator was used"


def test_the_shift_counts_the_latents_to_generate(pipeline):
    """One step more than the first depends on the table; equal noise, equal conditions, other shifts."""
    conditions = toy_conditions()
    other = MVP4DPipeline(pipeline.vae, pipeline.transformer, base_scheduler(3.0 * 2))
    stretched = pipeline(**conditions, num_inference_steps=2)
    assert not torch.allclose(stretched, other(**conditions, num_inference_steps=2), atol=1e-4)


def test_guidance_of_one_costs_one_forward_a_step(pipeline, forwards):
    pipeline(**toy_conditions(), num_inference_steps=3, guidance_scale=1.0)
    assert len(forwards) == 3
    forwards.clear()
    pipeline(**toy_conditions(), num_inference_steps=3, guidance_scale=2.0)
    assert len(forwards) == 6


def test_guidance_batched_is_guidance_one_by_one(pipeline, forwards):
    conditions, known = toy_conditions(), toy_given()
    keywords = {**conditions, **known, "num_inference_steps": 2, "guidance_scale": 3.0, "frame_indices": torch.tensor([0, 2, 4])}
    apart = pipeline(**keywords)
    forwards.clear()
    assert_arrays_close(pipeline(**keywords, batch_guidance=True), apart, atol=1e-5)
    assert len(forwards) == 2 and len(forwards[0]["hidden_states"]) == 2


def test_unconditional_branch_convention(pipeline, forwards):
    """All maps, the mask channel too, the reference and the given latents are zero; the noisy latents stay."""
    conditions, known = toy_conditions(), toy_given()
    before = conditions["maps"].clone()
    noisy = draw_noise((2, 3, CHANNELS, SIZE, SIZE), 0)
    pipeline.predict_velocity(noisy, 500, **conditions, **known, guidance_scale=2.0)
    conditional, unconditional = forwards
    given = known["given"]
    mask = given[..., None, None, None].float().expand(-1, -1, 1, SIZE, SIZE)
    assert torch.equal(conditional["maps"][0][:, :, MASK], mask)
    assert torch.equal(conditional["maps"][0][:, :, : MASK.start], before[:, :, : MASK.start])
    assert torch.equal(conditional["hidden_states"][0][given], known["given_latents"][given])
    for name in ("maps", "reference_maps", "reference_hidden_states"):
        assert not unconditional[name].any()
    assert not unconditional["hidden_states"][0][given].any()
    for call in forwards:
        assert torch.equal(call["hidden_states"][0][~given], noisy[~given])
    assert torch.equal(conditions["maps"], before), "the caller's maps were written to"


def test_training_drops_single_samples_of_a_batch():
    first, second = toy_conditions(seed=1), toy_conditions(seed=2)
    maps, latents, photo = (torch.stack([first[key], second[key]]) for key in ("maps", "reference_latents", "reference_maps"))
    known = toy_given()
    given, clean = (known[key].expand(2, *known[key].shape) for key in ("given", "given_latents"))
    inputs = model_input(draw_noise((2, 2, 3, CHANNELS, SIZE, SIZE), 0), maps, latents, photo, given, clean)
    dropped = drop_conditions(inputs, torch.tensor([False, True]), given)
    for name, value in dropped.keywords().items():
        assert value.isfinite().all()
        assert torch.equal(value[0], getattr(inputs, name)[0]), name
    assert not dropped.maps[1].any() and not dropped.reference_maps[1].any() and not dropped.reference_hidden_states[1].any()
    assert not dropped.hidden_states[1][given[1]].any() and dropped.hidden_states[1][~given[1]].all()


def test_guidance_formula():
    conditional, unconditional = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])
    assert_arrays_close(guide(conditional, unconditional, 3.0), [2.0, 0.0], atol=1e-6)
    assert torch.equal(guide(conditional, unconditional, 0.0), unconditional)


def test_order_of_views_means_nothing(pipeline):
    conditions = toy_conditions(views=3)
    noise = draw_noise((3, 3, CHANNELS, SIZE, SIZE), 0)
    result = pipeline(**conditions, noise=noise, num_inference_steps=2)
    turned = pipeline(**{**conditions, "maps": conditions["maps"][[2, 0, 1]]}, noise=noise[[2, 0, 1]], num_inference_steps=2)
    assert_arrays_close(turned, result[[2, 0, 1]], atol=1e-5)


def test_text_reaches_a_model_with_text_parts():
    pipeline = toy_pipeline(transformer=toy_transformer(text_embed_dim=8))
    conditions = toy_conditions()
    text = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    silent, told = (pipeline(**conditions, num_inference_steps=1, encoder_hidden_states=words) for words in (None, text))
    assert not torch.allclose(silent, told)
    assert_arrays_close(pipeline(**conditions, num_inference_steps=1, encoder_hidden_states=text, batch_guidance=True), told, atol=1e-5)


def test_progress_and_previews_come_at_every_step(pipeline):
    told, seen, known = [], [], toy_given()
    result = pipeline(
        **toy_conditions(), **known, num_inference_steps=3, progress=lambda *message: told.append(message),
        on_step=lambda step, latents: seen.append((step, latents)),
    )  # fmt: skip
    assert told == [("sample", done, 3) for done in range(4)]
    assert [step for step, _ in seen] == [0, 1, 2]
    assert torch.equal(seen[-1][1], result), "the last step's clean latents are the result"
    for _, latents in seen:
        assert torch.equal(latents[known["given"]], known["given_latents"][known["given"]])
        picture = pipeline.preview(latents)
        assert picture.shape == (2, 3, SIZE, SIZE, 3) and 0 <= picture.min() and picture.max() <= 1


def test_cancelling_stops_at_once(pipeline, forwards):
    def progress(stage, done, total):
        if done == 2:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        pipeline(**toy_conditions(), num_inference_steps=10, guidance_scale=1.0, progress=progress)
    assert len(forwards) == 2


def test_pictures_to_pictures(pipeline):
    images = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    stills = pipeline.encode_images(images)
    assert stills.shape == (2, CHANNELS, SIZE, SIZE)
    assert torch.equal(stills[:1], pipeline.encode_videos(images[:1, None])[:, 0])
    latents = pipeline(**{**toy_conditions(latents=2), "reference_latents": stills, "reference_maps": torch.zeros(2, 59, SIZE, SIZE)},
                       num_inference_steps=1)  # fmt: skip
    videos = pipeline.decode_latents(latents)
    assert videos.shape == (2, 5, 32, 32, 3) and videos.dtype == torch.float32


def test_folders_both_ways(pipeline, tmp_path):
    pipeline.save_folder(tmp_path / "ours")
    pipeline.save_pretrained(tmp_path / "theirs")
    conditions = toy_conditions()
    expected = pipeline(**conditions, num_inference_steps=2)
    for folder in (tmp_path / "ours", tmp_path / "theirs"):
        index = json.loads((folder / "model_index.json").read_text())
        assert index["_class_name"] == "MVP4DPipeline"
        assert index["transformer"] == ["mvp4d_core.diffusion.transformer", "MVP4DTransformer3DModel"]
        for loaded in (MVP4DPipeline.from_folder(folder), MVP4DPipeline.from_pretrained(folder)):
            assert torch.equal(loaded(**conditions, num_inference_steps=2), expected)
            assert loaded.scheduler.config.snr_shift_scale == 3.0
    assert MVP4DPipeline.from_folder(tmp_path / "ours", dtype=torch.bfloat16).transformer.dtype == torch.bfloat16


def test_a_folder_of_cogvideox_is_a_pipeline_of_the_same_weights(tmp_path):
    torch.manual_seed(4)
    stock = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=CHANNELS, out_channels=CHANNELS, time_embed_dim=16, text_embed_dim=8,
        num_layers=1, sample_width=SIZE, sample_height=SIZE, sample_frames=9, max_text_seq_length=5, spatial_interpolation_scale=1.0,
    ).eval()  # fmt: skip
    for name, part in (("vae", toy_vae()), ("transformer", stock), ("scheduler", base_scheduler())):
        part.save_pretrained(tmp_path / name)
    (tmp_path / "model_index.json").write_text('{"_class_name": "CogVideoXPipeline"}')
    pipeline = MVP4DPipeline.from_folder(tmp_path)
    text, noisy = torch.randn(5, 8), torch.randn(1, 3, CHANNELS, SIZE, SIZE)
    expected = stock(noisy, text[None], torch.tensor([700])).sample.detach()
    ours = pipeline.transformer(noisy[None], torch.tensor([700]), encoder_hidden_states=text[None]).sample[0].detach()
    assert_arrays_close(ours, expected, atol=1e-5)


def test_folders_of_something_else_are_refused_in_a_line(pipeline, tmp_path):
    with pytest.raises(MissingAssetError, match=r"model_index\.json is missing"):
        MVP4DPipeline.from_folder(tmp_path / "nowhere")
    pipeline.save_folder(tmp_path)
    scheduler = tmp_path / "scheduler" / "scheduler_config.json"
    euler = ('{"_class_name": "EulerDiscreteScheduler"}', "of EulerDiscreteScheduler")
    for content, message in (("{", "is not JSON"), euler, ("[]", "of None")):
        scheduler.write_text(content)
        with pytest.raises(FormatError, match=message) as caught:
            MVP4DPipeline.from_folder(tmp_path)
        assert "\n" not in str(caught.value)
    scheduler.unlink()
    with pytest.raises(MissingAssetError, match=r"scheduler_config\.json is missing"):
        MVP4DPipeline.from_folder(tmp_path)


def test_parts_of_other_models_are_refused():
    with pytest.raises(FormatError, match="4 latent channels, the transformer takes 8"):
        toy_pipeline(transformer=toy_transformer(in_channels=8, out_channels=8))
    with pytest.raises(FormatError, match="prediction_type"):
        MVP4DPipeline(toy_vae(), toy_transformer(), DDIMScheduler())


NAN = torch.full((2, 3, 59, SIZE, SIZE), torch.nan)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": torch.zeros(2, 3, 50, SIZE, SIZE)}, r"`maps` must have shape \(V, L, 59, h, w\)"),
        ({"maps": torch.zeros(0, 3, 59, SIZE, SIZE)}, r"`maps` must have shape"),
        ({"maps": torch.zeros(2, 3, 59, 3, 4)}, "multiples of 2"),
        ({"maps": torch.zeros(2, 3, 59, 8, 8)}, r"`reference_latents` must have shape \(1, 4, 8, 8\)"),
        ({"maps": NAN}, "`maps` must be finite, but 5664 of its 5664"),
        ({"reference_latents": torch.zeros(0, CHANNELS, SIZE, SIZE)}, "`reference_latents` must have shape"),
        ({"reference_maps": torch.zeros(2, 59, SIZE, SIZE)}, r"`reference_maps` must have shape \(1, 59"),
        ({"reference_latents": torch.full((1, CHANNELS, SIZE, SIZE), torch.inf)}, "`reference_latents` must be finite"),
        ({"given": torch.zeros(2, 3, dtype=torch.bool)}, "`given` needs `given_latents`"),
        ({"given_latents": torch.zeros(2, 3, CHANNELS, SIZE, SIZE)}, "`given_latents` needs `given`"),
        ({**toy_given(3, 3)}, r"`given` must have shape \(2, 3\)"),
        ({**toy_given(), "given": torch.zeros(2, 3)}, "`given` must be bool"),
        ({**toy_given(), "given": torch.ones(2, 3, dtype=torch.bool)}, "nothing to generate"),
        ({"given": torch.eye(2, 3).bool(), "given_latents": toy_given()["given_latents"] * torch.nan}, "`given_latents` must be finite"),
        ({**toy_given(), "given_latents": toy_given()["given_latents"].double()}, "float32 or narrower"),
        ({"noise": torch.zeros(2, 2, CHANNELS, SIZE, SIZE)}, "`noise` must have shape"),
        ({"frame_indices": torch.arange(4)}, r"`frame_indices` must have shape \(3,\)"),
        ({"num_inference_steps": 0}, "from 1 to 1000"),
        ({"guidance_scale": float("nan")}, "`guidance_scale` must be"),
        ({"guidance_scale": -1.0}, "`guidance_scale` must be"),
        ({"solver": "euler"}, "`?solver`? must be one of"),
    ],
)
def test_wrong_arguments_are_one_line_before_any_work(pipeline, forwards, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        pipeline(**{**toy_conditions(), **changes})
    assert "\n" not in str(caught.value) and not forwards


def test_a_model_that_overflows_says_so_at_the_first_step():
    pipeline = toy_pipeline()
    with torch.no_grad():
        pipeline.transformer.proj_out.weight.fill_(torch.inf)
    with pytest.raises(MVP4DError, match="step 1 is not finite"):
        pipeline(**toy_conditions(), num_inference_steps=5)
