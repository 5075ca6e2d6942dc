# SPDX-License-Identifier: Apache-2.0
"""The pack in a real ComfyUI, on the CPU, at toy size.

Runs with `COMFYUI_PATH=... pytest -m comfyui`; COMFYUI_PYTHON names that ComfyUI's interpreter where it is not this one.
"""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from mvp4d_core.avatar import load_avatar
from mvp4d_core.conditioning import head_centre
from mvp4d_core.evaluation.comfy_server import FOLDER_NAME, Server, messages, running
from tests.support import comfy_host
from tests.support.comfy_frontend import CORE_NODES, FILE_LISTS
from tests.support.quick_start import TOY

ROOT = Path(__file__).parents[2]
COMFYUI = os.environ.get("COMFYUI_PATH", "")
pytestmark = [pytest.mark.comfyui, pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH names no ComfyUI")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Path(COMFYUI), ROOT, tmp_path_factory.mktemp("comfyui") / "base") as server:
        Image.fromarray(data.astronaut()).save(server.folder / "input" / "portrait.jpg", quality=95)
        yield server


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    workflow = json.loads((ROOT / "workflows" / "api" / "quick_start.json").read_text(encoding="utf-8"))
    for key, values in TOY.items():
        workflow[key]["inputs"].update(values)
    return workflow


@pytest.fixture(scope="module")
def first_run(server: Server, workflow: dict[str, Any]) -> dict[str, Any]:
    history = server.wait(server.queue(workflow))
    assert history["status"]["status_str"] == "success", messages(history, "execution_error")
    return history


def test_pack_is_imported(server: Server) -> None:
    log = server.log.read_text(errors="replace")
    assert not [line for line in log.splitlines() if FOLDER_NAME in line and ("FAILED" in line or "Cannot import" in line)]


def test_stand_in_tells_the_truth_of_our_nodes(server: Server, tmp_path: Path) -> None:
    with comfy_host.installed(tmp_path):
        nodes = comfy_host.nodes_of(comfy_host.load_pack(ROOT))
        ours = {node_id: comfy_host.object_info(node) for node_id, node in nodes.items()}
    theirs = server.get_json("/object_info")
    for node_id, info in ours.items():
        info = json.loads(json.dumps(info))
        assert {key: theirs[node_id][key] for key in info} == info, node_id


def test_stand_in_tells_the_truth_of_core_nodes(server: Server) -> None:
    """Run `python -m tools.build_workflows --server ... --core` where a newer ComfyUI says something else."""
    for name, kept in json.loads(CORE_NODES.read_text(encoding="utf-8")).items():
        assert without_files(server.get_json(f"/object_info/{name}")[name]) == without_files(kept), name


def without_files(info: dict[str, Any]) -> dict[str, Any]:
    """A core node's description without the files that a server happens to have."""
    entry, _ = FILE_LISTS.get(info["name"], (None, ()))
    if entry is not None:
        kind, options = info["input"]["required"][entry]
        info["input"]["required"][entry] = ["COMBO" if isinstance(kind, list) else kind, {**options, "options": []}]
    return info


def test_quick_start_runs(server: Server, first_run: dict[str, Any]) -> None:
    outputs = first_run["outputs"]
    assert server.view(outputs["10"]["mvp4d"][0])[8:9] == b"{"
    assert server.view(outputs["10"]["3d"][0]).startswith(b"ply\n")
    assert server.view(outputs["9"]["images"][0])[4:8] == b"ftyp"
    assert {"2", "4", "7"} <= set(outputs), "previews"


def test_another_performance_does_not_fit_again(server: Server, workflow: dict[str, Any], first_run: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(workflow))
    changed["6"]["inputs"]["seconds"] = 0.5
    history = server.wait(server.queue(changed))
    assert history["status"]["status_str"] == "success"
    cached = {node for message in messages(history, "execution_cached") for node in message["nodes"]}
    assert {"2", "3", "4", "5", "10"} <= cached and not {"6", "7"} & cached


def test_wrong_values_are_refused_before_running(server: Server, workflow: dict[str, Any]) -> None:
    for key, name, value in (("5", "quality", "ultra"), ("7", "fov", 400.0), ("3", "size", 8)):
        changed = json.loads(json.dumps(workflow))
        changed[key]["inputs"][name] = value
        _, answer = server.post("/prompt", {"prompt": changed})  # outputs that do not depend on the wrong node are still made
        assert answer["node_errors"][key]["errors"][0]["extra_info"]["input_name"] == name


def test_errors_reach_the_user_as_a_line(server: Server, workflow: dict[str, Any]) -> None:
    Image.new("RGB", (200, 200), "grey").save(server.folder / "input" / "wall.png")
    changed = json.loads(json.dumps(workflow))
    changed["1"]["inputs"]["image"] = "wall.png"
    history = server.wait(server.queue(changed))
    (error,) = messages(history, "execution_error")
    assert error["node_id"] == "2" and error["exception_type"].endswith("TrackingError")
    assert len(error["exception_message"].strip().splitlines()) <= 2


def test_interrupting_stops_the_fit(server: Server, workflow: dict[str, Any], first_run: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(workflow))
    changed["5"]["inputs"]["steps"] = 100_000
    prompt = server.queue(changed)
    while not server.get_json("/queue")["queue_running"]:
        pass
    server.post("/interrupt", {})
    assert messages(server.wait(prompt), "execution_interrupted")


def test_splat_convention_matches_core_render_splat(server: Server, first_run: dict[str, Any], tmp_path: Path) -> None:
    """The same avatar, frame and camera through our renderer and through ComfyUI's own look alike, so the axes agree."""
    saved = first_run["outputs"]["10"]["mvp4d"][0]
    name = f"{saved['subfolder']}/{saved['filename']}"
    (tmp_path / "avatar.mvp4d").write_bytes(server.view(saved))
    x, y, z = head_centre(load_avatar(tmp_path / "avatar.mvp4d").rig).tolist()
    angle = np.deg2rad(30.0)
    graph = {
        "1": _node("MVP4D_LoadAvatar", file=f"{name} [output]", head="in the file"),
        "2": _node("MVP4D_LoadPerformance", performance="showcase", fps=4.0, seconds=0.5),
        "3": _node("MVP4D_AnimateAvatar", avatar=["1", 0], performance=["2", 0], first_frame=0, frames=1),
        "4": _node(
            "CreateCameraInfo",
            **{"mode": "look_at", "mode.position_x": x + 1.2 * float(np.sin(angle)), "mode.position_y": y},
            **{"mode.position_z": z + 1.2 * float(np.cos(angle))},
            target_x=x, target_y=y, target_z=z, fov=20.0, zoom=1.0, camera_type="perspective", roll=0.0,
        ),
        "5": _node(
            "RenderSplat", splat=["3", 0], camera_info=["4", 0], width=128, height=128, frames=1, splat_scale=1.0, sharpen=1.0,
            headlight_shading=0.0, opacity_threshold=0.0, render_style="color", background="#ffffff",
        ),
        "6": _node("PreviewImage", images=["5", 0]),
        "7": _node(
            "MVP4D_RenderAvatar", avatar=["1", 0], performance=["2", 0], azimuth=30.0, elevation=0.0, turn=0.0, distance=1.2, fov=20.0,
            width=128, height=128, background="#ffffff",
        ),
        "8": _node("PreviewImage", images=["7", 0]),
    }  # fmt: skip
    history = server.wait(server.queue(graph))
    assert history["status"]["status_str"] == "success", messages(history, "execution_error")
    theirs, ours = (_picture(server.view(history["outputs"][key]["images"][0])) for key in ("6", "8"))
    assert np.abs(theirs - ours).mean() < 0.02 < np.abs(theirs[:, ::-1] - ours).mean()


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float32) / 255
