# SPDX-License-Identifier: Apache-2.0
"""The pack in ComfyUI's real page, in a browser without a window. Pictures of what it showed are kept in out/comfy_page."""

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mvp4d_core.avatar import save_avatar
from mvp4d_core.player.browser import Page, find_browser, open_page
from tests.support.comfy_frontend import PACK, READY, ROOT, Frontend, posted, served
from tests.support.toy_avatar import toy_avatar

pytest.importorskip("comfyui_frontend_package", reason="ComfyUI's page comes with comfyui-frontend-package")
pytestmark = [pytest.mark.browser, pytest.mark.skipif(find_browser() is None, reason="no browser")]

PICTURES = ROOT / "out" / "comfy_page"
WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
SIZE = (1440, 860)
APP = "window.comfyAPI.app.app"
# of the page itself, with no pack at all: files of the user that nobody has, its own old menus, its font server
NOISE = ("404 (Not Found)", "legacy queue/history menu", "MaskEditor", "before initialization", "ERR_NAME_NOT_RESOLVED", "ReadPixels")
ABSENT = {"/user.css", "/api/userdata/user.css", "/api/userdata/comfy.templates.json"}
OPEN = """(async () => {{
  const answer = await fetch("/api/workflow_templates/{pack}/{name}.json");
  await {app}.loadGraphData(await answer.json(), true, true, "{name}");
}})()"""
WRITTEN = f"(async () => {{ const {{ workflow, output }} = await {APP}.graphToPrompt(); return {{ workflow, output }}; }})()"
AGAIN = f"""(async () => {{
  const {{ workflow }} = await {APP}.graphToPrompt();
  await {APP}.loadGraphData(JSON.parse(JSON.stringify(workflow)), true, true, "again");
}})()"""
WHOLE = f"""(() => {{
  const boxes = {APP}.graph.nodes.map(node => [...node.pos, node.pos[0] + node.size[0], node.pos[1] + node.size[1]]);
  const [left, top] = [0, 1].map(k => Math.min(...boxes.map(box => box[k])) - 40);
  const [right, bottom] = [2, 3].map(k => Math.max(...boxes.map(box => box[k])) + 40);
  const [bar, head] = [70, 110]; // pixels that the page's own bars take at the left and the top
  const scale = Math.min((innerWidth - bar) / (right - left), (innerHeight - head) / (bottom - top), 1);
  {APP}.canvas.ds.scale = scale;
  {APP}.canvas.ds.offset = [-left + bar / scale, -top + head / scale];
  {APP}.canvas.setDirty(true, true);
}})()"""
PAINTED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frontend]:
    with served(tmp_path_factory.mktemp("comfy")) as frontend:
        save_avatar(frontend.host.folder / "input" / "toy.mvp4d", toy_avatar(300))
        yield frontend
        assert set(frontend.missing) <= ABSENT
        assert not frontend.problems


@pytest.fixture(scope="module")
def page(frontend: Frontend) -> Iterator[Page]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with open_page(frontend.address, SIZE, dark=True, seconds=240) as page:
        page.wait_for(READY)
        yield page
        assert complaints(page) == []


def complaints(page: Page) -> list[str]:
    return [problem for problem in page.problems if not any(noise in problem for noise in NOISE)]


def picture(page: Page, name: str) -> np.ndarray:
    """What the page shows, (H, W, 3) in 0..255; kept under that name."""
    page.evaluate(PAINTED)
    png = page.screenshot()
    (PICTURES / f"{name}.png").write_bytes(png)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float32)


def test_every_node_is_known_with_its_extension(page: Page, frontend: Frontend) -> None:
    known = set(page.evaluate("Object.keys(LiteGraph.registered_node_types)"))
    assert set(frontend.nodes) <= known
    assert page.evaluate(f'{APP}.extensions.some(({{ name }}) => name === "MVP4D.PreviewAvatar")')


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_opens_says_what_its_twin_says_and_survives_saving(page: Page, name: str) -> None:
    page.evaluate(OPEN.format(pack=PACK, name=name, app=APP))
    unknown = page.evaluate(f"{APP}.graph.nodes.filter(node => node.has_errors || !LiteGraph.registered_node_types[node.type]).length")
    assert unknown == 0
    page.evaluate(WHOLE)
    picture(page, name)
    assert "Missing" not in page.evaluate("document.body.innerText")
    twin = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    before = page.evaluate(WRITTEN)
    assert posted(before["output"]) == twin
    page.evaluate(AGAIN)
    after = page.evaluate(WRITTEN)
    assert posted(after["output"]) == twin
    assert [steady(node) for node in after["workflow"]["nodes"]] == [steady(node) for node in before["workflow"]["nodes"]]
    assert after["workflow"]["groups"] == before["workflow"]["groups"]


def steady(node: dict[str, Any]) -> dict[str, Any]:
    """A saved node without the numbers that its links happen to have, and without fractions of a pixel."""
    kept = {key: value for key, value in node.items() if key not in ("inputs", "outputs", "size", "pos")}
    return kept | {"place": [round(value) for value in (*node["pos"], *node["size"])]}


def player_graph(state: str = "") -> dict[str, Any]:
    return {
        "1": {"class_type": "MVP4D_LoadAvatar", "inputs": {"file": "toy.mvp4d"}},
        "2": {"class_type": "MVP4D_LoadPerformance", "inputs": {"performance": "showcase", "seconds": 1.0}},
        "3": {"class_type": "MVP4D_PreviewAvatar", "inputs": {"avatar": ["1", 0], "performance": ["2", 0], "state": state}},
    }


STATE = f'{APP}.graph.getNodeById(3).widgets.find(({{ name }}) => name === "state").value'
PLAYING = "document.querySelector('.mvp4d-player canvas')?.clientHeight > 0"


def run(page: Page) -> None:
    page.evaluate(f"{APP}.queuePrompt(0, 1)")


def slide(page: Page, label: str, value: float) -> None:
    page.evaluate(f"""(() => {{
      const input = document.querySelector('.mvp4d-player input[aria-label="{label}"]');
      input.value = {value};
      input.dispatchEvent(new Event("input", {{ bubbles: true }}));
    }})()""")


@pytest.fixture
def player(page: Page) -> Page:
    """The page with a graph whose player shows an avatar."""
    page.evaluate(f"{APP}.clean(); {APP}.loadApiJson({json.dumps(player_graph())}, 'player')")
    page.evaluate(WHOLE)
    assert "Run the workflow" in page.evaluate("document.querySelector('.mvp4d-player').textContent")
    run(page)
    page.wait_for(PLAYING)
    return page


def canvas_of(page: Page, name: str) -> np.ndarray:
    """What the player's canvas shows, once it has settled."""
    page.evaluate("new Promise(done => setTimeout(done, 600))")
    left, top, right, bottom = page.evaluate("""(() => {
      const box = document.querySelector(".mvp4d-player canvas").getBoundingClientRect();
      return [box.left, box.top, box.right, box.bottom].map(Math.round);
    })()""")
    return picture(page, name)[top:bottom, left:right]


def test_player_shows_the_avatar_and_sliders_move_it(player: Page, frontend: Frontend) -> None:
    before = canvas_of(player, "player")
    assert before.std() > 5, "an avatar in front of a background"
    assert player.evaluate(STATE) == ""
    slide(player, "Open", 1.0)
    after = canvas_of(player, "player_open")
    assert np.abs(after - before).max() > 40
    state = json.loads(player.evaluate(STATE))
    assert state["expression"] == {"jawOpen": 1} and state["joints"] == {}
    run(player)
    player.wait_for(f"(async () => (await {APP}.graphToPrompt()).output[3].inputs.state.length > 0)()")
    assert json.loads(frontend.posted[-1]["3"]["inputs"]["state"]) == state


def test_player_keeps_the_camera_and_restores_it(player: Page) -> None:
    x, y = player.evaluate("""(() => {
      const { x, y, width, height } = document.querySelector(".mvp4d-player canvas").getBoundingClientRect();
      return [x + width / 3, y + height / 2];
    })()""")
    for kind, moved in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 60)):
        told = {"type": kind, "x": x + moved, "y": y, "button": "left", "buttons": 1, "clickCount": 1}
        player.ask("Input.dispatchMouseEvent", told)
    turned = canvas_of(player, "player_turned")
    state = player.evaluate(STATE)
    camera = json.loads(state)["camera"]
    assert camera["position"]["x"] < -0.2 and camera["target"]["y"] == pytest.approx(0.0, abs=0.2) and 5 < camera["fov"] < 60
    player.evaluate(f"{APP}.loadApiJson({json.dumps(player_graph(state))}, 'player')")
    player.evaluate(WHOLE)
    run(player)
    player.wait_for(PLAYING)
    assert np.abs(canvas_of(player, "player_restored") - turned).mean() < 3
    assert player.evaluate(STATE) == state, "showing it again changes nothing"


def test_player_is_quiet_while_it_plays(player: Page) -> None:
    player.evaluate("document.querySelector('.mvp4d-player .mvp4d-play').click()")
    player.evaluate("new Promise(done => setTimeout(done, 600))")
    assert player.evaluate(STATE) == ""
    player.evaluate("document.querySelector('.mvp4d-player .mvp4d-play').click()")
    player.wait_for(f"{STATE} !== ''")


def test_hands_in_the_player_do_not_reach_the_graph(player: Page) -> None:
    """Nor does what scrolls the panel zoom the graph, or Delete on a slider delete the node."""
    nodes, scale = f"{APP}.graph.nodes.length", f"{APP}.canvas.ds.scale"
    before = player.evaluate(scale)
    x, y = player.evaluate("""(() => {
      const { x, y, width, height } = document.querySelector(".mvp4d-player .mvp4d-panel").getBoundingClientRect();
      return [x + width / 2, y + height / 2];
    })()""")
    player.ask("Input.dispatchMouseEvent", {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": 120})
    player.wait_for("document.querySelector('.mvp4d-player .mvp4d-panel').scrollTop > 0")
    assert player.evaluate(scale) == before
    player.evaluate(f"{APP}.canvas.selectNode({APP}.graph.getNodeById(3))")
    for control in ("canvas", "input[type=range]"):
        player.evaluate(f"document.querySelector('.mvp4d-player {control}').focus()")
        for kind in ("keyDown", "keyUp"):
            player.ask("Input.dispatchKeyEvent", {"type": kind, "key": "Delete", "code": "Delete", "windowsVirtualKeyCode": 46})
    player.evaluate(PAINTED)
    assert player.evaluate(nodes) == 3


def test_player_comes_back_with_its_tab(player: Page) -> None:
    player.evaluate(f"{APP}.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    player.wait_for("!document.querySelector('.mvp4d-player')")
    player.evaluate(
        "[...document.querySelectorAll('.workflow-tabs .p-togglebutton')].findLast(tab => tab.textContent.includes('player')).click()"
    )
    player.wait_for(PLAYING)


def test_pages_help_and_words_are_served(page: Page) -> None:
    docs = f"/extensions/{PACK}/docs/MVP4D_RenderAvatar"
    paths = [f"{docs}.md", f"{docs}/zh.md", "/mvp4d/player/player.js", "/mvp4d/player/player.css"]
    answers = page.evaluate(f"Promise.all({json.dumps(paths)}.map(async path => (await fetch(path)).ok))")
    assert answers == [True] * 4


def test_the_page_speaks_chinese(frontend: Frontend) -> None:
    frontend.settings["Comfy.Locale"] = "zh"
    try:
        with open_page(frontend.address, SIZE, dark=True, seconds=240) as page:
            page.wait_for(READY)
            page.evaluate(OPEN.format(pack=PACK, name="quick_start", app=APP))
            page.evaluate(WHOLE)
            picture(page, "quick_start_zh")
            chinese = json.loads((ROOT / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
            titles = page.evaluate(f"{APP}.graph.nodes.map(node => node.title)")
            assert chinese["MVP4D_DistillAvatar"]["display_name"] in titles
            assert page.evaluate("document.querySelector('.mvp4d-player').textContent").startswith("运行")
    finally:
        frontend.settings["Comfy.Locale"] = "en"
