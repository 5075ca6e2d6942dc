# SPDX-License-Identifier: Apache-2.0
"""Saved files: they play and render without the add-on; performances in them are what the core says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest
from PIL import Image

from blender_addon import animation, bridge, build, scene
from blender_addon.headless import read_camera
from blender_addon.import_avatar import import_avatar
from mvp4d_core.avatar import save_avatar
from mvp4d_core.cameras import orbit_camera
from mvp4d_core.errors import FormatError, InputError, StorageError
from mvp4d_core.rig import Performance, save_performance
from tests.support.poses import random_performance
from tests.support.toy_avatar import toy_avatar

REPOSITORY = Path(__file__).resolve().parents[2]
REOPEN = """
import json, sys
import bpy
path, out, frames = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
bpy.ops.wm.open_mainfile(filepath=path, use_scripts=False)
assert "blender_addon" not in sys.modules and "mvp4d_core" not in sys.modules
views = [space for screen in bpy.data.screens for area in screen.areas for space in area.spaces if space.type == "VIEW_3D"]
assert views and all(view.shading.type == "MATERIAL" and view.region_3d.view_perspective == "CAMERA" for view in views)
scene = bpy.context.scene
scene.render.filepath = out + ".png"
if hasattr(scene.render.image_settings, "media_type"):
    scene.render.image_settings.media_type = "IMAGE"
scene.render.image_settings.file_format = "PNG"
result = {}
for frame in frames:
    scene.frame_set(frame)
    mesh = scene.objects["toy splats"].evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    result[frame] = [tuple(v.co) for v in mesh.vertices]
bpy.ops.render.render(write_still=True)
with open(out, "w") as file:
    json.dump(result, file)
"""


@pytest.fixture
def files(tmp_path):
    avatar = toy_avatar(400, sh_degree=1)
    performance = random_performance(avatar.rig, 6)
    save_avatar(tmp_path / "toy.mvp4d", avatar)
    save_performance(performance, tmp_path / "random.safetensors")
    return avatar, performance, tmp_path


@pytest.fixture
def camera():
    return orbit_camera(0.4, 0.1, target=np.zeros(3), distance=0.9, fov_y=0.5, width=96, height=96)


def test_keyed_frames_are_the_performances(files):
    avatar, performance, _ = files
    imported = import_avatar(avatar, "toy")
    animation.use_timing(bpy.context.scene, performance)
    animation.key_performance(imported.armature, performance, "random", start=11)
    for frame in range(len(performance)):
        bpy.context.scene.frame_set(11 + frame)
        found = build.splat_centres(imported)
        assert np.abs(found - avatar.pose(performance[frame]).means).max() <= 1e-5, f"frame {frame}"


def test_a_performance_is_keyed_at_the_scenes_rate(files):
    avatar, performance, _ = files
    imported = import_avatar(avatar, "toy")
    bpy.context.scene.render.fps = 60
    action = animation.key_performance(imported.armature, performance, "random", start=1)
    assert [slot.target_id_type for slot in action.slots] == ["OBJECT"]
    np.testing.assert_allclose(animation.key_frames(performance, 1), 1 + 2.5 * np.arange(6))
    bpy.context.scene.frame_set(6)
    np.testing.assert_allclose(build.splat_centres(imported), avatar.pose(performance[2]).means, atol=1e-5)
    animation.use_range(bpy.context.scene, performance, 1)
    assert (bpy.context.scene.frame_start, bpy.context.scene.frame_end) == (1, 13)


def test_quaternions_take_the_short_way():
    angle = np.linspace(0, 4 * np.pi, 50)
    wrapped = (angle + np.pi) % (2 * np.pi) - np.pi
    rotations = np.zeros((50, 1, 3), np.float32)
    rotations[:, 0, 1] = wrapped
    quats = animation.continuous_quaternions(np.stack([np.cos(wrapped / 2), 0 * angle, np.sin(wrapped / 2), 0 * angle], axis=1))
    steps = np.einsum("tk,tk->t", quats[1:], quats[:-1])
    assert steps.min() > 0.98
    np.testing.assert_allclose(quats[:, 2], np.sin(angle / 2), atol=1e-6)


def test_a_foreign_performance_is_refused(files):
    avatar, _, _ = files
    imported = import_avatar(avatar, "toy")
    foreign = Performance(np.zeros((2, 1)), np.zeros((2, 1, 3)), np.zeros((2, 3)), 24, ("smirk",), ("tail",))
    with pytest.raises(InputError, match="shares no expression and no joint"):
        animation.key_performance(imported.armature, foreign, "foreign")
    assert not bpy.data.actions


def test_a_saved_file_plays_and_renders_without_the_addon(files, camera):
    _, _, folder = files
    built = build.build_scene(
        folder / "toy.mvp4d", folder / "a.blend", performance_path=folder / "random.safetensors", camera=camera, size=96
    )
    scene.render_still(folder / "with.png", 1 + 5)
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", REOPEN, str(folder / "a.blend"), str(folder / "out"), "[2, 6]"]
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, timeout=100)
    reopened = json.loads((folder / "out").read_text())
    for frame in (2, 6):
        bpy.context.scene.frame_set(frame)
        np.testing.assert_allclose(reopened[str(frame)], bridge.evaluated_vertices(built.imported.splats), atol=1e-7)
    again, before = picture(folder / "out.png"), picture(folder / "with.png")
    assert np.abs(again - before).max() <= 1
    assert (before < 200).any()
    assert sorted(path.suffix for path in folder.iterdir()) == ["", ".blend", ".mvp4d", ".png", ".png", ".safetensors"]


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), int)


def run_headless(*arguments: str) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "blender_addon.headless", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=200)
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def test_headless_makes_scene_still_clip_and_report(files, camera):
    _, performance, folder = files
    fields = {"K": camera.K.tolist(), "camera_from_world": camera.camera_from_world.tolist(), "width": 96, "height": 96}
    (folder / "camera.json").write_text(json.dumps(fields))
    arguments = ["--performance", "random.safetensors", "--camera", "camera.json", "--blend", "a.blend", "--still", "still.png"]
    arguments += ["--clip", "clip.mp4", "--report", "report.json"]
    arguments = [str(folder / text) if "." in text else text for text in arguments]
    code, lines = run_headless(str(folder / "toy.mvp4d"), *arguments, "--still-frame", "3", "--size", "96", "--clip-size", "48")
    assert code == 0, lines
    stages = [json.loads(line) for line in lines]
    assert [s["stage"] for s in stages if s["done"] == s["total"]] == ["import", "measure", "still", "clip"]
    report = json.loads((folder / "report.json").read_text())
    assert 0 < report["blender_position_error"] <= 1e-5
    assert (report["clip_frames"], report["clip_width"], report["clip_height"]) == (6, 48, 48)
    assert set(report["seconds"]) == {"build", "still", "clip"}
    np.testing.assert_allclose(report["still_parameters"]["expression"], performance[3].expression)
    np.testing.assert_allclose(report["still_camera"]["K"], camera.K)
    assert picture(folder / "still.png").shape == (96, 96, 3)
    assert (folder / "clip.mp4").stat().st_size > 1000
    assert not list(folder.glob(".mvp4d*"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.mvp4d", "--blend", "a.blend"], StorageError.exit_code, "no such file"),
        (["toy.mvp4d", "--blend", "nowhere/a.blend"], StorageError.exit_code, "does not exist"),
        (["toy.mvp4d", "--blend", "a.blend", "--camera", "bad.json"], FormatError.exit_code, "not a camera"),
        (["toy.mvp4d", "--blend", "a.blend", "--still", "a.png", "--still-frame", "9"], InputError.exit_code, "still-frame"),
        (["toy.mvp4d", "--blend", "a.blend", "--size", "9"], InputError.exit_code, "--size"),
    ],
)
def test_headless_says_one_sentence(files, arguments, code, words):
    _, _, folder = files
    (folder / "bad.json").write_text('{"K": [[1]], "width": "wide"}')
    found, lines = run_headless(*(str(folder / text) if "." in text else text for text in arguments))
    sentences = [line for line in lines if not line.startswith("{")]
    assert found == code and len(sentences) in (1, 2) and words in sentences[0]


@pytest.mark.parametrize("room", [800, 3000])
def test_a_full_disk_leaves_the_old_files(files, camera, room):
    """Blender itself says nothing when a write falls short."""
    resource = pytest.importorskip("resource")
    _, _, folder = files
    build.build_scene(folder / "toy.mvp4d", folder / "a.blend", camera=camera, size=96)
    writers = {
        "b.blend": scene.save_blend,
        "b.png": lambda path: scene.render_still(path, 1),
        "b.mp4": lambda path: scene.render_clip(path, range(1, 3)),
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, write in writers.items():
        (folder / name).write_bytes(b"old")
        resource.setrlimit(resource.RLIMIT_FSIZE, (room if name != "b.mp4" else room // 4, before[1]))  # beyond it, writes fail
        try:
            with pytest.raises(StorageError, match=re.escape(name)):
                write(folder / name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (folder / name).read_bytes() == b"old"
    assert not list(folder.glob(".mvp4d*"))


def test_a_camera_file_must_be_a_camera(tmp_path):
    for text in ("", "[]", '{"K": 1}', "[" * 100_000, '{"K": [[NaN]], "camera_from_world": [], "width": 1e999, "height": 1}'):
        (tmp_path / "camera.json").write_text(text)
        with pytest.raises(FormatError, match="not a camera"):
            read_camera(tmp_path / "camera.json")


def test_an_interrupted_clip_leaves_the_old_one(files, camera):
    _, _, folder = files
    build.build_scene(folder / "toy.mvp4d", folder / "a.blend", camera=camera, size=64)
    (folder / "clip.mp4").write_bytes(b"old")

    def interrupted(stage, done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scene.render_clip(folder / "clip.mp4", range(1, 4), interrupted)
    assert (folder / "clip.mp4").read_bytes() == b"old"
    assert not list(folder.glob(".mvp4d*"))
    assert not bpy.app.handlers.render_post
