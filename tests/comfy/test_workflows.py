# SPDX-License-Identifier: Apache-2.0
"""The workflows: each opens, is wired soundly, and says the same to a person and to a script."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.support import comfy_host
from tests.support.comfy_schema import ComfyNode, Widget
from tests.support.comfy_workflows import CORE_NODES, PAGE_ONLY, NodeShape, api_from_ui, shape_of

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, type[ComfyNode]]]:
    with comfy_host.installed(tmp_path_factory.mktemp("comfy")):
        yield comfy_host.nodes_of(comfy_host.load_pack(ROOT))


@pytest.fixture(scope="module")
def shapes(nodes: dict[str, type[ComfyNode]]) -> dict[str, NodeShape]:
    return CORE_NODES | {node_id: shape_of(node) for node_id, node in nodes.items()}


def _api(path: Path) -> dict:
    return json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))


def test_there_is_a_quick_start() -> None:
    assert "quick_start" in [path.stem for path in WORKFLOWS]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_twins_agree(path: Path, shapes: dict[str, NodeShape]) -> None:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    posted = api_from_ui(workflow, shapes)
    twin = {key: {"class_type": entry["class_type"], "inputs": entry["inputs"]} for key, entry in _api(path).items()}
    assert posted == twin


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_api_workflow_is_accepted(path: Path, shapes: dict[str, NodeShape], nodes: dict[str, type[ComfyNode]]) -> None:
    workflow = _api(path)
    for key, entry in workflow.items():
        shape = shapes[entry["class_type"]]
        kinds = shape.sockets | {name: kind for name, kind in shape.widgets.items() if kind}
        assert set(kinds) - set(shape.optional) <= set(entry["inputs"]) <= set(kinds), f"{key} {entry['class_type']}"
        for name, value in entry["inputs"].items():
            if isinstance(value, list):
                assert shapes[workflow[value[0]]["class_type"]].outputs[value[1]] == kinds[name], f"{key}.{name}"
            elif entry["class_type"] in nodes:
                (widget,) = [w for w in nodes[entry["class_type"]].GET_SCHEMA().inputs if w.id == name and isinstance(w, Widget)]
                widget.check(value)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_person_can_read_it(path: Path) -> None:
    workflow = json.loads(path.read_text(encoding="utf-8"))
    boxes = [(*node["pos"], *node["size"]) for node in workflow["nodes"]]
    assert not any(
        a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
        for i, a in enumerate(boxes)
        for b in boxes[:i]
    ), "nodes lie on one another"
    assert any(node["type"] in PAGE_ONLY for node in workflow["nodes"]) and workflow["groups"]
    assert all(node["properties"].get("Node name for S&R") == node["type"] for node in workflow["nodes"] if node["type"] not in PAGE_ONLY)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_it_has_a_thumbnail(path: Path) -> None:
    with Image.open(path.with_suffix(".jpg")) as thumbnail:
        assert thumbnail.format == "JPEG" and min(thumbnail.size) >= 256
    assert path.with_suffix(".jpg").stat().st_size < 200_000


def test_help_pages_and_workflows_survive_any_code_page() -> None:
    """Windows tools read text as cp1252 unless told otherwise."""
    pages = [*WORKFLOWS, *(ROOT / "workflows" / "api").glob("*.json"), *(ROOT / "comfy_nodes" / "web").rglob("*.md")]
    for page in pages:
        assert page.read_bytes().isascii(), page


def test_every_node_is_in_a_workflow(nodes: dict[str, type[ComfyNode]]) -> None:
    used = {entry["class_type"] for path in WORKFLOWS for entry in _api(path).values()}
    assert set(nodes) - used <= {"MVP4D_LoadAvatar", "MVP4D_AnimateAvatar"}
