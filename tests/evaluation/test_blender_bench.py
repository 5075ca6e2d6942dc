# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the add-on at toy size, in the Blender of this interpreter."""

import importlib.util
import json
import sys

import pytest

from mvp4d_core.cli.main import main
from mvp4d_core.errors import InputError, MissingAssetError, MVP4DError
from mvp4d_core.evaluation import blender_bench
from mvp4d_core.evaluation.blender_bench import bench_blender
from tests.support.toy_avatar import toy_avatar

needs_bpy = pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="needs bpy")


@pytest.mark.blender
@needs_bpy
def test_reports_every_figure_within_the_bars():
    calls = []
    figures = bench_blender(
        [toy_avatar(800, sh_degree=1)], splats=100, size=48, eevee_poses=1, cycles_poses=1, progress=lambda *call: calls.append(call)
    )
    assert list(figures)[:11] == [
        "blender", "vertex_error", "position_error", "rotation_error", "scale_error", "eevee_psnr", "cycles_psnr", "points_ms", "quads_ms",
        "import_seconds", "blend_mb",
    ]  # fmt: skip
    json.dumps(figures, allow_nan=False)
    assert figures["vertex_error"] <= 1e-6 and figures["position_error"] <= 1e-6
    assert figures["rotation_error"] <= 2e-6 and figures["scale_error"] <= 1e-6
    assert figures["eevee_psnr"] >= 40 and figures["cycles_psnr"] >= 40
    assert figures["blend_mb"] < 40 and figures["points_ms"] > 0 and figures["quads_ms"] > 0
    assert calls[-1] == (blender_bench.STAGE, 7, 7)


def test_refuses_nothing_to_measure_and_says_where_blender_is_missing(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="wants 10 splats"):
        bench_blender(splats=1)
    tiny = [toy_avatar(20)]
    with pytest.raises(MissingAssetError, match="cannot be started"):
        bench_blender(tiny, python=str(tmp_path / "python"), splats=10)
    silent = tmp_path / "silent"
    silent.write_text(f"#!{sys.executable}\nimport sys\nsys.stderr.write('no bpy here\\n')\nsys.exit(4)\n")
    silent.chmod(0o755)
    with pytest.raises(MVP4DError, match="stopped with code 4: no bpy here") as caught:
        bench_blender(tiny, python=str(silent), splats=10)
    assert caught.value.exit_code == 4
    monkeypatch.setattr(blender_bench, "ADDON", tmp_path)
    with pytest.raises(MissingAssetError, match="blender_addon folder"):
        bench_blender(tiny, splats=10)


def test_the_command_answers_a_line_a_blender(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(blender_bench, "bench_files", lambda paths, **settings: asked.append(settings["python"]) or {"blender": len(asked)})
    assert main(["bench", "blender", "--json", "--blender-python", "one", "--blender-python", "two"]) == 0
    assert asked == ["one", "two"]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [{"blender": 1}, {"blender": 2}]
