# SPDX-License-Identifier: Apache-2.0
"""The add-on as a user meets it: enabled, used, disabled, and installed from its zip."""

import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np
import pytest

from blender_addon import build, properties, registration, sliders
from mvp4d_core.avatar import save_avatar
from mvp4d_core.rig import save_performance
from tests.support.poses import random_performance
from tests.support.toy_avatar import toy_avatar
from tools.build_blender_addon import build as build_zip

REPOSITORY = Path(__file__).resolve().parents[2]
VALIDATOR = next(Path(bpy.utils.system_resource("SCRIPTS")).rglob("blender_ext.py"))
INSTALL = """
import sys
import bpy
assert not any(name == "mvp4d_core" for name in sys.modules)
zip_path, folder, avatar = sys.argv[1:]
bpy.context.preferences.extensions.repos.new(name="t", module="t", custom_directory=folder, remote_url="")
assert bpy.ops.extensions.package_install_files(filepath=zip_path, repo="t", enable_on_install=True) == {"FINISHED"}
import mvp4d_core
print("CORE", mvp4d_core.__file__)
assert bpy.ops.mvp4d.import_avatar(filepath=avatar) == {"FINISHED"}
assert [o.type for o in bpy.data.collections["toy"].objects] == ["ARMATURE", "MESH", "MESH"]
bpy.ops.preferences.addon_disable(module="bl_ext.t.mvp4d")
assert not hasattr(bpy.types, "MVP4D_FH_avatar")
"""


def trace() -> dict[str, object]:
    """What an add-on could leave behind."""
    return {
        "types": sorted(name for name in dir(bpy.types) if "mvp4d" in name.lower()),
        "operators": sorted(dir(bpy.ops.mvp4d)),
        "handlers": {name: len(h) for name in dir(bpy.app.handlers) if isinstance(h := getattr(bpy.app.handlers, name), list)},
        "manager": "mvp4d" in bpy.types.WindowManager.bl_rna.properties,
        "menu": len(bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize()),
    }


def data_blocks() -> set[str]:
    stores = (bpy.data.objects, bpy.data.meshes, bpy.data.armatures, bpy.data.collections, bpy.data.node_groups, bpy.data.materials)
    return {repr(block) for store in stores for block in store}


@pytest.fixture
def avatar_file(tmp_path):
    path = tmp_path / "toy.mvp4d"
    save_avatar(path, toy_avatar(200))
    return path


def test_three_times_on_and_off_leaves_no_trace():
    before = trace()
    for _ in range(3):
        registration.register()
        assert hasattr(bpy.types, "MVP4D_FH_avatar") and hasattr(bpy.types, "MVP4D_PT_avatar")
        registration.unregister()
        assert trace() == before


def test_import_makes_a_collection_and_shows_it(addon, avatar_file):
    assert bpy.ops.mvp4d.import_avatar(filepath=str(avatar_file)) == {"FINISHED"}
    assert {o.name for o in bpy.data.collections["toy"].objects} == {"toy rig", "toy head", "toy splats"}
    assert bpy.context.object == bpy.data.objects["toy rig"]
    assert bpy.context.scene.camera is not None and bpy.context.scene.view_settings.view_transform == "Raw"


def test_several_files_at_once_are_several_avatars(addon, avatar_file):
    second = avatar_file.with_name("second.mvp4d")
    save_avatar(second, toy_avatar(100, seed=1))
    names = [{"name": path.name} for path in (avatar_file, second)]
    assert bpy.ops.mvp4d.import_avatar(directory=str(avatar_file.parent), files=names) == {"FINISHED"}
    assert bpy.ops.mvp4d.import_avatar(filepath=str(avatar_file), match_training=False) == {"FINISHED"}
    assert {"toy", "second", "toy.001"} <= set(bpy.data.collections.keys())
    assert len([g for g in bpy.data.node_groups if g.name.startswith("MVP4D Splats")]) == 1  # one tree for all
    heads = {o.name for o in bpy.data.objects if o.get("mvp4d_part") == "head"}
    assert heads == {"toy head", "second head", "toy head.001"}


@pytest.mark.parametrize("damage", ["empty", "truncated", "noise", "text"])
def test_a_broken_file_is_reported_and_leaves_nothing(addon, avatar_file, damage):
    content = avatar_file.read_bytes()
    broken = {"empty": b"", "truncated": content[: len(content) // 2], "noise": os.urandom(4096), "text": b"ply\nformat ascii 1.0\n"}
    avatar_file.write_bytes(broken[damage])
    before = data_blocks()
    with pytest.raises(RuntimeError, match=r"(?i)error: .*toy\.mvp4d"):
        bpy.ops.mvp4d.import_avatar(filepath=str(avatar_file))
    assert data_blocks() == before
    assert bpy.context.mode == "OBJECT" and bpy.context.scene.camera is None


def test_a_failure_in_the_middle_takes_everything_back(avatar_file, monkeypatch):
    from blender_addon import import_avatar

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(import_avatar, "new_splat_mesh", full)
    before = data_blocks()
    with pytest.raises(MemoryError):
        import_avatar.import_file(avatar_file)
    assert data_blocks() == before


def test_import_waits_for_object_mode(addon, avatar_file):
    bpy.ops.mvp4d.import_avatar(filepath=str(avatar_file))
    bpy.ops.object.mode_set(mode="POSE")
    assert not bpy.ops.mvp4d.import_avatar.poll()
    bpy.ops.object.mode_set(mode="OBJECT")
    assert bpy.ops.mvp4d.import_avatar.poll()


def test_a_performance_is_loaded_and_rest_comes_back(addon, avatar_file):
    bpy.ops.mvp4d.import_avatar(filepath=str(avatar_file))
    avatar = toy_avatar(200)
    performance = random_performance(avatar.rig, 4)
    path = avatar_file.with_name("random.safetensors")
    save_performance(performance, path)
    assert bpy.ops.mvp4d.load_performance(filepath=str(path), start=5, tolerance=0) == {"FINISHED"}
    assert (bpy.context.scene.frame_start, bpy.context.scene.frame_end) == (5, 8)
    chosen = properties.chosen_avatar(bpy.context)
    bpy.context.scene.frame_set(7)
    value = chosen.head.data.shape_keys.key_blocks["jawOpen"].value
    assert value == pytest.approx(performance.expression[2, avatar.rig.expression_names.index("jawOpen")], abs=1e-6)
    chosen.armature.animation_data.action = None
    assert bpy.ops.mvp4d.rest() == {"FINISHED"}
    assert max(abs(chosen.armature.pose.bones["face"][name]) for name in chosen.expressions) == 0
    avatar_file.write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"toy\.mvp4d"):
        bpy.ops.mvp4d.load_performance(filepath=str(avatar_file))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(RuntimeError, match=r"random\.safetensors"):
        bpy.ops.mvp4d.load_performance(filepath=str(path))


def test_the_chosen_avatar_is_found_from_each_of_its_parts(addon, avatar_file):
    assert properties.chosen_avatar(bpy.context) is None and not bpy.ops.mvp4d.rest.poll()
    bpy.ops.mvp4d.import_avatar(filepath=str(avatar_file))
    for part in ("toy rig", "toy head", "toy splats"):
        bpy.context.view_layer.objects.active = bpy.data.objects[part]
        chosen = properties.chosen_avatar(bpy.context)
        assert chosen.armature.name == "toy rig" and chosen.head.name == "toy head" and len(chosen.expressions) == 52
    bpy.data.objects.remove(bpy.data.objects["toy head"])
    bpy.context.view_layer.objects.active = bpy.data.objects["toy rig"]
    chosen = properties.chosen_avatar(bpy.context)
    assert chosen.head is None and not bpy.ops.mvp4d.rest.poll()
    chosen.armature["mvp4d"] = "{"
    assert properties.chosen_avatar(bpy.context).info == {}


def test_two_avatars_move_on_their_own(addon, avatar_file):
    for _ in range(2):
        bpy.ops.mvp4d.import_avatar(filepath=str(avatar_file))
    first, second = (bpy.data.objects[name] for name in ("toy head", "toy head.001"))
    sliders.set_sliders(second.parent, {"jawOpen": 1.0})
    avatars = [type("Part", (), {"splats": bpy.data.objects[f"toy splats{end}"]}) for end in ("", ".001")]
    centres = [build.splat_centres(avatar) for avatar in avatars]
    assert np.abs(centres[1] - centres[0]).max() > 1e-3
    assert first.data.shape_keys.key_blocks["jawOpen"].value == 0 and second.data.shape_keys.key_blocks["jawOpen"].value == 1


def test_import_is_one_undo_step(addon, avatar_file):
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.mvp4d.import_avatar("EXEC_DEFAULT", True, filepath=str(avatar_file))
    count = len(bpy.data.objects)
    assert count > 4
    bpy.ops.ed.undo()
    assert not bpy.data.objects and not bpy.data.collections
    bpy.ops.ed.redo()
    assert len(bpy.data.objects) == count


def test_the_zip_is_valid_repeatable_and_small(tmp_path):
    first, second = build_zip(tmp_path / "a"), build_zip(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 6_000_000
    for thing in (first, REPOSITORY / "blender_addon"):
        done = subprocess.run([sys.executable, str(VALIDATOR), "validate", str(thing)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_zip_installs_into_a_blender_that_has_nothing_else(tmp_path, avatar_file):
    zip_path = build_zip(tmp_path / "dist")
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    environment["BLENDER_USER_RESOURCES"] = str(tmp_path / "user")
    (tmp_path / "repository").mkdir()
    command = [sys.executable, "-c", INSTALL, str(zip_path), str(tmp_path / "repository"), str(avatar_file)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    (core,) = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("CORE")]
    assert Path(core).is_relative_to(tmp_path)
