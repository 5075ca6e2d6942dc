# SPDX-License-Identifier: Apache-2.0
"""Performances from files, from the library, and into files."""

from pathlib import Path

from comfy_api.latest import io

from ..mvp4d_core.errors import InputError
from ..mvp4d_core.rig import (
    HeadModel,
    Performance,
    library_names,
    library_performance,
    load_head_model,
    read_performance,
    showcase_performance,
    write_performance,
)
from . import host
from .types import CATEGORY, HeadSocket, PerformanceSocket

SHOWCASE = "showcase"
KINDS = ("performance.safetensors", ".csv", ".json", ".npz")
ENDINGS = {"performance": ".performance.safetensors", "Live Link CSV": ".csv", "sliders JSON": ".json"}


class LoadPerformance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_LoadPerformance",
            display_name="MVP4D Load Performance",
            category=CATEGORY,
            description="Expressions and head motion over time: the built-in showcase, a performance, a Live Link Face take, sliders, or "
            "another tracker's file, from the input or output folder.",
            search_aliases=["animation", "motion", "expressions", "blendshapes", "arkit", "live link", "FLAME track", "npz"],
            inputs=[
                io.Combo.Input(
                    "performance",
                    options=[SHOWCASE, *host.files_ending_in(*KINDS)],
                    default=SHOWCASE,
                    tooltip="The showcase (speech, blinks, brows, a smile, a head turn), or a file: *performance.safetensors, a Live Link "
                    "Face .csv, a .json of sliders or MediaPipe's blendshapes, or a tracker's .npz.",
                ),
                io.Float.Input(
                    "fps",
                    default=24.0,
                    min=1.0,
                    max=120.0,
                    step=1.0,
                    tooltip="Frames a second of the showcase, and of a .json that does not say; other files have their own.",
                ),
                io.Float.Input("seconds", default=6.0, min=0.5, max=60.0, step=0.5, tooltip="Length of the showcase; a file has its own."),
                HeadSocket.Input(
                    "head_model",
                    optional=True,
                    tooltip="The head that a tracker's .npz was made with, such as FLAME: what it did is then carried over to the open "
                    "head. Without it the track plays on avatars of that head alone.",
                ),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="For Render Avatar, Animate Avatar or Condition Expressions."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
                io.Int.Output("frames", tooltip="How many frames it has."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, performance: str, fps: float, seconds: float, head_model: HeadModel | None = None) -> io.NodeOutput:
        if performance == SHOWCASE:
            loaded = showcase_performance(load_head_model(), fps=fps, seconds=seconds)
        elif performance.removesuffix(" [output]").endswith(".npz"):
            loaded, notes = _track(host.file_path(performance), head_model)
            for note in notes:
                host.tell(cls.hidden.unique_id, note)
        else:
            loaded = read_performance(host.file_path(performance), fps=fps)
        return io.NodeOutput(loaded, float(loaded.fps), len(loaded))

    @classmethod
    def validate_inputs(cls, performance: str | None) -> bool | str:
        try:
            if performance not in (None, SHOWCASE):
                host.file_path(performance)
        except InputError as missing:
            return str(missing)
        return True

    @classmethod
    def fingerprint_inputs(cls, performance: str, **_: object) -> str:
        return "" if performance == SHOWCASE else host.file_state(performance)


def _track(path: Path, head_model: HeadModel | None) -> tuple[Performance, tuple[str, ...]]:
    """A tracker's file, on the open head where the head it was made with is known; and notes."""
    from ..mvp4d_core.tracking.adapters.import_track import import_track
    from ..mvp4d_core.tracking.transfer import transfer_performance

    bar = host.ProgressBar()
    track = import_track(path, head_model, progress=bar)
    if head_model is None:
        return track.performance, track.notes
    moved = transfer_performance(track.performance, head_model, load_head_model(), source_shape=track.shape, progress=bar)
    carried = f"Carried over to the open head with {1000 * float(moved.errors.mean()):.1f} mm mean error."
    return moved.performance, (*track.notes, carried)


class PerformancePreset(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_PerformancePreset",
            display_name="MVP4D Performance Preset",
            category=CATEGORY,
            description="A ready performance for any head: clips such as speech, nod or idle, and faces that come, stay and go.",
            search_aliases=["expression", "emotion", "smile", "viseme", "idle", "animation library"],
            inputs=[
                io.Combo.Input(
                    "name",
                    options=list(library_names()),
                    default="speech",
                    tooltip="What is acted: first the clips, then faces that come, stay and go.",
                ),
                io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.05, tooltip="How strong the faces are; 1 as written."),
                io.Float.Input(
                    "seconds", default=0.0, min=0.0, max=600.0, step=0.5, tooltip="Length; 0 takes the clip's own, three seconds of a face."
                ),
                io.Float.Input("fps", default=24.0, min=1.0, max=240.0, step=1.0, tooltip="Frames a second."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Decides when it blinks and how it idles.",
                ),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="For Render Avatar, Edit Performance or Mix Performances."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
                io.Int.Output("frames", tooltip="How many frames it has."),
            ],
        )

    @classmethod
    def execute(cls, name: str, strength: float, seconds: float, fps: float, seed: int) -> io.NodeOutput:
        made = library_performance(name, fps=fps, seconds=seconds or None, seed=seed, strength=strength)
        return io.NodeOutput(made, float(made.fps), len(made))


class SavePerformance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_SavePerformance",
            display_name="MVP4D Save Performance",
            category=CATEGORY,
            description="Writes a performance under output/: for Load Performance and Blender, as a Live Link Face take, or as sliders.",
            search_aliases=["export animation", "live link csv", "arkit csv", "blendshape json"],
            inputs=[
                PerformanceSocket.Input("performance", tooltip="From any node that makes one."),
                io.String.Input(
                    "filename_prefix", default="mvp4d/performance", tooltip="Folder and name under output/; a number is added."
                ),
                io.Combo.Input(
                    "kind",
                    options=list(ENDINGS),
                    default="performance",
                    tooltip="performance: all of it, in one .safetensors. Live Link CSV: ARKit's 52 weights, head and eyes, for Unreal and "
                    "others. sliders JSON: text that a script reads.",
                ),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="The same performance."),
                io.String.Output("path", tooltip="Where the file is."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, performance: Performance, filename_prefix: str, kind: str) -> io.NodeOutput:
        path = host.output_path(filename_prefix, ENDINGS[kind])
        write_performance(performance, path)
        return io.NodeOutput(performance, str(path), ui={"mvp4d": [host.saved_result(path)], "text": [f"Saved {path}"]})
