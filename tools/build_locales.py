# SPDX-License-Identifier: Apache-2.0
"""Rebuilds `locales/` from the nodes' schemas and the translations in `tools/locale_*.json`.

    python -m tools.build_locales

A catalogue is a table from English to another language, without an order of its own. What the schemas say and a catalogue lacks, or holds
and nobody says, ends the program with a list.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mvp4d_core.io.atomic import atomic_text
from tests.support import comfy_host
from tests.support.comfy_schema import ComfyNode

ROOT = Path(__file__).parents[1]
LOCALES = ROOT / "locales"
SOCKETS = {
    "MVP4D_REFERENCE": "reference", "MVP4D_PERFORMANCE": "performance", "MVP4D_PLAN": "plan", "MVP4D_VIDEO": "multi-view video",
    "MVP4D_AVATAR": "avatar", "MVP4D_HEAD": "head", "MVP4D_CAMERAS": "cameras", "MVP4D_MODEL": "model",
}  # fmt: skip
MEANS_SOMETHING = "{}@|$"  # to the page's translator, which takes messages with these apart


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, comfy_host.installed(Path(folder)):
        nodes = comfy_host.nodes_of(comfy_host.load_pack(ROOT))
        for language, catalogue in {"en": None, **catalogues()}.items():
            missing, unused = gaps(nodes, catalogue) if catalogue is not None else ([], [])
            if missing or unused:
                sys.exit(f"{language} lacks {json.dumps(missing, indent=1, ensure_ascii=False)}\nand nobody says {unused}")
            for name, table in built(nodes, catalogue).items():
                text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
                (LOCALES / language).mkdir(parents=True, exist_ok=True)
                atomic_text(LOCALES / language / f"{name}.json", text)


def catalogues() -> dict[str, dict[str, str]]:
    """The translations by language."""
    files = sorted(Path(__file__).parent.glob("locale_*.json"))
    return {file.stem.removeprefix("locale_"): json.loads(file.read_text(encoding="utf-8")) for file in files}


def built(nodes: dict[str, type[ComfyNode]], catalogue: dict[str, str] | None) -> dict[str, dict[str, Any]]:
    """The files of one language by name; English without a catalogue."""
    say = (lambda text: text) if catalogue is None else catalogue.__getitem__
    return {
        "nodeDefs": {node_id: _described(node, say) for node_id, node in nodes.items()},
        "main": {"dataTypes": {socket: say(name) for socket, name in SOCKETS.items()}},
    }


def gaps(nodes: dict[str, type[ComfyNode]], catalogue: dict[str, str]) -> tuple[list[str], list[str]]:
    """What a catalogue lacks, and what it has in vain."""
    said = list(dict.fromkeys(_leaves(built(nodes, None))))
    return [text for text in said if text not in catalogue], [text for text in catalogue if text not in said]


def _described(node: type[ComfyNode], say: Callable[[Any], str]) -> dict[str, Any]:
    """A node as the page's `nodeDefs` want it."""
    schema = node.GET_SCHEMA()
    outputs = {str(slot): {"name": say(output.display_name), "tooltip": say(output.tooltip)} for slot, output in enumerate(schema.outputs)}
    described = {
        "display_name": say(schema.display_name),
        "description": say(schema.description),
        "inputs": {entry.id: {"name": say(entry.id), "tooltip": say(entry.tooltip)} for entry in schema.inputs},
        "outputs": outputs,
    }
    for text in _leaves(described):
        if any(sign in text for sign in MEANS_SOMETHING):
            raise ValueError(f"{schema.node_id} says `{text}`, and the page's translator takes none of {MEANS_SOMETHING}")
    return described


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for part in value.values():
            yield from _leaves(part)


if __name__ == "__main__":
    main()
