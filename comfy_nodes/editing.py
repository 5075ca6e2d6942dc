# SPDX-License-Identifier: Apache-2.0
"""Performances cut, changed and put together."""

from comfy_api.latest import io

from ..mvp4d_core.rig import Performance
from ..mvp4d_core.rig import performance_edit as edit
from ..mvp4d_core.rig.smoothing import smooth_performance, smoothing
from .checks import refusal
from .types import CATEGORY, PerformanceSocket

LIVELIEST, STILLEST = 6.0, 0.5  # Hz that pass at rest, at the least and the most smoothing
BLEND, ADD, AFTER = "blend", "add", "one after the other"


class EditPerformance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_EditPerformance",
            display_name="MVP4D Edit Performance",
            category=CATEGORY,
            description="Cuts a performance, then changes its pace, its sides, its tremor and its strength, and repeats it without a seam.",
            search_aliases=["trim", "retime", "speed", "loop", "mirror", "smooth", "resample"],
            inputs=[
                PerformanceSocket.Input("performance", tooltip="From any node that makes one."),
                io.Float.Input("start", default=0.0, min=0.0, max=3600.0, step=0.1, tooltip="Seconds where the part to keep begins."),
                io.Float.Input("end", default=0.0, min=0.0, max=3600.0, step=0.1, tooltip="Seconds where it ends; 0 keeps the rest."),
                io.Float.Input("speed", default=1.0, min=0.05, max=20.0, step=0.05, tooltip="2 is twice as fast, 0.5 half as fast."),
                io.Float.Input("fps", default=0.0, min=0.0, max=240.0, step=1.0, tooltip="Frames a second of the result; 0 keeps its own."),
                io.Boolean.Input("mirror", default=False, tooltip="Exchange left and right, as in a looking glass."),
                io.Float.Input(
                    "smooth",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Takes tremor off what rests: 0 none, 1 most. What moves quickly, and blinks, stay.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=4.0,
                    step=0.05,
                    tooltip="Calmer or livelier; 1 changes nothing, 0 is rest.",
                ),
                io.Int.Input("loops", default=1, min=1, max=100, tooltip="How often it is played; each end leads into the beginning."),
                io.Float.Input(
                    "seam", default=0.25, min=0.0, max=10.0, step=0.05, tooltip="Seconds in which a loop's end fades into its beginning."
                ),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="The edited performance."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
                io.Int.Output("frames", tooltip="How many frames it has."),
            ],
        )

    @classmethod
    def execute(
        cls,
        performance: Performance,
        start: float,
        end: float,
        speed: float,
        fps: float,
        mirror: bool,
        smooth: float,
        strength: float,
        loops: int,
        seam: float,
    ) -> io.NodeOutput:
        made = edit.trim(performance, start, end or None) if start or end else performance
        made = edit.retime(made, speed) if speed != 1 else made
        made = edit.resample(made, fps) if fps else made
        made = edit.mirror(made) if mirror else made
        made = smooth_performance(made, smoothing(STILLEST**smooth * LIVELIEST ** (1 - smooth))) if smooth else made
        made = edit.scale(made, strength) if strength != 1 else made
        made = edit.loop(made, loops, seam) if loops > 1 else made
        return io.NodeOutput(made, float(made.fps), len(made))

    @classmethod
    def validate_inputs(cls, start: float | None = None, end: float | None = None, fps: float | None = None) -> bool | str:
        refused = refusal(cls, start=start, end=end, fps=fps)
        if refused is None and start is not None and end and end <= start:
            refused = f"`end` must come after `start`, or be 0 for all that follows, got {start:g} to {end:g} s."
        if refused is None and fps is not None and 0 < fps < 1:
            refused = f"`fps` must be 0 or at least 1, got {fps:g}."
        return refused or True


class MixPerformances(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_MixPerformances",
            display_name="MVP4D Mix Performances",
            category=CATEGORY,
            description="Two performances in one: between both, the second added to the first, or one after the other.",
            search_aliases=["blend", "combine", "concatenate", "layer animation", "crossfade"],
            inputs=[
                PerformanceSocket.Input("first", tooltip="Its frame rate is the result's."),
                PerformanceSocket.Input("second", tooltip="The other performance."),
                io.Combo.Input(
                    "mode",
                    options=[BLEND, ADD, AFTER],
                    default=ADD,
                    tooltip="blend: between the two, as long as the longer. add: `amount` of the second on top of the first. one after the "
                    "other: the second follows.",
                ),
                io.Float.Input(
                    "amount",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="blend: 0 is the first, 1 the second. add: how much of the second, up to 2. Otherwise not used.",
                ),
                io.Float.Input(
                    "overlap",
                    default=0.25,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="Seconds in which the first fades into the second, where one follows the other.",
                ),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="Both in one."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
                io.Int.Output("frames", tooltip="How many frames it has."),
            ],
        )

    @classmethod
    def execute(cls, first: Performance, second: Performance, mode: str, amount: float, overlap: float) -> io.NodeOutput:
        if mode == AFTER:
            made = edit.concatenate([first, second], overlap)
        else:
            made = (edit.mix if mode == BLEND else edit.layer)(first, second, amount)
        return io.NodeOutput(made, float(made.fps), len(made))

    @classmethod
    def validate_inputs(cls, mode: str | None = None, amount: float | None = None) -> bool | str:
        refused = refusal(cls, mode=mode, amount=amount)
        if refused is None and mode == BLEND and amount is not None and amount > 1:
            refused = f"`amount` must be 0 to 1 in the mode blend, got {amount:g}; add takes up to 2."
        return refused or True
