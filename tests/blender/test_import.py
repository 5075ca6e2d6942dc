# SPDX-License-Identifier: Apache-2.0
"""Import of every kind of file, and avatars in other files: appended, linked, overridden, saved and opened again."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from blender_addon import animation, bridge, build, sliders
from blender_addon.avatar_files import ImportOptions
from blender_addon.import_avatar import PART, import_avatar, import_file
from blender_addon.properties import chosen_avatar
from mvp4d_core.avatar import save_avatar
from mvp4d_core.avatar.cap4d_ply import write_cap4d
from mvp4d_core.avatar.gaussian_avatars import write_gaussian_avatars
from mvp4d_core.avatar.posed_files import write_posed
from mvp4d_core.errors import MissingAssetError, MVP4DError
from mvp4d_core.evaluation.flame_shaped_head import FACES, VERTICES, flame_head
from mvp4d_core.rig import load_head_model, personalize, rest_parameters, save_head_model, skin
from mvp4d_core.rotations import quaternion_to_axis_angle
from tests.blender.test_rig import exact_vertices, flame_like, head_vertices
from tests.support.poses import random_performance
from tests.support.toy_avatar import toy_avatar

REOPEN = """
import sys
import bpy
bpy.ops.wm.open_mainfile(filepath=sys.argv[1], use_scripts=False)
assert not any(name.split(".")[0] in ("blender_addon", "mvp4d_core") for name in sys.modules)
scene = bpy.context.scene
head = next(o for o in scene.objects if o.get("mvp4d_part") == "head" and o.library is None)
for frame in (2, 5):
    scene.frame_set(frame)
    mesh = head.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    print("PLACE", frame, *(coordinate for vertex in mesh.vertices for coordinate in vertex.co))
"""


def toy_person(tmp_path):
    """An avatar on a head of FLAME's size whose licence keeps it home, its head's file and its shape."""
    head, rng = flame_head(shapes=12, expressions=8), np.random.default_rng(0)
    shape = rng.normal(size=len(head.shape_names)).astype(np.float32)
    rig = personalize(head, shape, 1e-4 * rng.normal(size=(VERTICES, 3)))
    avatar = replace(toy_avatar(60), rig=rig, binding=rng.integers(0, FACES, 60).astype(np.int32))
    save_head_model(head, tmp_path / "flame.safetensors")
    return avatar, head, shape


def test_licensed_heads_come_from_the_preferences(addon, tmp_path):
    avatar, head, shape = toy_person(tmp_path)
    save_avatar(tmp_path / "person.mvp4d", avatar, head_model=head, shape=shape)
    with pytest.raises(RuntimeError, match="add-on's preferences"):
        bpy.ops.mvp4d.import_avatar(filepath=str(tmp_path / "person.mvp4d"))
    assert not bpy.data.objects
    imported = import_file(tmp_path / "person.mvp4d", ImportOptions(flame=tmp_path / "flame.safetensors", identity=True))
    np.testing.assert_allclose(head_vertices(imported), exact_vertices(avatar, rest_parameters(avatar.rig)), atol=1e-6)
    sliders.set_sliders(imported.armature, {"shape003": 2.0})
    other = personalize(head, shape + 2.0 * (np.arange(len(shape)) == 3), avatar.rig.static_offsets)
    np.testing.assert_allclose(head_vertices(imported), other.v_template + other.static_offsets, atol=1e-6)
    with pytest.raises(MissingAssetError, match="nowhere"):
        import_file(tmp_path / "person.mvp4d", ImportOptions(flame=tmp_path / "nowhere.safetensors"))


def test_gaussian_avatars_come_with_their_motion(addon, tmp_path):
    avatar, head, _ = toy_person(tmp_path)
    performance = random_performance(avatar.rig, 5)
    (tmp_path / "somebody").mkdir()
    path = tmp_path / "somebody" / "point_cloud.ply"
    write_gaussian_avatars(path, avatar, head, performance)
    with pytest.raises(MissingAssetError, match="FLAME"):
        import_file(path)
    imported = import_file(path, ImportOptions(flame=tmp_path / "flame.safetensors"))
    assert imported.collection.name == "somebody"
    bpy.context.scene.render.fps = 24
    bpy.context.scene.frame_set(3)
    assert imported.armature.animation_data.action.name == "somebody"
    assert len(imported.splats.data.polygons) > 0
    still = import_file(path, ImportOptions(flame=tmp_path / "flame.safetensors", motion=False))
    assert still.armature.animation_data is None or still.armature.animation_data.action is None


def test_cap4d_animations_play(addon, tmp_path):
    avatar = toy_avatar(80)
    performance = random_performance(avatar.rig, 4, fps=24.0)
    write_cap4d(tmp_path / "cap.ply", avatar, performance)
    bpy.context.scene.render.fps = 24
    assert bpy.ops.mvp4d.import_avatar(filepath=str(tmp_path / "cap.ply"), fps=24.0) == {"FINISHED"}
    head = next(o for o in bpy.data.collections["cap"].objects if o.get(PART) == "head")
    for frame in (0, 3):
        bpy.context.scene.frame_set(1 + frame)
        found = bridge.head_from_blender(bridge.evaluated_vertices(head).astype(np.float64))[:-1]
        np.testing.assert_allclose(found, exact_vertices(avatar, performance[frame]), atol=2e-4)
    assert sliders.slider_names(head.parent, ["jawOpen"]) == []


@pytest.mark.parametrize("ending", [".ply", ".splat", ".spz"])
def test_splats_that_stand_still_get_the_open_head(addon, tmp_path, ending):
    avatar = toy_avatar(300)
    write_posed(tmp_path / f"still{ending}", avatar, rest_parameters(avatar.rig))
    assert bpy.ops.mvp4d.import_avatar(filepath=str(tmp_path / f"still{ending}")) == {"FINISHED"}
    armature = bpy.context.object
    assert {"jawOpen", "tongueOut"} <= set(armature.pose.bones["face"].keys())
    assert len(bpy.data.objects["still head"].data.vertices) == len(load_head_model().v_template)


def test_people_of_the_open_head_can_have_their_identity_changed(tmp_path):
    model = load_head_model()
    rig = personalize(model, np.zeros(len(model.shape_names)), np.zeros_like(model.v_template))
    avatar = replace(toy_avatar(50), rig=rig, binding=np.arange(50, dtype=np.int32) * 100)
    imported = import_avatar(avatar, "anyone", identity=model)
    shape = np.zeros(len(model.shape_names))
    shape[:3] = 2.0, -1.0, 1.5
    sliders.set_sliders(imported.armature, dict(zip(model.shape_names, shape, strict=True)))
    neck = imported.armature.pose.bones["neck"]
    neck.rotation_quaternion = (0.9, 0.3, 0.2, 0.24)
    parameters = rest_parameters(rig)
    rotations = parameters.rotations.astype(np.float64)
    quaternion = np.array([0.9, 0.3, 0.2, 0.24])
    rotations[1] = quaternion_to_axis_angle(quaternion / np.linalg.norm(quaternion))
    wanted = skin(model, shape, parameters.expression.astype(np.float64), rotations, parameters.translation)
    np.testing.assert_allclose(head_vertices(imported), wanted, atol=1e-6, rtol=0)


def test_a_name_that_is_taken_is_numbered(addon, tmp_path):
    bpy.data.collections.new("toy")
    bpy.data.objects.new("toy rig", None)
    path = tmp_path / "toy.mvp4d"
    save_avatar(path, toy_avatar(20))
    first, second = import_file(path), import_file(path)
    assert [avatar.collection.name for avatar in (first, second)] == ["toy.001", "toy.002"]
    assert first.armature.animation_data.drivers[0].driver.variables[0].targets[0].id == first.armature


def saved_library(tmp_path) -> tuple[Path, object, object]:
    avatar = flame_like(toy_avatar(60))
    import_avatar(avatar, "toy")
    path = tmp_path / "library.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    performance = random_performance(avatar.rig, 6)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return path, avatar, performance


def brought(path, *, link: bool) -> bpy.types.Collection:
    with bpy.data.libraries.load(str(path), link=link) as (_, into):
        into.collections = ["toy"]
    return into.collections[0]


def part(collection: bpy.types.Collection, name: str) -> bpy.types.Object:
    return next(o for o in collection.all_objects if o.get(PART) == name)


def act(collection, avatar, performance, atol: float) -> None:
    """Keys a performance on the avatar of a collection and looks at its head and splats."""
    head = part(collection, "head")
    animation.key_performance(head.parent, performance, "take", start=3)
    for frame in (1, 4):
        bpy.context.scene.frame_set(3 + frame)
        found = bridge.head_from_blender(bridge.evaluated_vertices(head).astype(np.float64))
        np.testing.assert_allclose(found, exact_vertices(avatar, performance[frame]), atol=atol, rtol=0)
        centres = build.splat_centres(type("Part", (), {"splats": part(collection, "splats")}))
        np.testing.assert_allclose(centres, avatar.pose(performance[frame]).means, atol=1e-5, rtol=0)


def test_an_appended_avatar_acts(tmp_path):
    path, avatar, performance = saved_library(tmp_path)
    collection = brought(path, link=False)
    bpy.context.scene.collection.children.link(collection)
    assert not bpy.data.libraries or all(o.library is None for o in collection.all_objects)
    act(collection, avatar, performance, 1e-6)


def test_a_linked_avatar_acts_by_override_and_after_reopening(tmp_path, addon):
    path, avatar, performance = saved_library(tmp_path)
    linked = brought(path, link=True)
    bpy.context.scene.collection.children.link(linked)
    bpy.context.view_layer.objects.active = part(linked, "head").parent
    assert not bpy.ops.mvp4d.rest.poll()  # a linked avatar is not one's own
    collection = linked.override_hierarchy_create(bpy.context.scene, bpy.context.view_layer, do_fully_editable=True)
    act(collection, avatar, performance, 1e-6)
    bpy.context.view_layer.objects.active = part(collection, "head").parent
    assert bpy.ops.mvp4d.mirror_face(mode="SWAP") == {"FINISHED"}
    bpy.context.scene.frame_set(4)
    shot = tmp_path / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(shot))
    done = subprocess.run([sys.executable, "-c", REOPEN, str(shot)], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True)
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("PLACE")]
    for frame, *numbers in lines:
        found = bridge.head_from_blender(np.array(numbers, np.float64).reshape(-1, 3))
        wanted = exact_vertices(avatar, performance[max(0, int(frame) - 3)])
        np.testing.assert_allclose(found, wanted, atol=1e-6, rtol=0)
    assert len(lines) == 2


def test_a_copy_of_an_avatar_is_an_avatar(addon):
    imported = import_avatar(toy_avatar(20), "toy")
    for blender_object in imported.collection.objects:
        blender_object.hide_select = False
        blender_object.select_set(True)
    bpy.ops.object.duplicate()
    chosen = chosen_avatar(bpy.context)
    assert chosen.armature != imported.armature and chosen.head not in (None, imported.head)
    assert chosen.splats not in (None, imported.splats)


@pytest.mark.parametrize("name", ["a.mvp4d", "a.ply", "a.spz"])
def test_broken_files_of_each_kind_leave_nothing(tmp_path, name):
    newer = b'{"__metadata__":{"schema":"mvp4d-avatar/9"}}'.ljust(64)
    for content in (b"", bytes(range(256)) * 4, b"ply\nformat ascii 1.0\nend_header\n", b"\x40" + bytes(7) + newer):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MVP4DError) as caught:
            import_file(tmp_path / name)
        assert len(str(caught.value).splitlines()) <= 2
        assert not bpy.data.objects and not bpy.data.collections
