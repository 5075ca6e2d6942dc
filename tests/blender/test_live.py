# SPDX-License-Identifier: Apache-2.0
"""Live capture over a real socket of this machine: faces arrive, move the avatar, are recorded; noise does not."""

import socket
import time

import bpy
import numpy as np
import pytest

from blender_addon import live, live_operators
from blender_addon.import_avatar import import_avatar
from mvp4d_core.errors import InputError, StorageError
from mvp4d_core.rig import ARKIT_NAMES
from tests.support.live_datagrams import live_link_datagram, osc_message
from tests.support.toy_avatar import toy_avatar


@pytest.fixture
def imported(addon):
    return import_avatar(toy_avatar(30), "toy")


@pytest.fixture
def session():
    opened = live.LiveSession("127.0.0.1", 0)
    yield opened
    opened.close()


@pytest.fixture
def settings(addon):
    settings = bpy.context.window_manager.mvp4d
    yield settings
    for name in ("live", "live_record", "live_neutral"):
        setattr(settings, name, False)


def send(session, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        for data in datagrams:
            phone.sendto(data, ("127.0.0.1", session.port))
    time.sleep(0.02)


def weights(**named: float) -> np.ndarray:
    return np.array([named.get(name, 0.0) for name in ARKIT_NAMES])


def test_the_newest_face_is_shown(imported, session, settings):
    send(session, live_link_datagram(weights(jawOpen=0.2), np.zeros(3)), live_link_datagram(weights(jawOpen=0.6), np.array([0.3, 0, 0])))
    assert live_operators.step(session, imported.armature, settings)
    face, neck = imported.armature.pose.bones["face"], imported.armature.pose.bones["neck"]
    assert face["jawOpen"] == pytest.approx(0.6, abs=1e-6)
    assert 2 * np.arcsin(neck.rotation_quaternion[2]) == pytest.approx(0.3, abs=1e-5)  # around the head's y, to its left
    settings.live_turn = False
    send(session, live_link_datagram(weights(jawOpen=0.7), np.array([-0.3, 0, 0])), osc_message("/browInnerUp", 0.5))
    live_operators.step(session, imported.armature, settings)
    assert (face["jawOpen"], face["browInnerUp"]) == pytest.approx((0.7, 0.5), abs=1e-6)
    assert 2 * np.arcsin(neck.rotation_quaternion[2]) == pytest.approx(0.3, abs=1e-5)
    settings.live_turn = True


def test_noise_changes_nothing_and_is_counted(imported, session, settings):
    send(session, b"hello", b"\x06\x00", b"/" * 300)
    assert live_operators.step(session, imported.armature, settings)
    assert session.refused == 3 and session.received == 0 and "3 datagrams not understood" in settings.live_status
    assert not live_operators.step(session, imported.armature, settings)
    assert imported.armature.pose.bones["face"]["jawOpen"] == 0


def test_the_neutral_face_is_taken_off(imported, session, settings):
    send(session, live_link_datagram(weights(browDownLeft=0.4), np.zeros(3)))
    live_operators.step(session, imported.armature, settings)
    settings.live_neutral = True
    live_operators.step(session, imported.armature, settings)
    assert not settings.live_neutral
    for given, shown in ((0.4, 0.0), (0.7, 0.5), (1.0, 1.0), (0.1, 0.0)):
        send(session, live_link_datagram(weights(browDownLeft=given), np.zeros(3)))
        live_operators.step(session, imported.armature, settings)
        assert imported.armature.pose.bones["face"]["browDownLeft"] == pytest.approx(shown, abs=1e-5)


def test_a_recording_becomes_keys(imported, session, settings, monkeypatch):
    scene = bpy.context.scene
    scene.render.fps, scene.frame_current = 25, 11
    clock = iter(np.arange(0, 10, 0.02))
    monkeypatch.setattr(live.time, "monotonic", lambda: float(next(clock)))
    settings.live_record = True
    for value in np.linspace(0, 1, 21):
        send(session, live_link_datagram(weights(jawOpen=value), np.array([value / 2, 0, 0])))
        live_operators.step(session, imported.armature, settings)
    assert session.recorded == 21
    action = live_operators.keep_recording(session, imported.armature, scene)
    assert action.name == "Live capture" and session.recorded == 0
    assert live_operators.keep_recording(session, imported.armature, scene) is None
    for frame, wanted in ((11, 0.0), (16, 0.5), (21, 1.0)):
        scene.frame_set(frame)
        assert imported.head.data.shape_keys.key_blocks["jawOpen"].value == pytest.approx(wanted, abs=0.005)
        quaternion = np.array(imported.armature.pose.bones["neck"].rotation_quaternion)
        assert 2 * np.arctan2(quaternion[2], quaternion[0]) == pytest.approx(wanted / 2, abs=0.005)


def test_it_hears_the_network_only_where_that_is_allowed(addon, session, monkeypatch):
    assert not bpy.app.online_access
    refused = (
        ("127.0.0.1", session.port, StorageError, "Choose another port"),  # which `session` has
        ("0.0.0.0", 0, InputError, "Allow Online Access"),
        ("phone.local", 0, InputError, "IPv4 address"),
    )
    for host, port, kind, words in refused:
        monkeypatch.setattr(live_operators.preferences, "live_address", lambda _, host=host, port=port: (host, port))
        with pytest.raises(kind, match=words):
            live_operators.open_session(bpy.context)
    monkeypatch.setattr(live_operators.preferences, "live_address", lambda _: ("127.0.0.1", 0))
    opened = live_operators.open_session(bpy.context)
    assert opened.port != session.port
    opened.close()


def test_it_is_off_and_asks_for_an_avatar(addon, settings):
    assert not settings.live and not bpy.ops.mvp4d.live.poll() and not bpy.ops.mvp4d.stop_live.poll()
    import_avatar(toy_avatar(30), "toy")
    assert bpy.ops.mvp4d.live.poll()
    settings.live = True
    assert not bpy.ops.mvp4d.live.poll() and bpy.ops.mvp4d.stop_live.poll()
    assert bpy.ops.mvp4d.stop_live() == {"FINISHED"} and not settings.live
