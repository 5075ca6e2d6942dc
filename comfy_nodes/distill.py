# SPDX-License-Identifier: Apache-2.0
"""Stage two: the videos become Gaussians that ride on the person's rig."""

from dataclasses import replace
from typing import TYPE_CHECKING

from comfy_api.latest import io, ui

from . import host
from .types import CATEGORY, AvatarSocket, BoundAvatar, ReferenceSocket, TrackedReference, VideoSocket

if TYPE_CHECKING:
    from ..mvp4d_core.generate import MultiViewVideo


class DistillAvatar(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_DistillAvatar",
            display_name="MVP4D Distill Avatar",
            category=CATEGORY,
            description="Fits 3D Gaussians on the person's rig until their pictures are those of the multi-view video.",
            search_aliases=["train avatar", "gaussian splatting", "3dgs", "fit gaussians"],
            inputs=[
                VideoSocket.Input("video", tooltip="The multi-view video, from Sample Multi-View Video."),
                ReferenceSocket.Input("reference", tooltip="The same person the video was made of; the photo itself is fitted too."),
                io.Combo.Input(
                    "quality",
                    options=["draft", "standard", "high"],
                    default="draft",
                    tooltip="draft: minutes on two CPU cores. standard: about four times as long. high: for a GPU, or a night.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Decides where splats start and the order of the pictures.",
                ),
                io.Int.Input("steps", default=0, min=0, max=200_000, tooltip="Optimiser steps; 0 takes the quality's own.", advanced=True),
                io.Int.Input(
                    "splats", default=0, min=0, max=500_000, tooltip="Number of Gaussians; 0 takes the quality's own.", advanced=True
                ),
            ],
            outputs=[
                AvatarSocket.Output("avatar", tooltip="The avatar, for Render, Animate, Preview and Save Avatar."),
                io.Image.Output("losses", tooltip="How the loss fell over the steps, as a chart."),
            ],
        )

    @classmethod
    def execute(
        cls, video: "MultiViewVideo", reference: TrackedReference, quality: str, seed: int, steps: int, splats: int
    ) -> io.NodeOutput:
        from ..mvp4d_core.distill import DistillConfig, distill_avatar
        from ..mvp4d_core.distill.fit import fit_digest
        from ..mvp4d_core.distill.watching import Looks, LossRecord
        from ..mvp4d_core.evaluation.loss_chart import draw_losses
        from ..mvp4d_core.render.splats import warm_up

        chosen = {name: value for name, value in (("steps", steps), ("splats", splats)) if value}
        config = replace(DistillConfig.preset(quality), seed=seed, **chosen)
        bar, device, record = host.ProgressBar(), host.render_device(), LossRecord()
        checkpoint = host.temporary_path(f"fit_{fit_digest(video, reference.reference, config)}.safetensors")
        if device.type == "cuda":
            host.clear_card()
        with host.training():
            if device.type == "cpu":
                warm_up(bar)
            avatar = distill_avatar(
                video,
                reference.reference,
                config,
                head_model=reference.head_model,
                device=device,
                checkpoint=checkpoint,
                progress=bar,
                on_step=Looks(video, bar.show, device=device),
                on_loss=record,
            )
        checkpoint.unlink(missing_ok=True)
        losses = host.image_from_arrays(draw_losses(record.done, record.terms))
        bound = BoundAvatar(avatar, reference.head_model, reference.reference.shape)
        return io.NodeOutput(bound, losses, ui=ui.PreviewImage(losses, cls=cls))
