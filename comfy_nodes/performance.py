# SPDX-License-Identifier: Apache-2.0
"""What the avatar does, and what the generator is asked to show."""

from typing import Any

from comfy_api.latest import io

from ..mvp4d_core.conditioning import DEFAULT_VIEWS, PRESETS, fitting_frames, fitting_motion, plan_views
from ..mvp4d_core.rig import Performance, load_head_model, load_performance, retarget, showcase_performance
from . import host
from .types import CATEGORY, PerformanceSocket, PlanSocket, ReferenceSocket, TrackedReference

SHOWCASE = "showcase"


class LoadPerformance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_LoadPerformance",
            display_name="MVP4D Load Performance",
            category=CATEGORY,
            description="Expressions and head motion over time: the built-in showcase, or a performance file from the input folder.",
            search_aliases=["animation", "motion", "expressions", "blendshapes", "arkit"],
            inputs=[
                io.Combo.Input(
                    "performance",
                    options=[SHOWCASE, *host.files_ending_in(".performance.safetensors")],
                    default=SHOWCASE,
                    tooltip="The showcase (speech, blinks, brows, a smile, a head turn), or a *.performance.safetensors file.",
                ),
                io.Float.Input(
                    "fps", default=24.0, min=1.0, max=120.0, step=1.0, tooltip="Frames a second of the showcase; a file has its own."
                ),
                io.Float.Input("seconds", default=6.0, min=0.5, max=60.0, step=0.5, tooltip="Length of the showcase; a file has its own."),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="For Render Avatar, Animate Avatar or Condition Expressions."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
                io.Int.Output("frames", tooltip="How many frames it has."),
            ],
        )

    @classmethod
    def execute(cls, performance: str, fps: float, seconds: float) -> io.NodeOutput:
        if performance == SHOWCASE:
            loaded = showcase_performance(load_head_model(), fps=fps, seconds=seconds)
        else:
            loaded = load_performance(host.file_path(performance))
        return io.NodeOutput(loaded, float(loaded.fps), len(loaded))

    @classmethod
    def fingerprint_inputs(cls, performance: str, **_: Any) -> str:
        return "" if performance == SHOWCASE else host.file_state(performance)


class ConditionExpressions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        views = ", ".join(f"{number} at {preset}" for preset, number in DEFAULT_VIEWS.items())
        return io.Schema(
            node_id="MVP4D_ConditionExpressions",
            display_name="MVP4D Condition Expressions",
            category=CATEGORY,
            description="Plans the multi-view video: cameras around this person, and the expressions that each of them sees.",
            search_aliases=["view plan", "camera plan", "multi-view", "conditions"],
            inputs=[
                ReferenceSocket.Input("reference", tooltip="The person, from Load Reference."),
                PerformanceSocket.Input(
                    "performance",
                    optional=True,
                    tooltip="Expressions to learn from; the showcase when nothing is connected, which moves every part of the face once.",
                ),
                io.Combo.Input(
                    "coverage",
                    options=[str(preset) for preset in PRESETS],
                    default="360",
                    tooltip="How far the cameras go around the head, in degrees. 360 includes the back.",
                ),
                io.Int.Input(
                    "frames",
                    default=21,
                    min=1,
                    max=240,
                    tooltip="Frames to fit to: those of the performance and of a range of motion that differ most.",
                ),
                io.Int.Input("views", default=0, min=0, max=64, tooltip=f"Number of cameras; 0 takes the coverage's own ({views})."),
                io.Int.Input("size", default=256, min=64, max=1024, step=16, tooltip="Pixels along a side of every frame."),
                io.Boolean.Input(
                    "motion",
                    default=False,
                    optional=True,
                    tooltip="Join the frames by motion, as the mmvdm generator wants them. `frames` is then 1 + 4k, such as 21 or 49.",
                ),
            ],
            outputs=[PlanSocket.Output("plan", tooltip="Cameras and expressions, for Sample Multi-View Video.")],
        )

    @classmethod
    def execute(
        cls,
        reference: TrackedReference,
        coverage: str,
        frames: int,
        views: int,
        size: int,
        performance: Performance | None = None,
        motion: bool = False,
    ) -> io.NodeOutput:
        rig = reference.reference.rig(reference.head_model)
        acted = showcase_performance(rig) if performance is None else retarget(performance, rig)
        shown = (fitting_motion if motion else fitting_frames)(acted, rig, frames)
        return io.NodeOutput(plan_views(rig, shown, preset=int(coverage), views=views or None, size=size))
