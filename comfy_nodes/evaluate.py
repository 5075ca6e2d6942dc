# SPDX-License-Identifier: Apache-2.0
"""How good an avatar is."""

import math
from typing import TYPE_CHECKING

from comfy_api.latest import io, ui

from . import host
from .types import CATEGORY, AvatarSocket, BoundAvatar, VideoSocket

if TYPE_CHECKING:
    from ..mvp4d_core.generate import MultiViewVideo

SHOWN_VIEWS = 4


class EvaluateAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_EvaluateAvatar",
            display_name="MVP4D Evaluate Avatar",
            category=CATEGORY,
            description="Renders the avatar in the places of a multi-view video and measures how far its pictures are from the video's.",
            search_aliases=["psnr", "ssim", "quality", "compare avatar", "metrics"],
            inputs=[
                AvatarSocket.Input("avatar", tooltip="From Distill Avatar or Load Avatar."),
                VideoSocket.Input(
                    "video", tooltip="What its pictures should be. Of the video it was distilled from, the figures tell of memory."
                ),
                io.Int.Input("every", default=1, min=1, max=1000, tooltip="Look at one of so many frames; more is faster."),
                io.Boolean.Input(
                    "faces",
                    default=False,
                    tooltip="Also find the faces in all pictures and compare landmarks and expressions, which takes most of the time.",
                ),
            ],
            outputs=[
                io.String.Output("report", tooltip="Every figure, a line each, with the floor below which a difference means nothing."),
                io.Float.Output("psnr", tooltip="Peak signal-to-noise ratio of whole pictures in dB; more is better."),
                io.Float.Output("foreground_psnr", tooltip="The same where the head is, in dB; not a number where no head is."),
                io.Float.Output("ssim", tooltip="Structural similarity of whole pictures, 1 at best; not a number for tiny pictures."),
                io.Image.Output("comparison", tooltip="Truth, avatar and their difference, some views below one another."),
            ],
        )

    @classmethod
    def execute(cls, avatar: BoundAvatar, video: "MultiViewVideo", every: int, faces: bool) -> io.NodeOutput:
        from ..mvp4d_core.evaluation.avatar_report import report_lines, views_around
        from ..mvp4d_core.evaluation.comparison import evaluate_avatar
        from ..mvp4d_core.evaluation.instruments import open_instruments
        from ..mvp4d_core.evaluation.sheet import comparison_sheet
        from ..mvp4d_core.evaluation.truth import truth_of_video

        device = host.render_device()
        instruments = open_instruments(track=faces, device=device)
        with host.training():
            truth = truth_of_video(video, "the multi-view video").select(None, every)
            evaluation = evaluate_avatar(avatar.avatar, truth, instruments, device=device, progress=host.ProgressBar())
        means = evaluation.avatar.means()
        figures = [math.nan if means[name] is None else float(means[name]) for name in ("psnr", "foreground_psnr", "ssim")]
        sheet = comparison_sheet(truth.frames, evaluation.pictures, views_around(evaluation, SHOWN_VIEWS))
        picture = host.image_from_arrays(sheet)
        return io.NodeOutput("\n".join(report_lines(evaluation)), *figures, picture, ui=ui.PreviewImage(picture, cls=cls))
