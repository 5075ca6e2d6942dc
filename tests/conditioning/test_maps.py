# SPDX-License-Identifier: Apache-2.0
"""What the channels of the conditioning maps mean, where they lie, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.cameras import Camera
from mvp4d_core.conditioning import MAP_COUNT, MAP_SLICES, condition_maps, latent_frame_count, picture_maps, reference_maps
from mvp4d_core.conditioning.maps import camera_rays
from mvp4d_core.errors import InputError, MissingAssetError
from mvp4d_core.render.mesh import rasterize_mesh
from mvp4d_core.rig import HeadModel, Performance, rest_parameters
from tests.support.asserts import assert_arrays_close
from tests.support.map_scenes import oblique_cameras, portrait_camera, still
from tests.support.poses import random_performance
from tests.support.toy_head import toy_head_model

MODEL = toy_head_model()


def draw(
    performance: Performance,
    cameras: tuple[Camera, ...] = (),
    *,
    rig: HeadModel = MODEL,
    size: tuple[int, int] = (12, 12),
    **options: object,
) -> dict[str, np.ndarray]:
    """The maps by the names of their channels, each (V, L, c, h, w)."""
    cameras = cameras or (portrait_camera(),)
    maps = condition_maps(MODEL, rig, cameras, performance, reference_camera=portrait_camera(), latent_size=size, **options)
    return {name: maps[:, :, part].numpy() for name, part in MAP_SLICES.items()}


def calm(frames: int, seed: int = 0) -> Performance:
    """Random expressions and turns, small enough to stay in the picture."""
    performance = random_performance(MODEL, frames, seed)
    rotations = performance.rotations.copy()
    rotations[:, 0] /= 16
    return replace(performance, rotations=rotations)


def coverage(performance: Performance, cameras: tuple[Camera, ...], size: tuple[int, int]) -> np.ndarray:
    """(V, L, h, w): a rig whose every vertex moves by one unit along x paints its coverage."""
    rig = replace(MODEL, exprdirs=np.zeros_like(MODEL.exprdirs))
    rig.exprdirs[:, 0, 0] = 0.0104
    performance.expression[:] = 0
    performance.expression[::4, 0] = 1
    performance.translation[::4, 0] -= 0.0104
    return draw(performance, cameras, rig=rig, size=size)["expression"][:, :, 0]


def test_convention_channels_follow_each_other_in_this_order():
    assert list(MAP_SLICES) == ["positions", "expression", "rays", "reference_mask", "outcrop", "motion"]
    assert [part.stop - part.start for part in MAP_SLICES.values()] == [42, 3, 3, 1, 1, 9]
    starts = [part.start for part in MAP_SLICES.values()]
    assert starts == [0, *[part.stop for part in MAP_SLICES.values()][:-1]] and MAP_SLICES["motion"].stop == MAP_COUNT == 59
    maps = condition_maps(MODEL, MODEL, oblique_cameras(), calm(5), reference_camera=portrait_camera(), latent_size=(6, 10))
    assert maps.shape == (3, 2, 59, 6, 10) and maps.dtype == torch.float32 and maps.is_contiguous()


def test_convention_positions_are_sines_then_cosines_of_powers_of_two_axis_by_axis():
    # a plane across the optical axis on which the canonical x is 0.3, y is 1 and z is -0.5 everywhere
    template = np.zeros_like(MODEL.v_template)
    template[:] = [0.1, 0.3, -0.1]
    template[-3:] = [-0.2, -0.7, 0.4]  # belong to an eyeball, which is hidden by taking its faces off
    faces = MODEL.faces[(MODEL.faces < len(template) - 3).all(axis=1)]
    sparse = replace(
        MODEL, v_template=template, faces=faces, uv_faces=MODEL.uv_faces[: len(faces)], landmark_faces=0 * MODEL.landmark_faces
    )
    canonical = template - template.astype(np.float64).mean(axis=0)
    angles = canonical[0] / canonical.max()
    rig = replace(sparse, v_template=MODEL.v_template)
    maps = condition_maps(sparse, rig, (portrait_camera(),), still(MODEL, 1), reference_camera=portrait_camera(), latent_size=(12, 12))
    expected = [wave(2.0**band * angles[axis]) for axis in range(3) for wave in (np.sin, np.cos) for band in range(7)]
    assert_arrays_close(maps[0, 0, :42, 6, 6], expected, atol=2e-5, name="positions at the middle of the face")


def test_convention_canonical_x_grows_to_the_right_of_a_frontal_picture_y_upwards_and_z_towards_the_camera():
    positions = draw(still(MODEL, 1), size=(48, 48))["positions"][0, 0]
    x, y, z = (positions[14 * axis] for axis in range(3))
    assert x[24, 30] > x[24, 24] > x[24, 18]
    assert y[18, 24] > y[24, 24] > y[30, 24]
    assert z[25, 24] > z[25, 30] and z[25, 24] > z[25, 18]  # the nose


def test_positions_come_from_the_head_model_and_places_from_the_rig():
    wider = replace(MODEL, v_template=(MODEL.v_template * [1.3, 1, 1]).astype(np.float32))
    generic, person = (draw(still(MODEL, 1), rig=rig, size=(64, 64))["positions"][0, 0, 0] for rig in (MODEL, wider))
    row = 24
    ends = [np.nonzero(sines[row])[0][[1, -2]] for sines in (generic, person)]
    assert np.ptp(ends[1]) > 1.2 * np.ptp(ends[0])
    assert_arrays_close(person[row, ends[1]], generic[row, ends[0]], atol=0.05, name="canonical x at the sides of the head")


def test_convention_expression_is_in_units_of_10_4_mm_along_head_axes_whatever_the_pose():
    for axis, cameras in enumerate(zip(oblique_cameras(), strict=True)):
        rig = replace(MODEL, exprdirs=np.zeros_like(MODEL.exprdirs))
        rig.exprdirs[:, axis, 3] = 0.0104
        performance = still(MODEL, 5)
        performance.expression[4, 3] = 1.5
        performance.rotations[:, :2] = [0.1, 0.3, -0.2]
        performance.translation[:] = [0.01, 0.02, -0.03]
        expression = draw(performance, cameras, rig=rig)["expression"][0]
        full = np.abs(expression[1, axis] - 1.5) < 1e-5
        assert full.sum() > 10
        assert_arrays_close(expression[0], np.zeros_like(expression[0]), atol=1e-5, name="expression of the neutral frame")
        assert_arrays_close(np.delete(expression[1], axis, axis=0), 0 * expression[1, 1:], atol=1e-5, name="the other axes")


@pytest.mark.parametrize(("joint", "painted"), [("jaw", True), ("left_eye", True), ("right_eye", True), ("neck", False), ("root", False)])
def test_convention_expression_holds_jaw_and_gaze_but_not_neck_and_root(joint, painted):
    rig = replace(MODEL, posedirs=np.zeros_like(MODEL.posedirs))
    performance = still(MODEL, 1)
    performance.rotations[0, MODEL.joint_names.index(joint)] = [0.3, 0.2, 0]
    largest = np.abs(draw(performance, rig=rig, size=(32, 32))["expression"]).max()
    assert (largest > 0.1) if painted else (largest < 1e-4)


def test_convention_rays_are_unit_in_the_axes_of_the_reference_camera_through_pixel_centres():
    front, left = portrait_camera(), portrait_camera(np.pi / 2)
    rays = camera_rays(front, front, (12, 12))
    assert_arrays_close(np.linalg.norm(rays, axis=0), np.ones((12, 12)), atol=1e-6)
    assert_arrays_close(rays[:, :, ::-1] * np.array([-1, 1, 1])[:, None, None], rays, atol=1e-6, name="mirrored in x")  # centres, no corner
    assert rays[0, 6, 11] > 0 and rays[1, 11, 6] > 0 and rays[2, 6, 6] > 0.999
    step = rays[0, 6, 6] / rays[2, 6, 6]
    assert step == pytest.approx(0.5 * 8 / front.K[0, 0], rel=1e-5)  # half a latent pixel of 8 px from the axis
    side = camera_rays(left, front, (13, 13))
    assert_arrays_close(side[:, 6, 6], [-1, 0, 0], atol=1e-6, name="axis of a camera at the subject's left, from the front")


def test_convention_motion_is_from_the_anchor_to_the_three_frames_before_it():
    performance = still(MODEL, 9)
    camera = portrait_camera()
    extent = camera.width / camera.K[0, 0] * 1.11  # metres that the crop spans at the face
    performance.translation[5:9, 0] = np.array([1, 2, 3, 4]) * 0.01 * extent
    performance.translation[5:9, 2] = np.array([1, 2, 3, 4]) * 0.004
    motion = draw(performance, size=(16, 16))["motion"][0]
    assert not motion[0].any() and np.abs(motion[1]).max() < 1e-4
    middle = motion[2, :, 8, 9].reshape(3, 3)
    assert_arrays_close(middle[:, 0], [-3, -2, -1], rtol=0.05, name="dx of frames 5, 6, 7: they lie left of frame 8")
    assert_arrays_close(middle[:, 2], [3, 2, 1], rtol=0.01, name="dz of frames 5, 6, 7: they lie behind frame 8")
    performance.translation[5:9] = 0
    performance.translation[7, 1] = 0.01 * extent
    middle = draw(performance, size=(16, 16))["motion"][0, 2, :, 8, 8].reshape(3, 3)
    assert_arrays_close(middle[:, 1], [0, 0, -1], atol=0.05, name="dy: only frame 7 lies higher")


def test_convention_latents_show_frames_0_4_8():
    assert [latent_frame_count(frames) for frames in (1, 5, 49)] == [1, 2, 13]
    open_jaw = MODEL.expression_names.index("jawOpen")
    for frame in range(9):
        performance = still(MODEL, 9)
        performance.expression[frame, open_jaw] = 1
        maps = draw(performance)
        shown = [bool(np.abs(e).max() > 0.1) for e in maps["expression"][0]]
        moved = [bool(np.abs(m).max() > 0.1) for m in maps["motion"][0]]
        assert shown == [frame == 0, frame == 4, frame == 8]
        assert moved == [False, 1 <= frame <= 4, 5 <= frame <= 8]
        if frame % 4:  # of the three frames before the anchor, the one that differs
            parts = [bool(np.abs(part).max() > 0.1) for part in maps["motion"][0, (frame + 3) // 4].reshape(3, 3, -1)]
            assert parts == [frame % 4 == 1, frame % 4 == 2, frame % 4 == 3]


@pytest.mark.parametrize("size", [(12, 12), (8, 20), (21, 9)])
def test_pictures_are_stretched_to_the_latent_size_and_samples_averaged(size):
    cameras = oblique_cameras(width=120, height=80)
    found = coverage(still(MODEL, 1), cameras, size)
    for view, camera in enumerate(cameras):
        scale = np.diag([2 * size[1] / 120, 2 * size[0] / 80, 1])
        raster = replace(camera, K=scale @ camera.K, width=2 * size[1], height=2 * size[0])
        mask = rasterize_mesh(MODEL.v_template, MODEL.faces, raster).mask.astype(np.float64)
        assert_arrays_close(found[view, 0], mask.reshape(size[0], 2, size[1], 2).mean(axis=(1, 3)), atol=1e-5, name=f"coverage {view}")


@settings(max_examples=12)
@given(seed=st.integers(0, 2**31), height=st.integers(1, 24), width=st.integers(1, 24), azimuth=st.floats(-3.1, 3.1))
def test_every_number_is_in_its_range_and_what_sees_no_head_is_zero(seed, height, width, azimuth):
    performance, cameras = calm(5, seed), (portrait_camera(azimuth, 0.3),)
    maps = draw(performance, cameras, size=(height, width))
    positions = maps["positions"]
    assert np.abs(positions).max(initial=0) <= 1 + 1e-6
    paired = positions.reshape(1, 2, 3, 2, 7, height, width)
    assert (paired**2).sum(axis=3).max() <= 1 + 1e-5  # sine and cosine, averaged over at most four samples
    empty = ~positions.any(axis=2, keepdims=True)
    for name in ("expression", "motion"):
        assert not (maps[name] * empty).any()
    assert_arrays_close(np.linalg.norm(maps["rays"], axis=2), np.ones((1, 2, height, width)), atol=1e-5)
    assert not maps["reference_mask"].any() and (maps["outcrop"] == 1).all()


@settings(max_examples=12)
@given(seed=st.integers(0, 2**31), shift=st.tuples(*[st.floats(-5, 5)] * 3))
def test_moving_head_and_cameras_together_changes_nothing(seed, shift):
    performance, cameras = calm(5, seed), oblique_cameras()
    moved = replace(performance, translation=performance.translation + np.array(shift, np.float32))
    away = np.eye(4)
    away[:3, 3] = -np.array(shift, np.float32)
    carried = tuple(replace(camera, camera_from_world=camera.camera_from_world @ away) for camera in cameras)
    before, after = draw(performance, cameras), draw(moved, carried)
    for name in before:
        # float32 places the shifted vertices up to half a micrometre off, and a sample at an edge may see the other side
        differing = np.abs(before[name] - after[name]) > 2e-3
        assert differing.mean() < 0.01, name


@settings(max_examples=8)
@given(seed=st.integers(0, 2**31), order=st.permutations([0, 1, 2]))
def test_views_do_not_know_of_each_other(seed, order):
    performance, cameras = calm(9, seed), oblique_cameras()
    together, permuted = draw(performance, cameras), draw(performance, tuple(cameras[i] for i in order), threads=1)
    for name in together:
        assert_arrays_close(permuted[name], together[name][order], name=name)


def test_outcrop_is_the_part_of_each_latent_pixel_inside_the_picture():
    inside = np.zeros((1, 96, 96), bool)
    inside[:, :, :36] = True  # four and a half latent pixels of 8 px
    outcrop = draw(still(MODEL, 5), inside=inside)["outcrop"]
    assert_arrays_close(outcrop, np.broadcast_to([1, 1, 1, 1, 0.5, 0, 0, 0, 0, 0, 0, 0], (1, 2, 1, 12, 12)), atol=1e-6)


def test_the_photo_is_given_seen_in_its_own_axes_and_does_not_move():
    inside = np.zeros((96, 96), bool)
    inside[:48] = True
    performance, camera = calm(1), portrait_camera(0.4, 0.1)
    photo = reference_maps(MODEL, MODEL, performance[0], camera, latent_size=(12, 12), inside=inside)
    view = condition_maps(MODEL, MODEL, (camera,), performance, reference_camera=camera, latent_size=(12, 12))[0, 0]
    assert photo.shape == (59, 12, 12) and (photo[MAP_SLICES["reference_mask"]] == 1).all() and not photo[MAP_SLICES["motion"]].any()
    assert_arrays_close(photo[:48], view[:48], name="positions, expression, rays")
    assert_arrays_close(photo[MAP_SLICES["rays"], 6, 6], [0, 0, 1], atol=0.05)
    assert_arrays_close(photo[MAP_SLICES["outcrop"]], np.broadcast_to((np.arange(12) < 6)[:, None], (1, 12, 12)))
    whole = reference_maps(MODEL, MODEL, rest_parameters(MODEL), camera, latent_size=(12, 12))
    assert (whole[MAP_SLICES["outcrop"]] == 1).all()


def test_a_sheet_shows_every_map():
    maps = condition_maps(MODEL, MODEL, oblique_cameras(), calm(5), reference_camera=portrait_camera(), latent_size=(12, 10))
    sheet = picture_maps(maps, zoom=2)
    assert sheet.shape == (6 * 26, 9 * 22, 3) and sheet.dtype == np.float32 and sheet.min() >= 0 and sheet.max() <= 1
    assert_arrays_close(sheet[:24, :20], np.kron(maps[0, 0, [0, 14, 28]].permute(1, 2, 0) / 2 + 0.5, np.ones((2, 2, 1))), atol=1e-6)
    with pytest.raises(InputError, match=r"`maps` must be \(\.\.\., 59, h, w\)"):
        picture_maps(maps[:, :, :58])


@pytest.mark.parametrize("frames", [0, 2, 3, 4, 6, 48])
def test_refuses_frame_counts_other_than_one_and_multiples_of_four(frames):
    with pytest.raises(InputError, match=rf"must be 1 \+ 4k .*got {frames}; cut some or repeat the last"):
        latent_frame_count(frames)


def test_refuses_what_it_cannot_draw():
    performance = still(MODEL, 1)
    with pytest.raises(InputError, match=r"The number of frames must be 1 \+ 4k"):
        draw(still(MODEL, 4))
    fewer = replace(MODEL, faces=MODEL.faces[:-1], uv_faces=MODEL.uv_faces[:-1])
    with pytest.raises(InputError, match="must be a personalised `toy-head` with the same faces"):
        draw(performance, rig=fewer)
    with pytest.raises(InputError, match=r"must have the expressions and joints of the head `toy-head`.*`retarget`"):
        draw(replace(performance, joint_names=("a", "b", "c", "d", "e")))
    with pytest.raises(InputError, match=r"more than 0\.05 m in front of every camera, got .* for view 1; move the camera away"):
        draw(performance, (portrait_camera(), portrait_camera(distance=0.1)))
    with pytest.raises(InputError, match="for view 0"):
        draw(performance, (replace(portrait_camera(), camera_from_world=np.diag([-1.0, 1, -1, 1]) @ portrait_camera().camera_from_world),))
    for size in ((0, 4), (4, -1), (4, 5000)):
        with pytest.raises(InputError, match="`latent_size` must be 1 to 1024 a side"):
            draw(performance, size=size)
    with pytest.raises(InputError, match="at least 1 camera"):
        condition_maps(MODEL, MODEL, (), performance, reference_camera=portrait_camera(), latent_size=(4, 4))
    with pytest.raises(InputError, match=r"`inside` must be a mask \(H, W\) for each of the 1 views"):
        draw(performance, inside=np.ones((2, 8, 8), bool))


def test_refuses_devices_that_are_not_there():
    for name in ("coffee", "mps", "meta"):
        with pytest.raises(InputError, match=f"`device` must be cpu, cuda or cuda:N, got `{name}`"):
            draw(still(MODEL, 1), device=name)
    with pytest.raises(MissingAssetError, match="There is no device cuda:99"):
        draw(still(MODEL, 1), device="cuda:99")
