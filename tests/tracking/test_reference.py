# SPDX-License-Identifier: Apache-2.0
"""The tracked portrait and its file."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.cameras import Camera
from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import Parameters
from mvp4d_core.tracking import Reference, load_reference, save_reference
from mvp4d_core.tracking.reference import quantised
from tests.support.mutation import assert_refuses_cleanly
from tests.support.toy_head import toy_head_model
from tests.support.toy_reference import toy_reference


@pytest.fixture(scope="module")
def reference() -> Reference:
    return toy_reference(toy_head_model(), size=48)


def assert_same(a: Reference, b: Reference) -> None:
    for name in ("image", "matte", "head_matte", "shape", "offsets", "landmarks"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name in ("expression", "rotations", "translation"):
        np.testing.assert_array_equal(getattr(a.parameters, name), getattr(b.parameters, name), err_msg=name)
    np.testing.assert_array_equal(a.camera.K, b.camera.K)
    np.testing.assert_array_equal(a.camera.camera_from_world, b.camera.camera_from_world)
    assert (a.camera.width, a.camera.height) == (b.camera.width, b.camera.height)
    for name in ("landmark_error_percent", "faces_found", "face", "notices", "warnings", "head_name", "head_digest", "source_sha256"):
        assert getattr(a, name) == getattr(b, name), name


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 9), height=st.integers(1, 9), texts=st.lists(st.text(max_size=30), max_size=3))
def test_a_file_gives_back_what_was_saved(tmp_path_factory, seed, width, height, texts):
    generator = np.random.default_rng(seed)
    f32 = np.float32
    kept = Reference(
        image=quantised(generator.random((height, width, 3), f32)),
        matte=quantised(generator.random((height, width), f32)),
        head_matte=quantised(generator.random((height, width), f32)),
        camera=Camera(generator.normal(size=(3, 3)), generator.normal(size=(4, 4)), width, height),
        shape=generator.normal(size=4).astype(f32),
        offsets=generator.normal(size=(7, 3)).astype(f32),
        parameters=Parameters(generator.random(5, f32), generator.normal(size=(5, 3)).astype(f32), np.zeros(3, f32)),
        landmarks=generator.normal(size=(478, 2)).astype(f32),
        landmark_error_percent=float(generator.random()),
        faces_found=3,
        face=2,
        notices=tuple(texts),
        warnings=tuple(reversed(texts)),
        head_name="some head",
        head_digest="0" * 64,
        source_sha256="",
    )
    path = tmp_path_factory.mktemp("reference") / "r.safetensors"
    try:
        save_reference(kept, path)
    except InputError:  # a text that is not Unicode, as a lone surrogate
        assert any(not text.isprintable() for text in texts)
        return
    assert_same(load_reference(path), kept)


def test_mutated_files_are_refused_in_one_line(reference, tmp_path):
    path = tmp_path / "r.safetensors"
    save_reference(reference, path)
    assert_refuses_cleanly(load_reference, path.read_bytes(), path, cases=150, seconds=3.0)


@pytest.mark.parametrize(
    "change",
    [
        {"face": 2},
        {"face": 0},
        {"faces_found": "1"},
        {"faces_found": True},
        {"width": 10**12},
        {"width": -1},
        {"notices": "x"},
        {"warnings": [1]},
        {"head_digest": None},
        {"landmark_error_percent": -1},
        {"landmark_error_percent": float("inf")},
        {"landmark_error_percent": float("nan")},
        {"surprise": 1},
    ],
)
def test_hostile_facts_are_refused(reference, tmp_path, change):
    path = tmp_path / "r.safetensors"
    save_reference(reference, path)
    tensors, metadata = safetensors_numpy.read(path)
    metadata["reference"] = json.dumps(json.loads(metadata["reference"]) | change)
    safetensors_numpy.write(path, tensors, metadata)
    with pytest.raises(FormatError, match=r"r\.safetensors is a damaged tracked portrait"):
        load_reference(path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("image", np.zeros((48, 48, 4), np.uint8)),
        ("image", np.zeros((48, 48, 3), np.float32)),
        ("matte", np.zeros((0, 48), np.uint8)),
        ("landmarks", np.full((478, 2), np.nan, np.float32)),
        ("landmarks", np.zeros((468, 2), np.float32)),
        ("offsets", np.zeros(3, np.float32)),
        ("camera.K", np.full((3, 3), np.inf)),
        ("camera.K", np.zeros((2, 3))),
        ("parameters.rotations", np.zeros((), np.float32)),
        ("parameters.translation", np.zeros(3, np.float64)),
    ],
)
def test_hostile_tensors_are_refused(reference, tmp_path, name, array):
    path = tmp_path / "r.safetensors"
    save_reference(reference, path)
    tensors, metadata = safetensors_numpy.read(path)
    safetensors_numpy.write(path, tensors | {name: array}, metadata)
    with pytest.raises(FormatError, match=r"r\.safetensors is a damaged tracked portrait"):
        load_reference(path)


def test_another_kind_of_file_is_named_as_such(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors_numpy.write(path, {}, {"schema": "mvp4d-avatar/1"})
    with pytest.raises(FormatError, match="not a tracked portrait"):
        load_reference(path)


def test_the_rig_is_the_persons_and_wants_its_own_head(reference):
    model = toy_head_model()
    rig = reference.rig(model)
    np.testing.assert_array_equal(rig.static_offsets, reference.offsets)
    np.testing.assert_allclose(rig.v_template, model.v_template + model.shapedirs @ reference.shape, atol=1e-7)
    with pytest.raises(InputError, match="tracked with the head `toy-head`"):
        reference.rig(toy_head_model(seed=1))


def test_pictures_outside_their_range_are_refused(reference):
    with pytest.raises(FormatError, match=r"`image` of a reference must lie in 0\.\.1"):
        replace(reference, image=reference.image * 2)


def test_quantised_is_idempotent():
    values = np.random.default_rng(0).random((9, 9)).astype(np.float32)
    once = quantised(values)
    np.testing.assert_array_equal(quantised(once), once)
    assert np.abs(once - values).max() <= 0.5 / 255 + 1e-7
