# SPDX-License-Identifier: Apache-2.0
"""The pack in the stand-in of ComfyUI, once a file of tests."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import comfy_host
from tests.support.comfy_host import Host
from tests.support.comfy_schema import ComfyNode

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, ModuleType]]:
    with comfy_host.installed(tmp_path_factory.mktemp("comfy")) as host:
        yield host, comfy_host.load_pack(ROOT)


@pytest.fixture(scope="module")
def nodes(pack: tuple[Host, ModuleType]) -> dict[str, type[ComfyNode]]:
    return comfy_host.nodes_of(pack[1])


@pytest.fixture
def host(pack: tuple[Host, ModuleType]) -> Iterator[Host]:
    for record in (pack[0].bars, pack[0].previews, pack[0].texts, pack[0].loaded, pack[0].reserved):
        record.clear()
    yield pack[0]
    pack[0].interrupted, pack[0].interrupt_after = False, None
