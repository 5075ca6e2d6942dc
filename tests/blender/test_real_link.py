# SPDX-License-Identifier: Apache-2.0
"""A photo through a real ComfyUI and back into the scene, at toy size; run with `COMFYUI_PATH=... pytest -m comfyui`."""

import json
import os
from pathlib import Path

import bpy
import pytest
from PIL import Image

from blender_addon import comfyui, link_operators, preferences
from mvp4d_core.errors import Cancelled
from mvp4d_core.evaluation.comfy_server import running
from tests.support.quick_start import TOY

ROOT = Path(__file__).parents[2]
COMFYUI = os.environ.get("COMFYUI_PATH", "")
pytestmark = [pytest.mark.comfyui, pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH names no ComfyUI")]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(Path(COMFYUI), ROOT, tmp_path_factory.mktemp("comfyui") / "base") as server:
        yield server


@pytest.fixture
def workflow(tmp_path) -> Path:
    nodes = json.loads((ROOT / "workflows" / "api" / "quick_start.json").read_text(encoding="utf-8"))
    for key, values in TOY.items():
        nodes[key]["inputs"].update(values)
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(nodes))
    return path


@pytest.fixture
def photo(tmp_path) -> Path:
    data = pytest.importorskip("skimage").data
    path = tmp_path / "portrait.jpg"
    Image.fromarray(data.astronaut()).save(path, quality=95)
    return path


def test_stopping_leaves_comfyui_free(server, workflow, photo, tmp_path):
    def impatient(stage: str, done: int, total: int) -> None:
        if stage not in (comfyui.UPLOAD, comfyui.WORK):
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        comfyui.make_avatar(comfyui.read_address(server.address), workflow, photo, tmp_path / "a.mvp4d", impatient)
    assert not (tmp_path / "a.mvp4d").exists()


def test_a_photo_becomes_an_avatar_in_the_scene(addon, server, workflow, photo, tmp_path, monkeypatch):
    stages = []
    comfyui.make_avatar(comfyui.read_address(server.address), workflow, photo, tmp_path / "a.mvp4d", lambda *call: stages.append(call[0]))
    assert {"MVP4D Load Reference", "MVP4D Distill Avatar", comfyui.DOWNLOAD} <= set(stages)
    monkeypatch.setattr(preferences, "SERVER", server.address)
    monkeypatch.setattr(link_operators, "avatar_folder", lambda: tmp_path)
    monkeypatch.setattr(comfyui, "shipped_workflows", lambda: {"quick_start": workflow})
    system, before = bpy.context.preferences.system, bpy.context.preferences.system.use_online_access
    try:
        system.use_online_access = True
        assert bpy.ops.mvp4d.make_avatar(filepath=str(photo), workflow="quick_start") == {"FINISHED"}
    finally:
        system.use_online_access = before
    assert len(bpy.data.collections["portrait"].objects) >= 3
