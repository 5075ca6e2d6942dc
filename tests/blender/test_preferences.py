# SPDX-License-Identifier: Apache-2.0
"""What the preferences keep, and what holds without them."""

from pathlib import Path

import bpy
import pytest

from blender_addon import preferences
from tests.blender.test_panels import Layout


@pytest.fixture
def kept(addon):
    """The preferences as an installed add-on has them."""
    entry = bpy.context.preferences.addons.new()
    entry.module = "blender_addon"
    yield entry.preferences
    bpy.context.preferences.addons.remove(entry)


def test_without_preferences_the_defaults_hold(addon):
    assert preferences.flame_path(bpy.context) is None
    assert preferences.server(bpy.context) == "http://127.0.0.1:8188"
    assert preferences.live_address(bpy.context) == ("127.0.0.1", 11111)


def test_what_is_named_is_found(kept, tmp_path):
    assert preferences.flame_path(bpy.context) is None and preferences.live_address(bpy.context)[0] == "127.0.0.1"
    kept.flame, kept.server = str(tmp_path / "flame.safetensors"), "http://10.0.0.2:8188"
    kept.live_host, kept.live_port = "0.0.0.0", 80  # below what may be named
    assert preferences.flame_path(bpy.context) == Path(tmp_path / "flame.safetensors")
    assert preferences.server(bpy.context) == "http://10.0.0.2:8188"
    assert preferences.live_address(bpy.context) == ("0.0.0.0", 1024)


def test_every_preference_is_drawn(kept):
    layout = Layout()
    preferences.MVP4D_AP_preferences.draw(type("Preferences", (), {"layout": layout, "path_resolve": kept.path_resolve})(), bpy.context)
    assert set(layout.drawn) == set(preferences.MVP4D_AP_preferences.__annotations__)
