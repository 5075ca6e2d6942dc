# SPDX-License-Identifier: Apache-2.0
"""The ComfyUI pack at work on this machine's CPU: how long its import and its first workflow take, and how fast it draws.

Everything is measured in the ComfyUI that COMFYUI_PATH names, on one server that is started for it, with nothing compiled before. Where
none is named, the pack runs on the stand-in of the tests in a process of its own, and what is held against ComfyUI's nodes is None.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..avatar import load_avatar
from ..errors import MissingAssetError, MVP4DError
from ..progress import Progress, silent
from .comfy_server import Server, running, seconds_of

CLONE = Path(__file__).resolve().parents[2]
AVATAR = "mvp4d_avatar.mvp4d"  # of the example workflows, which the pack lays into ComfyUI's input folder
SIZE = 512
OUR_FRAMES, THEIR_FRAMES = 96, 2
STAGE = "benchmarking ComfyUI"
_SHOWN = 600  # characters
KEYS = (
    "import_seconds", "server_seconds", "quick_start_seconds", "second_run_seconds", "render_speedup_per_splat", "render_seconds",
    "core_render_seconds", "render_splats", "workflows_loaded", "workflows_run", "workflows",
)  # fmt: skip
# by class of node: what makes a workflow small, to see that it runs and no more
_SMALL: dict[str, dict[str, Any]] = {
    "MVP4D_ConditionExpressions": {"coverage": "120", "frames": 5, "views": 3, "size": 64},
    "MVP4D_SampleMultiViewVideo": {"steps": 2},
    "MVP4D_DistillAvatar": {"steps": 3, "splats": 12_000},
    "MVP4D_LoadPerformance": {"fps": 4.0, "seconds": 1.0},
    "MVP4D_PerformancePreset": {"fps": 4.0, "seconds": 1.0},
    "MVP4D_RenderAvatar": {"width": 64, "height": 64},
    "MVP4D_EvaluateAvatar": {"faces": False},
}


def bench_comfy(*, quick_start: bool = True, progress: Progress = silent) -> dict[str, Any]:
    """Measures with the ComfyUI that COMFYUI_PATH names; COMFYUI_PYTHON names its interpreter.

    Args:
        quick_start: whether to run that workflow at its full size, which takes minutes.

    Returns:
        `import_seconds` of the pack, as the server tells; `server_seconds` until the server answers, None without one;
        `quick_start_seconds` from the photo to the playing avatar, `second_run_seconds` with another performance;
        `render_speedup_per_splat`: seconds a picture and splat of ComfyUI's Render Splat over those of Render Avatar, from
        `core_render_seconds` and `render_seconds` a picture of the same `render_splats` at 512 px; `workflows` there are,
        `workflows_loaded`: those whose every node is known, `workflows_run`: those that ran to their end, made small.

    Raises:
        MissingAssetError: this is no clone of the repository, or ComfyUI does not start.
        MVP4DError: a workflow that is timed does not run.
    """
    figures: dict[str, Any] = dict.fromkeys(KEYS)
    comfyui, api = os.environ.get("COMFYUI_PATH", ""), CLONE / "workflows" / "api"
    if not api.is_dir():
        raise MissingAssetError("The nodes and workflows are not here: `bench comfy` runs from a clone of the repository.")
    if not comfyui:
        return figures | _on_the_stand_in(quick_start, progress)
    total = 4
    with tempfile.TemporaryDirectory(prefix="mvp4d-") as folder:
        progress(STAGE, 0, total)
        with running(Path(comfyui), CLONE, Path(folder) / "base") as server:
            figures |= {"import_seconds": server.import_seconds(), "server_seconds": round(server.start_seconds, 1)}
            progress(STAGE, 1, total)
            if quick_start:
                figures |= _quick_start(server, _read(api / "quick_start.json"))
            progress(STAGE, 2, total)
            figures |= render_speed(server)
            progress(STAGE, 3, total)
            figures |= _workflows(server, sorted(api.glob("*.json")))
            progress(STAGE, total, total)
    return figures


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _on_the_stand_in(quick_start: bool, progress: Progress) -> dict[str, Any]:
    progress(STAGE, 0, 1)
    command = [sys.executable, "-m", "tests.support.comfy_offline", *(["--quick-start"] if quick_start else [])]
    with tempfile.TemporaryDirectory(prefix="mvp4d-") as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        ended = subprocess.run(command, cwd=CLONE, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise MVP4DError(f"The nodes do not run without ComfyUI: {ended.stderr.strip()[-_SHOWN:]}")
    progress(STAGE, 1, 1)
    return json.loads(ended.stdout.splitlines()[-1])


def _quick_start(server: Server, workflow: dict[str, Any]) -> dict[str, float]:
    first = seconds_of(server.run(workflow))
    other_performance(workflow)
    return {"quick_start_seconds": round(first, 1), "second_run_seconds": round(seconds_of(server.run(workflow)), 1)}


def render_speed(server: Server) -> dict[str, float]:
    """The example avatar, fitted to a photo, through both renderers, all pictures of one renderer in one prompt.

    Each runs once before, so that what it compiles or loads does not count.
    """
    splats = len(load_avatar(server.folder / "input" / AVATAR))
    fps = 24.0
    camera = {"mode": "orbit", "mode.yaw": 0.0, "mode.pitch": 0.0, "mode.distance": 1.2, "target_x": 0.0, "target_y": 0.0, "target_z": 0.0}
    shared = {
        "1": _node("MVP4D_LoadAvatar", file=AVATAR, head="in the file"),
        "2": _node("MVP4D_LoadPerformance", performance="showcase", fps=fps, seconds=OUR_FRAMES / fps),
        "3": _node("MVP4D_AnimateAvatar", avatar=["1", 0], performance=["2", 0], first_frame=0, frames=1),
        "4": _node("CreateCameraInfo", **camera, fov=20.0, zoom=1.0, camera_type="perspective", roll=0.0),
        "6": _node("ImageFromBatch", image=["5", 0], batch_index=0, length=1),
        "7": _node("PreviewImage", images=["6", 0]),
        "8": _node("GetSplatCount", splat=["3", 0]),
        "9": _node("PreviewAny", source=["8", 1]),
    }

    def ours(turn: float) -> dict[str, Any]:
        view = {"azimuth": 0.0, "elevation": 0.0, "turn": turn, "distance": 1.2, "fov": 20.0, "background": "#ffffff"}
        chain = {"avatar": ["1", 0], "performance": ["2", 0], "camera_info": ["4", 0]}
        return shared | {"5": _node("MVP4D_RenderAvatar", **chain, **view, width=SIZE, height=SIZE)}

    def theirs(size: int, frames: int) -> dict[str, Any]:
        look = {"splat_scale": 1.0, "sharpen": 1.0, "headlight_shading": 0.0, "opacity_threshold": 0.0, "render_style": "color"}
        chain = {"splat": ["3", 0], "camera_info": ["4", 0]}
        return shared | {"5": _node("RenderSplat", **chain, **look, width=size, height=size, frames=frames, background="#ffffff")}

    server.run(ours(0.0))
    own = seconds_of(server.run(ours(30.0))) / OUR_FRAMES
    server.run(theirs(64, 1))
    core = seconds_of(server.run(theirs(SIZE, THEIR_FRAMES))) / THEIR_FRAMES
    figures = {"render_speedup_per_splat": round(core / own, 1), "render_seconds": round(own, 4), "core_render_seconds": round(core, 3)}
    return figures | {"render_splats": splats}


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _workflows(server: Server, paths: list[Path]) -> dict[str, int]:
    known = server.get_json("/object_info")
    loaded = run = 0
    for path in paths:
        workflow = _read(path)
        if all(entry["class_type"] in known for entry in workflow.values()):
            loaded += 1
        try:
            server.run(made_small(workflow))
            run += 1
        except MVP4DError:  # one that does not run is not counted; the tests say why
            continue
    return {"workflows": len(paths), "workflows_loaded": loaded, "workflows_run": run}


def other_performance(workflow: dict[str, Any]) -> str:
    """Makes the performance that a workflow plays half a second shorter; gives the id of its node."""
    (key,) = [key for key, entry in workflow.items() if entry["class_type"] == "MVP4D_LoadPerformance"]
    workflow[key]["inputs"]["seconds"] -= 0.5
    return key


def made_small(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow with what takes time cut short; links stay."""
    small = copy.deepcopy(workflow)
    for entry in small.values():
        for name, value in _SMALL.get(entry["class_type"], {}).items():
            if not isinstance(entry["inputs"].get(name), list):
                entry["inputs"][name] = value
    return small
