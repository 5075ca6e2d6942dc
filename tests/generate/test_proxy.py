# SPDX-License-Identifier: Apache-2.0
"""The proxy generator on a head whose colours are known, and the multi-view folder."""

import json

import numpy as np
import pytest

from mvp4d_core.conditioning import ViewPlan, plan_views, reference_camera
from mvp4d_core.errors import Cancelled, FormatError, InputError
from mvp4d_core.generate import MultiViewVideo, ProxyGenerator, load_multiview, save_multiview
from mvp4d_core.render.mesh import rasterize_mesh, render_textured_mesh
from mvp4d_core.rig import showcase_performance, single_frame, skin
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model
from tests.support.toy_reference import toy_reference, toy_texture

MODEL = toy_head_model()
REFERENCE = toy_reference(MODEL)
RIG = REFERENCE.rig(MODEL)
PROXY = ProxyGenerator(texture_size=256, supersample=2)


def small_video(views: int = 2) -> MultiViewVideo:
    plan = plan_views(RIG, showcase_performance(MODEL).select([0, 70, 110]), preset=60, views=views, size=48)
    return PROXY.generate(REFERENCE, plan, head_model=MODEL, seed=0)


def test_the_photos_own_view_comes_back():
    camera = reference_camera(REFERENCE, RIG, 96)
    plan = ViewPlan((camera,), single_frame(REFERENCE.parameters, RIG), 60)
    video = PROXY.generate(REFERENCE, plan, head_model=MODEL, seed=0)
    p = REFERENCE.parameters
    vertices = skin(RIG, None, p.expression, p.rotations, p.translation)
    expected, alpha = render_textured_mesh(vertices, RIG.faces, RIG.uvs, RIG.uv_faces, toy_texture(), camera, supersample=2)
    buffers = rasterize_mesh(vertices, RIG.faces, camera)
    on_face = buffers.mask & RIG.region_mask("face")[RIG.faces].all(axis=1)[buffers.face_ids]  # elsewhere the photo fades into the fill
    difference = np.abs(video.frames[0, 0] / 255 - expected).max(axis=-1)[on_face & (alpha > 0.99)]
    assert len(difference) > 500 and np.quantile(difference, 0.9) < 0.05
    assert_arrays_close(video.alphas[0, 0] / 255, alpha, atol=1 / 255)


def test_unseen_skin_is_filled_and_near_seen_colours():
    plan = plan_views(RIG, single_frame(REFERENCE.parameters, RIG), preset=360, views=3, size=64)
    video = PROXY.generate(REFERENCE, plan, head_model=MODEL, seed=0)
    for view in range(3):
        solid = video.alphas[view, 0] == 255
        assert solid.any()
        colors = video.frames[view, 0][solid] / 255
        assert colors.std() > 0.01 and colors.max() < 0.99  # neither one flat colour nor bare white


def test_same_seed_same_video_and_folder_round_trip(tmp_path):
    first, second = small_video(), small_video()
    assert_arrays_close(first.frames, second.frames)
    save_multiview(first, tmp_path / "video")
    loaded = load_multiview(tmp_path / "video")
    assert_arrays_close(loaded.alphas, first.alphas)
    # straight colour at low alpha keeps fewer levels; on white again that is a level or so
    assert np.abs(loaded.frames.astype(int) - first.frames).max() <= 1
    assert loaded.provenance == first.provenance
    save_multiview(loaded, tmp_path / "again")
    assert_arrays_close(load_multiview(tmp_path / "again").frames, loaded.frames)


def test_unfinished_and_damaged_folders_are_refused(tmp_path):
    save_multiview(small_video(), tmp_path)
    (tmp_path / "view_01" / "frame_002.png").write_bytes((tmp_path / "view_00" / "frame_000.png").read_bytes()[:200])
    with pytest.raises(FormatError):
        load_multiview(tmp_path)
    (tmp_path / "multiview.json").write_text("{")
    with pytest.raises(FormatError):
        load_multiview(tmp_path)
    (tmp_path / "multiview.json").unlink()
    with pytest.raises(FormatError, match="no finished"):
        load_multiview(tmp_path)


def test_marker_comes_last(tmp_path):
    """A save that is stopped half-way leaves a folder that says it is unfinished, even where one stood before."""
    video = small_video()
    save_multiview(video, tmp_path)

    def stop(stage: str, done: int, total: int) -> None:
        if done == 3:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        save_multiview(video, tmp_path, stop)
    with pytest.raises(FormatError):
        load_multiview(tmp_path)


def test_a_smaller_video_leaves_no_frame_of_a_larger_one(tmp_path):
    video = small_video()
    for view in ("view_00", "view_07"):
        (tmp_path / view).mkdir()
        (tmp_path / view / "frame_099.png").write_bytes(b"of another video")
        (tmp_path / view / "notes.txt").write_text("mine")
    save_multiview(video, tmp_path)
    views, frames = video.frames.shape[:2]
    assert len(list(tmp_path.rglob("*.png"))) == views * frames
    assert len(list(tmp_path.rglob("notes.txt"))) == 2


def test_cancel_and_provenance():
    def stop(stage: str, done: int, total: int) -> None:
        if stage == "generate" and done == 1:
            raise Cancelled("stop")

    plan = plan_views(RIG, showcase_performance(MODEL).select([0, 70]), preset=60, views=1, size=32)
    with pytest.raises(Cancelled):
        PROXY.generate(REFERENCE, plan, head_model=MODEL, seed=0, progress=stop)
    video = PROXY.generate(REFERENCE, plan, head_model=MODEL, seed=5)
    assert json.loads(json.dumps(video.provenance))["seed"] == "5"


def test_frames_that_do_not_fit_the_plan_are_refused():
    video = small_video()
    with pytest.raises(InputError):
        MultiViewVideo(video.frames[:1], video.alphas, video.plan, {})
