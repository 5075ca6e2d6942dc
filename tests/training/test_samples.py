# SPDX-License-Identifier: Apache-2.0
"""Cached clips and the samples that are drawn from them, against the clips themselves."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.conditioning.maps import MAP_SLICES, condition_maps
from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import personalize
from mvp4d_core.training.curriculum import Curriculum, Modality, Stage
from mvp4d_core.training.latents import (
    MARKER,
    CacheSettings,
    encode_clips,
    encode_frames,
    is_cached,
    open_cache,
    open_cached,
    vae_digest,
    window_starts,
)  # fmt: skip
from mvp4d_core.training.samples import BatchSource, draw_given, draw_sample, usable
from mvp4d_core.training.store import ClipSource
from mvp4d_core.training.vae import VAEConfig, build_vae
from tests.support.toy_clips import SIZE, toy_cache, toy_clip, toy_vae
from tests.support.toy_head import toy_head_model

MULTIVIEW, STATIC, MONOCULAR = Modality("multiview", 2, 5, 1.0, 2), Modality("static", 3, 1, 1.0, 2), Modality("monocular", 1, 5, 1.0, 2)
CURRICULUM = Curriculum((Stage(4, SIZE, 1e-3, 0, (MULTIVIEW, STATIC, MONOCULAR)),), condition_dropout=0.0, group_dropout=0.0)


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    return toy_cache(tmp_path_factory.mktemp("cache"), clips=1)[0]


def expected_maps(clip, frames, reference):
    model = toy_head_model()
    rig = personalize(model, clip.shape, np.zeros_like(model.v_template))
    performance, camera = clip.performance.select(frames), clip.cameras[reference]
    return condition_maps(model, rig, clip.cameras, performance, reference_camera=camera, latent_size=(4, 4)).numpy()


def test_the_cache_holds_the_clip(cached):
    clip, vae = toy_clip(0), toy_vae()
    assert (cached.views, cached.latent_frames, cached.latent_size) == (4, 2, (4, 4))
    latents = encode_frames(vae, clip.frames, bfloat16=True)
    for view in range(4):
        torch.testing.assert_close(cached.read("latents", view, 0, 2).float(), latents[view], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(cached.read("maps", view, 0, 2), expected_maps(clip, slice(None), 0)[view], atol=2e-3)
        for still, frame in enumerate(cached.still_frames):
            np.testing.assert_allclose(cached.read("still_maps", view, still, still + 1), expected_maps(clip, [frame], 0)[view], atol=2e-3)


def test_videos_that_go_through_the_vae_together_come_out_as_alone():
    clip, vae = toy_clip(1), toy_vae()
    together, alone = encode_frames(vae, clip.frames), torch.cat([encode_frames(vae, video[None]) for video in clip.frames])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_rays_turn_into_the_photo_s_axes_convention(cached):
    """A sample's rays are those of maps that were made with the photo's camera as the reference."""
    clip, seen, rays = toy_clip(0), set(), MAP_SLICES["rays"]
    expected = [expected_maps(clip, slice(None), reference)[:, :, rays] for reference in range(4)]
    for seed in range(12):
        sample = draw_sample(cached, MULTIVIEW, CURRICULUM, np.random.default_rng(seed))
        places = [(view, still) for view in range(4) for still in range(len(cached.still_frames))]
        (photo,) = {view for view, still in places if torch.equal(cached.read("stills", view, still, still + 1), sample.photos)}
        views = [next(v for v in range(4) if torch.equal(cached.read("latents", v, 0, 2), latents)) for latents in sample.latents]
        np.testing.assert_allclose(sample.maps.numpy()[:, :, rays], expected[photo][views], atol=4e-3)
        np.testing.assert_allclose(sample.photo_maps.numpy()[0, rays], expected[photo][photo, 0], atol=4e-3)
        seen.add(photo)
    assert len(seen) > 1


def test_a_sample_s_shapes_and_masks(cached):
    for modality, length in ((MULTIVIEW, 2), (STATIC, 1), (MONOCULAR, 2)):
        assert usable(cached, modality)
        sample = draw_sample(cached, modality, CURRICULUM, np.random.default_rng(0))
        assert sample.latents.shape == (modality.views, length, 16, 4, 4) and sample.maps.shape == (modality.views, length, 59, 4, 4)
        assert sample.photos.shape == (1, 16, 4, 4) and (sample.photo_maps[:, MAP_SLICES["reference_mask"]] == 1).all()
    assert not usable(cached, replace(STATIC, views=4)) and not usable(cached, replace(MULTIVIEW, frames=9))


def test_stills_never_contain_the_photo_s_view(cached):
    for seed in range(30):
        sample = draw_sample(cached, STATIC, CURRICULUM, np.random.default_rng(seed))
        photo = sample.photo_maps[0, :42]
        assert all((photo - target).abs().max() > 0.01 for target in sample.maps[:, 0, :42])


def test_withheld_groups_are_zero_for_photo_and_targets(cached):
    everything = draw_sample(cached, MULTIVIEW, replace(CURRICULUM, group_dropout=1.0), np.random.default_rng(0))
    for maps in (everything.maps, everything.photo_maps):
        for group in ("expression", "rays", "motion"):
            assert not maps[..., MAP_SLICES[group], :, :].any()
        assert maps[..., MAP_SLICES["positions"], :, :].any()
    assert draw_sample(cached, MULTIVIEW, replace(CURRICULUM, condition_dropout=1.0), np.random.default_rng(0)).drop


@settings(max_examples=60, deadline=None)
@given(views=st.integers(1, 9), length=st.integers(1, 13), seed=st.integers(0, 10_000))
def test_given_latents_leave_something_to_generate(views, length, seed):
    pattern = draw_given(views, length, replace(CURRICULUM, both=0.5), np.random.default_rng(seed))
    assert pattern.shape == (views, length) and not pattern.all()
    whole, prefix = pattern.all(axis=1), pattern.all(axis=0)
    # whole views and the same prefix of every view, nothing else
    assert (pattern == whole[:, None] | prefix).all()
    assert (np.diff(prefix.astype(int)) <= 0).all()


def test_reference_patterns_come_as_often_as_asked():
    rng, counts = np.random.default_rng(0), np.zeros((2, 2))
    for _ in range(4000):
        pattern = draw_given(8, 4, replace(CURRICULUM, both=0.5), rng)
        counts[int(pattern.all(axis=1).any()), int(pattern.all(axis=0).any())] += 1
    np.testing.assert_allclose(counts / 4000, np.array([[0.5, 0.25], [0.25, 0.5]]) / 1.5, atol=0.03)


def test_a_batch_depends_on_seed_step_and_process_alone(cached):
    sources = [BatchSource({SIZE: [cached]}, CURRICULUM, process) for process in (0, 0, 1)]
    for step in (3, 0, 1):
        first, same, other = (source.batch(step) for source in sources)
        assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(same).values(), strict=True))
        assert first.latents.shape == other.latents.shape
    assert not torch.equal(sources[0].batch(0).photos, sources[2].batch(0).photos) or not torch.equal(first.latents, other.latents)


@settings(max_examples=80, deadline=None)
@given(frames=st.integers(1, 400), longest=st.integers(0, 12), windows=st.integers(1, 6))
def test_windows_lie_in_the_clip_and_apart(frames, longest, windows):
    cache = CacheSettings(frames=1 + 4 * longest, windows=windows)
    starts = window_starts(frames, cache)
    assert 1 <= len(starts) <= windows and starts[0] == 0
    assert all(b - a >= cache.frames for a, b in pairwise(starts)) and starts[-1] < frames


def test_a_cache_goes_on_where_it_was_stopped_and_tells_what_it_left_out(tmp_path):
    made = []

    def load(seed, size):
        made.append(seed)
        if seed == 1:
            raise InputError("its cameras are lost")
        return toy_clip(seed, views=2, frames=11)

    sources = [ClipSource(f"clip/{seed}", str(seed), lambda size, seed=seed: load(seed, size)) for seed in range(3)]
    options = {"vae": toy_vae(), "head_model": toy_head_model()}
    cache = CacheSettings(size=SIZE, frames=5, windows=2, stills=1)
    assert encode_clips(sources[:1], tmp_path, settings=cache, **options) == []
    origin = open_cache(tmp_path)[0].origin
    assert is_cached(tmp_path, "clip/0", origin) and not is_cached(tmp_path, "clip/1", origin)
    (tmp_path / ".mvp4d-unfinished-1.part").write_bytes(b"")
    assert encode_clips(sources, tmp_path, settings=cache, **options) == ["clip/1: its cameras are lost"]
    assert made == [0, 1, 2]
    assert [(clip.name, clip.latent_frames) for clip in open_cache(tmp_path)] == [("toy-0", 2)] * 2 + [("toy-2", 2)] * 2
    with pytest.raises(InputError, match="another VAE, another head or other settings"):
        encode_clips(sources, tmp_path, settings=replace(cache, stills=2), **options)
    head = toy_head_model()
    other = replace(head, v_template=head.v_template * np.float32(1.1))
    with pytest.raises(InputError, match="another head"):
        encode_clips(sources, tmp_path, settings=cache, vae=options["vae"], head_model=other)
    (complaint,) = encode_clips(sources[:1], tmp_path / "other", settings=cache, vae=options["vae"], head_model=other)
    assert "of another head" in complaint
    with pytest.raises(InputError, match="made otherwise"):
        encode_clips([replace(sources[0], made_of="other presets")], tmp_path, settings=cache, **options)
    for text in ("{", "[]"):
        (tmp_path / MARKER).write_text(text)
        with pytest.raises(FormatError, match=r"cache\.json is damaged"):
            encode_clips(sources, tmp_path, settings=cache, **options)


def test_a_vae_has_one_digest_on_any_number_of_threads():
    vae, threads = build_vae(VAEConfig()), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(vae_digest(vae))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]
    vae.register_to_config(latents_mean=[0.5] * 16)
    assert vae_digest(vae) != found[0]


def test_a_cache_of_an_earlier_version_is_accepted(tmp_path):
    source = ClipSource("clip", "person", lambda size: toy_clip(0, views=2))
    options = {"vae": toy_vae(), "head_model": toy_head_model(), "settings": CacheSettings(size=SIZE, frames=5, windows=1)}
    encode_clips([source], tmp_path, **options)
    made_with = json.loads((tmp_path / "cache.json").read_text())
    (tmp_path / "cache.json").write_text(
        json.dumps({key: made_with[key] for key in made_with.keys() - {"head", "autoencoder"}} | {"vae": "0"})
    )
    (file,) = open_cache(tmp_path)
    tensors, metadata = safetensors_numpy.read(file.path)
    safetensors_numpy.write(file.path, tensors, {key: value for key, value in metadata.items() if key != "origin"})
    before = file.path.read_bytes()
    assert encode_clips([replace(source, made_of="anything")], tmp_path, **options) == []
    assert file.path.read_bytes() == before and json.loads((tmp_path / "cache.json").read_text()) == made_with


def test_damaged_cache_files_are_refused(cached, tmp_path):
    data = cached.path.read_bytes()
    path = tmp_path / "clip.safetensors"
    other, nameless = data.replace(b"mvp4d-latents/1", b"mvp4d-latents/9"), data.replace(b"still_maps", b"still_mops")
    for damaged in (b"", data[:100], data[:-5], other, nameless):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match="run again"):
            open_cached(path)
