# SPDX-License-Identifier: Apache-2.0
"""The evaluation on held-out people: its figures mean what they say, and a stopped run goes on."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from mvp4d_core.cameras import orbit_camera
from mvp4d_core.diffusion import generator
from mvp4d_core.errors import Cancelled, FormatError, InputError, MissingAssetError
from mvp4d_core.evaluation.correspondence import REFERENCE_SAMPLES, match_views, sample_picture, unseen_pixels
from mvp4d_core.evaluation.heldout import HeldoutCase, check_heldout, heldout_case
from mvp4d_core.evaluation.multiview import REPORT, SHEET, TABLE, MultiviewSettings, evaluate_multiview
from mvp4d_core.evaluation.report import FIGURES, Sums, add_up, best_generator, load_report
from mvp4d_core.evaluation.scores import score
from mvp4d_core.io.images import read_image
from mvp4d_core.render.mesh import interpolate, rasterize_mesh
from mvp4d_core.rig import load_head_model
from mvp4d_core.training.synthetic.identity import identity_of
from tests.support.toy_head import toy_head_model
from tests.support.toy_mmvdm import toy_pipeline

FAST = dict(identities=2, ablated=1, views=2, frames=2, size=32, steps=1, threads=1)
TOY = toy_head_model()


@pytest.fixture(scope="module")
def head():
    return load_head_model()


@pytest.fixture(scope="module")
def case(head) -> HeldoutCase:
    return heldout_case(1, head_model=head, views=3, frames=2, preset=120, size=48)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "toy"
    toy_pipeline().save_folder(folder)
    return folder


def camera(azimuth: float, size: int = 96):
    return orbit_camera(azimuth, 0.1, target=np.zeros(3), distance=1.0, fov_y=0.42, width=size, height=size)


@given(st.integers(0, 2**32 - 1))
def test_sampling_a_picture_is_bilinear(seed):
    rng = np.random.default_rng(seed)
    picture, places = rng.random((5, 7, 3)), rng.uniform(-1, 9, (20, 2))
    rows_columns = [places[:, 1] - 0.5, places[:, 0] - 0.5]
    expected = np.stack([ndimage.map_coordinates(picture[..., k], rows_columns, order=1, mode="nearest") for k in range(3)], axis=-1)
    assert np.abs(sample_picture(picture, places) - expected).max() < 1e-9


def test_matched_pixels_show_the_same_point_of_the_surface():
    vertices, cameras = TOY.v_template.astype(np.float64), (camera(-0.4), camera(0.3), camera(0.5))
    buffers = [rasterize_mesh(vertices, TOY.faces, each) for each in cameras]
    positions = [interpolate(each, TOY.faces, vertices) for each in buffers]  # what a picture coloured by position shows
    matches = match_views(vertices, TOY.faces, cameras, buffers, np.stack([each.mask for each in buffers]))
    assert [(match.first, match.second) for match in matches] == [(0, 1), (0, 2), (1, 2)]
    for match in matches:
        here = positions[match.first].reshape(-1, 3)[match.pixels]
        there = sample_picture(positions[match.second], match.places)
        assert len(here) > 500
        distance = np.linalg.norm(here - there, axis=1)
        assert np.quantile(distance, 0.99) < 0.004 and distance.max() < 0.03  # metres, a pixel is 4 mm; at a fold it mixes two surfaces


def test_unseen_is_what_the_photo_does_not_show():
    vertices, photo = TOY.v_template.astype(np.float64), camera(0.0)
    depth = rasterize_mesh(vertices, TOY.faces, photo, supersample=REFERENCE_SAMPLES).depth

    def share(azimuth: float) -> float:
        buffers = rasterize_mesh(vertices, TOY.faces, camera(azimuth))
        return unseen_pixels(buffers, TOY.faces, vertices, photo, depth)[buffers.mask].mean()

    assert share(0.0) < 0.02 < 0.1 < share(0.8) < share(np.pi)
    assert share(np.pi) > 0.9


def test_the_unseen_pixels_of_a_case_lie_on_the_person_and_the_photo_is_of_none_of_its_views(case):
    assert case.unseen.any() and (case.truth[case.unseen].min(axis=-1) < 255).mean() > 0.98
    distances = [np.linalg.norm(case.reference.camera.position - each.position) for each in case.plan.cameras]
    assert min(distances) > 0.01
    assert case.reference.offsets.any() and np.abs(case.reference.offsets).max() < 0.2  # the silhouette step has run
    assert (case.copied < 250).any() and case.copied.shape == case.truth.shape[2:]


def test_the_truth_scores_best_and_shared_errors_cost_no_consistency(case):
    def figures(frames: np.ndarray) -> dict:
        return score(case, frames, 0.0).figures()

    assert figures(case.truth) == {"psnr": 100, "ssim": pytest.approx(1, abs=1e-6), "unseen_psnr": 100, "view_consistency": 100}
    dimmed = figures(np.maximum(case.truth, 20) - np.uint8(20))
    assert dimmed["psnr"] == pytest.approx(20 * np.log10(255 / 20), abs=0.5)
    noise = np.random.default_rng(0).normal(0, 20, case.truth.shape)
    noisy = figures(np.clip(case.truth + noise, 0, 255).astype(np.uint8))
    assert dimmed["view_consistency"] > noisy["view_consistency"] + 6
    swapped = figures(np.roll(case.truth, 1, axis=0))
    assert max(swapped["psnr"], swapped["unseen_psnr"], swapped["view_consistency"]) < noisy["unseen_psnr"]


def test_sums_pool_over_people():
    one = Sums(pictures=2, psnr=40, ssim=1.0, unseen=3.0, unseen_values=30, across=0.0, across_values=0, seconds=1)
    two = Sums(pictures=2, psnr=60, ssim=2.0, unseen=0.0, unseen_values=270, across=0.0, across_values=0, seconds=1)
    assert add_up([one, two]).figures() == {"psnr": 25, "ssim": 0.75, "unseen_psnr": pytest.approx(20), "view_consistency": None}


def test_heldout_people_are_not_trainings():
    check_heldout(range(1000))
    assert not {identity_of(seed, "heldout") for seed in range(2000)} & {identity_of(seed, "train") for seed in range(2000)}


def test_the_best_generator_is_chosen_by_figures_never_by_hope():
    proxy = {"psnr": 21.0, "ssim": 0.8, "unseen_psnr": 13.0, "view_consistency": 20.0}
    better = {name: value + 0.1 for name, value in proxy.items()}
    report = {"nano": better, "proxy": proxy, "identities": 20}
    assert best_generator(report, ["proxy", "nano"]) == "nano"
    assert best_generator(report, ["proxy"]) == "proxy"
    assert best_generator({**report, "big": {**better, "psnr": 30.0}}, ["proxy", "nano", "big"]) == "big"
    for name in FIGURES:  # one figure that isn't better is enough to stay with what is safe
        for value in (proxy[name], None, math.nan, "30"):
            assert best_generator({**report, "nano": {**better, name: value}}, ["proxy", "nano"]) == "proxy"
    assert best_generator({"nano": better}, ["proxy", "nano"]) == "proxy"
    assert best_generator({"proxy": proxy}, ["proxy", "nano"]) == "proxy"
    assert best_generator({}, ["proxy", "nano"]) == "proxy"


def test_a_report_that_is_none_is_refused(tmp_path):
    with pytest.raises(MissingAssetError, match="evaluate multiview"):
        load_report(tmp_path / REPORT)
    for text in ("{", "[]", '{"identities": "20"}', "[" * 100000):
        (tmp_path / REPORT).write_text(text)
        with pytest.raises(FormatError, match="evaluation report"):
            load_report(tmp_path / REPORT)


def test_a_stopped_evaluation_goes_on_to_the_same_report(tmp_path, head, weights):
    names = ("nano", "copy_reference", "nano_one_by_one", "nano_without_rays")
    settings = MultiviewSettings(weights=weights, generators=names, **FAST)

    def stop(stage: str, done: int, total: int) -> None:
        assert stage == "evaluate" and total == 6
        if done == 3:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        evaluate_multiview(tmp_path, settings, head_model=head, progress=stop)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(kept) == 3 and not (tmp_path / REPORT).exists()
    report = evaluate_multiview(tmp_path, settings, head_model=head)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert list(report)[:4] == list(names) and report["identities"] == 2 and report["seconds"] > 0 and report["notes"] == []
    for name in names:
        assert set(report[name]) == {"psnr", "ssim", "unseen_psnr", "view_consistency"} and 3 < report[name]["psnr"] < 60
    assert report["nano"] != report["nano_one_by_one"] and report["nano"] != report["nano_without_rays"]
    assert load_report(tmp_path / REPORT) == report == json.loads(json.dumps(report))
    of_first, of_all = report["ablations"]["nano"], report["nano"]
    assert report["ablations"]["identities"] == 1 and of_first != of_all
    rows = list(csv.DictReader((tmp_path / TABLE).read_text().splitlines()))
    assert len(rows) == 6
    assert np.mean([float(row["psnr"]) for row in rows if row["generator"] == "nano"]) == pytest.approx(report["nano"]["psnr"], abs=1e-3)
    assert next(float(row["ssim"]) for row in rows if row["generator"] == "nano") == pytest.approx(of_first["ssim"], abs=1e-3)
    assert read_image(tmp_path / SHEET)[0].shape[0] > 2 * 32

    damaged = next(iter(kept))
    damaged.write_text("{")
    again = evaluate_multiview(tmp_path, settings, head_model=head)
    assert {name: again[name] for name in names} == {name: report[name] for name in names}


def test_an_absent_model_is_a_note_and_not_a_figure(tmp_path, head, monkeypatch):
    monkeypatch.setattr(generator, "nano_folder", lambda: tmp_path / "not here")
    settings = MultiviewSettings(generators=("nano", "copy_reference"), **(FAST | {"identities": 1}))
    report = evaluate_multiview(tmp_path, settings, head_model=head)
    assert "nano" not in report and "copy_reference" in report
    assert report["notes"] == ["Absent: nano, because this installation lacks the weights `nano`."]
    with pytest.raises(MissingAssetError):
        evaluate_multiview(tmp_path, MultiviewSettings(weights=tmp_path / "none", **FAST), head_model=head)


@pytest.mark.parametrize("changes", [{"generators": ("best",)}, {"generators": ()}, {"identities": 0}, {"views": 1}, {"size": 4}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(InputError, match="must be"):
        MultiviewSettings(**changes)
