# SPDX-License-Identifier: Apache-2.0
"""The list of nodes. Their ids are in people's saved workflows: an id is never renamed."""

from comfy_api.latest import ComfyExtension, io

from . import host
from .conditions import CameraPlan, ConditionExpressions
from .distill import DistillAvatar
from .driving import SpeechPerformance, TrackVideo
from .editing import EditPerformance, MixPerformances
from .evaluate import EvaluateAvatar
from .export import ExportAvatar, ExportForBlender
from .files import LoadAvatar, SaveAvatar
from .multiview import LoadModel, MultiViewToVideo, SampleMultiViewVideo
from .performance import LoadPerformance, PerformancePreset, SavePerformance
from .preview import PreviewAvatar
from .reference import LoadHeadModel, LoadReference
from .render import AnimateAvatar, RenderAvatar
from .sliders import ARKitSliders

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadHeadModel,
    LoadReference,
    LoadPerformance,
    PerformancePreset,
    ARKitSliders,
    TrackVideo,
    SpeechPerformance,
    EditPerformance,
    MixPerformances,
    SavePerformance,
    CameraPlan,
    ConditionExpressions,
    LoadModel,
    SampleMultiViewVideo,
    MultiViewToVideo,
    DistillAvatar,
    AnimateAvatar,
    RenderAvatar,
    PreviewAvatar,
    EvaluateAvatar,
    SaveAvatar,
    LoadAvatar,
    ExportAvatar,
    ExportForBlender,
)


class MVP4DExtension(ComfyExtension):
    async def on_load(self) -> None:
        host.register_model_folder()
        host.install_example_inputs()
        host.serve_player()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODES)
