# SPDX-License-Identifier: Apache-2.0
"""Live Link Face takes: every variant of header, timecode and lost frame, rotations against scipy, and damaged files."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mvp4d_core.errors import FormatError, InputError, StorageError
from mvp4d_core.rig import ARKIT_NAMES
from mvp4d_core.rig.live_link import (
    LiveLinkOptions,
    axis_angle_to_yaw_pitch_roll,
    level_head,
    load_live_link,
    neutral_weights,
    parse_live_link,
    save_live_link,
    yaw_pitch_roll_to_axis_angle,
)
from mvp4d_core.rig.performance_library import library_performance
from tests.support.asserts import assert_arrays_close
from tests.support.mutation import assert_refuses_cleanly

TURNS = [part + turn for part in ("Head", "LeftEye", "RightEye") for turn in ("Yaw", "Pitch", "Roll")]


def take(rows, names=ARKIT_NAMES, turns=TURNS, pascal=True, count="BlendShapeCount"):
    """The text of a take: `rows` are (timecode, {name: value})."""
    columns = [name[0].upper() + name[1:] if pascal else name for name in names] + list(turns)
    keys = [*names, *turns]
    lines = [",".join(["Timecode", count, *columns])]
    lines += [",".join([code, str(len(keys)), *(str(values.get(key, 0.0)) for key in keys)]) for code, values in rows]
    return "\n".join(lines) + "\n"


def weight(performance, name):
    return performance.expression[:, ARKIT_NAMES.index(name)]


@pytest.mark.parametrize("pascal", [True, False])
@pytest.mark.parametrize("count", ["BlendShapeCount", "BlendshapeCount"])
@pytest.mark.parametrize("turns", [TURNS, TURNS[:3], [t for t in TURNS if "EyeRoll" not in t], []])
def test_every_header_is_read_by_name(pascal, count, turns):
    shuffled = tuple(np.random.default_rng(0).permutation(ARKIT_NAMES))
    for names in (ARKIT_NAMES, ARKIT_NAMES[:-1], shuffled):  # with TongueOut, without it as older versions, right eye first
        rows = [(f"10:00:00:{k:02d}.123", {"jawOpen": 0.1 * k, "mouthRight": 0.25, "HeadYaw": 0.2}) for k in range(5)]
        performance = parse_live_link(take(rows, names, turns, pascal, count), LiveLinkOptions(fps=60))
        assert_arrays_close(weight(performance, "jawOpen"), np.arange(5) * 0.1, atol=1e-6)
        assert_arrays_close(weight(performance, "mouthRight"), np.full(5, 0.25))
        assert not weight(performance, "mouthLeft").any()
        assert performance.rotations[0, 1, 1] == pytest.approx(0.2 if turns else 0.0)


@pytest.mark.parametrize("rate", [24, 25, 30, 50, 60, 120])
def test_frame_rates_are_read_off_the_timecode(rate):
    frames = range(rate * 3 - 5, rate * 5)
    rows = [(f"23:59:{58 + k // rate - 2:02d}:{k % rate:02d}", {"jawOpen": k % 10 / 10}) for k in frames]
    performance = parse_live_link(take(rows), LiveLinkOptions())
    assert performance.fps == rate and len(performance) == len(frames)


@pytest.mark.parametrize("fps", [1, 12, 20, 23.976, 24, 29.97, 48, 60, 75, 240])
def test_our_own_takes_say_their_rate_however_short(fps, tmp_path):
    performance = replace(library_performance("joy", fps=24, seconds=0.5), fps=fps)
    save_live_link(performance.select(slice(0, 7)), tmp_path / "short.csv")
    back = load_live_link(tmp_path / "short.csv")
    assert len(back) == 7 and back.fps == round(fps)


def test_timecodes_pass_midnight_and_drop_frames_and_gaps_are_filled():
    codes = ["23:59:59:28", "23:59:59:29", "00:00:00:00", "00:00:00:03"]
    performance = parse_live_link(take([(code, {"jawOpen": 0.1 * k}) for k, code in enumerate(codes)]), LiveLinkOptions(fps=30))
    assert_arrays_close(weight(performance, "jawOpen"), [0, 0.1, 0.2, 0.2 + 1 / 30, 0.2 + 2 / 30, 0.3], atol=1e-6)
    dropped = parse_live_link(take([("00:00:59;28", {}), ("00:00:59;29", {}), ("00:01:00;02", {}), ("00:01:00;03", {})]),
                              LiveLinkOptions(fps=30))  # fmt: skip
    assert len(dropped) == 4 and dropped.fps == pytest.approx(29.97, abs=0.01)


def test_rows_finer_or_coarser_than_the_code():
    fine = [(f"01:00:{k // 60:02d}:{k % 60 // 2:02d}.{k % 2 * 5}00", {"jawOpen": 0.3}) for k in range(180)]
    performance = parse_live_link(take(fine), LiveLinkOptions())
    assert (performance.fps, len(performance)) == (60, 180)
    coarse = [(f"01:00:{k // 30:02d}:{k % 30 * 2 + 1:02d}", {"jawOpen": 0.3}) for k in range(90)]
    performance = parse_live_link(take(coarse), LiveLinkOptions())
    assert (performance.fps, len(performance)) == (30, 90)


def test_lost_faces_are_bridged():
    lines = take([(f"10:00:00:{k:02d}", {"jawOpen": 0.2 * k}) for k in range(5)]).splitlines()
    lines[2] = "10:00:00:01,0" + "," * 61  # count 0, empty cells
    lines[3] = "10:00:00:02,0"  # count 0, nothing more
    performance = parse_live_link("\n".join(lines), LiveLinkOptions(fps=60))
    assert_arrays_close(weight(performance, "jawOpen"), np.arange(5) * 0.2, atol=1e-6)
    with pytest.raises(FormatError, match="face"):
        parse_live_link("\n".join([lines[0], lines[2], lines[3]]), LiveLinkOptions())


def test_rotation_convention():
    """Yaw turns to the subject's left (+y), pitch raises the face (-x), roll tilts to the subject's right shoulder (+z)."""
    for turn, axis in ((0, [0, 0.3, 0]), (1, [-0.3, 0, 0]), (2, [0, 0, 0.3])):
        assert_arrays_close(yaw_pitch_roll_to_axis_angle(np.eye(3)[turn] * 0.3), np.array(axis), atol=1e-12)
    angles = np.random.default_rng(0).uniform(-1.4, 1.4, (50, 3))
    rotation = Rotation.from_euler("YXZ", angles * [1, -1, 1])
    assert_arrays_close(Rotation.from_rotvec(yaw_pitch_roll_to_axis_angle(angles)).as_matrix(), rotation.as_matrix(), atol=1e-12)
    assert_arrays_close(axis_angle_to_yaw_pitch_roll(rotation.as_rotvec()), angles, atol=1e-9)


def test_eyes_turn_as_their_weights_say_convention():
    """A row of a real take has both: eyeLookOutLeft 0.5 and LeftEyeYaw -0.31, eyeLookDownLeft 0.5 and LeftEyePitch 0.31."""
    text = take([("10:00:00:00", {"LeftEyeYaw": -0.31, "RightEyePitch": 0.31})])
    performance = parse_live_link(text, LiveLinkOptions(eyes="joints"))
    assert performance.rotations[0, 3, 1] > 0.3  # about y: to the subject's left
    assert performance.rotations[0, 4, 0] > 0.3  # about x: down


@pytest.mark.parametrize(("angles", "unit"), [("radians", 1.0), ("degrees", np.rad2deg(1)), ("half-turns", 1 / np.pi)])
def test_units_of_angles(angles, unit):
    text = take([("10:00:00:00", {"HeadPitch": 0.25 * unit})])
    assert parse_live_link(text, LiveLinkOptions(angles=angles)).rotations[0, 1, 0] == pytest.approx(-0.25)


def test_gaze_is_taken_once():
    both = take([("10:00:00:00", {"eyeLookOutLeft": 0.5, "LeftEyeYaw": -0.3})])
    only = take([("10:00:00:00", {"LeftEyeYaw": -0.3})])
    for text, eyes, look, turn in ((both, "auto", 0.5, 0), (both, "joints", 0, 0.3), (both, "looks", 0.5, 0), (only, "auto", 0, 0.3)):
        performance = parse_live_link(text, LiveLinkOptions(eyes=eyes))
        assert weight(performance, "eyeLookOutLeft")[0] == look
        assert performance.rotations[0, 3, 1] == pytest.approx(turn)


def test_calibration_takes_the_resting_face_off():
    rest = parse_live_link(take([(f"10:00:00:{k:02d}", {"browDownLeft": 0.2 + 0.01 * k}) for k in range(3)]), LiveLinkOptions())
    neutral = neutral_weights(rest)
    acted = take([("10:00:00:00", {"browDownLeft": 0.21}), ("10:00:00:01", {"browDownLeft": 1.0, "jawOpen": 0.5})])
    performance = parse_live_link(acted, LiveLinkOptions(neutral=neutral))
    assert_arrays_close(weight(performance, "browDownLeft"), [0, 1], atol=1e-6)
    assert_arrays_close(weight(performance, "jawOpen"), [0, 0.5], atol=1e-6)
    tilted = replace(rest, rotations=rest.rotations + np.array([0.2, 0.1, 0], np.float32))
    assert np.abs(level_head(tilted).rotations[:, 1]).max() < 1e-6


def test_round_trip_and_an_independent_reader(tmp_path):
    performance = library_performance("speech", fps=30)
    save_live_link(performance, tmp_path / "take.csv")
    back = load_live_link(tmp_path / "take.csv")
    assert back.fps == 30
    for name in ("expression", "rotations"):
        assert_arrays_close(getattr(back, name), getattr(performance, name), atol=1e-6)
    with (tmp_path / "take.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["BlendShapeCount"] == "61" and rows[31]["Timecode"] == "01:00:01:00.000" and len(rows[0]) == 63
    assert float(rows[40]["JawOpen"]) == pytest.approx(float(weight(performance, "jawOpen")[40]), abs=1e-6)


def test_what_a_take_cannot_hold_is_refused(tmp_path):
    strange = replace(library_performance("joy"), expression_names=("expr000", *ARKIT_NAMES[1:]))
    with pytest.raises(InputError, match="expr000"):
        save_live_link(replace(strange, expression=strange.expression + 0.1), tmp_path / "x.csv")
    with pytest.raises(InputError, match="resample"):
        save_live_link(replace(library_performance("joy"), fps=23.5), tmp_path / "x.csv")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "Timecode,BlendShapeCount,JawOpen,JawOpen\n00:00:00:00,2,0,0\n",
                                  take([("noon", {})]), take([("10:00:00:01", {}), ("10:00:00:00", {})]),
                                  take([("10:00:00:00", {"jawOpen": "nan"})]), take([("10:00:00:00", {"jawOpen": "1e9"})]),
                                  take([]), take([("00:00:00:00", {}), ("900:00:00:00", {})]), 'Timecode,"JawOpen'])  # fmt: skip
def test_bad_takes_are_one_line(text, tmp_path):
    (tmp_path / "bad.csv").write_text(text, encoding="utf-8")
    with pytest.raises(FormatError) as caught:
        load_live_link(tmp_path / "bad.csv")
    assert str(caught.value).count("\n") == 0 and "bad.csv" in str(caught.value)


def test_fuzz(tmp_path):
    rows = [(f"10:00:00:{k:02d}.5", {"jawOpen": 0.1 * k, "HeadYaw": 0.1}) for k in range(4)]
    refused = assert_refuses_cleanly(load_live_link, take(rows).encode(), tmp_path / "f.csv", 300)
    assert refused > 75
    with pytest.raises(StorageError):
        load_live_link(tmp_path / "none.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(FormatError, match="text"):
        load_live_link(tmp_path / "b.csv")
