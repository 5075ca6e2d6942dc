# SPDX-License-Identifier: Apache-2.0
"""Every reader of a file between the stages: damaged bytes, missing and strange tensors, strange texts. Only errors of ours may escape."""

import numpy as np
import pytest

from mvp4d_core.conditioning import load_plan, plan_views, save_plan
from mvp4d_core.errors import MVP4DError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import load_head_model, load_performance, save_head_model, save_performance, showcase_performance
from mvp4d_core.tracking import load_reference, save_reference
from tests.support.mutation import assert_refuses_cleanly
from tests.support.toy_head import toy_head_model
from tests.support.toy_reference import toy_reference

MODEL = toy_head_model()
FEW = showcase_performance(MODEL).select([0, 40])
FILES = {
    "head": (load_head_model, lambda path: save_head_model(MODEL, path)),
    "performance": (load_performance, lambda path: save_performance(FEW, path)),
    "plan": (load_plan, lambda path: save_plan(plan_views(MODEL, FEW, preset=60, views=2, size=32), path)),
    "reference": (load_reference, lambda path: save_reference(toy_reference(MODEL, size=48), path)),
}
STRANGE_ARRAYS = (
    np.float32(3),
    np.zeros((0,), np.float32),
    np.zeros((2, 2), np.float64),
    np.full((3, 3), np.nan, np.float32),
    np.zeros((1, 1, 1, 1), np.int64),
    np.full((4,), -7, np.int32),
)
STRANGE_TEXTS = ("", "{", "[]", "{}", "null", "3", '"x"', "[[1, 2], 3]", "1e999", "-1", '["a", "a"]', "[" * 5000, "\u0000")


@pytest.mark.parametrize("kind", FILES)
def test_damaged_bytes(kind, tmp_path):
    load, save = FILES[kind]
    save(tmp_path / "f.safetensors")
    sound = (tmp_path / "f.safetensors").read_bytes()
    load(tmp_path / "f.safetensors")
    assert assert_refuses_cleanly(load, sound, tmp_path / "f.safetensors", 250) > 80


@pytest.mark.parametrize("kind", FILES)
def test_strange_tensors_and_texts(kind, tmp_path):
    load, save = FILES[kind]
    path = tmp_path / "f.safetensors"
    save(path)
    tensors, metadata = safetensors_numpy.read(path)
    cases = [({**tensors, name: np.asarray(array)}, metadata) for name in tensors for array in STRANGE_ARRAYS]
    cases += [({k: v for k, v in tensors.items() if k != name}, metadata) for name in tensors]
    cases += [(tensors, {**metadata, name: text}) for name in metadata for text in STRANGE_TEXTS]
    cases += [(tensors, {k: v for k, v in metadata.items() if k != name}) for name in metadata]
    refused = 0
    for changed, texts in cases:
        safetensors_numpy.write(path, changed, texts)
        try:
            load(path)
        except MVP4DError as error:
            assert str(error).count("\n") <= 1 and len(str(error)) < 600
            refused += 1
    assert refused > len(cases) / 2
