# SPDX-License-Identifier: Apache-2.0
"""Avatars from ComfyUI: sent for, waited for, received; and what is said where that fails."""

import socket
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from PIL import Image

from blender_addon import comfyui, link_operators, preferences
from mvp4d_core.avatar import load_avatar, save_avatar
from mvp4d_core.avatar.handover import write_handover
from mvp4d_core.errors import Cancelled, FormatError, InputError, MissingAssetError
from tests.support.poses import random_performance
from tests.support.small_comfyui import SmallComfyUI, serving
from tests.support.toy_avatar import toy_avatar

WORKFLOW = comfyui.shipped_workflows()["quick_start"]


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "Ada Lovelace.png"
    Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(path)
    return path


@pytest.fixture
def avatar_bytes(tmp_path) -> bytes:
    save_avatar(tmp_path / "made.mvp4d", toy_avatar(60))
    return (tmp_path / "made.mvp4d").read_bytes()


def ask(server: SmallComfyUI, photo: Path, target: Path, progress=lambda *_: None) -> None:
    comfyui.make_avatar(comfyui.read_address(server.address), WORKFLOW, photo, target, progress)


def test_a_photo_goes_and_an_avatar_comes(photo, avatar_bytes, tmp_path):
    events = [
        ("executing", {"node": "5"}),
        ("progress", {"node": "5", "value": 3, "max": 9}),
        ("execution_success", {"prompt_id": "somebody else's"}),
        ("execution_success", {}),
    ]
    calls = []
    with serving(SmallComfyUI(avatar_bytes, events)) as server:
        ask(server, photo, tmp_path / "a.mvp4d", lambda *call: calls.append(call))
    assert (tmp_path / "a.mvp4d").read_bytes() == avatar_bytes
    ((name, content),) = server.uploads.items()
    assert content == photo.read_bytes() and name.endswith(".png")
    loaders = [node for node in server.prompts[0].values() if node["class_type"] == "LoadImage"]
    assert loaders[0]["inputs"]["image"] == name
    assert ("MVP4D Distill Avatar", 3, 9) in calls and calls[-1] == (comfyui.DOWNLOAD, len(avatar_bytes), len(avatar_bytes))
    assert not server.stopped


@pytest.mark.parametrize(
    ("server", "kind", "words"),
    [
        (SmallComfyUI(events=[None]), MissingAssetError, "No ComfyUI answers at"),
        (SmallComfyUI(events=[("execution_interrupted", {})]), InputError, "stopped the workflow"),
        (
            SmallComfyUI(events=[("execution_error", {"node_id": "2", "exception_message": "No face in the picture.\n"})]),
            InputError,
            "MVP4D Load Reference: No face in the picture.$",
        ),
        (SmallComfyUI(outputs={"9": {"images": []}}), FormatError, "no avatar came out"),
        (SmallComfyUI(avatar=b"x" * 1000, cut=500), MissingAssetError, "No ComfyUI answers at"),
        (SmallComfyUI(refusal=(404, b"<html>")), MissingAssetError, "is that a ComfyUI"),
        (SmallComfyUI(refusal=(200, b"[1, 2]")), MissingAssetError, "is no ComfyUI"),
        (
            SmallComfyUI(refusal=(400, {"error": {"type": "missing_node_type", "message": "Node 'MVP4D_X' not found."}})),
            MissingAssetError,
            "custom_nodes",
        ),
        (
            SmallComfyUI(refusal=(400, {"error": {"message": "outputs failed"},
                         "node_errors": {"5": {"errors": [{"message": "Value not in list", "details": "quality"}]}}})),
            InputError,
            r"MVP4D Distill Avatar: Value not in list \(quality\)",
        ),
    ],
)  # fmt: skip
def test_each_failure_is_a_sentence_and_leaves_no_file(server, kind, words, photo, tmp_path):
    with serving(server), pytest.raises(kind, match=words) as caught:
        ask(server, photo, tmp_path / "a.mvp4d")
    assert len(str(caught.value).splitlines()) <= 2
    assert not (tmp_path / "a.mvp4d").exists() and not list(tmp_path.glob(".mvp4d*"))


def test_a_server_that_is_away_is_said_to_be(photo, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = comfyui.Address("127.0.0.1", free.getsockname()[1])
    with pytest.raises(MissingAssetError, match="Start it, or correct the address"):
        comfyui.make_avatar(address, WORKFLOW, photo, tmp_path / "a.mvp4d")


def test_stopping_stops_comfyui_too(photo, tmp_path):
    def impatient(stage: str, done: int, total: int) -> None:
        if stage == comfyui.WORK:
            raise Cancelled("Stopped.")

    with serving(SmallComfyUI(events=[])) as server, pytest.raises(Cancelled):
        ask(server, photo, tmp_path / "a.mvp4d", impatient)
    assert server.stopped == [("/queue", {"delete": ["p1"]}), ("/interrupt", {"prompt_id": "p1"})]


def test_addresses():
    assert str(comfyui.read_address("localhost:9000")) == "http://localhost:9000"
    assert str(comfyui.read_address(" http://[::1] ")) == "http://[::1]:8188"
    for wrong in ("", "ftp://a", "http://a/b", "http://a:99999999", "https://a", "http://u:p@a"):
        with pytest.raises(InputError, match="must be like"):
            comfyui.read_address(wrong)


def test_only_workflows_that_make_avatars_of_photos_are_offered(tmp_path):
    offered = comfyui.shipped_workflows()
    assert {"quick_start", "full_mvp4d"} <= offered.keys() and "avatar_to_blender" not in offered
    for text in ("", "[]", "{}", '{"1": 3}', "[" * 100_000):
        (tmp_path / "broken.json").write_text(text)
        with pytest.raises(FormatError, match="API form"):
            comfyui.read_workflow(tmp_path / "broken.json")
    (tmp_path / "other.json").write_text('{"1": {"class_type": "LoadImage", "inputs": {}}}')
    with pytest.raises(FormatError, match="MVP4D_SaveAvatar"):
        comfyui.make_avatar(comfyui.Address("127.0.0.1", 1), tmp_path / "other.json", tmp_path / "no.png", tmp_path / "a.mvp4d")


@pytest.fixture
def online():
    system = bpy.context.preferences.system
    before = system.use_online_access
    system.use_online_access = True
    yield system
    system.use_online_access = before


@pytest.fixture
def at(monkeypatch, tmp_path):
    """Where the operator finds ComfyUI, and where it keeps avatars: preferences exist only for installed add-ons."""

    def at(address: str) -> None:
        monkeypatch.setattr(preferences, "SERVER", address)
        monkeypatch.setenv("BLENDER_USER_RESOURCES", str(tmp_path))
        monkeypatch.setattr(link_operators, "avatar_folder", lambda: tmp_path)

    return at


def test_the_operator_brings_the_avatar_into_the_scene(addon, online, at, photo, avatar_bytes, tmp_path):
    with serving(SmallComfyUI(avatar_bytes)) as server:
        at(server.address)
        assert bpy.ops.mvp4d.make_avatar(filepath=str(photo), workflow="quick_start") == {"FINISHED"}
        assert bpy.ops.mvp4d.make_avatar(filepath=str(photo), workflow="quick_start") == {"FINISHED"}
    assert {"Ada Lovelace", "Ada Lovelace_2"} <= set(bpy.data.collections.keys())
    assert len(load_avatar(tmp_path / "Ada Lovelace_2.mvp4d")) == 60
    assert not bpy.context.window_manager.mvp4d_link.making


def test_the_operator_reports_and_leaves_the_scene_alone(addon, online, at, photo):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    at(f"http://127.0.0.1:{port}")
    with pytest.raises(RuntimeError, match="No ComfyUI answers"):
        bpy.ops.mvp4d.make_avatar(filepath=str(photo), workflow="quick_start")
    assert not bpy.data.objects and not bpy.context.window_manager.mvp4d_link.making


def test_without_online_access_nothing_is_sent(addon, online):
    assert bpy.ops.mvp4d.make_avatar.poll()
    online.use_online_access = False
    assert not bpy.ops.mvp4d.make_avatar.poll()


def test_what_changes_in_the_folder_is_brought_up_to_date(addon, tmp_path):
    """The generator behind the operator, advanced by hand as the timer does it."""
    avatar = toy_avatar(40)
    performance = random_performance(avatar.rig, 3)
    told = []
    operator = SimpleNamespace(report=lambda kind, text: told.append(text))
    taken = {}

    def take() -> None:
        link_operators.MVP4D_OT_watch_folder._take(operator, bpy.context, manifest, taken)

    manifest = write_handover(tmp_path, "head", avatar, performance)
    take()
    first = bpy.context.object
    assert first.animation_data.action and first.name == taken["head"].armature
    write_handover(tmp_path, "head", avatar, random_performance(avatar.rig, 5))
    bpy.context.view_layer.objects.active = None
    take()
    assert bpy.context.scene.frame_end == 5 and bpy.context.object == first  # only the performance is new
    write_handover(tmp_path, "head", toy_avatar(50), performance)
    take()
    second = bpy.context.object
    assert second != first and first.hide_render and not second.hide_render and second.animation_data.action
    bpy.data.objects.remove(second)
    write_handover(tmp_path, "head", toy_avatar(50))
    take()
    assert bpy.context.object.name == taken["head"].armature and not told


def test_what_is_laid_ready_is_taken_up(addon, tmp_path):
    avatar = toy_avatar(40)
    folder = tmp_path / "blender"
    write_handover(folder, "head", avatar, random_performance(avatar.rig, 3))
    (folder / "broken.json").write_text("{")
    with pytest.raises(RuntimeError, match=r"broken\.json"):
        bpy.ops.mvp4d.watch_folder(directory=str(folder))
    assert "head" in bpy.data.collections and bpy.context.scene.frame_end == 3
    (folder / "broken.json").unlink()
    assert bpy.ops.mvp4d.watch_folder(directory=str(folder), present=False) == {"FINISHED"}
    assert len([name for name in bpy.data.collections.keys() if name.startswith("head")]) == 1
    with pytest.raises(RuntimeError, match="is no folder"):
        bpy.ops.mvp4d.watch_folder(directory=str(tmp_path / "nowhere"))
    assert not bpy.context.window_manager.mvp4d_link.watching
