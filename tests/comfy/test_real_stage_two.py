# SPDX-License-Identifier: Apache-2.0
"""Avatars among a real ComfyUI's own nodes: splats, cameras, files, the player. See test_real_comfyui.py for how it runs."""

import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mvp4d_core.avatar import load_avatar, save_avatar
from mvp4d_core.avatar.file_space import to_file_space
from mvp4d_core.avatar.handover import read_handover
from mvp4d_core.avatar.ply import read_ply
from mvp4d_core.evaluation.comfy_bench import render_speed
from mvp4d_core.evaluation.comfy_server import Server, messages, running
from mvp4d_core.rig import rest_parameters
from tests.support.toy_avatar import toy_avatar

ROOT = Path(__file__).parents[2]
COMFYUI = os.environ.get("COMFYUI_PATH", "")
pytestmark = [pytest.mark.comfyui, pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH names no ComfyUI")]
AVATAR = toy_avatar(sh_degree=1)
SIZE = 128
STATE = {
    "expression": {"jawOpen": 0.6},
    "joints": {},
    "camera": {"position": {"x": 0.5, "y": 0.2, "z": 0.8}, "target": {"x": 0.0, "y": 0.0, "z": 0.0}, "fov": 22},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Path(COMFYUI), ROOT, tmp_path_factory.mktemp("comfyui") / "base") as server:
        save_avatar(server.folder / "input" / "toy.mvp4d", AVATAR)
        yield server


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def finished(server: Server, graph: dict[str, Any]) -> dict[str, Any]:
    history = server.wait(server.queue(graph))
    assert history["status"]["status_str"] == "success", messages(history, "execution_error")
    return history["outputs"]


def playing(frames: int = 2, file: str = "toy.mvp4d") -> dict[str, Any]:
    """An avatar, a performance and its splats, as nodes 1 to 3."""
    return {
        "1": node("MVP4D_LoadAvatar", file=file, head="in the file"),
        "2": node("MVP4D_LoadPerformance", performance="showcase", fps=4.0, seconds=1.0),
        "3": node("MVP4D_AnimateAvatar", avatar=["1", 0], performance=["2", 0], first_frame=0, frames=frames),
        "camera": node(
            "CreateCameraInfo",
            **{"mode": "look_at", "mode.position_x": 0.4, "mode.position_y": 0.1, "mode.position_z": 1.0},
            target_x=0.0, target_y=0.0, target_z=0.0, fov=20.0, zoom=1.0, camera_type="perspective", roll=0.0,
        ),
    }  # fmt: skip


def drawn(key: str, camera: list[Any], frames: int = 1) -> dict[str, Any]:
    look = {"splat_scale": 1.0, "sharpen": 1.0, "headlight_shading": 0.0, "opacity_threshold": 0.0, "render_style": "color"}
    return node("RenderSplat", splat=[key, 0], camera_info=camera, width=SIZE, height=SIZE, frames=frames, background="#ffffff", **look)


def ours(camera: list[Any], performance: list[Any]) -> dict[str, Any]:
    view = {"azimuth": 77.0, "elevation": 0.0, "turn": 0.0, "distance": 3.0, "fov": 60.0, "background": "#ffffff"}
    chain = {"avatar": ["1", 0], "performance": performance, "camera_info": camera}
    return node("MVP4D_RenderAvatar", width=SIZE, height=SIZE, **view, **chain)


def pictures(server: Server, output: dict[str, Any]) -> list[np.ndarray]:
    files = [server.view(image) for image in output["images"]]
    return [np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.float32) / 255 for file in files]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def test_a_batch_of_splats_goes_through_cores_nodes(server: Server) -> None:
    """Counted, moved and moved back, merged with itself, written and read: what comes out draws the same pictures."""
    still = {"rotate_x": 0.0, "rotate_z": 0.0, "scale_x": 1.0, "scale_y": 1.0, "scale_z": 1.0}
    away = {"translate_x": 0.2, "translate_y": -0.1, "translate_z": 0.3, "rotate_y": 0.0}
    back = {name: -value for name, value in away.items()}
    graph = playing() | {
        "4": node("GetSplatCount", splat=["3", 0]),
        "5": node("PreviewAny", source=["4", 1]),
        "6": node("TransformSplat", splat=["3", 0], **still, **away),
        "7": node("TransformSplat", splat=["6", 0], **still, **back),
        "8": node("SplatToFile3D", splat=["3", 0], format="ply"),
        "9": node("File3DToSplat", model_3d=["8", 0]),
        "straight": node("PreviewImage", images=["a", 0]),
        "a": drawn("3", ["camera", 0]),
        "moved": node("PreviewImage", images=["b", 0]),
        "b": drawn("7", ["camera", 0]),
        "filed": node("PreviewImage", images=["c", 0]),
        "c": drawn("9", ["camera", 0]),
        "merged": node("PreviewImage", images=["d", 0]),
        "d": drawn("e", ["camera", 0]),
        "e": node("MergeSplat", **{"splats.splat0": ["3", 0], "splats.splat1": ["3", 0]}),
    }
    outputs = finished(server, graph)
    assert str(2 * len(AVATAR)) in json.dumps(outputs["5"]).replace(",", "")
    straight, moved, filed, merged = (pictures(server, outputs[key]) for key in ("straight", "moved", "filed", "merged"))
    assert len(straight) == len(moved) == 2 and len(filed) == 1, "files hold the first frame"
    assert all(apart(a, b) < 0.004 for a, b in zip(straight, moved, strict=True)) and apart(straight[0], filed[0]) < 0.004
    assert merged and apart(straight[0], straight[1]) > 1e-4 and straight[0].std() > 0.1


def test_core_writes_our_splats_as_we_do(server: Server) -> None:
    graph = playing(1) | {
        "4": node("SplatToFile3D", splat=["3", 0], format="ply"),
        "5": node("SaveGaussianSplat", model_3d=["4", 0], filename_prefix="3d/core", viewport_state="", width=SIZE, height=SIZE),
        "6": node("PreviewGaussianSplat", model_3d=["4", 0], viewport_state="", width=SIZE, height=SIZE),
    }
    finished(server, graph)
    (written,) = (server.folder / "output" / "3d").glob("core*.ply")
    splats = read_ply(written)
    pack = load_avatar(server.folder / "input" / "toy.mvp4d")
    first = to_file_space(pack.pose(rest_parameters(pack.rig)))
    assert splats.means.shape == first.means.shape and np.abs(splats.means - first.means).max() < 0.05
    np.testing.assert_allclose(splats.sh0, pack.sh0, atol=1e-5)
    np.testing.assert_allclose(np.exp(splats.log_scales), first.scales, rtol=0.2)


def test_cameras_of_either_side_show_the_same(server: Server) -> None:
    graph = playing(1, file="mvp4d_avatar.mvp4d") | {
        "p": node("MVP4D_PreviewAvatar", avatar=["1", 0], state=json.dumps(STATE)),
        "q": node("MVP4D_AnimateAvatar", avatar=["1", 0], performance=["p", 0], first_frame=0, frames=1),
        "a": drawn("3", ["camera", 0]),
        "b": ours(["camera", 0], ["2", 0]),
        "c": drawn("q", ["p", 1]),
        "d": ours(["p", 1], ["p", 0]),
        **{f"{key} shown": node("PreviewImage", images=[key, 0]) for key in "abcd"},
    }
    outputs = finished(server, graph)
    theirs, own, theirs_posed, own_posed = (pictures(server, outputs[f"{key} shown"])[0] for key in "abcd")
    for core, pack in ((theirs, own), (theirs_posed, own_posed)):  # core blends in linear light and has harder edges
        assert apart(core, pack) < 0.04 and apart(core, pack) < 0.4 * min(apart(core[:, ::-1], pack), apart(core[::-1], pack))


def test_the_player_is_given_its_avatar(server: Server) -> None:
    graph = playing(1) | {"4": node("MVP4D_PreviewAvatar", avatar=["1", 0], state="", performance=["2", 0])}
    (file,) = finished(server, graph)["4"]["mvp4d_player"]
    assert b"mvp4d-player/1" in gzip.decompress(server.view(file))
    _, answer = server.post("/prompt", {"prompt": {**graph, "4": node("MVP4D_PreviewAvatar", avatar=["1", 0], state="{")}})
    assert "Empty it to begin at rest" in json.dumps(answer)


def test_exports_lie_where_they_are_said_to(server: Server) -> None:
    kinds = ("ply", "splat", "spz", "glb", "html", "cap4d", "ply sequence")
    exports = {
        kind: node(
            "MVP4D_ExportAvatar",
            avatar=["1", 0],
            format=kind,
            filename_prefix=f"x/{kind}",
            frame=0,
            glb_content="mesh",
            performance=["2", 0],
        )
        for kind in kinds
    }
    blender = {"blender": node("MVP4D_ExportForBlender", avatar=["1", 0], name="toy", performance=["2", 0])}
    outputs = finished(server, playing(1) | exports | blender)
    for kind in kinds:
        assert Path(outputs[kind]["text"][0].removeprefix("Saved ")).exists()
        assert len(outputs[kind]["3d"]) == (kind not in ("html", "ply sequence"))
    assert server.view(outputs["glb"]["3d"][0]).startswith(b"glTF") and b"MVP4D_ExportAvatar" in server.view(outputs["glb"]["3d"][0])
    found = read_handover(server.folder / "output" / "mvp4d" / "blender" / "toy.json")
    assert "MVP4D_ExportForBlender" in load_avatar(found.avatar).metadata["prompt"] and found.performance.is_file()


def test_wrong_names_and_colours_are_refused_before_running(server: Server) -> None:
    blender = node("MVP4D_ExportForBlender", avatar=["1", 0], name="../toy")
    red = ours(["camera", 0], ["2", 0])
    red["inputs"]["background"] = "red"
    graph = playing(1) | {"4": blender, "5": red, "6": node("PreviewImage", images=["5", 0])}
    status, answer = server.post("/prompt", {"prompt": graph})
    assert (
        status == 400
        and "letters, digits" in json.dumps(answer["node_errors"]["4"])
        and "#ffffff" in json.dumps(answer["node_errors"]["5"])
    )


def test_our_pictures_are_made_much_faster_than_cores(server: Server) -> None:
    """What `mvp4d bench comfy` measures; on an idle machine the ratio is above 50."""
    figures = render_speed(server)
    assert figures["render_splats"] == 40_000 and figures["render_speedup_per_splat"] > 35
