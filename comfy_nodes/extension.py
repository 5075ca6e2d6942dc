# SPDX-License-Identifier: Apache-2.0
"""The list of nodes. Their ids are in people's saved workflows: an id is never renamed."""

from comfy_api.latest import ComfyExtension, io

from . import host
from .distill import DistillAvatar
from .files import LoadAvatar, SaveAvatar
from .multiview import SampleMultiViewVideo
from .performance import ConditionExpressions, LoadPerformance
from .reference import LoadReference
from .render import AnimateAvatar, RenderAvatar

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadReference,
    LoadPerformance,
    ConditionExpressions,
    SampleMultiViewVideo,
    DistillAvatar,
    AnimateAvatar,
    RenderAvatar,
    SaveAvatar,
    LoadAvatar,
)


class MVP4DExtension(ComfyExtension):
    async def on_load(self) -> None:
        host.register_model_folder()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
