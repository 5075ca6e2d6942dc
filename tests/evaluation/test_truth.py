# SPDX-License-Identifier: Apache-2.0
"""True pictures from folders and from the studio."""

from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.conditioning import ViewPlan
from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.evaluation.heldout import heldout_case
from mvp4d_core.evaluation.truth import draw_truth, load_truth, truth_of_clip
from mvp4d_core.generate import MultiViewVideo, save_multiview
from mvp4d_core.rig import load_head_model, personalize
from mvp4d_core.training.store import save_clip
from tests.support.toy_clips import toy_clip
from tests.support.toy_head import toy_head_model

TOY = toy_head_model()


def test_a_clips_folder_is_truth_with_its_persons_head(tmp_path):
    clip = toy_clip(views=3, frames=4)
    save_clip(clip, tmp_path / "clip", lossless=True)
    truth = load_truth(tmp_path / "clip", TOY)
    inside = clip.alphas == 255
    np.testing.assert_array_equal(truth.frames[inside], clip.frames[inside])
    assert truth.rig is not None
    np.testing.assert_array_equal(truth.rig.v_template, personalize(TOY, clip.shape, clip.offsets).v_template)
    assert truth_of_clip(replace(clip, head_digest="another"), TOY).rig is None


def test_a_videos_folder_is_truth_with_its_provenance(tmp_path):
    clip = toy_clip(views=2, frames=3)
    white = np.full_like(clip.frames, 255)
    video = MultiViewVideo(white, np.zeros_like(clip.alphas), ViewPlan(clip.cameras, clip.performance, 120), {"generator": "toy"})
    save_multiview(video, tmp_path / "video")
    truth = load_truth(tmp_path / "video", TOY)
    np.testing.assert_array_equal(truth.frames, white)
    assert truth.provenance == {"generator": "toy"} and truth.rig is None and truth.notes == ()


def test_a_background_is_replaced_by_white_and_said(tmp_path):
    clip = toy_clip(views=1, frames=2)
    alphas = np.zeros_like(clip.alphas)
    alphas[..., :16], alphas[..., 16] = 255, 51
    truth = truth_of_clip(replace(clip, alphas=alphas), TOY)
    np.testing.assert_array_equal(truth.frames[..., :16, :], clip.frames[..., :16, :])
    assert (truth.frames[..., 17:, :] == 255).all() and "white" in truth.notes[0]
    np.testing.assert_allclose(truth.frames[..., 16, :], 0.2 * clip.frames[..., 16, :] + 204, atol=0.51)
    white = np.where(alphas[..., None] == 0, np.uint8(255), clip.frames)
    kept = truth_of_clip(replace(clip, alphas=alphas, frames=white), TOY)
    np.testing.assert_array_equal(kept.frames, white)
    assert kept.notes == ()


def test_a_selection_keeps_pictures_cameras_and_time_together():
    truth = truth_of_clip(toy_clip(views=4, frames=7), TOY)
    some = truth.select([3, 1], 3)
    assert some.frames.shape[:2] == (2, 3) and some.views == (3, 1) and some.performance.fps == pytest.approx(25 / 3)
    np.testing.assert_array_equal(some.frames[0, 1], truth.frames[3, 3])
    np.testing.assert_array_equal(some.performance.expression[2], truth.performance.expression[6])
    assert some.cameras == (truth.cameras[3], truth.cameras[1])
    assert truth.select(None, 1).frames.shape == truth.frames.shape
    for views in ([4], [-1], [1, 1], []):
        with pytest.raises(InputError, match="0 to 3"):
            truth.select(views, 1)
    with pytest.raises(InputError, match="every"):
        truth.select(None, 0)


def test_a_person_drawn_afresh_is_the_held_out_one():
    model = load_head_model()
    truth = draw_truth(3, head_model=model, views=2, frames=2, size=32)
    case = heldout_case(3, head_model=model, views=2, frames=2, preset=120, size=32)
    np.testing.assert_array_equal(truth.frames, case.truth)
    assert truth.rig is not None and truth.name == "heldout-3"
    with pytest.raises(InputError, match="0 or more"):
        draw_truth(-1, head_model=model)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"multiview\.json"):
        load_truth(tmp_path, TOY)
    (tmp_path / "clip.json").write_text("{}")
    with pytest.raises(FormatError, match="does not describe a clip"):
        load_truth(tmp_path, TOY)
