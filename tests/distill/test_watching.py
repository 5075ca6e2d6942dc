# SPDX-License-Identifier: Apache-2.0
"""What is shown of a fit under way."""

from dataclasses import replace

import numpy as np

from mvp4d_core.conditioning import plan_views
from mvp4d_core.distill import DistillConfig, distill_avatar
from mvp4d_core.distill.fit import fit_digest
from mvp4d_core.distill.watching import Looks, LossRecord, beside_target
from mvp4d_core.generate import MultiViewVideo
from mvp4d_core.render.avatar import render_avatar
from mvp4d_core.rig import rest_parameters, single_frame
from tests.support.toy_avatar import toy_avatar
from tests.support.toy_head import toy_head_model
from tests.support.toy_reference import toy_reference

AVATAR = toy_avatar()
PLAN = plan_views(AVATAR.rig, single_frame(rest_parameters(AVATAR.rig), AVATAR.rig), preset=180, views=5, size=64)


def video_of_avatar() -> MultiViewVideo:
    """What the toy avatar itself shows."""
    pictures = [render_avatar(AVATAR, PLAN.performance[0], camera) for camera in PLAN.cameras]
    frames, alphas = (np.stack([p[i] for p in pictures])[:, None] for i in range(2))
    return MultiViewVideo((frames * 255 + 0.5).astype(np.uint8), (alphas * 255 + 0.5).astype(np.uint8), PLAN, {})


def test_the_avatar_stands_beside_the_frontal_picture():
    video = video_of_avatar()
    both = beside_target(AVATAR, video)
    assert both.shape == (64, 128, 3) and both.dtype == np.uint8
    frontal = max(range(5), key=lambda view: PLAN.cameras[view].position[2])
    assert np.array_equal(both[:, :64], video.frames[frontal, 0]) and np.abs(both[:, 64:].astype(int) - both[:, :64]).max() <= 1


def test_looks_come_no_more_often_than_asked():
    shown: list[np.ndarray] = []
    often, seldom = (Looks(video_of_avatar(), shown.append, every=every) for every in (0.0, 1000.0))
    for step in range(3):
        often(step + 1, lambda: AVATAR)
    assert len(shown) == 3
    for step in range(3):
        seldom(step + 1, lambda: AVATAR)
    assert len(shown) == 4


def test_record_keeps_terms_that_come_and_go():
    record = LossRecord()
    for done, terms in ((5, {"l1": 1.0}), (6, {"l1": 2.0, "lpips": 3.0}), (7, {"lpips": 4.0})):
        record(done, terms)
    assert record.done == [5, 6, 7] and record.terms == {"l1": [1.0, 2.0, 0.0], "lpips": [0.0, 3.0, 4.0]}


def test_a_fit_tells_its_loss_step_by_step_and_is_no_other_for_that():
    model = toy_head_model()
    reference = toy_reference(model)
    rig = reference.rig(model)
    plan = plan_views(rig, single_frame(rest_parameters(rig), rig), preset=60, views=2, size=64)
    blank = np.full((2, 1, 64, 64, 3), 200, np.uint8)
    video = MultiViewVideo(blank, blank[..., 0], plan, {"seed": "0"})
    config, record = DistillConfig(splats=1500, steps=4, heldout=0.0), LossRecord()
    heard = distill_avatar(video, reference, config, head_model=model, on_loss=record)
    assert record.done == [1, 2, 3, 4] and {"l1", "ssim", "alpha", "opacity"} <= set(record.terms)
    assert all(len(track) == 4 and min(track) >= 0 for track in record.terms.values()) and record.terms["l1"][0] > 0
    assert np.array_equal(heard.means, distill_avatar(video, reference, config, head_model=model).means)
    other = replace(video, frames=video.frames - np.uint8(1))
    keys = {fit_digest(v, reference, c) for v, c in ((video, config), (other, config), (video, replace(config, seed=1)))}
    assert len(keys) == 3 and fit_digest(video, reference, config) in keys
