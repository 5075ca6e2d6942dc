# SPDX-License-Identifier: Apache-2.0
"""The workflows without a page: what a script posts is accepted, a person can read what opens, and what they load comes along.

`test_frontend.py` opens them in ComfyUI's page, and `test_real_comfyui.py` in a ComfyUI.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support import comfy_host
from tests.support.comfy_frontend import CORE_NODES, described
from tests.support.comfy_schema import ComfyNode
from tools.example_workflows import WORKFLOWS

ROOT = Path(__file__).parents[2]
NAMES = [workflow.name for workflow in WORKFLOWS]
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
PAGE_ONLY = "MarkdownNote"
NOT_SHOWN = {  # nodes in no workflow, and why
    "MVP4D_AnimateAvatar": "what it makes goes to ComfyUI's own splat nodes",
    "MVP4D_SpeechPerformance": "it wants a voice, and none comes with the pack",
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[comfy_host.Host]:
    with comfy_host.installed(tmp_path_factory.mktemp("comfy")) as host:
        yield host


@pytest.fixture(scope="module")
def nodes(host: comfy_host.Host) -> dict[str, type[ComfyNode]]:
    return comfy_host.nodes_of(comfy_host.load_pack(ROOT))


@pytest.fixture(scope="module")
def info(nodes: dict[str, type[ComfyNode]]) -> dict[str, Any]:
    return json.loads(CORE_NODES.read_text(encoding="utf-8")) | {name: described(node) for name, node in nodes.items()}


def opened(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def posted(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))


def wanted(inputs: dict[str, Any], given: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, dict[str, Any], bool]]:
    """Name -> type, options and whether it must be there, of the inputs that a node has once its dynamic ones are chosen."""
    table = {}
    for kind in ("required", "optional"):
        for name, (io_type, *options) in inputs.get(kind, {}).items():
            table[prefix + name] = (io_type, options[0] if options else {}, kind == "required")
            if io_type == DYNAMIC and prefix + name in given:
                (chosen,) = [option for option in options[0]["options"] if option["key"] == given[prefix + name]]
                table |= wanted(chosen["inputs"], given, f"{prefix}{name}.")
    return table


def test_all_of_them_are_there() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    assert sorted(NAMES) == sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_what_a_script_posts_is_accepted(name: str, info: dict[str, Any], nodes: dict[str, type[ComfyNode]]) -> None:
    prompt = posted(name)
    for key, entry in prompt.items():
        inputs = wanted(info[entry["class_type"]]["input"], entry["inputs"])
        needed = {name for name, (_, _, required) in inputs.items() if required and name != "upload"}
        assert needed <= set(entry["inputs"]) <= set(inputs), f"{key} {entry['class_type']}"
        for entry_name, value in entry["inputs"].items():
            io_type, options, _ = inputs[entry_name]
            if isinstance(value, list):
                source, slot = value
                made = info[prompt[source]["class_type"]]["output"][slot]
                assert io_type == "*" or made in io_type.split(","), f"{key}.{entry_name} gets {made}"
            elif io_type in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"], f"{key}.{entry_name}"
        if entry["class_type"] in nodes:
            widgets = {entry_name: value for entry_name, value in entry["inputs"].items() if not isinstance(value, list)}
            assert comfy_host.validate(nodes[entry["class_type"]], **widgets) == [], f"{key} {entry['class_type']}"


@pytest.mark.parametrize("name", NAMES)
def test_a_person_can_read_it(name: str) -> None:
    workflow = opened(name)
    boxes = [(node["pos"][0], node["pos"][1] - 30, *node["size"]) for node in workflow["nodes"]]
    assert not any(
        a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    ), "nodes lie on one another"
    (note,) = [node for node in workflow["nodes"] if node["type"] == PAGE_ONLY]
    assert note["widgets_values"][0].startswith("# ") and workflow["groups"]
    for node in workflow["nodes"]:
        assert node["properties"].get("Node name for S&R", node["type"]) == node["type"]
        inside = [group for group in workflow["groups"] if within(node, group["bounding"])]
        assert node["type"] == PAGE_ONLY or len(inside) == 1, f"{node['type']} is in {len(inside)} groups"


def within(node: dict[str, Any], box: list[float]) -> bool:
    left, top, width, height = box
    (x, y), (w, h) = node["pos"], node["size"]
    return left <= x and top <= y and x + w <= left + width and y + h <= top + height


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_thumbnail(name: str) -> None:
    path = ROOT / "workflows" / f"{name}.jpg"
    with Image.open(path) as thumbnail:
        assert thumbnail.format == "JPEG" and thumbnail.size == (512, 512)
    assert path.stat().st_size < 200_000


def test_every_node_is_in_a_workflow(nodes: dict[str, type[ComfyNode]]) -> None:
    used = {entry["class_type"] for name in NAMES for entry in posted(name).values()}
    assert set(nodes) - used == set(NOT_SHOWN)


def test_what_they_load_lies_in_the_input_folder(host: comfy_host.Host, nodes: dict[str, type[ComfyNode]]) -> None:
    folder = host.folder / "input"
    examples = {path.name: path.read_bytes() for path in (ROOT / "workflows" / "inputs").iterdir()}
    assert {path.name: path.read_bytes() for path in folder.glob("mvp4d_*")} == examples
    loaded = {value for name in NAMES for entry in posted(name).values() for value in entry["inputs"].values() if isinstance(value, str)}
    assert set(examples) <= loaded, "an example that nobody loads"


def test_an_example_that_somebody_changed_stays(tmp_path: Path) -> None:
    with comfy_host.installed(tmp_path / "comfy"):
        (tmp_path / "comfy" / "input" / "mvp4d_take.csv").write_text("mine")
        comfy_host.nodes_of(comfy_host.load_pack(ROOT))
        assert (tmp_path / "comfy" / "input" / "mvp4d_take.csv").read_text() == "mine"


def test_english_pages_and_workflows_survive_any_code_page() -> None:
    """Windows tools read text as cp1252 unless told otherwise."""
    pages = [*(ROOT / "workflows").rglob("*.json"), *(ROOT / "comfy_nodes" / "web" / "docs").glob("*.md")]
    for page in pages:
        assert page.read_bytes().isascii(), page
