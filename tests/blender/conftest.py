# SPDX-License-Identifier: Apache-2.0
"""Each test of the add-on starts from an empty Blender file and leaves one behind. Without bpy there is nothing to test here."""

from pathlib import Path

import pytest

try:
    import bpy
except ImportError:
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.blender)


@pytest.fixture(autouse=True)
def empty_file():
    bpy.ops.wm.read_factory_settings(use_empty=True)
    yield
    bpy.ops.wm.read_factory_settings(use_empty=True)


@pytest.fixture
def addon():
    """The add-on, registered as Blender does it."""
    import blender_addon

    blender_addon.register()
    yield blender_addon
    blender_addon.unregister()
