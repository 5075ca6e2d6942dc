# SPDX-License-Identifier: Apache-2.0
"""An avatar against pictures of itself, moved and whole: the figures, the floor, what is absent, and the page."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from mvp4d_core.conditioning import plan_views
from mvp4d_core.errors import FormatError
from mvp4d_core.evaluation.avatar_report import DESCRIPTIONS, report_lines, report_page, views_around
from mvp4d_core.evaluation.charts import time_chart, view_chart
from mvp4d_core.evaluation.comparison import FIGURES, Evaluation, evaluate_avatar, re_encoded, render_pictures
from mvp4d_core.evaluation.instruments import open_instruments
from mvp4d_core.evaluation.sheet import GAP, HEADER, comparison_sheet
from mvp4d_core.evaluation.truth import Truth
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import Performance
from tests.support.toy_avatar import toy_avatar
from tests.support.toy_lpips import random_weights

AVATAR = toy_avatar()
FRAMES, VIEWS = 3, 2


def truth_of(size: int) -> Truth:
    """What the toy avatar itself shows."""
    rng, rig = np.random.default_rng(0), AVATAR.rig
    deeds = Performance(
        rng.uniform(0, 0.6, (FRAMES, len(rig.expression_names))), rng.normal(0, 0.05, (FRAMES, len(rig.joint_names), 3)),
        np.zeros((FRAMES, 3)), 24.0, rig.expression_names, rig.joint_names,
    )  # fmt: skip
    plan = plan_views(rig, deeds, preset=60, views=VIEWS, size=size)
    empty = np.zeros((VIEWS, FRAMES, size, size, 3), np.uint8)
    bare = Truth("toy", empty, empty[..., 0], plan.cameras, tuple(range(VIEWS)), deeds)
    frames = render_pictures(AVATAR, deeds, bare)
    return replace(bare, frames=frames, alphas=np.where(frames.min(axis=-1) < 250, 255, 0).astype(np.uint8))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "alex.safetensors"
    features, heads = random_weights("alex")
    safetensors_numpy.write(path, features | heads)
    return path


@pytest.fixture(scope="module")
def moved(weights) -> Evaluation:
    """The avatar against itself two pixels lower."""
    truth = truth_of(168)
    truth = replace(truth, frames=np.roll(truth.frames, 2, axis=2), alphas=np.roll(truth.alphas, 2, axis=2), notes=("A note & more.",))
    return evaluate_avatar(AVATAR, truth, open_instruments(lpips=[weights]))


def test_slow_videos_have_no_jod():
    pytest.importorskip("pyfvvdp")
    truth = truth_of(168)
    for fps, measured in ((4.0, False), (4.5, True)):
        slow = replace(truth, performance=replace(truth.performance, fps=fps))
        evaluation = evaluate_avatar(AVATAR, slow, open_instruments(track=False))
        assert (evaluation.report()["jod"] is not None) == measured and ("jod" in evaluation.absent) != measured


def test_an_avatar_is_its_own_truth(weights):
    report = evaluate_avatar(AVATAR, truth_of(168), open_instruments(lpips=[weights], track=False)).report()
    assert (report["psnr"], report["foreground_psnr"]) == (100.0, 100.0)
    assert report["ssim"] == pytest.approx(1, abs=1e-6) and report["ms_ssim"] == pytest.approx(1, abs=1e-6) and report["lpips"] == 0
    assert report["jod"] is None or report["jod"] == pytest.approx(10, abs=1e-3)
    assert report["absent"]["akd_px"] == report["absent"]["expression_distance"] == "tracking was switched off"
    assert report["floor"]["psnr"] < 60 and report["floor"]["lpips"] > 0 and report["tracker_on_truth"] is None


def test_a_moved_avatar_is_worse_than_the_floor_in_every_figure(moved):
    report = json.loads(json.dumps(moved.report(), allow_nan=False))
    for name, (_, _, more, _) in DESCRIPTIONS.items():
        value, floor = report[name], report["floor"][name]
        assert (value is None) == (name in report["absent"])
        if value is not None:
            assert (value < floor) if more else (value > floor), name
    assert report["pictures"] == VIEWS * FRAMES and report["notes"] == ["A note & more."]
    assert [row["view"] for row in report["by_view"]] == [0, 1]
    assert np.mean([row["psnr"] for row in report["by_view"]]) == pytest.approx(report["psnr"])
    assert set(DESCRIPTIONS) == set(FIGURES)


def test_what_is_absent_has_its_reason(moved):
    absent = moved.report()["absent"]
    assert "--csim" in absent["csim"] and "--re-lg" in absent["re_lg"]
    assert moved.faces["shown"] == VIEWS * FRAMES  # a plan of 60 degrees
    assert moved.names["lpips"].startswith("alex (alex.safetensors ")
    small = evaluate_avatar(AVATAR, truth_of(24), open_instruments(track=False)).report()
    assert small["ms_ssim"] is None and small["ssim"] is not None and "161 px" in small["absent"]["ms_ssim"]
    empty = replace(truth_of(24), alphas=np.zeros((VIEWS, FRAMES, 24, 24), np.uint8))
    report = evaluate_avatar(AVATAR, empty, open_instruments(track=False)).report()
    assert report["foreground_psnr"] is None and "lets it be measured" in report["absent"]["foreground_psnr"]


def test_an_avatar_fitted_to_the_truth_is_told_apart():
    truth = replace(truth_of(24), provenance={"generator": "toy", "seed": "0"})
    fitted = evaluate_avatar(AVATAR, truth, open_instruments(track=False))
    assert "fitted to this very video" in fitted.notes[0]
    other = replace(truth, provenance={"generator": "toy", "seed": "1"})
    assert evaluate_avatar(AVATAR, other, open_instruments(track=False)).notes == ()


def test_the_floor_is_a_good_jpeg():
    pictures = truth_of(24).frames
    recoded = re_encoded(pictures)
    assert recoded.shape == pictures.shape and recoded.dtype == np.uint8
    difference = np.abs(recoded.astype(int) - pictures)
    assert 0 < difference.mean() < 4


class _Page(HTMLParser):
    """Checks that elements close in order, and keeps what a page would fetch."""

    VOID = ("meta", "img", "br", "line", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open, self.fetched, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "iframe", "object")
        self.fetched += [value for name, value in attributes if name in ("src", "href", "style") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_holds_all_it_shows(moved):
    page = report_page(moved, "a <b> avatar")
    parser = _Page()
    parser.feed(page.replace("/>", ">"))
    assert parser.open == []
    assert all(value.startswith(("data:image/jpeg;base64,", "grid-template-columns")) for value in parser.fetched)
    assert not re.search(r"https?:|@import|url\(", page)
    text = "".join(parser.text)
    assert "a <b> avatar" in text and "A note & more." in text
    for reason in moved.absent.values():
        assert reason in text
    assert page.count("<svg") >= 8 and page.count("<img") == 3 * (3 + VIEWS)
    assert not re.search(r"\bnan\b", text)


def test_charts_leave_out_what_is_absent():
    values = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, 2.0]])
    chart = time_chart("PSNR & more", np.arange(3.0), values, values + 1)
    assert "NaN" not in chart and "nan" not in chart and "PSNR &amp; more" in chart
    assert chart.count("<path") == 4 and chart.count("<circle") == 2
    flat = view_chart("x", [5.0], [7], np.array([2.0]), np.array([2.0]))
    assert "nan" not in flat and "view 7: 2" in flat
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', view_chart("x", [0, 1], [0, 1], np.array([1.0, 2.0]), np.full(2, np.nan)))]
    assert heights[0] > heights[1]  # more is higher


def test_strange_weights_stop_before_any_work(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"nothing")
    with pytest.raises(FormatError, match=r"a\.pth"):
        open_instruments(lpips=[tmp_path / "a.pth"])


def test_lines_tell_what_was_measured_and_nothing_that_was_not(moved):
    lines = report_lines(moved)
    assert lines[0].startswith("PSNR ") and "(floor " in lines[0] and lines[-1] == "A note & more."
    assert not any(line.startswith(("CSIM", "RE@LG")) for line in lines)


def test_sheet_shows_views_in_order_beside_the_truth(moved):
    views = views_around(moved, 4)
    positions = [moved.truth.cameras[view].position[0] for view in views]
    assert sorted(views) == [0, 1] and positions == sorted(positions)
    sheet = comparison_sheet(moved.truth.frames, moved.pictures, views)
    assert sheet.shape == (HEADER + 2 * 168, 3 * 168 + 2 * GAP, 3)
    middle = moved.truth.frames[views[0], FRAMES // 2]
    assert np.array_equal((sheet[HEADER : HEADER + 168, :168] * 255).round().astype(np.uint8), middle)
    tiny = comparison_sheet(moved.truth.frames[:, :, ::3, ::3], moved.pictures[:, :, ::3, ::3], views)
    assert tiny.shape[1] == 3 * 168 + 2 * GAP, "pictures of 56 px are shown three times as large"
