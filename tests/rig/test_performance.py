# SPDX-License-Identifier: Apache-2.0
"""Performances: the file, retargeting by name, and the showcase."""

import numpy as np
import pytest

from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import Performance, load_performance, retarget, save_performance, showcase_performance
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model

MODEL = toy_head_model()


def test_file_round_trip(tmp_path):
    performance = showcase_performance(MODEL)
    save_performance(performance, tmp_path / "p.safetensors")
    loaded = load_performance(tmp_path / "p.safetensors")
    for name in ("expression", "rotations", "translation"):
        assert_arrays_close(getattr(loaded, name), getattr(performance, name), name=name)
    assert (loaded.fps, loaded.expression_names, loaded.joint_names) == (24.0, MODEL.expression_names, MODEL.joint_names)


def test_showcase_starts_and_ends_at_rest_and_moves_every_part():
    performance = showcase_performance(MODEL, fps=30, seconds=5)
    assert len(performance) == 150
    for frame in (0, -1):
        assert_arrays_close(performance.expression[frame], np.zeros(52), atol=1e-6)
        assert_arrays_close(performance.rotations[frame], np.zeros((5, 3)), atol=1e-6)
    peak = dict(zip(performance.expression_names, performance.expression.max(axis=0), strict=True))
    assert all(peak[name] > 0.4 for name in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "browInnerUp", "mouthSmileLeft", "mouthFunnel"))
    assert performance.expression.min() >= 0 and performance.expression.max() <= 1
    moving = np.abs(performance.rotations).max(axis=(0, 2))
    assert moving[1] > 0.2 and moving[3] > 0.2 and moving[4] > 0.2  # neck and both eyes
    assert np.abs(np.diff(performance.expression, axis=0)).max() < 0.5  # nothing jumps


def test_retarget_matches_names_in_any_order():
    original = showcase_performance(MODEL)
    order = np.random.default_rng(0).permutation(52)
    shuffled = Performance(
        original.expression[:, order][:, :50],
        original.rotations[:, ::-1],
        original.translation,
        24.0,
        tuple(original.expression_names[k] for k in order[:50]),
        original.joint_names[::-1],
    )
    back = retarget(shuffled, MODEL)
    expected = original.expression.copy()
    expected[:, order[50:]] = 0
    assert_arrays_close(back.expression, expected)
    assert_arrays_close(back.rotations, original.rotations)


def test_a_stranger_to_every_name_is_refused():
    stranger = Performance(np.zeros((2, 1)), np.zeros((2, 1, 3)), np.zeros((2, 3)), 24.0, ("warp",), ("tail",))
    with pytest.raises(InputError, match="shares no expression"):
        retarget(stranger, MODEL)


@pytest.mark.parametrize(
    "change", [{"fps": 0.0}, {"fps": float("nan")}, {"expression": np.zeros((0, 52))}, {"translation": np.full((144, 3), np.inf)}]
)
def test_bad_performances_are_refused(change):
    good = showcase_performance(MODEL)
    fields = {name: getattr(good, name) for name in ("expression", "rotations", "translation", "fps", "expression_names", "joint_names")}
    with pytest.raises(InputError):
        Performance(**{**fields, **change})


def test_damaged_files_are_one_line(tmp_path):
    path = tmp_path / "p.safetensors"
    save_performance(showcase_performance(MODEL), path)
    tensors, metadata = safetensors_numpy.read(path)
    for bad in ({**metadata, "fps": "[1]"}, {**metadata, "schema": "x"}, {**metadata, "joint_names": "3"}, {**metadata, "fps": "{"}):
        safetensors_numpy.write(path, tensors, bad)
        with pytest.raises(FormatError) as caught:
            load_performance(path)
        assert str(caught.value).count("\n") <= 1
    safetensors_numpy.write(path, {"expression": tensors["expression"]}, metadata)
    with pytest.raises(FormatError):
        load_performance(path)
