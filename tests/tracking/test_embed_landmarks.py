# SPDX-License-Identifier: Apache-2.0
"""Landmarks found by looking at a head that brings none, and the command that does all of it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mvp4d_core.cli.main import main
from mvp4d_core.errors import TrackingError
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.rig import load_head_model
from mvp4d_core.tracking.embed_landmarks import find_landmarks
from mvp4d_core.tracking.landmark_sets import INNER_LIPS, LEFT_EYE, RIGHT_EYE
from tests.support.flame_files import flame_tables, python2_pickle


def test_a_pickle_becomes_a_head_that_knows_its_face(tmp_path, capsys):
    """On another person than the open head, whose own landmarks are the truth: they were found by another program on other pictures."""
    truth = flame_head()
    someone = truth.shapedirs[..., :30] @ np.random.default_rng(4).normal(size=30)
    truth = replace(truth, v_template=(truth.v_template + someone).astype(np.float32))
    path, out = tmp_path / "flame2023_Open.pkl", tmp_path / "flame.safetensors"
    path.write_bytes(python2_pickle(flame_tables(truth)))
    assert main(["import-flame", str(path), "-o", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["licence"] == "CC-BY-4.0" and result["expressions"] == 100 and "upper_teeth" in result["regions"]
    head = load_head_model(out)
    off = np.linalg.norm(head.landmarks(head.v_template) - truth.landmarks(truth.v_template), axis=1)
    assert np.median(off) < 0.003 and off.mean() < 0.0035
    assert off[list(INNER_LIPS + LEFT_EYE + RIGHT_EYE)].max() < 0.006
    assert main(["import-flame", str(path), "-o", str(out)]) == 2
    assert "not written over" in capsys.readouterr().err


def test_a_head_without_a_face_is_named():
    away = flame_head()
    turned = away.v_template * np.array([-1, 1, -1], np.float32)  # nothing but hair looks at the camera
    with pytest.raises(TrackingError, match="--landmarks"):
        find_landmarks(replace(away, v_template=turned))


@pytest.mark.parametrize("arguments", [["x.pkl", "-o", "x.npz"], ["missing.pkl", "-o", "x.safetensors", "--variant", "2020"]])
def test_wrong_arguments_get_one_line(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["import-flame", *arguments]) in (2, 6)
    assert capsys.readouterr().err.count("\n") == 1
