# SPDX-License-Identifier: Apache-2.0
"""Avatars that travel between .blend files: reopened, linked, overridden, appended, in a Blender without the add-on."""

import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from blender_addon import animation, build, scene
from mvp4d_core.avatar import save_avatar
from mvp4d_core.cameras import orbit_camera
from mvp4d_core.errors import StorageError
from mvp4d_core.rig import save_performance
from tests.support.pictures import read_picture
from tests.support.poses import random_performance
from tests.support.toy_avatar import toy_avatar

ELSEWHERE = """
import sys
import bpy
blend, out = sys.argv[1:]
assert "blender_addon" not in sys.modules and "mvp4d_core" not in sys.modules

def render(name):
    scene = bpy.context.scene
    scene.render.filepath = f"{out}/{name}.png"
    if hasattr(scene.render.image_settings, "media_type"):
        scene.render.image_settings.media_type = "IMAGE"
    scene.render.image_settings.file_format = "PNG"
    bpy.ops.render.render(write_still=True)

bpy.ops.wm.open_mainfile(filepath=blend, use_scripts=False)
scene = bpy.context.scene
for frame in range(scene.frame_start, scene.frame_end + 1):
    scene.frame_set(frame)
    render(f"clip_{frame}")
settings = {name: getattr(scene.render, name) for name in ("engine", "filter_size", "resolution_x", "resolution_y", "dither_intensity")}
look = scene.view_settings.view_transform

bpy.ops.wm.read_homefile(use_empty=True)
scene = bpy.context.scene
with bpy.data.libraries.load(blend, link=True) as (there, here):
    here.collections, here.worlds = ["toy"], list(there.worlds)
linked = bpy.data.collections["toy"]
instance = bpy.data.objects.new("toy", None)
instance.instance_type, instance.instance_collection = "COLLECTION", linked
scene.collection.objects.link(instance)
scene.camera = next(thing for thing in linked.objects if thing.type == "CAMERA")
scene.world = bpy.data.worlds[0]
for name, value in settings.items():
    setattr(scene.render, name, value)
scene.view_settings.view_transform = look
scene.eevee.taa_render_samples = 1
scene.frame_set(3)
render("linked")

bpy.data.objects.remove(instance)
scene.collection.children.link(linked)
override = linked.override_hierarchy_create(scene, bpy.context.view_layer, do_fully_editable=True)
scene.collection.children.unlink(linked) if linked.name in scene.collection.children and linked.library else None
rig = next(thing for thing in override.all_objects if thing.type == "ARMATURE")
scene.camera = next(thing for thing in override.all_objects if thing.type == "CAMERA")
scene.frame_set(3)
render("override")
rig.animation_data.action = bpy.data.actions.new("mine")
neck, face = rig.pose.bones["neck"], rig.pose.bones["face"]
neck.rotation_quaternion = (0.9, 0, 0.4, 0)
face["jawOpen"] = 1.0
for bone in rig.pose.bones:  # all of it: what is not keyed is as the library has it
    bone.keyframe_insert("rotation_quaternion", frame=3)
    bone.keyframe_insert("location", frame=3)
for name in [name for name in face.keys() if isinstance(face[name], float)]:
    face.keyframe_insert(f'["{name}"]', frame=3)
scene.frame_set(3)
render("acted")
bpy.ops.wm.save_as_mainfile(filepath=f"{out}/other.blend")
bpy.ops.wm.open_mainfile(filepath=f"{out}/other.blend")
render("again")
"""


@pytest.fixture
def built(tmp_path):
    avatar = toy_avatar(600, sh_degree=1)
    save_avatar(tmp_path / "toy.mvp4d", avatar)
    save_performance(random_performance(avatar.rig, 4), tmp_path / "random.safetensors")
    camera = orbit_camera(0.4, 0.1, target=np.zeros(3), distance=0.9, fov_y=0.5, width=96, height=96)
    build.build_scene(
        tmp_path / "toy.mvp4d", tmp_path / "a.blend", performance_path=tmp_path / "random.safetensors", camera=camera, size=96
    )
    return tmp_path


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return -10 * np.log10(max(((first - second) ** 2).mean(), 1e-12))


def test_a_clip_renders_the_same_without_the_add_on_and_files_link_and_override(built):
    for frame in range(1, 5):
        scene.render_still(built / f"with_{frame}.png", frame)
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    environment["BLENDER_USER_RESOURCES"] = str(built / "user")
    (built / "out").mkdir()
    command = [sys.executable, "-c", ELSEWHERE, str(built / "a.blend"), str(built / "out")]
    done = subprocess.run(command, cwd=built, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    pictures = {path.stem: read_picture(path) for path in (built / "out").glob("*.png")}
    for frame in range(1, 5):
        mine = read_picture(built / f"with_{frame}.png")
        assert (mine < 0.8).any() and psnr(pictures[f"clip_{frame}"], mine) >= 60
    assert psnr(pictures["linked"], pictures["clip_3"]) >= 60
    assert psnr(pictures["override"], pictures["clip_3"]) >= 60
    assert psnr(pictures["acted"], pictures["override"]) < 30
    assert psnr(pictures["again"], pictures["acted"]) >= 60


def test_an_nla_strip_at_half_speed_plays_each_frame_twice_as_late(built):
    rig = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    strip = animation.onto_strip(rig, rig.animation_data.action)
    splats = next(thing for thing in bpy.data.objects if thing.name.endswith("splats"))
    part = type("Part", (), {"splats": splats})
    bpy.context.scene.frame_set(3)
    before = build.splat_centres(part)
    strip.scale = 2.0
    bpy.context.scene.frame_set(5)
    np.testing.assert_allclose(build.splat_centres(part), before, atol=1e-6)


def test_a_blend_that_cannot_be_written_stays_as_it_was(built):
    (built / "folder.blend").mkdir()
    with pytest.raises(StorageError, match=r"folder\.blend"):
        scene.save_blend(built / "folder.blend")
    assert not list(Path(built).glob(".mvp4d*"))
