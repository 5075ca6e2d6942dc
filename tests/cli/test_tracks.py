# SPDX-License-Identifier: Apache-2.0
"""`mvp4d import-track` and `mvp4d export-track`."""

import json

import numpy as np
import pytest

from mvp4d_core.cli.main import main
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.rig import load_head_model, load_performance, save_head_model, save_performance, showcase_performance


@pytest.fixture(scope="module")
def flame(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "flame.safetensors"
    save_head_model(flame_head(), path)
    return str(path)


def ran(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, err


def test_blinks_that_flame_cannot_show_are_said(tmp_path, flame, capsys):
    track = {name: np.zeros((2, 3)) for name in ("rot", "tra", "eye_rot")}
    np.savez(tmp_path / "fit.npz", **track, expr=np.ones((2, 65)), shape=np.zeros(150))
    code, result, said = ran(capsys, "import-track", tmp_path / "fit.npz", "--rig", flame, "-o", tmp_path / "p.safetensors")
    assert code == 0 and "eyeBlinkLeft" in said and result["frames"] == 2


def test_from_the_open_head_to_fit_npz_and_back(tmp_path, flame, capsys):
    head = load_head_model()
    performance = showcase_performance(head)
    performance = performance.select(np.linspace(0, len(performance) - 1, 6).astype(int))
    save_performance(performance, tmp_path / "p.safetensors")
    for name in ("fit.npz", "flame_param.npz"):
        code, result, _ = ran(
            capsys, "export-track", tmp_path / "p.safetensors", "--rig", flame, "--from", "open-head", "-o", tmp_path / name
        )
        assert code == 0 and result["frames"] == 6 and result["error_mm"] < 0.2
        to = tmp_path / f"{name}.safetensors"
        code, result, _ = ran(capsys, "import-track", tmp_path / name, "--rig", flame, "--to", "open-head", "-o", to)
        assert code == 0 and result["head"] == head.name and result["error_mm"] < 0.3 * max(result["motion_mm"], 1)
        again = load_performance(to)
        assert again.expression_names == head.expression_names
        assert np.abs(again.expression - performance.expression).mean() < 0.03
        np.testing.assert_allclose(again.rotations[:, 0], performance.rotations[:, 0], atol=1e-4)
        np.testing.assert_allclose(again.translation, performance.translation, atol=2e-3)


@pytest.mark.parametrize(
    ("code", "arguments", "says"),
    [
        (6, ["import-track", "none.npz", "-o", "o.safetensors"], "no such file"),
        (2, ["import-track", "none.npz", "-o", "o.npz"], "--output must end in .safetensors"),
        (2, ["import-track", "none.npz", "-o", "o.safetensors", "--to", "open-head"], "--rig"),
        (2, ["import-track", "none.npz", "-o", "o.safetensors", "--fps", "0"], "--fps"),
        (2, ["import-track", "none.npz", "-o", "o.safetensors", "--picture-size", "10"], "--picture-size"),
        (2, ["export-track", "p.safetensors", "--rig", "FLAME", "-o", "o.npz"], "--layout"),
        (2, ["export-track", "p.safetensors", "--rig", "FLAME", "-o", "fit.npz"], "--from"),
    ],
)
def test_what_is_wrong_gets_one_line(tmp_path, flame, capsys, monkeypatch, code, arguments, says):
    monkeypatch.chdir(tmp_path)
    save_performance(showcase_performance(load_head_model()).select([0]), tmp_path / "p.safetensors")
    assert main([flame if argument == "FLAME" else argument for argument in arguments]) == code
    said = capsys.readouterr().err
    assert says in said and len(said.strip().splitlines()) <= 2
    assert not (tmp_path / "o.safetensors").exists() and not (tmp_path / "fit.npz").exists()
