# SPDX-License-Identifier: Apache-2.0
"""The command line on a toy avatar: what it prints, what it leaves, and how it fails."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mvp4d_core.avatar import save_avatar
from mvp4d_core.avatar.ply import read_ply
from mvp4d_core.cli.main import COMMANDS, main, parser
from mvp4d_core.io.images import read_image, write_image
from mvp4d_core.io.video import read_video
from mvp4d_core.rig import save_head_model, save_performance, showcase_performance
from tests.support.toy_avatar import toy_avatar
from tests.support.toy_head import toy_head_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    avatar = toy_avatar(count=800)
    save_avatar(folder / "a.mvp4d", avatar)
    save_performance(showcase_performance(avatar.rig).select([0, 40, 100]), folder / "p.safetensors")
    save_head_model(toy_head_model(), folder / "head.safetensors")
    return folder


def answer(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_every_command_explains_itself(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            parser().parse_args([command, "--help"])
        assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_render_poses_and_keeps_alpha(folder, capsys):
    out = folder / "r.png"
    assert main(["render", str(folder / "a.mvp4d"), "-o", str(out), "--size", "64", "--transparent", "--json"]) == 0
    assert answer(capsys) == {"picture": str(out), "size": 64}
    rgb, alpha = read_image(out)
    assert rgb.shape == (64, 64, 3) and alpha is not None and alpha.min() == 0 and alpha.max() > 0.9
    opened = folder / "o.png"
    options = ["--expression", "jawOpen=1", "--joint", "neck=0,25,0", "--size", "64"]
    assert main(["render", str(folder / "a.mvp4d"), "-o", str(opened), *options]) == 0
    assert np.abs(read_image(opened)[0] - rgb).max() > 0.1


def test_animate_plays_the_performance(folder, capsys):
    out = folder / "v.mp4"
    command = ["animate", str(folder / "a.mvp4d"), "-o", str(out), "--performance", str(folder / "p.safetensors"), "--size", "64", "--json"]
    assert main(command) == 0
    assert answer(capsys)["frames"] == 3
    frames, fps = read_video(out)
    assert frames.shape == (3, 64, 64, 3) and fps == pytest.approx(24)


def test_export_writes_one_ply_or_a_sequence(folder, capsys):
    assert main(["export", str(folder / "a.mvp4d"), "-o", str(folder / "a.ply"), "--json"]) == 0
    assert answer(capsys)["splats"] == 800 == len(read_ply(folder / "a.ply").means)
    command = ["export", str(folder / "a.mvp4d"), "-o", str(folder / "seq"), "--sequence", "--performance", str(folder / "p.safetensors")]
    assert main(command) == 0
    frames = sorted((folder / "seq").glob("frame_*.ply"))
    assert len(frames) == 3
    assert np.abs(read_ply(frames[0]).means - read_ply(frames[2]).means).max() > 1e-4


@pytest.mark.parametrize(("name", "kind"), [("a.mvp4d", "avatar"), ("p.safetensors", "performance"), ("head.safetensors", "head")])
def test_info_knows_the_suites_files(folder, capsys, name, kind):
    assert main(["info", str(folder / name), "--json"]) == 0
    assert answer(capsys)["kind"] == kind


def test_doctor_reports_packages_and_cures(capsys):
    assert main(["doctor", "--json"]) == 0
    state = answer(capsys)
    assert state["packages"]["numpy"] == np.__version__
    assert state["splat_backend"] is not None
    for package, version in state["packages"].items():
        assert version is not None or "pip install" in state["missing"][package]


def failing(command: list[str], capsys) -> tuple[int, str]:
    code = main(command)
    lines = capsys.readouterr().err.strip().splitlines()
    assert 1 <= len(lines) <= 2 and lines[0].startswith("mvp4d: ")
    return code, " ".join(lines)


def test_failures_are_one_line_with_a_code_of_their_own(folder, capsys, tmp_path):
    avatar = str(folder / "a.mvp4d")
    assert failing(["render", avatar, "-o", str(tmp_path / "x.png"), "--expression", "wink=1"], capsys)[0] == 2
    assert failing(["render", avatar, "-o", str(tmp_path / "x.png"), "--expression", "jawOpen=much"], capsys)[0] == 2
    assert failing(["render", avatar, "-o", str(tmp_path / "x.png"), "--joint", "neck=1,2"], capsys)[0] == 2
    assert failing(["export", avatar, "-o", str(tmp_path / "x.obj")], capsys)[0] == 2
    damaged = tmp_path / "cut.mvp4d"
    damaged.write_bytes((folder / "a.mvp4d").read_bytes()[:3000])
    assert failing(["info", str(damaged)], capsys)[0] == 3
    assert failing(["track", str(damaged), "-o", str(tmp_path), "--rig", "none.safetensors"], capsys)[0] == 4
    assert failing(["render", avatar, "-o", str(tmp_path / "no" / "x.png")], capsys)[0] == 6
    assert failing(["info", str(tmp_path / "absent.mvp4d")], capsys)[0] == 6
    assert failing(["create", str(damaged), "-o", str(tmp_path / "o")], capsys)[0] == 3
    assert failing(["create", str(damaged), "-o", str(tmp_path / "o"), "--generator", "magic"], capsys)[0] == 2
    assert not list(tmp_path.glob("x.*"))


def test_no_face_is_code_five_and_leaves_nothing_half_made(tmp_path, capsys):
    write_image(tmp_path / "grey.png", np.full((200, 200, 3), 0.5))
    code, text = failing(["create", str(tmp_path / "grey.png"), "-o", str(tmp_path / "o")], capsys)
    assert code == 5 and "face" in text
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["stages.json"]


def test_a_folder_that_cannot_be_written_is_said_before_anything_long(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    write_image(tmp_path / "grey.png", np.full((64, 64, 3), 0.5))
    code, text = failing(["create", str(tmp_path / "grey.png"), "-o", str(tmp_path / "file" / "o")], capsys)
    assert code == 6 and "-o" in text


def test_a_closed_pipe_is_no_failure(folder):
    process = subprocess.Popen(
        [sys.executable, "-m", "mvp4d_core", "info", str(folder / "a.mvp4d")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    process.stderr.close()
