# SPDX-License-Identifier: Apache-2.0
"""Clips on disk: round trips, resizing, and what a damaged folder says."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mvp4d_core.cameras import project
from mvp4d_core.errors import InputError, MVP4DError
from mvp4d_core.training.store import load_clip, resize_clip, save_clip, stored_clips
from tests.support.toy_clips import toy_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "toy"
    save_clip(toy_clip(views=2), folder, lossless=True)
    return folder


def same(a, b):
    for name in ("shape", "offsets", "alphas"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("expression", "rotations", "translation"):
        np.testing.assert_array_equal(getattr(a.performance, name), getattr(b.performance, name))
    for ours, theirs in zip(a.cameras, b.cameras, strict=True):
        np.testing.assert_array_equal(ours.K, theirs.K)
        np.testing.assert_array_equal(ours.camera_from_world, theirs.camera_from_world)
    assert (a.name, a.source, a.head_digest, a.performance.fps) == (b.name, b.source, b.head_digest, b.performance.fps)


def test_lossless_round_trip(folder):
    clip, back = toy_clip(views=2), load_clip(folder)
    same(clip, back)
    np.testing.assert_array_equal(clip.frames, back.frames)
    assert back.inside is None


def test_lossy_round_trip_is_close(tmp_path):
    clip = toy_clip(views=1, size=48)
    inside = np.zeros((1, 48, 48), bool)
    inside[:, 5:] = True
    clip = replace(clip, inside=inside)
    save_clip(clip, tmp_path / "clip")
    back = load_clip(tmp_path / "clip")
    np.testing.assert_array_equal(back.inside, inside)
    difference = back.frames.astype(float) - clip.frames
    assert np.abs(difference).mean() < 3 and np.abs(difference).max() < 40
    assert np.abs(back.alphas.astype(float) - clip.alphas).max() < 20


def test_resizing_averages_pixels_and_moves_the_cameras_along():
    clip = toy_clip(views=2, size=64)
    small = resize_clip(clip, 32)
    means = clip.frames.reshape(2, 5, 32, 2, 32, 2, 3).mean(axis=(3, 5))
    assert np.abs(small.frames - means).max() <= 0.5
    point = np.array([[0.01, 0.02, 0.05]])
    for before, after in zip(clip.cameras, small.cameras, strict=True):
        np.testing.assert_allclose(project(point, after)[0], project(point, before)[0] / 2)
    assert resize_clip(clip, 64) is clip
    with pytest.raises(InputError, match="at least 128 px"):
        resize_clip(clip, 128)


def test_holes_are_told_before_anything_is_read(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "b")
    (tmp_path / "b" / "alpha_01.mp4").unlink()
    shutil.copytree(folder, tmp_path / "a")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "clip.json").write_text("{}")
    whole, lacking, strange = stored_clips(tmp_path)
    assert whole.holes == () and whole.load(32).frames.shape == (2, 5, 32, 32, 3) and whole.identity == "tests toy-0"
    assert len(lacking.holes) == 1 and "alpha_01.mp4" in lacking.holes[0]
    assert "does not describe a clip" in strange.holes[0]


@pytest.mark.parametrize("file", ["clip.json", "clip.safetensors", "view_00.mp4", "alpha_01.mp4"])
def test_a_missing_file_is_named(folder, tmp_path, file):
    shutil.copytree(folder, tmp_path / "clip")
    (tmp_path / "clip" / file).unlink()
    with pytest.raises(MVP4DError, match=file):
        load_clip(tmp_path / "clip")


@pytest.mark.parametrize(
    "change",
    [
        {"views": 3},
        {"frames": 4},
        {"height": 16},
        {"fps": "x"},
        {"fps": -1},
        {"joint_names": []},
        {"views": 10**9},
        {"name": 3},
        {"schema": "no"},
    ],
)
def test_descriptions_that_lie_are_refused(folder, tmp_path, change):
    shutil.copytree(folder, tmp_path / "clip")
    path = tmp_path / "clip" / "clip.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(MVP4DError):
        load_clip(tmp_path / "clip")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(["clip.json", "clip.safetensors", "view_00.mp4"]),
    place=st.floats(0, 1),
    value=st.integers(0, 255),
    cut=st.booleans(),
)
def test_damage_is_one_clear_error_or_a_clip(folder, tmp_path, file, place, value, cut):
    target = tmp_path / "clip"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    data = bytearray((target / file).read_bytes())
    at = min(len(data) - 1, int(place * len(data)))
    if cut:
        del data[at:]
    else:
        data[at] = value
    (target / file).write_bytes(data)
    try:
        clip = load_clip(target)
    except MVP4DError as error:
        assert "\n" not in str(error)
    else:
        assert clip.frames.shape == (2, 5, 32, 32, 3)
