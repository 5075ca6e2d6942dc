# SPDX-License-Identifier: Apache-2.0
"""`mvp4d evaluate avatar`: one JSON object, a page, and one clear line for whatever is wrong."""

import json

import numpy as np
import pytest

from mvp4d_core.avatar import save_avatar
from mvp4d_core.cli.evaluate import _numbers
from mvp4d_core.cli.main import main
from mvp4d_core.conditioning import plan_views
from mvp4d_core.errors import InputError
from mvp4d_core.generate import MultiViewVideo, save_multiview
from mvp4d_core.rig import Performance
from tests.support.toy_avatar import toy_avatar

SIZE = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An avatar, and a video of what it might do."""
    folder, avatar = tmp_path_factory.mktemp("avatar"), toy_avatar(300)
    rig = avatar.rig
    deeds = Performance(
        np.zeros((4, len(rig.expression_names))), np.zeros((4, len(rig.joint_names), 3)), np.zeros((4, 3)), 24.0,
        rig.expression_names, rig.joint_names,
    )  # fmt: skip
    plan = plan_views(rig, deeds, preset=60, views=3, size=SIZE)
    alphas = np.zeros(plan.shape, np.uint8)
    alphas[..., 6:18, 8:16] = 255
    frames = np.where(alphas[..., None] > 0, np.uint8(120), np.uint8(255)).repeat(3, axis=-1)
    save_multiview(MultiViewVideo(frames, alphas, plan, {"generator": "test"}), folder / "video")
    save_avatar(folder / "toy.mvp4d", avatar)
    return folder


def test_it_answers_with_json_and_a_page(folder, capsys):
    page = folder / "report.html"
    command = ["evaluate", "avatar", str(folder / "toy.mvp4d"), "--against", str(folder / "video"), "--no-tracking"]
    assert main([*command, "--views", "0,2", "--every", "2", "--json", "--html", str(page)]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out.splitlines()[-1])
    assert (report["views"], report["frames"], report["pictures"], report["fps"]) == (2, 2, 4, 12.0)
    assert [row["view"] for row in report["by_view"]] == [0, 2] and report["psnr"] > 0 and report["floor"]["psnr"] > report["psnr"]
    assert set(report["absent"]) >= {"lpips", "csim", "re_lg", "ms_ssim", "akd_px", "akd_percent", "expression_distance"}
    assert "mvp4d: csim is absent" in printed.err and "Traceback" not in printed.err
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>") and report["html"] == str(page)


def test_a_person_is_drawn_afresh(folder, capsys):
    command = ["evaluate", "--json", "avatar", str(folder / "toy.mvp4d"), "--person", "2", "--no-tracking"]
    assert main([*command, "--cameras", "1", "--frames", "1", "--size", "24"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["against"] == "heldout-2" and report["pictures"] == 1


def test_what_is_wrong_is_one_line(folder, capsys):
    avatar, video = str(folder / "toy.mvp4d"), str(folder / "video")
    start = ["evaluate", "avatar"]
    cases = [
        (2, [*start, avatar, "--against", video, "--views", "0,9"], "0 to 2"),
        (2, [*start, avatar, "--against", video, "--views", "x"], "--views"),
        (2, [*start, avatar, "--against", video, "--every", "0"], "every"),
        (2, [*start, avatar, "--against", video, "--html", str(folder / "none" / "r.html")], "--html"),
        (3, [*start, avatar, "--against", str(folder)], "holds no finished"),
        (6, [*start, avatar, "--against", video, "--lpips", str(folder / "none.pth")], "none.pth"),
        (3, [*start, avatar, "--against", video, "--lpips", avatar], "toy.mvp4d"),
        (6, [*start, str(folder / "none.mvp4d"), "--against", video], "none.mvp4d"),
    ]
    for code, command, message in cases:
        assert main(command) == code, command
        printed = capsys.readouterr()
        lines = [line for line in printed.err.splitlines() if line.strip()]
        assert len(lines) <= 2 and message in printed.err and "Traceback" not in printed.err, (command, printed.err)
    with pytest.raises(SystemExit):
        main([*start, avatar])
    assert "--against" in capsys.readouterr().err


def test_lists_of_views():
    assert _numbers("0,4,8-11") == [0, 4, 8, 9, 10, 11] and _numbers(" 3 ") == [3]
    for text in ("", "a", "1-", "-1", "1--2", "0-999999999", "1,,2", "٣٤-x"):
        with pytest.raises(InputError):
            _numbers(text)
