# SPDX-License-Identifier: Apache-2.0
"""An artist's day, driven to its end: import, pose, key, a take from an iPhone, the NLA, a render, and the same avatar in another file."""

from dataclasses import replace

import bpy
import numpy as np
import pytest
from PIL import Image

from blender_addon import scene
from blender_addon.import_avatar import PART
from mvp4d_core.avatar import save_avatar
from mvp4d_core.rig import ARKIT_NAMES, library_performance, write_performance
from tests.support.toy_avatar import toy_avatar

SIZE = 128


def picture(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")) / 255


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    return float(-10 * np.log10(max(((image - reference) ** 2).mean(), 1e-12)))


def look(path, frame: int) -> np.ndarray:
    bpy.context.scene.render.resolution_x = bpy.context.scene.render.resolution_y = SIZE
    scene.render_still(path, frame)
    return picture(path)


@pytest.fixture
def day(addon, tmp_path):
    """The files that the artist has."""
    save_avatar(tmp_path / "hero.mvp4d", toy_avatar(1500))
    take = library_performance("speech", fps=30, seconds=2.0)
    write_performance(replace(take, expression=np.minimum(1, 1.5 * take.expression)), tmp_path / "take.csv")
    return tmp_path


def test_from_import_to_the_shot(day):
    assert bpy.ops.mvp4d.import_avatar(filepath=str(day / "hero.mvp4d")) == {"FINISHED"}
    bpy.context.scene.render.fps = 30
    armature = bpy.context.object
    face = armature.pose.bones["face"]
    neutral = look(day / "neutral.png", 1)

    bpy.context.scene.mvp4d_both_sides.mouthSmile = 1.0  # a pose by hand, keyed, and the avatar back at rest
    assert bpy.ops.mvp4d.key_face(region="ALL") == {"FINISHED"}
    smile = look(day / "smile.png", 1)
    assert psnr(smile, neutral) < 50
    armature.animation_data.action = None
    assert bpy.ops.mvp4d.rest() == {"FINISHED"}
    assert psnr(look(day / "rest.png", 1), neutral) > 60

    assert bpy.ops.mvp4d.load_performance(filepath=str(day / "take.csv"), start=10, strip=True, tolerance=0.0) == {"FINISHED"}
    strip = armature.animation_data.nla_tracks[0].strips[0]
    frame = 10 + int(np.argmax(library_performance("speech", fps=30, seconds=2.0).expression[:, ARKIT_NAMES.index("jawOpen")]))
    open_mouth = look(day / "take.png", frame)
    assert face["jawOpen"] > 0.3 and psnr(open_mouth, neutral) < 40
    strip.scale = 0.5  # twice as fast
    faster = look(day / "faster.png", 10 + (frame - 10) // 2)
    assert psnr(faster, open_mouth) > 28
    strip.scale = 1.0

    library = day / "hero.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(library))
    bpy.ops.wm.open_mainfile(filepath=str(library))
    assert psnr(look(day / "reopened.png", frame), open_mouth) > 60
    in_another_file(day, library, frame, open_mouth)


def in_another_file(day, library, frame: int, open_mouth: np.ndarray) -> None:
    """Linked and overridden, the avatar plays its strip there, and can be given another performance."""
    camera = bpy.context.scene.camera.matrix_world.copy()
    lens = bpy.context.scene.camera.data
    settings = lens.sensor_width, lens.lens, lens.shift_x, lens.shift_y, lens.clip_start
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(library), link=True) as (_, into):
        into.collections = ["hero"]
    hero = into.collections[0].override_hierarchy_create(bpy.context.scene, bpy.context.view_layer, do_fully_editable=True)
    data = bpy.data.cameras.new("shot")
    data.sensor_width, data.lens, data.shift_x, data.shift_y, data.clip_start = settings
    data.sensor_fit = "HORIZONTAL"
    shot = bpy.data.objects.new("shot", data)
    bpy.context.scene.collection.objects.link(shot)
    shot.matrix_world = camera
    bpy.context.scene.camera = shot
    bpy.context.scene.render.fps = 30
    scene.match_training(bpy.context.scene)
    assert psnr(look(day / "shot.png", frame), open_mouth) > 60
    armature = next(o for o in hero.all_objects if o.get(PART) == "head").parent
    bpy.context.view_layer.objects.active = armature
    write_performance(library_performance("surprise", fps=30), day / "surprise.json")
    armature.animation_data.nla_tracks[0].mute = True
    assert bpy.ops.mvp4d.load_performance(filepath=str(day / "surprise.json"), start=1) == {"FINISHED"}
    assert psnr(look(day / "again.png", 40), open_mouth) < 40
    assert armature.pose.bones["face"]["browOuterUpLeft"] > 0.5
