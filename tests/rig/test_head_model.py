# SPDX-License-Identifier: Apache-2.0
"""The head's file and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.errors import FormatError, InputError, MissingAssetError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import ARKIT_NAMES, head_model_digest, load_head_model, mirror_name, save_head_model
from tests.support.asserts import assert_arrays_close
from tests.support.toy_head import toy_head_model

MODEL = toy_head_model()


def test_file_round_trip(tmp_path):
    save_head_model(MODEL, tmp_path / "h.safetensors")
    loaded = load_head_model(tmp_path / "h.safetensors")
    assert head_model_digest(loaded) == head_model_digest(MODEL)
    assert loaded.joint_names == MODEL.joint_names and loaded.provenance == MODEL.provenance
    assert {name: ids.tolist() for name, ids in loaded.regions.items()} == {name: ids.tolist() for name, ids in MODEL.regions.items()}


def test_a_file_without_offsets_has_none(tmp_path):
    save_head_model(MODEL, tmp_path / "h.safetensors")
    tensors, metadata = safetensors_numpy.read(tmp_path / "h.safetensors")
    del tensors["static_offsets"]
    safetensors_numpy.write(tmp_path / "h.safetensors", tensors, metadata)
    assert_arrays_close(load_head_model(tmp_path / "h.safetensors").static_offsets, np.zeros_like(MODEL.v_template))


@pytest.mark.parametrize(
    "change",
    [
        {"v_template": MODEL.v_template.astype(np.float64)},
        {"v_template": MODEL.v_template[:-1]},
        {"v_template": np.full_like(MODEL.v_template, np.nan)},
        {"faces": MODEL.faces + len(MODEL.v_template)},
        {"faces": -1 - MODEL.faces},
        {"uv_faces": MODEL.uv_faces[:-1]},
        {"posedirs": MODEL.posedirs[:, :, :-1]},
        {"parents": np.array([-1, 2, 1, 1, 1], np.int32)},
        {"lbs_weights": MODEL.lbs_weights * 2},
        {"expression_names": MODEL.expression_names[:-1]},
        {"joint_names": ("root",) * 5},
        {"regions": {"face": np.array([10**6], np.int32)}},
    ],
)
def test_impossible_heads_are_refused(change):
    with pytest.raises(FormatError) as caught:
        replace(MODEL, **change)
    assert str(caught.value).count("\n") <= 1


def test_unknown_rig_says_what_to_give():
    with pytest.raises(MissingAssetError, match="open-head"):
        load_head_model("nobody.safetensors")


def test_other_safetensors_are_no_heads(tmp_path):
    safetensors_numpy.write(tmp_path / "x.safetensors", {"a": np.zeros(3, np.float32)}, {})
    with pytest.raises(FormatError, match="is not a head"):
        load_head_model(tmp_path / "x.safetensors")


def test_unknown_region_names_those_there_are():
    with pytest.raises(InputError, match="scalp"):
        MODEL.region_mask("wings")


def test_arkit_names_are_apples_and_mirror_onto_themselves():
    assert len(set(ARKIT_NAMES)) == 52
    assert {mirror_name(name) for name in ARKIT_NAMES} == set(ARKIT_NAMES)
    assert mirror_name("eyeBlinkLeft") == "eyeBlinkRight" and mirror_name("jawOpen") == "jawOpen"
