# SPDX-License-Identifier: Apache-2.0
"""What the pack says, in the languages it speaks: nothing missing, nothing stale."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import comfy_host
from tests.support.comfy_schema import ComfyNode
from tools.build_locales import LOCALES, built, catalogues, gaps

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "comfy_nodes" / "web" / "docs"
LANGUAGES = {"en": None, **catalogues()}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, type[ComfyNode]]]:
    with comfy_host.installed(tmp_path_factory.mktemp("comfy")):
        yield comfy_host.nodes_of(comfy_host.load_pack(ROOT))


@pytest.mark.parametrize("language", catalogues())
def test_catalogue_has_what_the_nodes_say_and_no_more(nodes: dict[str, type[ComfyNode]], language: str) -> None:
    missing, unused = gaps(nodes, LANGUAGES[language])
    assert not missing and not unused, f"edit tools/locale_{language}.json, then run tools/build_locales.py"


@pytest.mark.parametrize("language", LANGUAGES)
def test_files_are_those_of_the_schemas_and_the_catalogue(nodes: dict[str, type[ComfyNode]], language: str) -> None:
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (LOCALES / language).iterdir()}
    assert files == built(nodes, LANGUAGES[language]), "run python -m tools.build_locales"


def test_there_is_no_other_language() -> None:
    assert {folder.name for folder in LOCALES.iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("language", catalogues())
def test_every_node_has_a_help_page_that_speaks_of_the_same(nodes: dict[str, type[ComfyNode]], language: str) -> None:
    for node_id, node in nodes.items():
        page = (DOCS / node_id / f"{language}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {LANGUAGES[language][node.GET_SCHEMA().display_name]}\n"), node_id
        english = (DOCS / f"{node_id}.md").read_text(encoding="utf-8")
        assert marked(page) == marked(english), f"{node_id}: {marked(page) ^ marked(english)}"
        assert page.count("\n- ") == english.count("\n- ") and page.count("\n|") == english.count("\n|"), node_id
    assert {path.stem for path in DOCS.rglob(f"{language}.md")} == {language}
    assert {path.parent.name for path in DOCS.rglob(f"{language}.md")} == set(nodes), "a help page without a node"


def marked(page: str) -> set[str]:
    """Names of inputs, files and commands: what is set in type of its own."""
    return set(re.findall(r"`([^`\n]+)`", page))


def test_help_pages_name_inputs_that_are_there(nodes: dict[str, type[ComfyNode]]) -> None:
    """A bullet that begins with a name in type of its own is about an input, an output or a choice of this node."""
    for node_id, node in nodes.items():
        schema = node.GET_SCHEMA()
        known = {entry.id for entry in (*schema.inputs, *schema.outputs)}
        known |= {option for entry in schema.inputs for option in getattr(entry, "options", ())}
        page = (DOCS / f"{node_id}.md").read_text(encoding="utf-8")
        for name in re.findall(r"^- `([^`]+)`", page, re.MULTILINE):
            assert name in known or name.startswith("."), f"{node_id} speaks of `{name}`"
