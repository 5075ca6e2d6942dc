# SPDX-License-Identifier: Apache-2.0
"""Heads and performances: each node on the real core at toy size."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

from mvp4d_core.io.video import write_video
from mvp4d_core.rig import (
    ARKIT_NAMES,
    HeadModel,
    Performance,
    library_names,
    library_performance,
    load_head_model,
    save_head_model,
    showcase_performance,
    write_performance,
)
from mvp4d_core.tracks.flame_params import write_flame_param
from tests.support.comfy_host import Host, InterruptProcessingException, run, sentence_of, validate
from tests.support.comfy_schema import ComfyNode, NodeOutput, VideoComponents, VideoFromComponents, VideoFromFile
from tests.support.toy_mmvdm import toy_pipeline

Nodes = dict[str, type[ComfyNode]]


@pytest.fixture(scope="module")
def inputs(pack: tuple[Host, ModuleType]) -> Path:
    return pack[0].folder / "input"


@pytest.fixture(scope="module")
def model_folder(pack: tuple[Host, ModuleType], nodes: Nodes) -> Path:
    folder = pack[0].folder / "models" / "mvp4d"
    toy_pipeline().save_folder(folder / "toy")
    save_head_model(replace(load_head_model(), name="mine"), folder / "mine.safetensors")
    return folder


@pytest.fixture(scope="module")
def video_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that drifts for 8 frames."""
    path, face = tmp_path_factory.mktemp("video") / "face.mp4", data.astronaut()[:300, 80:380]
    write_video(path, [np.roll(face, 2 * frame, axis=1) for frame in range(8)], 25)
    return path


def play(nodes: Nodes, node: str, **options: Any) -> Performance:
    return run(nodes[f"MVP4D_{node}"], **options).args[0]


def load(nodes: Nodes, name: str, **options: Any) -> NodeOutput:
    return run(nodes["MVP4D_LoadPerformance"], **{"performance": name, "fps": 24.0, "seconds": 1.0} | options)


# heads


def test_heads_of_the_models_folder_are_offered_and_those_of_pipelines_are_not(nodes: Nodes, model_folder: Path) -> None:
    for node in ("MVP4D_LoadHeadModel", "MVP4D_LoadReference"):
        (choice,) = [entry for entry in nodes[node].GET_SCHEMA().inputs if entry.id == "head"]
        assert choice.options == ["open-head", "mine.safetensors"]
    model, report = run(nodes["MVP4D_LoadHeadModel"], head="mine.safetensors").args
    assert model.name == "mine" and "52 expressions" in report and "Licence: " in report
    assert nodes["MVP4D_LoadHeadModel"].fingerprint_inputs(head="mine.safetensors")
    (problem,) = validate(nodes["MVP4D_LoadHeadModel"], head="absent.safetensors")
    assert "models/mvp4d" in problem


def test_a_connected_head_wins_over_the_named_one(nodes: Nodes, pack: tuple[Host, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    class Stop(Exception):
        pass

    def look(image: np.ndarray, alpha: Any, *, head_model: HeadModel, **_: Any) -> None:
        seen.append(head_model.name)
        raise Stop

    monkeypatch.setattr(f"{pack[1].__name__}.mvp4d_core.tracking.track.track_portrait", look)
    common = {"image": torch.rand(1, 32, 32, 3), "mask_marks": "person", "face": 0, "head": "open-head"}
    for more in ({}, {"head_model": replace(load_head_model(), name="mine")}):
        with pytest.raises(Stop):
            run(nodes["MVP4D_LoadReference"], **common, **more)
    assert seen == [load_head_model().name, "mine"]


# performances


def test_every_kind_of_performance_file_is_offered_and_read(nodes: Nodes, inputs: Path) -> None:
    acted = library_performance("nod", fps=30, seconds=0.5)
    for name in ("performance.safetensors", "a.performance.safetensors", "take.csv", "face.json"):
        write_performance(acted, inputs / name)
    (choice,) = [entry for entry in nodes["MVP4D_LoadPerformance"].GET_SCHEMA().inputs if entry.id == "performance"]
    assert {"performance.safetensors", "a.performance.safetensors", "take.csv", "face.json"} <= set(choice.options)
    for name in ("performance.safetensors", "take.csv", "face.json"):
        loaded, fps, frames = load(nodes, name).args
        assert (fps, frames) == (30.0, 15), name
        np.testing.assert_allclose(loaded.expression, acted.expression, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(loaded.rotations, acted.rotations, atol=1e-4, err_msg=name)


def test_sliders_that_tell_no_rate_take_the_nodes(nodes: Nodes, inputs: Path) -> None:
    (inputs / "frames.json").write_text(json.dumps([{"jawOpen": 0.1}, {"jawOpen": 0.9}]))
    assert load(nodes, "frames.json", fps=12.0).args[1:] == (12.0, 2)


def test_a_track_plays_on_its_own_head_or_is_carried_over(host: Host, nodes: Nodes, inputs: Path) -> None:
    """A head with the open head's faces under FLAME's names: carried over, its motion must come back."""
    names = tuple(f"expr{k:03d}" for k in range(52))
    flame = replace(load_head_model(), expression_names=names, name="as-flame")
    acted = showcase_performance(load_head_model(), fps=25, seconds=4).select([0, 30, 60])
    write_flame_param(inputs / "flame_param.npz", replace(acted, expression_names=names), np.zeros(0, np.float32))
    plain = load(nodes, "flame_param.npz").args[0]
    assert plain.expression_names[:52] == names
    np.testing.assert_allclose(plain.expression[:, :52], acted.expression, atol=1e-6)
    carried, fps, _ = load(nodes, "flame_param.npz", head_model=flame).args
    assert carried.expression_names == load_head_model().expression_names and fps == 25.0
    jaw = ARKIT_NAMES.index("jawOpen")
    np.testing.assert_allclose(carried.expression[:, jaw], acted.expression[:, jaw], atol=0.1)
    assert any("mm mean error" in text for text in host.texts)


def test_a_missing_file_is_named_before_running(nodes: Nodes) -> None:
    for name in ("gone.csv", "gone.csv [output]", "../gone.csv"):
        (problem,) = validate(nodes["MVP4D_LoadPerformance"], performance=name, fps=24.0, seconds=1.0)
        assert name in problem and "input or output folder" in problem
    assert validate(nodes["MVP4D_LoadPerformance"], performance="showcase", fps=24.0, seconds=1.0) == []


def test_damaged_performances_are_refused_in_a_line(nodes: Nodes, inputs: Path) -> None:
    for name, content in (("bad.csv", b"a,b\n1,2\n"), ("bad.json", b"{"), ("bad.npz", b"PK"), ("bad.performance.safetensors", b"")):
        (inputs / name).write_bytes(content)
        assert name in sentence_of(nodes["MVP4D_LoadPerformance"], performance=name, fps=24.0, seconds=1.0)


@pytest.mark.parametrize("name", list(library_names()))
def test_every_preset_plays(nodes: Nodes, name: str) -> None:
    made, fps, frames = run(nodes["MVP4D_PerformancePreset"], name=name, strength=1.0, seconds=0.5, fps=10.0, seed=1).args
    assert (fps, frames) == (10.0, 5) and made.expression_names == ARKIT_NAMES


def test_a_preset_has_its_own_length(nodes: Nodes) -> None:
    assert run(nodes["MVP4D_PerformancePreset"], name="nod", strength=1.0, seconds=0.0, fps=10.0, seed=0).args[2] == 26


def test_every_arkit_expression_has_a_slider(nodes: Nodes) -> None:
    node = nodes["MVP4D_ARKitSliders"]
    widgets = {entry.id: entry for entry in node.GET_SCHEMA().inputs}
    assert set(ARKIT_NAMES) <= set(widgets)
    values = {name: entry.default for name, entry in widgets.items() if name != "performance"}
    rest = play(nodes, "ARKitSliders", **values)
    assert len(rest) == 1 and not rest.expression.any() and not rest.rotations.any()
    made = play(nodes, "ARKitSliders", **values | {"jawOpen": 0.7, "head_yaw": 30.0, "frames": 4, "fps": 12.0})
    assert len(made) == 4 and made.fps == 12
    assert made.expression[0, ARKIT_NAMES.index("jawOpen")] == pytest.approx(0.7)
    np.testing.assert_allclose(made.rotations[0, made.joint_names.index("neck")], [0, np.deg2rad(30), 0], atol=1e-6)
    laid = play(nodes, "ARKitSliders", performance=library_performance("nod", seconds=1), **values | {"mouthPucker": 1.0})
    assert len(laid) == 24 and (laid.expression[:, ARKIT_NAMES.index("mouthPucker")] == 1).all()


def test_each_slider_says_its_region(nodes: Nodes) -> None:
    regions = [entry.tooltip.partition(":")[0].partition(",")[0] for entry in nodes["MVP4D_ARKitSliders"].GET_SCHEMA().inputs[5:57]]
    assert list(dict.fromkeys(regions)) == ["Brows", "Eyes", "Cheeks and nose", "Jaw", "Mouth"]


def test_a_stopped_track_goes_on_and_ends_the_same(host: Host, nodes: Nodes, video_path: Path) -> None:
    node = nodes["MVP4D_TrackVideo"]
    settings = {"video": VideoFromFile(str(video_path)), "straight": "camera", "smooth": 1.0, "overlay_frames": 3}
    host.interrupt_after = 5
    with pytest.raises(InterruptProcessingException):
        run(node, **settings)
    host.interrupt_after = None
    host.bars.clear()
    performance, overlay, report, fps = run(node, **settings).args
    watched = next(values for total, values in host.bars if total == 8)
    assert watched[0] == 0 and watched[1] > 1, "the frames seen before the stop are not looked at again"
    assert performance.expression_names == load_head_model().expression_names and fps == pytest.approx(25)
    assert overlay.shape == (3, 300, 300, 3) and report.startswith("8 frames at 25 fps, a face in 8 of them.")


def test_videos_without_a_file_of_their_own_are_tracked(host: Host, nodes: Nodes, video_path: Path) -> None:
    face = torch.from_numpy(data.astronaut()[:300, 80:380].astype(np.float32) / 255)
    components = VideoComponents(torch.stack([face, face]), Fraction(12))
    settings = {"straight": "person", "smooth": 0.0, "overlay_frames": 1}
    reports = [
        run(nodes["MVP4D_TrackVideo"], video=video, **settings).args[2].splitlines()[0]
        for video in (VideoFromComponents(components), VideoFromFile(str(video_path), start_time=0.2, components=components))
    ]
    assert reports == ["2 frames at 12 fps, a face in 2 of them."] * 2
    assert len(list((host.folder / "temp" / "mvp4d" / "videos").iterdir())) == 1, "the same frames are written once"


def test_a_voice_opens_the_jaw(nodes: Nodes) -> None:
    rate, seconds = 16_000, 2.0
    times = np.arange(int(rate * seconds)) / rate
    voice = sum(np.sin(2 * np.pi * 120 * k * times) / k for k in range(1, 30)) * (times > 1.0) * 0.1
    audio = {"waveform": torch.from_numpy(np.stack([voice, voice])[None].astype(np.float32)), "sample_rate": rate}
    made, fps, frames = run(nodes["MVP4D_SpeechPerformance"], audio=audio, strength=1.0, idle=0.0, fps=20.0, seed=0).args
    jaw = made.expression[:, ARKIT_NAMES.index("jawOpen")]
    assert (fps, frames) == (20.0, 40) and jaw[:18].max() < 0.02 < jaw[22:38].mean()
    silent = {"waveform": torch.zeros(2, 1, 100), "sample_rate": rate}
    assert "one sound" in sentence_of(nodes["MVP4D_SpeechPerformance"], audio=silent, strength=1.0, idle=0.0, fps=20.0, seed=0)


EDIT = {
    "start": 0.0, "end": 0.0, "speed": 1.0, "fps": 0.0, "mirror": False, "smooth": 0.0, "strength": 1.0, "loops": 1, "seam": 0.25,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "frames", "fps"),
    [
        ({}, 48, 24.0),
        ({"start": 0.5}, 36, 24.0),
        ({"start": 0.5, "end": 1.0}, 12, 24.0),
        ({"speed": 2.0}, 24, 24.0),
        ({"fps": 12.0}, 24, 12.0),
        ({"loops": 3, "seam": 0.5}, 108, 24.0),
        ({"start": 1.0, "speed": 0.5, "fps": 30.0, "loops": 2, "seam": 0.0}, 120, 30.0),
    ],
)
def test_edits_change_the_length_as_they_say(nodes: Nodes, changes: dict[str, Any], frames: int, fps: float) -> None:
    acted = library_performance("speech", fps=24, seconds=2)
    assert run(nodes["MVP4D_EditPerformance"], performance=acted, **EDIT | changes).args[1:] == (fps, frames)


def test_edits_change_what_is_done(nodes: Nodes) -> None:
    acted = library_performance("shake", fps=24, seconds=2)
    trembling = replace(acted, rotations=acted.rotations + np.random.default_rng(0).normal(scale=0.005, size=acted.rotations.shape))
    left, right = ARKIT_NAMES.index("eyeBlinkLeft"), ARKIT_NAMES.index("eyeBlinkRight")
    edited = {
        key: play(nodes, "EditPerformance", performance=trembling, **EDIT | {key: value})
        for key, value in (("mirror", True), ("strength", 0.5), ("smooth", 1.0))
    }
    np.testing.assert_allclose(edited["mirror"].expression[:, left], acted.expression[:, right], atol=1e-6)
    np.testing.assert_allclose(edited["strength"].expression, acted.expression / 2, atol=1e-6)
    np.testing.assert_allclose(edited["smooth"].expression[:, left], acted.expression[:, left], atol=1e-6)
    jaw = acted.joint_names.index("jaw")  # which rests but for the tremor
    tremor = {name: np.abs(np.diff(p.rotations[:, jaw], axis=0)).mean() for name, p in (("before", trembling), ("after", edited["smooth"]))}
    assert tremor["after"] < 0.3 * tremor["before"]


def test_impossible_edits_are_refused(nodes: Nodes) -> None:
    node = nodes["MVP4D_EditPerformance"]
    assert "after `start`" in validate(node, **EDIT | {"start": 2.0, "end": 1.0})[0]
    assert "at least 1" in validate(node, **EDIT | {"fps": 0.5})[0]
    assert "0.0 to 3600.0" in validate(node, **EDIT | {"start": -1.0})[0]
    assert validate(node, **EDIT) == []
    acted = library_performance("nod", fps=24, seconds=1)
    assert "keep a frame" in sentence_of(node, performance=acted, **EDIT | {"start": 5.0})


def test_two_performances_become_one(nodes: Nodes) -> None:
    joy, nod = library_performance("joy", fps=20, seconds=1), library_performance("nod", fps=20, seconds=2)

    def mixed(mode: str, amount: float = 1.0, overlap: float = 0.0) -> Performance:
        return play(nodes, "MixPerformances", first=joy, second=nod, mode=mode, amount=amount, overlap=overlap)

    assert [len(mixed(mode)) for mode in ("blend", "add", "one after the other")] == [40, 40, 60]
    assert len(mixed("one after the other", overlap=0.5)) == 50
    np.testing.assert_allclose(mixed("blend", 0.0).expression[:20], joy.expression, atol=1e-6)
    np.testing.assert_allclose(mixed("add", 2.0).expression[:20], joy.expression + 2 * nod.expression[:20], atol=1e-5)
    node = nodes["MVP4D_MixPerformances"]
    assert "mode blend" in validate(node, mode="blend", amount=1.5, overlap=0.0)[0]
    assert validate(node, mode="add", amount=1.5, overlap=0.0) == []
    assert "one of blend, add" in validate(node, mode="xor", amount=1.0, overlap=0.0)[0]


@pytest.mark.parametrize(
    ("kind", "ending"), [("performance", ".performance.safetensors"), ("Live Link CSV", ".csv"), ("sliders JSON", ".json")]
)
def test_saved_performances_are_loaded_again(host: Host, nodes: Nodes, kind: str, ending: str) -> None:
    acted = library_performance("nod", fps=24, seconds=0.5)
    saved = run(nodes["MVP4D_SavePerformance"], performance=acted, filename_prefix="mvp4d/take", kind=kind)
    assert saved.args[0] is acted and saved.args[1].endswith(ending) and Path(saved.args[1]).is_relative_to(host.output)
    name = Path(saved.args[1]).relative_to(host.output).as_posix() + " [output]"
    (choice,) = [entry for entry in nodes["MVP4D_LoadPerformance"].GET_SCHEMA().inputs if entry.id == "performance"]
    assert name in choice.options
    np.testing.assert_allclose(load(nodes, name).args[0].expression, acted.expression, atol=1e-4)
    again = run(nodes["MVP4D_SavePerformance"], performance=acted, filename_prefix="mvp4d/take", kind=kind)
    assert again.args[1] != saved.args[1]


def test_what_a_kind_of_file_cannot_hold_is_refused(nodes: Nodes) -> None:
    odd = library_performance("nod", fps=23.5, seconds=0.5)
    settings = {"performance": odd, "filename_prefix": "odd", "kind": "Live Link CSV"}
    assert "resample" in sentence_of(nodes["MVP4D_SavePerformance"], **settings)
