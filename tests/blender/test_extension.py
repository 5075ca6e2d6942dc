# SPDX-License-Identifier: Apache-2.0
"""The extension from its zip, in a Blender that has nothing else: installed, enabled, used and disabled, three times."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import bpy
import pytest

from mvp4d_core.avatar import save_avatar
from tests.support.toy_avatar import toy_avatar
from tools.build_blender_addon import build as build_zip

VALIDATOR = next(Path(bpy.utils.system_resource("SCRIPTS")).rglob("blender_ext.py"))
THREE_TIMES = """
import sys
from pathlib import Path
import bpy
zip_path, folder, avatar, out = sys.argv[1:]
bpy.context.preferences.extensions.repos.new(name="t", module="t", custom_directory=folder, remote_url="")
ours = lambda: sorted(name for name in dir(bpy.types) if "mvp4d" in name.lower())
assert not ours() and "mvp4d_core" not in sys.modules
for round in range(3):
    assert bpy.ops.extensions.package_install_files(filepath=zip_path, repo="t", enable_on_install=True) == {"FINISHED"}
    import mvp4d_core
    assert Path(mvp4d_core.__file__).is_relative_to(Path(folder).parent), mvp4d_core.__file__
    bpy.ops.wm.read_homefile(use_empty=True)
    assert bpy.ops.mvp4d.import_avatar(filepath=avatar) == {"FINISHED"}
    bpy.context.scene.frame_end = 1
    assert bpy.ops.mvp4d.bake_splats(filepath=f"{out}/{round}") == {"FINISHED"}
    assert bpy.ops.mvp4d.turntable(frames=4) == {"FINISHED"}
    assert "quick_start" in bpy.ops.mvp4d.make_avatar.get_rna_type().properties["workflow"].enum_items
    bpy.ops.preferences.addon_disable(module="bl_ext.t.mvp4d")
    assert not ours() and not hasattr(bpy.types.WindowManager, "mvp4d_link"), ours()
    bpy.ops.preferences.addon_enable(module="bl_ext.t.mvp4d")
    assert ours()
    bpy.ops.preferences.addon_disable(module="bl_ext.t.mvp4d")
    last = len(bpy.context.preferences.extensions.repos) - 1
    assert bpy.ops.extensions.package_uninstall(repo_index=last, pkg_id="mvp4d") == {"FINISHED"}
print("THREE TIMES")
"""


@pytest.fixture(scope="module")
def zip_path(tmp_path_factory) -> Path:
    return build_zip(tmp_path_factory.mktemp("dist"))


def test_blender_finds_the_zip_valid(zip_path):
    done = subprocess.run([sys.executable, str(VALIDATOR), "validate", str(zip_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_blender_builds_the_same_files_of_the_unpacked_zip(zip_path, tmp_path):
    with zipfile.ZipFile(zip_path) as archive:
        archive.extractall(tmp_path / "source")
        names = set(archive.namelist())
    command = [sys.executable, str(VALIDATOR), "build", "--source-dir", str(tmp_path / "source"), "--output-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = tmp_path.glob("*.zip")
    with zipfile.ZipFile(built) as archive:
        assert set(archive.namelist()) == names
    assert {"workflows/quick_start.json", "LICENSE", "blender_manifest.toml"} <= names


def test_three_times_installed_used_and_taken_away(zip_path, tmp_path):
    save_avatar(tmp_path / "toy.mvp4d", toy_avatar(100))
    (tmp_path / "user" / "repository").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    environment["BLENDER_USER_RESOURCES"] = str(tmp_path / "user")
    command = [sys.executable, "-c", THREE_TIMES, str(zip_path), str(tmp_path / "user" / "repository"), str(tmp_path / "toy.mvp4d")]
    done = subprocess.run([*command, str(tmp_path / "out")], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "THREE TIMES" in done.stdout, done.stdout[-2000:] + done.stderr[-4000:]
    assert len(list((tmp_path / "out").rglob("*.ply"))) == 3
