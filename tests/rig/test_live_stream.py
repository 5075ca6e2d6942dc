# SPDX-License-Identifier: Apache-2.0
"""Datagrams of faces: written here from the protocols' own descriptions, read by the core; noise is refused."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.rig import ARKIT_NAMES
from mvp4d_core.rig.live_link import axis_angle_to_yaw_pitch_roll
from mvp4d_core.rig.live_stream import LiveFace, parse_datagram, recorded_performance
from mvp4d_core.rotations import axis_angle_to_matrix
from tests.support.live_datagrams import live_link_datagram, osc_bundle, osc_message


def test_live_link_faces_come_back():
    weights = np.linspace(0, 1, 52)
    turn = np.array([0.3, -0.2, 0.1])
    face = parse_datagram(live_link_datagram(weights, turn))
    np.testing.assert_allclose([face.weights[name] for name in ARKIT_NAMES], weights, atol=1e-6)
    np.testing.assert_allclose(axis_angle_to_yaw_pitch_roll(face.turn), turn, atol=1e-6)


def test_head_turn_convention_is_live_links():
    """Positive yaw turns the face to the subject's left, +x in head space."""
    face = parse_datagram(live_link_datagram(np.zeros(52), np.array([0.4, 0, 0])))
    assert (axis_angle_to_matrix(face.turn) @ [0, 0, 1])[0] > 0.3


def test_osc_messages_and_bundles():
    assert parse_datagram(osc_message("/face/JawOpen", 0.5)).weights == {"jawOpen": 0.5}
    assert parse_datagram(osc_message("/VMC/Ext/Blend/Val", "eyeBlinkLeft", 0.25)).weights == {"eyeBlinkLeft": 0.25}
    assert parse_datagram(osc_message("/VMC/Ext/OK", 1)) == LiveFace()
    bundle = osc_bundle(osc_message("/mouthFunnel", 1), osc_bundle(osc_message("/tongueOut", 0.125)), osc_message("/other", "x"))
    assert parse_datagram(bundle).weights == {"mouthFunnel": 1.0, "tongueOut": 0.125}


@given(st.binary(max_size=400))
def test_noise_is_refused_or_harmless(noise):
    for data in (noise, b"\x06" + noise, b"/" + noise, b"#bundle\0" + noise):
        try:
            face = parse_datagram(data)
        except FormatError as error:
            assert len(str(error)) < 200
        else:
            assert set(face.weights) <= set(ARKIT_NAMES) and all(0 <= w <= 2 for w in face.weights.values())


@given(st.integers(0, 400), st.integers(0, 255))
def test_damaged_datagrams_are_refused_or_finite(place, value):
    data = bytearray(live_link_datagram(np.full(52, 0.5), np.zeros(3)))
    data[place % len(data)] = value
    try:
        face = parse_datagram(bytes(data))
    except FormatError:
        return
    assert np.isfinite(list(face.weights.values())).all() and (face.turn is None or np.isfinite(face.turn).all())


def test_truncated_nested_and_infinite_ones_are_refused():
    whole = live_link_datagram(np.zeros(52), np.zeros(3))
    for data in (b"", b"hello", whole[:60], whole[:5] + struct.pack(">i", -1) + whole[9:], b"#bundle\0" + bytes(8) + b"\0\0\0\x7f"):
        with pytest.raises(FormatError):
            parse_datagram(data)
    nested = osc_message("/jawOpen", 1.0)
    for _ in range(6):
        nested = osc_bundle(nested)
    with pytest.raises(FormatError, match="deep"):
        parse_datagram(nested)
    with pytest.raises(FormatError, match="finite"):
        parse_datagram(live_link_datagram(np.full(52, np.nan), np.zeros(3)))


def test_a_recording_is_spaced_evenly():
    times = [10.0, 10.02, 10.09, 10.1, 10.2]
    faces = [LiveFace({"jawOpen": t - 10}, np.array([0, t - 10, 0])) for t in times]
    performance = recorded_performance(times, faces, 50)
    assert len(performance) == 11 and performance.fps == 50
    np.testing.assert_allclose(performance.expression[:, ARKIT_NAMES.index("jawOpen")], np.arange(11) / 50, atol=1e-6)
    np.testing.assert_allclose(performance.rotations[:, 1, 1], np.arange(11) / 50, atol=1e-4)
    assert len(recorded_performance([3.0], [LiveFace()], 30)) == 1
    with pytest.raises(InputError, match="recording"):
        recorded_performance([], [], 30)
