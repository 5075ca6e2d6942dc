# SPDX-License-Identifier: Apache-2.0
"""Performances from a person in a video, and from a voice."""

from typing import Any

from comfy_api.latest import io, ui

from ..mvp4d_core.rig import HeadModel, load_head_model
from . import host
from .types import CATEGORY, HeadSocket, PerformanceSocket

PREVIEW_FRAMES = 4


class TrackVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_TrackVideo",
            display_name="MVP4D Track Video",
            category=CATEGORY,
            description="Follows the largest face of a video and gives what it does as a performance. A stopped run goes on from there.",
            search_aliases=["driving video", "face capture", "motion capture", "facial tracking", "webcam"],
            inputs=[
                io.Video.Input("video", tooltip="A person speaking or acting, the face seen from the front and unhidden."),
                io.Combo.Input(
                    "straight",
                    options=["camera", "person"],
                    default="camera",
                    tooltip="What looking straight ahead is: camera: into the lens. person: as the person holds the head on average, for a "
                    "camera that stood to the side or below.",
                ),
                io.Float.Input(
                    "smooth",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="How long the means in time last; 0 keeps what each frame says by itself.",
                ),
                io.Int.Input(
                    "overlay_frames",
                    default=8,
                    min=1,
                    max=10_000,
                    tooltip="Frames of the overlay, evenly spread over the video and at most 512 px high.",
                    advanced=True,
                ),
                HeadSocket.Input(
                    "head_model", optional=True, tooltip="Whose expressions the performance has; the open head's when nothing is connected."
                ),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="What the person does, for Condition Expressions or Render Avatar."),
                io.Image.Output("overlay", tooltip="Frames of the video with the fitted face drawn over it, to judge the track by."),
                io.String.Output("report", tooltip="How well the face was followed, and what was noticed."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, video: Any, straight: str, smooth: float, overlay_frames: int, head_model: HeadModel | None = None) -> io.NodeOutput:
        from ..mvp4d_core.io.reading import file_sha256
        from ..mvp4d_core.tracking import track_video
        from ..mvp4d_core.tracking.video_overlay import overlay_pictures

        bar = host.ProgressBar()
        path = host.video_file(video, bar)
        with host.training():
            track = track_video(
                path,
                head_model=head_model or load_head_model(),
                straight=straight,
                smooth=smooth,
                resume=host.temporary_path(f"watched/{file_sha256(path)[:16]}.safetensors"),
                progress=bar,
            )
        for notice in track.notices:
            host.tell(cls.hidden.unique_id, notice)
        performance = track.performance
        facts = [
            f"{len(performance)} frames at {performance.fps:.3g} fps, a face in {int(track.seen.sum())} of them.",
            f"Landmark error {track.landmark_error_percent:.2f} % of the distance between the eyes.",
            *track.notices,
        ]
        overlay = host.image_from_arrays(overlay_pictures(path, track, overlay_frames, progress=bar))
        preview = ui.PreviewImage(overlay[:: -(-len(overlay) // PREVIEW_FRAMES)], cls=cls)
        return io.NodeOutput(performance, overlay, "\n".join(facts), float(performance.fps), ui=preview)


class SpeechPerformance(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_SpeechPerformance",
            display_name="MVP4D Speech Performance",
            category=CATEGORY,
            description="A voice drives jaw and lips, with blinks, gaze and a head that lives. It mouths plausibly without knowing words.",
            search_aliases=["lip sync", "talking head", "audio driven", "visemes", "voice"],
            inputs=[
                io.Audio.Input("audio", tooltip="One voice, with little else to be heard."),
                io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.05, tooltip="Of jaw and lips; 1 as people speak."),
                io.Float.Input(
                    "idle",
                    default=1.0,
                    min=0.0,
                    max=3.0,
                    step=0.1,
                    tooltip="Of gaze, brows and the head's motion; 0 leaves them and the lids still.",
                ),
                io.Float.Input("fps", default=25.0, min=1.0, max=240.0, step=1.0, tooltip="Frames a second."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Decides blinks, gaze and the head's idle motion.",
                ),
            ],
            outputs=[
                PerformanceSocket.Output("performance", tooltip="As long as the sound; give that to Create Video as well."),
                io.Float.Output("fps", tooltip="Frames a second, for Create Video."),
                io.Int.Output("frames", tooltip="How many frames it has."),
            ],
        )

    @classmethod
    def execute(cls, audio: Any, strength: float, idle: float, fps: float, seed: int) -> io.NodeOutput:
        from ..mvp4d_core.rig.speech import speech_performance, visemes_of_voice
        from ..mvp4d_core.rig.voice import HOP

        visemes = visemes_of_voice(*host.sound_from_audio(audio))
        made = speech_performance(visemes, HOP, fps=fps, seed=seed, strength=strength, idle=idle, head_model=load_head_model())
        return io.NodeOutput(made, float(made.fps), len(made))
