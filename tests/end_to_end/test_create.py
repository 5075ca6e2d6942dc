# SPDX-License-Identifier: Apache-2.0
"""`mvp4d create` on a real portrait at toy size: what it leaves, and that nothing that stops it costs more than the stage under way."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from skimage import data

from mvp4d_core.avatar import load_avatar
from mvp4d_core.avatar.ply import read_ply
from mvp4d_core.generate import load_multiview
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.io.atomic import is_temporary
from mvp4d_core.io.images import read_image, write_image
from mvp4d_core.io.video import read_video
from mvp4d_core.rig import load_performance
from mvp4d_core.tracking import load_reference
from tests.support.command_line import Running, command

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")
TOY = "--views 60 --view-count 2 --frames 3 --size 64 --steps 40 --splats 13000 --picture-size 64 --json".split()
ROOT = Path(__file__).parents[2]
FIGURES = {"landmark_error_percent", "reference_psnr", "heldout_psnr", "heldout_ssim", "seconds", "peak_memory_gb", "splats", "warnings"}
STAGES = ["track", "generate", "distill", "show", "evaluate"]
OF_THE_RUN = {"stages.json", "report.json"}  # what times change


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "a portrait ü.png"
    write_image(path, data.astronaut() / 255.0)
    return path


@pytest.fixture(scope="module")
def whole(photo) -> tuple[Path, subprocess.CompletedProcess]:
    """A run that nothing stopped, into a folder beside the photo, named relatively."""
    run = [sys.executable, "-m", "mvp4d_core", "create", photo.name, "-o", "out/of this", *TOY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    result = subprocess.run(run, cwd=photo.parent, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return photo.parent / "out" / "of this", result


def digests(folder: Path) -> dict[str, str]:
    """Of all files whose bytes the settings decide; an encoder's own bytes depend on what else the machine does."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in OF_THE_RUN and path.suffix != ".mp4")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def written(folder: Path) -> dict[str, int]:
    """When each file was written."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_all_sound(folder: Path) -> None:
    """Every file that is there can be read to its end."""
    readers = {
        ".mvp4d": load_avatar, ".ply": read_ply, ".png": read_image, ".mp4": read_video, ".safetensors": safetensors_numpy.read,
        ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    }  # fmt: skip
    for path in folder.rglob("*"):
        if path.is_file() and not is_temporary(path):
            readers[path.suffix](path)


def test_one_command_leaves_an_avatar_and_what_to_judge_it_by(whole):
    folder, result = whole
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report == json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report.keys() >= FIGURES
    assert [*report["seconds"]] == [*STAGES, "total"] and all(seconds > 0 for seconds in report["seconds"].values())
    assert report["landmark_error_percent"] < 3
    assert 12_000 < report["splats"] <= 13_000  # so short a fit ends before it densifies

    avatar = load_avatar(folder / "avatar.mvp4d")
    assert len(avatar) == report["splats"] == len(read_ply(folder / "avatar.ply").means)
    assert load_reference(folder / "reference.safetensors").faces_found == 1
    assert load_multiview(folder / "multiview").frames.shape == (2, 3, 64, 64, 3)
    performance = load_performance(folder / "performance.safetensors")
    for name, count in (("showcase.mp4", len(performance)), ("turntable.mp4", 96)):
        frames, fps = read_video(folder / name)
        assert frames.shape == (count, 64, 64, 3) and fps == 24
        assert 0.02 < np.mean(frames.min(axis=-1) < 0.9) < 0.9  # a head before white
    for name in ("contact_sheet.png", "tracking.png"):
        assert read_image(folder / name)[0].std() > 0.1
    assert not [path for path in folder.rglob("*") if is_temporary(path)]


def test_a_log_gets_lines_and_no_bars(whole):
    _, result = whole
    assert "\r" not in result.stderr and "%|" not in result.stderr
    assert len(result.stderr.splitlines()) < 15


STOPS = [
    # (stage, what stops it, seconds into the stage, bytes a file may have)
    ("track", signal.SIGINT, 0.3, None),
    ("track", signal.SIGKILL, 0.3, None),
    ("generate", signal.SIGINT, 0.5, None),
    ("generate", signal.SIGKILL, 0.5, None),
    ("generate", None, 0, 3000),
    ("distill", signal.SIGINT, 0.2, None),
    ("distill", signal.SIGKILL, 0.2, None),
    ("distill", None, 0, 1_000_000),
    ("show", signal.SIGINT, 0.6, None),
    ("show", signal.SIGKILL, 0.6, None),
    ("show", None, 0, 100_000),
]


def test_a_run_stopped_in_every_way_at_every_stage_ends_with_the_same_files(whole, photo, tmp_path):
    folder, run = tmp_path / "out", ["create", str(photo), "-o", str(tmp_path / "out"), *TOY]
    finished: dict[str, int] = {}
    for stage, stop, after, file_size in STOPS:
        running = Running(run, tmp_path, file_size=file_size)
        if stop is not None:
            running.wait_for_stage(folder, stage)
            time.sleep(after)
            running.send(stop)
        ended = running.end()
        if stop is signal.SIGKILL:
            ended.expect(-signal.SIGKILL)
        else:
            ended.expect(*((6, "Cannot write .*larger than this disk") if stop is None else (130, "same command continues")))
            assert not [path for path in folder.rglob("*") if is_temporary(path)]
        assert_all_sound(folder)
        entries = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
        assert [*entries] == STAGES[: STAGES.index(stage) + 1] and "unfinished" in entries[stage]
        now = written(folder)
        assert {name: now.get(name) for name in finished} == finished, "a finished stage was run again"
        finished |= {name: now[name] for name in files_of(STAGES[: STAGES.index(stage)], now)}

    command(*run, folder=tmp_path).expect(0)
    assert digests(folder) == digests(whole[0])
    for name in ("showcase.mp4", "turntable.mp4"):
        assert np.abs(read_video(folder / name)[0] - read_video(whole[0] / name)[0]).mean() < 0.01  # two encodings of the same frames
    before = written(folder)
    again = command(*run, folder=tmp_path)
    again.expect(0)
    assert {name for name, time_ns in written(folder).items() if before[name] != time_ns} == {"report.json"}
    assert json.loads(again.out[-1])["reference_psnr"] == json.loads(whole[1].stdout.splitlines()[-1])["reference_psnr"]


def files_of(stages: list[str], names: dict[str, int]) -> list[str]:
    of_stage = {"track": ("reference.safetensors", "tracking.png"), "generate": ("multiview/",), "distill": ("avatar.mvp4d",)}
    return [name for stage in stages for start in of_stage[stage] for name in names if name.startswith(start)]


def test_a_killed_run_with_other_settings_is_not_taken_for_the_one_before(whole, photo, tmp_path):
    folder, _ = whole
    before, when = digests(folder), written(folder)
    running = Running(["create", str(photo), "-o", str(folder), "--face", "1", *TOY], tmp_path)
    running.wait_for_stage(folder, "track")
    running.send(signal.SIGKILL)
    running.end().expect(-signal.SIGKILL)
    command("create", str(photo), "-o", str(folder), *TOY, folder=tmp_path).expect(0)
    assert digests(folder) == before
    assert {name for name, time_ns in written(folder).items() if when[name] != time_ns} == {
        "report.json", "stages.json", "reference.safetensors", "tracking.png",
    }  # fmt: skip


def test_a_damaged_file_of_an_earlier_stage_is_named(whole, photo, tmp_path):
    folder, _ = whole
    for name in ("figures.json", "avatar.mvp4d", "reference.safetensors"):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(kept[: len(kept) // 2])
        command("create", str(photo), "-o", str(folder), *TOY, folder=tmp_path).expect(3, name)
        (folder / name).write_bytes(kept)


@pytest.mark.parametrize(
    ("options", "code", "pattern"),
    [
        ("--frames 0", 2, "frames.*1 to 1000"),
        ("--view-count 0", 2, "views"),
        ("--size 8", 2, "size.*16 to 2048"),
        ("--picture-size 0", 2, "picture_size"),
        ("--steps 0", 2, "steps"),
        ("--seed -1", 2, "seed"),
        ("--device tpu", 2, "device.*cpu"),
        ("--device cuda:99", 4, "cuda:99"),
        ("--generator magic", 2, "generator"),
        ("--rig nobody.safetensors", 4, "head"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_begins(photo, tmp_path, options, code, pattern):
    command("create", str(photo), "-o", str(tmp_path / "out"), *TOY, *options.split(), folder=tmp_path).expect(code, pattern)
    assert not (tmp_path / "out").exists()
