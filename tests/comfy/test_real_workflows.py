# SPDX-License-Identifier: Apache-2.0
"""Every workflow in a real ComfyUI, at toy size: served, opened in its page, and run.

Runs with `COMFYUI_PATH=... pytest -m comfyui`; COMFYUI_PYTHON names that ComfyUI's interpreter where it is not this one.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mvp4d_core.evaluation.comfy_bench import made_small
from mvp4d_core.evaluation.comfy_server import FOLDER_NAME, Server, messages, running
from mvp4d_core.player.browser import Page, find_browser, open_page
from tests.support.comfy_frontend import READY, ROOT, posted
from tools.build_locales import catalogues
from tools.example_workflows import WORKFLOWS

COMFYUI = os.environ.get("COMFYUI_PATH", "")
pytestmark = [pytest.mark.comfyui, pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH names no ComfyUI")]
NAMES = [workflow.name for workflow in WORKFLOWS]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(Path(COMFYUI), ROOT, tmp_path_factory.mktemp("comfyui") / "base") as server:
        yield server


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    if find_browser() is None:
        pytest.skip("no browser")
    server.post("/settings", {"Comfy.TutorialCompleted": True})
    with open_page(server.address, (1200, 800), seconds=120) as page:
        page.wait_for(READY)
        yield page


def twin(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def test_templates_pictures_help_and_words_are_served(server: Server) -> None:
    assert sorted(server.get_json("/workflow_templates")[FOLDER_NAME]) == sorted(NAMES)
    for name in NAMES:
        assert server.get(f"/api/workflow_templates/{FOLDER_NAME}/{name}.jpg")[:2] == b"\xff\xd8"
    docs = ROOT / "comfy_nodes" / "web" / "docs"
    for help_page in docs.rglob("*.md"):
        assert server.get(f"/extensions/{FOLDER_NAME}/docs/{help_page.relative_to(docs).as_posix()}") == help_page.read_bytes()
    assert {"en", *catalogues()} <= set(server.get_json("/i18n"))


def test_player_is_served_as_modules(server: Server) -> None:
    assert f"/extensions/{FOLDER_NAME}/js/preview_avatar.js" in server.get_json("/extensions")
    for file in (*(ROOT / "mvp4d_core" / "player").glob("*.js"), ROOT / "mvp4d_core" / "player" / "player.css"):
        assert server.get(f"/mvp4d/player/{file.name}") == file.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_opens_in_the_page_as_its_twin(page: Page, name: str) -> None:
    page.evaluate(f"""(async () => {{
      const answer = await fetch("/api/workflow_templates/{FOLDER_NAME}/{name}.json");
      await window.comfyAPI.app.app.loadGraphData(await answer.json(), true, true, "{name}");
    }})()""")
    assert "Missing" not in page.evaluate("document.body.innerText")
    written = page.evaluate("(async () => (await window.comfyAPI.app.app.graphToPrompt()).output)()")
    assert posted(written) == twin(name)


@pytest.mark.parametrize("name", NAMES)
def test_runs(server: Server, name: str) -> None:
    history = server.wait(server.queue(made_small(twin(name))))
    assert history["status"]["status_str"] == "success", messages(history, "execution_error")
    assert history["outputs"]
