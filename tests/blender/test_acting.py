# SPDX-License-Identifier: Apache-2.0
"""Files that make an avatar act: each kind against the core's own reading, keys within their tolerance, strips, sound, broken files."""

import json
import wave
from dataclasses import replace

import bpy
import numpy as np
import pytest

from blender_addon import acting_files, animation, properties, sliders
from blender_addon.acting_files import ActingOptions, read_acting
from blender_addon.import_avatar import import_avatar
from mvp4d_core.errors import InputError, MissingAssetError
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.rig import ARKIT_NAMES, Performance, library_performance, load_performance, perform_on, save_head_model, write_performance
from mvp4d_core.rig.performance_edit import resample
from mvp4d_core.rotations import quaternion_to_axis_angle
from mvp4d_core.tracks.flame_params import write_flame_param
from tests.support.poses import random_performance
from tests.support.toy_avatar import toy_avatar

AVATAR = toy_avatar(30)


@pytest.fixture
def imported(addon):
    return import_avatar(AVATAR, "toy")


def played(imported, frame: float) -> dict[str, float]:
    """The sliders as the head has them in a scene frame, fractions included."""
    bpy.context.scene.frame_set(int(frame), subframe=frame - int(frame))
    keys = imported.head.data.shape_keys.key_blocks
    return {name: keys[name].value for name in ARKIT_NAMES}


def turned(imported, bone: str) -> np.ndarray:
    quaternion = np.array(imported.armature.pose.bones[bone].rotation_quaternion, np.float64)
    return quaternion_to_axis_angle(quaternion / np.linalg.norm(quaternion))


def speech_wav(path, seconds: float = 1.0, rate: int = 16_000):
    """A tone that swells four times a second, like syllables."""
    times = np.arange(int(seconds * rate)) / rate
    samples = 0.4 * np.sin(2 * np.pi * 140 * times) * (0.5 - 0.5 * np.cos(2 * np.pi * 4 * times))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.mark.parametrize("ending", [".performance.safetensors", ".csv", ".json"])
def test_performances_of_each_kind_are_played(imported, tmp_path, ending):
    scene = bpy.context.scene
    performance = library_performance("speech", fps=30, seconds=1.0)
    path = tmp_path / f"hello{ending}"
    write_performance(performance, path)
    scene.render.fps = 30
    assert bpy.ops.mvp4d.load_performance(filepath=str(path), start=11, tolerance=0.0) == {"FINISHED"}
    assert (scene.frame_start, scene.frame_end) == (11, 40)
    for frame in (0, 7, 20):
        found = played(imported, 11 + frame)
        wanted = dict(zip(performance.expression_names, performance.expression[frame], strict=True))
        assert max(abs(found[name] - wanted[name]) for name in ARKIT_NAMES if not name.startswith("eyeLook")) < 1e-5
        np.testing.assert_allclose(turned(imported, "neck"), performance.rotations[frame, 1], atol=1e-4)


def test_keys_lie_on_whole_frames_of_the_scene(imported, tmp_path):
    performance = library_performance("nod", fps=60)
    write_performance(performance, tmp_path / "nod.safetensors")
    bpy.context.scene.render.fps = 25
    assert bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "nod.safetensors"), tolerance=0.0) == {"FINISHED"}
    curves = list(animation_curves(imported))
    frames = np.array([point.co[0] for point in curves[0].keyframe_points])
    np.testing.assert_array_equal(frames, np.arange(1, len(frames) + 1))
    neck = resample(performance, 25).rotations[:, 1]
    for frame in (5, 20, 40):
        played(imported, 1 + frame)
        np.testing.assert_allclose(turned(imported, "neck"), neck[frame], atol=1e-5)


def animation_curves(imported):
    action = imported.armature.animation_data.action
    for layer in action.layers:
        for strip in layer.strips:
            yield from strip.channelbag(imported.armature.animation_data.action_slot).fcurves


def test_fewer_keys_stay_within_the_tolerance(imported, tmp_path):
    performance = library_performance("speech", fps=24)
    write_performance(performance, tmp_path / "speech.safetensors")
    counts = {}
    for tolerance in (0.0, 0.002, 0.02):
        assert bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "speech.safetensors"), tolerance=tolerance) == {"FINISHED"}
        counts[tolerance] = sum(len(curve.keyframe_points) for curve in animation_curves(imported))
        for frame in range(0, len(performance), 7):
            found = played(imported, 1 + frame)
            away = max(abs(found[name] - performance.expression[frame, k]) for k, name in enumerate(ARKIT_NAMES))
            assert away <= tolerance + 1e-5
            assert np.linalg.norm(turned(imported, "neck") - performance.rotations[frame, 1]) <= 2 * tolerance + 1e-4
    assert counts[0.002] < 0.5 * counts[0.0] and counts[0.02] < counts[0.002]


def test_a_strip_can_be_moved_and_retimed(imported, tmp_path):
    performance = random_performance(AVATAR.rig, 8)
    write_performance(performance, tmp_path / "a.safetensors")
    assert bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "a.safetensors"), start=5, tolerance=0.0, strip=True) == {"FINISHED"}
    assert imported.armature.animation_data.action is None
    (track,) = imported.armature.animation_data.nla_tracks
    (strip,) = track.strips
    jaw = performance.expression[:, ARKIT_NAMES.index("jawOpen")]
    assert played(imported, 8)["jawOpen"] == pytest.approx(jaw[3], abs=1e-5)
    strip.frame_start_ui = 20
    assert played(imported, 23)["jawOpen"] == pytest.approx(jaw[3], abs=1e-5)
    strip.scale = 2.0
    assert played(imported, 26)["jawOpen"] == pytest.approx(jaw[3], abs=1e-5)
    assert bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "a.safetensors"), start=60, strip=True) == {"FINISHED"}
    assert len(imported.armature.animation_data.nla_tracks) == 2


def test_a_voice_moves_the_lips_and_is_heard(imported, tmp_path):
    speech_wav(tmp_path / "voice.wav")
    bpy.context.scene.render.fps = 24
    assert bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "voice.wav"), start=10, idle=0.0) == {"FINISHED"}
    opened = [played(imported, 10 + frame)["jawOpen"] for frame in range(24)]
    assert max(opened) > 0.05 and max(opened) > 2 * min(opened)
    (strip,) = bpy.context.scene.sequence_editor.strips
    assert (strip.type, strip.frame_final_start) == ("SOUND", 10)
    assert bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "voice.wav"), start=50, sound=False) == {"FINISHED"}
    assert len(bpy.context.scene.sequence_editor.strips) == 1


@pytest.mark.parametrize("ending", [".tsv", ".json"])
def test_rhubarbs_cues_open_the_mouth_when_they_say(imported, tmp_path, ending):
    cues = [(0.0, 0.5, "X"), (0.5, 1.0, "D"), (1.0, 1.5, "X")]
    path = tmp_path / f"cues{ending}"
    if ending == ".json":
        path.write_text(json.dumps({"mouthCues": [dict(zip(("start", "end", "value"), cue, strict=True)) for cue in cues]}))
    else:
        path.write_text("".join(f"{start}\t{shape}\n" for start, _, shape in [*cues, (1.5, 0, "X")]))
    bpy.context.scene.render.fps = 24
    assert bpy.ops.mvp4d.load_performance(filepath=str(path), start=0, idle=0.0) == {"FINISHED"}
    jaw = [played(imported, frame)["jawOpen"] for frame in range(36)]
    assert jaw[3] < 0.02 and jaw[17] > 0.4 and jaw[33] < 0.02


@pytest.fixture(scope="module")
def track(tmp_path_factory):
    """A track of the FLAME-shaped head whose jaw opens and which blinks, and that head's file."""
    folder, head = tmp_path_factory.mktemp("track"), flame_head()
    rotations = np.zeros((5, 5, 3))
    rotations[:, 2, 0] = np.linspace(0, 0.3, 5)
    expression = np.zeros((5, 100))
    performance = Performance(expression, rotations, np.zeros((5, 3)), 25, head.expression_names, head.joint_names)
    write_flame_param(folder / "flame_param.npz", performance, np.zeros(300))
    save_head_model(head, folder / "flame.safetensors")
    return folder / "flame_param.npz", folder / "flame.safetensors", performance


def test_tracks_of_flame_become_arkits_sliders(imported, track):
    path, head_file, _ = track
    with pytest.raises(MissingAssetError, match="preferences"):
        read_acting(path, imported.armature.pose.bones["face"].keys(), ActingOptions())
    with pytest.raises(RuntimeError, match="preferences"):
        bpy.ops.mvp4d.load_performance(filepath=str(path))
    entry = bpy.context.preferences.addons.new()
    entry.module = "blender_addon"
    try:
        entry.preferences.flame = str(head_file)
        assert bpy.ops.mvp4d.load_performance(filepath=str(path), tolerance=0.0) == {"FINISHED"}
    finally:
        bpy.context.preferences.addons.remove(entry)
    assert played(imported, 1)["jawOpen"] < 0.05 and played(imported, 5)["jawOpen"] > 0.3


def test_tracks_of_flame_stay_flames_where_the_head_is(track):
    path, _, performance = track
    names = flame_head().expression_names
    acting = read_acting(path, [*names, *ARKIT_NAMES], ActingOptions())
    assert acting.performance.expression_names == names
    np.testing.assert_allclose(acting.performance.rotations, performance.rotations, atol=1e-6)


def test_arkits_takes_play_on_heads_of_other_names(addon, tmp_path):
    """By the sliders that a FLAME head is given; its landmarks then go where the core's conversion takes them, but for the jaw's arc."""
    from tests.blender.test_rig import exact_vertices, flame_like, head_vertices

    avatar = flame_like(AVATAR)
    imported = import_avatar(avatar, "flame")
    performance = library_performance("joy", fps=24)
    write_performance(performance, tmp_path / "joy.csv")
    assert bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "joy.csv")) == {"FINISHED"}
    middle = len(performance) // 2
    bpy.context.scene.frame_set(1 + middle)
    found = avatar.rig.landmarks(head_vertices(imported))
    wanted = avatar.rig.landmarks(exact_vertices(avatar, perform_on(performance, avatar.rig)[middle]))
    neutral = avatar.rig.landmarks(avatar.rig.v_template + avatar.rig.static_offsets)
    assert np.abs(found - wanted).mean() < 0.35 * np.abs(wanted - neutral).mean()


def test_what_was_keyed_before_stays(imported):
    first = animation.key_performance(imported.armature, random_performance(AVATAR.rig, 3), "first")
    second = animation.key_performance(imported.armature, random_performance(AVATAR.rig, 3), "second")
    assert imported.armature.animation_data.action == second and first.use_fake_user


def test_bones_in_another_rotation_mode_are_keyed_all_the_same(imported):
    imported.armature.pose.bones["neck"].rotation_mode = "XYZ"
    performance = random_performance(AVATAR.rig, 3)
    animation.key_performance(imported.armature, performance, "take")
    played(imported, 2)
    np.testing.assert_allclose(turned(imported, "neck"), performance.rotations[1, 1], atol=1e-5)


def test_broken_files_are_a_sentence_and_change_nothing(imported, tmp_path):
    for ending in acting_files.ENDINGS:
        for content in (b"", b"noise\0\xff" * 40, b'{"mouthCues": [{}]}'):
            path = tmp_path / f"a{ending}"
            path.write_bytes(content)
            with pytest.raises(RuntimeError) as caught:
                bpy.ops.mvp4d.load_performance(filepath=str(path))
            lines = str(caught.value).strip().splitlines()
            assert 1 <= len(lines) <= 3 and lines[0].startswith("Error: ") and "Traceback" not in str(caught.value), lines
            assert not bpy.data.actions and imported.armature.animation_data.action is None


def test_unknown_kinds_and_missing_files_are_refused(imported, tmp_path):
    with pytest.raises(RuntimeError, match="must end in"):
        bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "a.mp3"))
    for ending in acting_files.ENDINGS:
        with pytest.raises(RuntimeError, match="missing"):
            bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / f"missing{ending}"))


def test_foreign_sliders_are_refused(imported, tmp_path):
    foreign = replace(random_performance(AVATAR.rig, 2), expression_names=tuple(f"x{k}" for k in range(52)), joint_names=tuple("abcde"))
    write_performance(foreign, tmp_path / "foreign.safetensors")
    with pytest.raises(RuntimeError, match="shares no expression and no joint"):
        bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "foreign.safetensors"))
    with pytest.raises(InputError, match="shares no"):
        animation.key_performance(imported.armature, load_performance(tmp_path / "foreign.safetensors"), "foreign")
    assert not bpy.data.actions


def test_the_handler_takes_drops_for_a_chosen_avatar_alone(addon):
    handler = bpy.types.MVP4D_FH_performance
    area = type("Area", (), {"type": "VIEW_3D"})()
    assert not handler.poll_drop(type("Context", (), {"area": area, "object": None})())
    imported = import_avatar(AVATAR, "toy")
    context = type("Context", (), {"area": area, "object": imported.armature, "scene": bpy.context.scene})()
    assert handler.poll_drop(context) and properties.chosen_avatar(context).armature == imported.armature
    assert sliders.face_bone(imported.armature) is not None


def test_a_track_that_needs_its_head_says_where_to_name_it(imported, tmp_path):
    arrays = {"expr": np.zeros((2, 65)), "shape": np.zeros(150), **{name: np.zeros((2, 3)) for name in ("rot", "tra", "eye_rot")}}
    np.savez(tmp_path / "fit.npz", **arrays)
    with pytest.raises(RuntimeError, match="add-on's preferences"):
        bpy.ops.mvp4d.load_performance(filepath=str(tmp_path / "fit.npz"))
    save_head_model(flame_head(), tmp_path / "flame.safetensors")
    acting = read_acting(tmp_path / "fit.npz", ["jawOpen"], ActingOptions(flame=tmp_path / "flame.safetensors"))
    assert acting.performance.expression_names == ARKIT_NAMES and len(acting.performance) == 2
