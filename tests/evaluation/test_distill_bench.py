# SPDX-License-Identifier: Apache-2.0
"""People whose every picture is known, and the figures of a fit to them, at toy size."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from mvp4d_core.distill import DistillConfig
from mvp4d_core.evaluation.distill_bench import HELD_DIRECTIONS, HELD_FRAMES, ablations, bench_distill, fit_and_judge, known_person
from mvp4d_core.rig import head_model_digest, load_head_model
from mvp4d_core.training.synthetic.manners import with_manners
from mvp4d_core.training.synthetic.noise import named_rng

CONFIG = DistillConfig(splats=12_500, steps=12, deformation="linear", sh_degree=0)
SIZE = 176  # the least that MS-SSIM has windows for


@pytest.fixture(scope="module")
def head():
    return load_head_model()


@pytest.fixture(scope="module")
def person(head):
    return known_person(0, head, views=2, frames=3, size=SIZE)


def test_manners_change_expressions_alone(head):
    one, again, other = (with_manners(head, named_rng("person", seed)) for seed in (1, 1, 2))
    assert (one.exprdirs == again.exprdirs).all() and np.abs(one.exprdirs - other.exprdirs).max() > 1e-3
    assert one.v_template is head.v_template and one.expression_names == head.expression_names
    change = np.linalg.norm(one.exprdirs - head.exprdirs) / np.linalg.norm(head.exprdirs)
    assert 0.1 < change < 0.6
    teeth = head.region_mask("upper_teeth", "lower_teeth", "left_eyeball")
    assert (one.exprdirs[teeth] == head.exprdirs[teeth]).all()
    still = np.abs(head.exprdirs).max(axis=(1, 2)) == 0
    assert np.abs(one.exprdirs[still]).max(initial=0) == 0


def test_a_known_person_is_tracked_in_the_generic_rig_and_moves_otherwise(head, person):
    assert person.reference.head_digest == head_model_digest(head)
    assert person.video.frames.shape == (2, 3, SIZE, SIZE, 3)
    assert len(person.other_views.plan.cameras) == len(HELD_DIRECTIONS) and len(person.other_expressions.plan.performance) == HELD_FRAMES
    seen = {tuple(camera.position) for camera in person.video.plan.cameras}
    assert not seen & {tuple(camera.position) for camera in person.other_views.plan.cameras}
    faces, fitted = (video.plan.performance.expression for video in (person.other_expressions, person.video))
    assert (np.abs(faces).max(axis=1) > 0.3).all()
    assert np.linalg.norm(faces[:, None] - fitted[None], axis=2).min() > 0.2


def test_a_fit_is_judged_on_what_it_never_saw(head, person):
    figures = fit_and_judge(person, CONFIG, head_model=head)
    longer = fit_and_judge(person, replace(CONFIG, steps=60), head_model=head)
    for name in ("heldout_view_psnr", "heldout_expression_psnr", "heldout_view_ms_ssim"):
        assert longer[name] > figures[name]
    assert figures["seconds_to_30_db"] is None and figures["splats"] == 12_500 and figures["seconds"] > 0


def test_the_benchmark_has_all_its_figures(head):
    figures = bench_distill(replace(CONFIG, steps=4), head_model=head, views=2, frames=3, size=SIZE)
    assert figures["people"] == 1 and figures["seconds_to_30_db"] is None
    for name in ("heldout_view_psnr", "heldout_view_ssim", "heldout_expression_psnr", "deformation_gain_db", "seconds"):
        assert np.isfinite(figures[name])
    measured = "jod" not in figures["absent"]
    assert (figures["heldout_expression_jod"] is not None) == measured and "ablation" not in figures


def test_an_ablation_changes_one_part_at_a_time(head):
    config = replace(CONFIG, densify_every=5, coarse=((0.5, 2),))
    for name, variant in ablations(config).items():
        changed = {key for key, value in asdict(variant).items() if value != asdict(config)[key]}
        assert (name == "as it is") == (not changed)
        assert len(changed - {"initial"}) == (name != "as it is")
    assert "no densification" not in ablations(CONFIG)
    found = bench_distill(replace(CONFIG, steps=2), head_model=head, views=2, frames=3, size=SIZE, ablation=True)["ablation"]
    assert list(found) == list(ablations(CONFIG)) and found["no deformation"]["splats"] == 12_500
