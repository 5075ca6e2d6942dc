# SPDX-License-Identifier: Apache-2.0
"""`mvp4d performance`: each action on small files, what it answers, and how it fails."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.avatar import save_avatar
from mvp4d_core.cli.main import main
from mvp4d_core.rig import load_head_model, read_performance, save_head_model, write_performance
from mvp4d_core.rig.performance_library import library_names, library_performance
from tests.support.toy_avatar import toy_avatar


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("performance")
    write_performance(library_performance("joy", fps=20, seconds=1), folder / "joy.safetensors")
    write_performance(library_performance("nod", fps=20, seconds=1), folder / "nod.csv")
    head = load_head_model()
    mixed = replace(head, exprdirs=np.ascontiguousarray(head.exprdirs[:, :, ::-1]), name="other",
                    expression_names=tuple(f"expr{k:03d}" for k in range(52)))  # fmt: skip
    save_head_model(mixed, folder / "head.safetensors")
    return folder


def run(capsys, *arguments) -> dict:
    assert main(["performance", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_list_and_make(folder, capsys):
    assert run(capsys, "list") == library_names()
    made = run(capsys, "make", "idle", "-o", folder / "i.json", "--fps", 10, "--seconds", 2, "--seed", 3)
    assert made == {"performance": str(folder / "i.json"), "frames": 20, "fps": 10.0}
    assert main(["performance", "--json", "info", str(folder / "joy.safetensors")]) == 0
    info = json.loads(capsys.readouterr().out)
    assert info["seconds"] == 1 and info["largest_weights"]["mouthSmileLeft"] > 0.8


@pytest.mark.parametrize(("action", "options", "frames"), [
    ("convert", ["--level"], 20), ("loop", ["--times", "3", "--blend", "0.2"], 48), ("trim", ["--start", "0.5"], 10),
    ("retime", ["--speed", "2"], 10), ("retime", ["--to-fps", "40"], 40), ("mirror", [], 20), ("scale", ["--amount", "0.5"], 20),
    ("smooth", ["--cutoff", "1"], 20), ("limit", [], 20)])  # fmt: skip
def test_actions_on_one_file(folder, capsys, action, options, frames):
    out = folder / f"{action}.csv"
    assert run(capsys, action, folder / "joy.safetensors", "-o", out, *options)["frames"] == frames
    assert len(read_performance(out)) == frames


def test_actions_on_several_files(folder, capsys):
    joy, nod = folder / "joy.safetensors", folder / "nod.csv"
    assert run(capsys, "concat", joy, nod, joy, "-o", folder / "c.safetensors", "--blend", 0.25)["frames"] == 50
    assert run(capsys, "mix", joy, nod, "-o", folder / "m.safetensors", "--amount", 1, "--add")["frames"] == 20
    both = read_performance(folder / "m.safetensors")
    assert both.expression.max() > 0.8 and np.abs(both.rotations).max() > 0.1


def test_there_and_back_between_heads(folder, capsys):
    run(capsys, "convert", folder / "joy.safetensors", "-o", folder / "there.safetensors", "--head", folder / "head.safetensors")
    there = read_performance(folder / "there.safetensors")
    assert there.expression_names[0] == "expr000"
    options = ["--source", folder / "head.safetensors", "--head", "open-head"]
    run(capsys, "convert", folder / "there.safetensors", "-o", folder / "back.json", *options)
    joy, back = read_performance(folder / "joy.safetensors"), read_performance(folder / "back.json")
    assert np.abs(back.expression - joy.expression).mean() < 0.02


def test_an_avatar_acts_a_take(folder, capsys):
    save_avatar(folder / "a.mvp4d", toy_avatar(count=300))
    write_performance(library_performance("nod", fps=5, seconds=0.6), folder / "short.csv")
    video = folder / "v.mp4"
    options = ["-o", str(video), "--performance", str(folder / "short.csv"), "--size", "64", "--json"]
    assert main(["animate", str(folder / "a.mvp4d"), *options]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 3 and video.stat().st_size > 500


def test_a_neutral_take_calibrates(folder, capsys):
    write_performance(library_performance("smile", fps=30).select([40] * 5), folder / "rest.csv")
    write_performance(library_performance("smile", fps=30), folder / "acted.csv")
    run(capsys, "convert", folder / "acted.csv", "-o", folder / "level.json", "--neutral", folder / "rest.csv")
    level, acted = (read_performance(folder / name) for name in ("level.json", "acted.csv"))
    smile = level.expression_names.index("mouthSmileLeft")
    assert level.expression[:, smile].max() < 0.2 < 0.6 < acted.expression[:, smile].max()


@pytest.mark.parametrize(("arguments", "code"), [
    (["make", "grin", "-o", "x.json"], 2), (["info", "none.csv"], 6), (["info", "x.fbx"], 2),
    (["convert", "joy.safetensors", "-o", "x.fbx"], 2), (["convert", "joy.safetensors", "-o", "x.csv", "--source", "open-head"], 2),
    (["convert", "joy.safetensors", "-o", "x.csv", "--neutral", "nod.csv"], 2), (["trim", "nod.csv", "-o", "x.csv", "--start", "9"], 2),
    (["info", "head.safetensors"], 3), (["convert", "nod.csv", "-o", "x.csv", "--head", "none.safetensors"], 4)])  # fmt: skip
def test_failures_are_one_line(folder, capsys, monkeypatch, arguments, code):
    monkeypatch.chdir(folder)
    assert main(["performance", *arguments]) == code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("mvp4d: ")
    assert not list(folder.glob("x.*"))
