# SPDX-License-Identifier: Apache-2.0
"""Performances, cameras, models and videos in a real ComfyUI, beside its own nodes. See test_real_comfyui.py for how it runs."""

import io
import os
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from mvp4d_core.evaluation.comfy_server import Server, messages, running
from mvp4d_core.io.video import write_video
from mvp4d_core.rig import ARKIT_NAMES, read_performance
from tests.support.toy_mmvdm import toy_pipeline

ROOT = Path(__file__).parents[2]
COMFYUI = os.environ.get("COMFYUI_PATH", "")
pytestmark = [pytest.mark.comfyui, pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH names no ComfyUI")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Path(COMFYUI), ROOT, tmp_path_factory.mktemp("comfyui") / "base") as server:
        face = data.astronaut()[:300, 80:380]
        Image.fromarray(data.astronaut()).save(server.folder / "input" / "portrait.jpg", quality=95)
        write_video(server.folder / "input" / "drive.mp4", [np.roll(face, 2 * frame, axis=1) for frame in range(6)], 25)
        with wave.open(str(server.folder / "input" / "voice.wav"), "wb") as sound:
            sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(16_000)
            sound.writeframes((8000 * np.sin(np.arange(16_000) / 20)).astype("<i2").tobytes())
        toy_pipeline().save_folder(server.folder / "models" / "mvp4d" / "toy")
        yield server


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def defaults(server: Server, class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node with the widgets as the page would lay it down."""
    widgets = {}
    described = server.get_json(f"/object_info/{class_type}")[class_type]["input"]
    for name, (kind, options) in (described["required"] | described.get("optional", {})).items():
        if "default" in options or kind == "COMBO":
            widgets[name] = options.get("default", (options.get("options") or [None])[0])
    return node(class_type, **widgets | inputs)


def finished(server: Server, graph: dict[str, Any]) -> dict[str, Any]:
    history = server.wait(server.queue(graph))
    assert history["status"]["status_str"] == "success", messages(history, "execution_error")
    return history["outputs"]


def saving(server: Server, key: str, kind: str) -> dict[str, Any]:
    return node("MVP4D_SavePerformance", performance=[key, 0], filename_prefix="mvp4d/take", kind=kind)


def test_performances_from_every_source_are_put_together(server: Server) -> None:
    graph = {
        "1": defaults(server, "MVP4D_PerformancePreset", name="nod", seconds=1.0),
        "2": defaults(server, "MVP4D_ARKitSliders", jawOpen=0.5, head_yaw=20.0, performance=["1", 0]),
        "3": node("LoadVideo", file="drive.mp4"),
        "4": defaults(server, "MVP4D_TrackVideo", video=["3", 0]),
        "5": node("LoadAudio", audio="voice.wav"),
        "6": defaults(server, "MVP4D_SpeechPerformance", audio=["5", 0]),
        "7": defaults(server, "MVP4D_MixPerformances", first=["2", 0], second=["6", 0], mode="one after the other", overlap=0.0),
        "8": defaults(server, "MVP4D_EditPerformance", performance=["7", 0], fps=12.0),
        "9": saving(server, "8", "Live Link CSV"),
        "10": saving(server, "4", "sliders JSON"),
        "11": node("PreviewImage", images=["4", 1]),
    }
    outputs = finished(server, graph)
    for key, ending, frames in (("9", ".csv", 24), ("10", ".json", 6)):
        (saved,) = outputs[key]["mvp4d"]
        path = server.folder / "output" / saved["subfolder"] / saved["filename"]
        acted = read_performance(path)
        assert path.name.endswith(ending) and len(acted) == frames, (key, len(acted))
    jaw = read_performance(server.folder / "output" / outputs["9"]["mvp4d"][0]["subfolder"] / outputs["9"]["mvp4d"][0]["filename"])
    assert jaw.expression[:12, ARKIT_NAMES.index("jawOpen")].min() == pytest.approx(0.5, abs=1e-4)
    assert len(outputs["11"]["images"]) == 6


@pytest.fixture(scope="module")
def sampled(server: Server) -> dict[str, Any]:
    """The photo, seen by cameras of ComfyUI's own making, through a model of the models folder."""
    return {
        "1": node("LoadImage", image="portrait.jpg"),
        "2": defaults(server, "MVP4D_LoadHeadModel"),
        "3": defaults(server, "MVP4D_LoadReference", image=["1", 0], head_model=["2", 0]),
        "4": node(
            "CreateCameraInfo",
            **{"mode": "orbit", "mode.yaw": 20.0, "mode.pitch": 5.0, "mode.distance": 1.2},
            target_x=0.0, target_y=0.02, target_z=0.0, fov=20.0, zoom=1.0, camera_type="perspective", roll=0.0,
        ),
        "5": defaults(
            server, "MVP4D_CameraPlan", layout="camera", count=10, azimuth_from=-30.0, azimuth_to=30.0, camera_info=["4", 0]
        ),
        "6": defaults(server, "MVP4D_ConditionExpressions", reference=["3", 0], frames=5, size=64, motion=True, cameras=["5", 0]),
        "7": defaults(server, "MVP4D_LoadModel", model="toy"),
        "8": defaults(server, "MVP4D_SampleMultiViewVideo", reference=["3", 0], plan=["6", 0], model=["7", 0], steps=2, guidance=1.0),
        "9": defaults(server, "MVP4D_MultiViewToVideo", video=["8", 0]),
        "10": node("SaveVideo", video=["9", 2], filename_prefix="grid", format="mp4", **{"format.codec": "h264"}),
        "11": node("PreviewImage", images=["9", 0]),
    }  # fmt: skip


def test_a_model_of_the_models_folder_makes_a_grid(server: Server, sampled: dict[str, Any]) -> None:
    outputs = finished(server, sampled)
    assert server.view(outputs["10"]["images"][0])[4:8] == b"ftyp"
    grid = Image.open(io.BytesIO(server.view(outputs["11"]["images"][0])))
    assert grid.size == (256, 192), "10 views in four columns"
    assert {"3", "5", "6", "8", "9"} <= set(outputs), "previews"


def test_weights_stay_from_run_to_run_and_a_stopped_sampling_goes_on(server: Server, sampled: dict[str, Any]) -> None:
    graph = {key: {**entry, "inputs": dict(entry["inputs"])} for key, entry in sampled.items()}
    graph["8"]["inputs"] |= {"steps": 400, "seed": 7}
    prompt = server.queue(graph)
    blocks = server.folder / "temp" / "mvp4d" / "blocks"
    while not list(blocks.rglob("block_*.safetensors")):
        assert prompt not in server.get_json(f"/history/{prompt}"), "it ended before it could be stopped"
    server.post("/interrupt", {})
    assert messages(server.wait(prompt), "execution_interrupted")
    kept = {path: path.stat().st_mtime_ns for path in blocks.rglob("block_*.safetensors")}
    assert kept
    history = server.wait(server.queue(graph))
    assert history["status"]["status_str"] == "success", messages(history, "execution_error")
    cached = {key for message in messages(history, "execution_cached") for key in message["nodes"]}
    assert {"3", "6", "7"} <= cached, "the model's node is not run again, so its weights are still there"
    assert not list(blocks.rglob("block_*.safetensors"))


def test_what_cannot_be_is_refused_by_a_sentence(server: Server, sampled: dict[str, Any]) -> None:
    for key, name, value, part in (
        ("5", "elevations", "high", "degrees with commas"),
        ("6", "frames", 6, "1 + 4k"),
        ("7", "model", "absent", "model_index.json"),
        ("2", "head", "absent.safetensors", "models/mvp4d"),
    ):
        graph = {other: {**entry, "inputs": dict(entry["inputs"])} for other, entry in sampled.items()}
        graph[key]["inputs"][name] = value
        _, answer = server.post("/prompt", {"prompt": graph})
        assert part in answer["node_errors"][key]["errors"][0]["details"]
