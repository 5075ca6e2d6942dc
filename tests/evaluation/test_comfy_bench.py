# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the ComfyUI pack where there is no ComfyUI; `tests/comfy/test_real_stage_two.py` has it where there is one."""

import json
from pathlib import Path

import pytest

from mvp4d_core.errors import MissingAssetError, MVP4DError
from mvp4d_core.evaluation.comfy_bench import CLONE, KEYS, bench_comfy, made_small
from mvp4d_core.evaluation.comfy_server import Server, messages, seconds_of
from tests.support import comfy_host, comfy_offline


@pytest.mark.slow
def test_without_a_comfyui_the_stand_in_runs_the_workflows(monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    figures = bench_comfy(quick_start=False)
    promised = ("import_seconds", "quick_start_seconds", "second_run_seconds", "render_speedup_per_splat", "workflows_loaded")
    assert set(figures) == set(KEYS) >= {*promised, "workflows_run"}
    assert figures["render_speedup_per_splat"] is None and figures["server_seconds"] is None and 0 < figures["import_seconds"] < 30
    assert figures["workflows_run"] == figures["workflows_loaded"] == figures["workflows"] >= 1


def test_the_second_run_repeats_only_what_the_performance_changes(tmp_path, monkeypatch):
    workflow = made_small(json.loads((CLONE / "workflows" / "api" / "quick_start.json").read_text(encoding="utf-8")))
    ran: list[str] = []
    plain = comfy_host.run
    monkeypatch.setattr(comfy_host, "run", lambda node, **inputs: (ran.append(node.GET_SCHEMA().node_id), plain(node, **inputs))[1])
    with comfy_host.installed(tmp_path) as host:
        figures = comfy_offline.timed_quick_start(comfy_host.nodes_of(comfy_host.load_pack(CLONE)), workflow, host.folder)
    assert figures["second_run_seconds"] <= figures["quick_start_seconds"] and ran.count("MVP4D_LoadPerformance") == 2
    assert ran.count("MVP4D_RenderAvatar") == 2 and ran.count("MVP4D_DistillAvatar") == ran.count("MVP4D_LoadReference") == 1


def test_a_folder_that_holds_no_comfyui_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(MissingAssetError, match=r"main\.py"):
        bench_comfy()


@pytest.mark.parametrize(
    ("line", "seconds"), [("   0.4 seconds: /x/ComfyUI-MVP4D", 0.4), ("   1.2 seconds (IMPORT FAILED): /x/ComfyUI-MVP4D", None)]
)
def test_import_time_is_read_from_the_log(tmp_path, line, seconds):
    log = tmp_path / "log"
    log.write_text(f"[INFO] 0.1 seconds: /x/other\n[INFO] {line}\n[INFO] done")
    server = Server("http://127.0.0.1:1", tmp_path, log)
    if seconds is not None:
        assert server.import_seconds() == seconds
        return
    with pytest.raises(MVP4DError, match="did not import"):
        server.import_seconds()


def test_history_tells_how_long_a_prompt_took(tmp_path: Path):
    events = [["execution_start", {"timestamp": 1000}], ["execution_cached", {"nodes": []}], ["execution_success", {"timestamp": 3500}]]
    history = {"status": {"status_str": "success", "messages": events}}
    assert seconds_of(history) == 2.5 and messages(history, "execution_cached") == [{"nodes": []}]
