# SPDX-License-Identifier: Apache-2.0
"""ComfyUI's two workflow formats, read without ComfyUI: nodes, links, and what the page posts of the one that a person opens."""

from dataclasses import dataclass
from typing import Any

from tests.support.comfy_schema import ComfyNode, Input, IntInput, Schema, Widget


@dataclass(frozen=True)
class NodeShape:
    """What of a node a workflow depends on.

    Attributes:
        sockets: name -> type, of inputs without a widget; `optional` names those that may stay open.
        widgets: name -> type in the order in which `widgets_values` has them; "" marks a value that stays in the page.
        outputs: types.
    """

    sockets: dict[str, str]
    widgets: dict[str, str]
    outputs: tuple[str, ...]
    optional: tuple[str, ...] = ()


# Of ComfyUI's own nodes, those that the pack's workflows use.
CORE_NODES = {
    "LoadImage": NodeShape({}, {"image": "COMBO", "upload": ""}, ("IMAGE", "MASK")),
    "CreateVideo": NodeShape(
        {"images": "IMAGE", "audio": "AUDIO"}, {"fps": "FLOAT", "bit_depth": "INT"}, ("VIDEO",), ("audio", "bit_depth")
    ),
    "SaveVideo": NodeShape(
        {"video": "VIDEO"},
        {"filename_prefix": "STRING", "format": "COMBO", "format.codec": "COMBO", "codec": "COMBO"},
        ("VIDEO",),
        ("codec",),
    ),
}
PAGE_ONLY = ("MarkdownNote",)


def shape_of(node: type[ComfyNode]) -> NodeShape:
    """The same of a node of the pack."""
    schema: Schema = node.GET_SCHEMA()
    widgets: dict[str, str] = {}
    for entry in schema.inputs:
        if isinstance(entry, Widget):
            widgets[entry.id] = entry.io_type
            if isinstance(entry, IntInput) and entry.control_after_generate:
                widgets[f"{entry.id} control"] = ""
    sockets = {entry.id: entry.io_type for entry in schema.inputs if type(entry).__bases__[0] is Input}
    return NodeShape(sockets, widgets, tuple(o.io_type for o in schema.outputs), tuple(e.id for e in schema.inputs if e.optional))


def api_from_ui(workflow: dict[str, Any], shapes: dict[str, NodeShape]) -> dict[str, dict[str, Any]]:
    """What the page would post: class and inputs of each node, by id. Checks the link table on the way."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    assert len(links) == len(workflow["links"]) and len(nodes) == len(workflow["nodes"]), "an id twice"
    assert max(nodes) <= workflow["last_node_id"] and max(links) <= workflow["last_link_id"]
    used: set[int] = set()
    posted = {}
    for node_id, node in nodes.items():
        if node["type"] in PAGE_ONLY:
            continue
        shape = shapes[node["type"]]
        assert len(node["widgets_values"]) == len(shape.widgets), f"{node['type']}: {node['widgets_values']} for {list(shape.widgets)}"
        inputs = {name: value for (name, kind), value in zip(shape.widgets.items(), node["widgets_values"], strict=True) if kind}
        for slot, entry in enumerate(node["inputs"]):
            if entry["link"] is None:
                continue
            _, source, source_slot, target, target_slot, kind = links[entry["link"]]
            assert (target, target_slot) == (node_id, slot) and entry["link"] not in used, f"link {entry['link']}"
            assert kind == nodes[source]["outputs"][source_slot]["type"] == shapes[nodes[source]["type"]].outputs[source_slot]
            assert kind == entry["type"] == (shape.sockets | shape.widgets)[entry["name"]]
            assert entry["link"] in nodes[source]["outputs"][source_slot]["links"]
            used.add(entry["link"])
            inputs[entry["name"]] = [str(source), source_slot]
        assert len(node["outputs"]) == len(shape.outputs)
        posted[str(node_id)] = {"class_type": node["type"], "inputs": inputs}
    assert used == set(links), f"links that lead nowhere: {set(links) - used}"
    return posted
