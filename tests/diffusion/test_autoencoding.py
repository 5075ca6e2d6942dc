# SPDX-License-Identifier: Apache-2.0
"""Encoding and decoding through the real autoencoder at toy size."""

import pytest
import torch

from mvp4d_core.diffusion.autoencoding import decode_videos, encode_videos, fit_latent_colors, latent_colors
from mvp4d_core.errors import InputError
from tests.support.asserts import assert_arrays_close
from tests.support.toy_mmvdm import toy_vae


def build():
    return toy_vae(block_out_channels=(8, 16, 16, 16), norm_num_groups=4, latent_channels=16, scaling_factor=0.7)


@pytest.fixture(scope="module")
def vae():
    return build()


def pictures(views: int, frames: int, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(views, frames, size, size, 3, generator=torch.Generator().manual_seed(seed))


def random_latents(views: int, frames: int, size: int = 4) -> torch.Tensor:
    return torch.randn(views, frames, 16, size, size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("frames", [1, 5, 9, 13, 21])
def test_frame_convention(vae, frames):
    """1 + 4k frames are 1 + k latent frames, and back, for odd and even numbers of them."""
    latents = encode_videos(vae, pictures(1, frames, 16))
    assert latents.shape == (1, 1 + (frames - 1) // 4, 16, 2, 2) and latents.dtype == torch.float32
    videos = decode_videos(vae, latents)
    assert videos.shape == (1, frames, 16, 16, 3) and videos.dtype == torch.float32
    assert 0 <= videos.min() and videos.max() <= 1


def test_latents_are_the_scaled_posterior_mode_of_pictures_in_minus_one_to_one(vae):
    video = pictures(1, 9)
    expected = vae.encode(video.permute(0, 4, 1, 2, 3) * 2 - 1).latent_dist.mean * 0.7
    assert_arrays_close(encode_videos(vae, video), expected.transpose(1, 2).detach(), atol=1e-6)


def test_a_video_is_encoded_and_decoded_alike_with_any_others(vae):
    videos = pictures(3, 5)
    latents = encode_videos(vae, videos)
    assert torch.equal(latents[1:2], encode_videos(vae, videos[1:2]))
    assert torch.equal(decode_videos(vae, latents)[2:], decode_videos(vae, latents[2:]))


@pytest.mark.parametrize("frames", [5, 13, 21])
def test_a_still_is_the_first_latent_of_a_still_video(vae, frames):
    still = pictures(1, 1)
    latents = encode_videos(vae, still.expand(-1, frames, -1, -1, -1))
    assert_arrays_close(latents[:, :1], encode_videos(vae, still), atol=1e-4)
    assert_arrays_close(latents, latents[:, :1].expand_as(latents), atol=1e-4)


def test_odd_numbers_of_latents_are_decoded_as_diffusers_does(vae):
    latents = random_latents(1, 5)
    expected = vae.decode(latents.transpose(1, 2) / 0.7).sample.detach() / 2 + 0.5
    assert_arrays_close(decode_videos(vae, latents), expected.permute(0, 2, 3, 4, 1).clamp(0, 1), atol=1e-6)


@pytest.mark.parametrize("frames", [2, 4, 6])
def test_even_numbers_of_latents_are_decoded_as_the_beginning_of_one_more(vae, frames):
    latents = random_latents(1, frames)
    longer = decode_videos(vae, torch.cat([latents, latents[:, -1:]], dim=1))
    assert torch.equal(decode_videos(vae, latents), longer[:, : 1 + 4 * (frames - 1)])
    assert vae.decode(latents.transpose(1, 2)).sample.shape[2] == 4 * frames, "diffusers decodes even numbers itself: drop our padding"


def test_tiles_join_to_the_whole_picture_and_leave_no_setting_behind(vae):
    latents = random_latents(1, 3, 10)
    before = {name: value for name, value in vars(vae).items() if "tile" in name or "tiling" in name}
    tiled, whole = decode_videos(vae, latents, tile=32), decode_videos(vae, latents)
    assert tiled.shape == whole.shape
    assert float((tiled - whole).abs().mean()) < 0.25 * float(whole.std())
    assert encode_videos(vae, pictures(1, 5, 80), tile=32).shape == (1, 2, 16, 10, 10)
    assert torch.equal(decode_videos(vae, random_latents(1, 1), tile=32), decode_videos(vae, random_latents(1, 1)))
    assert {name: getattr(vae, name) for name in before} == before


@pytest.mark.parametrize("tile", [0, 8, 48])
def test_tiles_that_would_not_meet_are_refused(vae, tile):
    with pytest.raises(InputError, match="multiple of 32 px"):
        decode_videos(vae, random_latents(1, 1), tile=tile)


def test_bfloat16_gives_float32_near_the_same(vae):
    video, half = pictures(1, 5), build().to(torch.bfloat16)
    latents = encode_videos(half, video)
    assert latents.dtype == torch.float32
    assert_arrays_close(latents, encode_videos(vae, video), atol=0.1)
    assert_arrays_close(decode_videos(half, random_latents(1, 2)), decode_videos(vae, random_latents(1, 2)), atol=0.05)


def test_preview_colours_are_a_linear_map_of_the_latents(vae):
    factors = fit_latent_colors(vae)
    assert factors.shape == (17, 3) and factors.isfinite().all() and torch.equal(factors, fit_latent_colors(vae))
    latents = random_latents(2, 3)
    expected = torch.einsum("vlchw,ck->vlhwk", latents.double(), factors[:16].double()) + factors[16].double()
    assert_arrays_close(latent_colors(latents, factors), expected.clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        (torch.zeros(1, 4, 16, 16, 3), "1 \\+ 4k frames"),
        (torch.zeros(1, 1, 16, 20, 3), "multiples of 8 px"),
        (torch.zeros(1, 1, 16, 16, 4), "\\(V, F, H, W, 3\\)"),
        (torch.zeros(1, 1, 16, 16, 3, dtype=torch.uint8), "floats"),
        (torch.full((1, 1, 16, 16, 3), 255.0), "0..1"),
        (torch.full((1, 1, 16, 16, 3), torch.nan), "finite values"),
    ],
)
def test_unusable_pictures_are_refused(vae, videos, message):
    with pytest.raises(InputError, match=message):
        encode_videos(vae, videos)


def test_unusable_latents_are_refused(vae):
    with pytest.raises(InputError, match="\\(V, L, 16, h, w\\)"):
        decode_videos(vae, torch.zeros(1, 1, 4, 2, 2))
    with pytest.raises(InputError, match="`latents` must be finite"):
        decode_videos(vae, torch.full((1, 1, 16, 2, 2), torch.nan))


def test_latents_are_taken_about_the_mean_of_each_channel_convention():
    """(z - latents_mean) / latents_std * scaling_factor, as diffusers defines these entries of the config."""
    plain = toy_vae(scaling_factor=0.7)
    channels = plain.config.latent_channels
    mean, deviation = torch.linspace(-2, 2, channels), torch.linspace(0.2, 3, channels)
    moved = toy_vae(scaling_factor=0.7, latents_mean=mean.tolist(), latents_std=deviation.tolist())
    moved.load_state_dict(plain.state_dict())
    videos = torch.rand((1, 5, 32, 32, 3), generator=torch.Generator().manual_seed(3))
    latents, expected = encode_videos(moved, videos), encode_videos(plain, videos) / 0.7
    expected = (expected - mean[:, None, None]) / deviation[:, None, None] * 0.7
    assert_arrays_close(latents.numpy(), expected.numpy(), atol=1e-5)
    assert_arrays_close(decode_videos(moved, latents).numpy(), decode_videos(plain, encode_videos(plain, videos)).numpy(), atol=1e-5)
