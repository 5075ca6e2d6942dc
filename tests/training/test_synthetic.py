# SPDX-License-Identifier: Apache-2.0
"""The head studio: what it says about its pictures is true, and the same seed says it again."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mvp4d_core.cameras import Camera, orbit_camera, project
from mvp4d_core.conditioning import resample_photo
from mvp4d_core.diffusion.generator import inside_photo
from mvp4d_core.errors import InputError
from mvp4d_core.evaluation.heldout import take_photo
from mvp4d_core.render.mesh import rasterize_mesh
from mvp4d_core.rig import Performance, head_model_digest, load_head_model, personalize, skin
from mvp4d_core.training.synthetic.identity import HAIR_STYLES, draw_identity, identity_of
from mvp4d_core.training.synthetic.lights import random_lights
from mvp4d_core.training.synthetic.noise import cloud, named_rng, noise
from mvp4d_core.training.synthetic.outcrops import DEPTHS, random_window
from mvp4d_core.training.synthetic.scenes import render_frame, render_gbuffer
from mvp4d_core.training.synthetic.studio import StudioSettings, render_clip, scene, shoot
from mvp4d_core.training.synthetic.torch_renderer import render_frames

SIZE = 64


@pytest.fixture(scope="module")
def head():
    return load_head_model()


@pytest.fixture(scope="module")
def clip(head):
    return render_clip(3, head_model=head, views=3, frames=2, size=SIZE, preset=360, settings=StudioSettings(outcrops=0))


@pytest.fixture(scope="module")
def cut(head):
    return render_clip(3, head_model=head, views=3, frames=2, size=SIZE, preset=360, settings=StudioSettings(outcrops=1))


@pytest.fixture(scope="module")
def place(head):
    return scene(3, head_model=head, frames=2, size=SIZE)


def frontal(size: int = SIZE, azimuth: float = 0.0):
    return orbit_camera(azimuth, 0.0, target=np.zeros(3), distance=1.2, fov_y=0.35, width=size, height=size)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads(head, cut):
    settings = StudioSettings(outcrops=1, threads=3)
    again = render_clip(3, head_model=head, views=3, frames=2, size=SIZE, preset=360, settings=settings)
    assert np.array_equal(cut.frames, again.frames) and np.array_equal(cut.alphas, again.alphas)
    assert np.array_equal(cut.inside, again.inside) and np.array_equal(cut.performance.expression, again.performance.expression)
    other = render_clip(4, head_model=head, views=1, frames=1, size=SIZE)
    assert not np.array_equal(cut.shape, other.shape)


def test_no_person_is_in_both_splits():
    train, heldout = ({identity_of(seed, split) for seed in range(-500, 500)} for split in ("train", "heldout"))
    assert len(train) == len(heldout) == 1000 and not train & heldout
    assert {key % 2 for key in train} == {0} and {key % 2 for key in heldout} == {1}
    with pytest.raises(InputError, match="split"):
        identity_of(0, "test")


def test_impossible_clips_are_refused_before_any_work(head):
    for wrong in ({"frames": 0}, {"size": 8}, {"background": "green"}, {"preset": 90}, {"views": 0}):
        with pytest.raises(InputError):
            render_clip(0, head_model=head, **({"views": 1, "frames": 1, "size": 32} | wrong))


def test_the_clip_carries_what_its_scene_holds(head, clip, place):
    assert (
        clip.frames.shape == (3, 2, SIZE, SIZE, 3)
        and clip.inside is None
        and clip.head_digest == head_model_digest(head)
        and clip.source == "synthetic"
    )
    assert np.array_equal(clip.performance.rotations, place.performance.rotations)
    empty = clip.alphas == 0
    assert (clip.frames[empty] == 255).all() and 0.2 < (clip.alphas > 127).mean() < 0.9
    assert (clip.alphas[:, :, 0, 0] == 0).all(), "a corner of the crop lies outside the head"


def test_the_tracked_head_lies_within_the_picture_of_the_person(head, clip):
    rig = personalize(head, clip.shape, clip.offsets)
    for view, camera in enumerate(clip.cameras):
        for frame in range(2):
            p = clip.performance[frame]
            vertices = skin(rig, None, p.expression, p.rotations, p.translation)
            silhouette = rasterize_mesh(vertices, rig.faces, camera).mask
            assert (clip.alphas[view, frame][silhouette] > 0).all()
            pixels, _ = project(rig.landmarks(vertices), camera)
            column, row = np.clip(pixels.astype(int), 0, SIZE - 1).T
            assert (ndimage.maximum_filter(clip.alphas[view, frame], 3)[row, column] > 0).all()


def test_the_gbuffer_is_the_geometry_of_the_picture(clip, place):
    for view, camera in enumerate(clip.cameras):
        covered = render_gbuffer(place, camera, 1, supersample=2).mask.reshape(SIZE, 2, SIZE, 2).mean(axis=(1, 3))
        assert np.array_equal(np.rint(covered * 255).astype(np.uint8), clip.alphas[view, 1])


def test_a_picture_that_ends_within_its_crop_is_white_and_empty_beyond_and_the_same_within(clip, cut):
    assert all(np.array_equal(a.K, b.K) for a, b in zip(clip.cameras, cut.cameras, strict=True))
    assert all(np.array_equal(a.camera_from_world, b.camera_from_world) for a, b in zip(clip.cameras, cut.cameras, strict=True))
    assert np.array_equal(clip.shape, cut.shape) and np.array_equal(clip.performance.rotations, cut.performance.rotations)
    assert not cut.inside.all(axis=(1, 2)).any() and cut.inside.mean() > 0.4
    for view, inside in enumerate(cut.inside):
        well_within, beyond = (
            ndimage.binary_erosion(inside, np.ones((3, 3)), border_value=1),
            ~ndimage.binary_dilation(inside, np.ones((3, 3))),
        )
        assert np.array_equal(cut.frames[view][:, well_within], clip.frames[view][:, well_within])
        assert np.array_equal(cut.alphas[view][:, well_within], clip.alphas[view][:, well_within])
        assert (cut.frames[view][:, beyond] == 255).all() and (cut.alphas[view][:, beyond] == 0).all()


def test_an_out_crop_convention_is_what_sampling_sees_of_a_photo_that_was_cut(head, place):
    left, top, right, bottom = 9, 0, SIZE, 47
    camera = frontal()
    window = np.zeros((SIZE, SIZE), np.float32)
    window[top:bottom, left:right] = 1
    wall = np.array([0.2, 0.4, 0.6], np.float32)
    whole, taken = shoot(place, [camera]), shoot(place, [camera], [wall], [window])
    K = camera.K - [[0, 0, left], [0, 0, top], [0, 0, 0]]
    matte = whole.alphas[0, 0, top:bottom, left:right].astype(np.float32) / 255
    photo = replace(
        take_photo(place, camera, head, "photo"),
        image=whole.frames[0, 0, top:bottom, left:right].astype(np.float32) / 255,
        matte=np.ceil(matte),
        head_matte=np.ceil(matte),
        camera=Camera(K, camera.camera_from_world, right - left, bottom - top),
    )
    picture, _ = resample_photo(photo, camera)
    person = taken.alphas[0, 0] == 255
    assert np.array_equal(taken.inside[0], inside_photo(photo.camera, camera)) and not taken.alphas[0, 0][~taken.inside[0]].any()
    assert np.abs(picture * 255 - taken.frames[0, 0])[person | ~taken.inside[0]].max() < 1e-3
    assert (taken.frames[0, 0][taken.inside[0] & (taken.alphas[0, 0] == 0)] == np.rint(wall * 255)).all()


def test_pictures_end_at_one_or_two_sides_as_often_as_asked():
    windows = np.stack([random_window(named_rng("test", seed), 100, 0.25) for seed in range(2000)])
    ends = windows.max(axis=2)[:, [0, -1]], windows.max(axis=1)[:, [0, -1]]  # top and bottom, left and right
    sides = np.concatenate([end == 0 for end in ends], axis=1).sum(axis=0)
    counts = np.concatenate([end == 0 for end in ends], axis=1).sum(axis=1)
    assert set(counts) == {0, 1, 2} and abs((counts > 0).mean() - 0.25) < 0.03 and (sides > 0).all() and sides.argmax() == 1
    assert windows.mean(axis=(1, 2)).min() > (1 - 2 * DEPTHS[1]) and windows.mean(axis=(1, 2))[counts > 0].max() < 1 - DEPTHS[0] / 2
    assert np.array_equal(random_window(named_rng("test", 0), 8, 0), np.ones((8, 8)))


def test_the_light_stays_where_it_is_while_the_head_turns(head):
    yaw = np.zeros((2, len(head.joint_names), 3))
    yaw[:, head.joint_names.index("neck"), 1] = np.deg2rad([40, -40])
    still = np.zeros((2, len(head.expression_names)))
    turning = Performance(still, yaw, np.zeros((2, 3)), 24.0, head.expression_names, head.joint_names)
    place = scene(1, head_model=head, size=SIZE, performance=turning)
    side = place.lights.directions[0, 0]
    assert abs(side) > 0.5, "the seed must have its key light at a side"
    for frame in range(2):
        image, alpha = render_frame(place, frontal(), frame)
        lit = image.sum(axis=2) * (alpha > 0.99)
        left, right = (half.sum() / np.count_nonzero(half) for half in (lit[:, : SIZE // 2], lit[:, SIZE // 2 :]))
        assert (right > left) == (side > 0)  # the subject's left is at the picture's right


def test_people_differ_in_tone_hair_and_shape(head):
    people = [draw_identity(identity_of(seed), head) for seed in range(200)]
    luminance = np.array([person.skin.mean() for person in people])
    assert luminance.min() < 0.25 and luminance.max() > 0.8
    assert {person.style for person in people} == set(HAIR_STYLES)
    assert max(np.abs(person.shape).max() for person in people) <= 2.5
    assert 0.6 < np.std([person.shape for person in people]) < 1.2
    assert 0.2 < np.mean([person.beard_density > 0 for person in people]) < 0.5


def test_performances_are_smooth_and_in_range(head):
    performance = scene(5, head_model=head, frames=13, size=16).performance
    assert performance.expression.min() >= 0 and performance.expression.max() <= 1
    slow = [k for k, name in enumerate(head.expression_names) if "Blink" not in name and "Look" not in name and "Wide" not in name]
    assert np.abs(np.diff(performance.expression[:, slow], axis=0)).max() < 0.45
    assert np.abs(np.diff(performance.rotations[:, :3], axis=0)).max() < np.deg2rad(6)


def test_every_light_has_unit_directions_and_some_radiance():
    for seed in range(50):
        lights = random_lights(named_rng("test", seed), np.full(3, 0.5))
        assert np.allclose(np.linalg.norm(lights.directions, axis=1), 1) and (lights.colors >= 0).all() and (lights.sky > 0).all()


def test_noise_is_bounded_smooth_and_the_seeds():
    points = named_rng("points").uniform(-0.2, 0.2, (2000, 3))
    values = noise(points, 0.01, 7)
    assert np.abs(values).max() <= 1 and np.abs(noise(points + 1e-5, 0.01, 7) - values).max() < 0.02
    assert np.array_equal(values, noise(points, 0.01, 7)) and np.abs(values - noise(points, 0.01, 8)).max() > 0.5
    assert 0.1 < np.std(cloud(points, 0.02, 1)) < 0.8


def test_torch_draws_what_the_kernels_draw(clip, place):
    images, alphas = render_frames(place, clip.cameras[1], [0, 1], device="cpu")
    for frame in range(2):
        image, alpha = render_frame(place, clip.cameras[1], frame)
        assert np.array_equal(alphas[frame], alpha)
        assert np.abs(images[frame] - image).max() < 0.02 and np.abs(images[frame] - image).mean() < 1e-4


@pytest.mark.gpu
def test_cuda_draws_what_the_kernels_draw(head, clip, cut):
    for settings, expected in ((StudioSettings(outcrops=0, device="cuda"), clip), (StudioSettings(outcrops=1, device="cuda"), cut)):
        found = render_clip(3, head_model=head, views=3, frames=2, size=SIZE, preset=360, settings=settings)
        assert (found.inside is None) == (expected.inside is None)
        assert found.inside is None or np.array_equal(found.inside, expected.inside)
        for drawn, wanted in ((found.alphas, expected.alphas), (found.frames, expected.frames)):
            difference = np.abs(drawn.astype(int) - wanted)
            assert (difference > 5).mean() < 1e-3 and difference.mean() < 0.05  # roundings may move a sample at an edge


def test_a_scene_can_be_shot_from_any_camera_before_any_wall(place):
    wall = np.array([0.0, 1.0, 0.0], np.float32)
    taken = shoot(place, [frontal(), frontal(azimuth=np.pi)], [wall, wall])
    assert (taken.frames[taken.alphas == 0] == [0, 255, 0]).all()
    assert np.abs(taken.frames[0].astype(int) - taken.frames[1]).max() > 50
