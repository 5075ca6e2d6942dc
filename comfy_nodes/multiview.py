# SPDX-License-Identifier: Apache-2.0
"""Stage one: the photo seen from many sides at once, moving."""

from comfy_api.latest import io, ui

from ..mvp4d_core.conditioning import ViewPlan
from . import host
from .types import CATEGORY, PlanSocket, ReferenceSocket, TrackedReference, VideoSocket

PREVIEW_VIEWS = 8


class SampleMultiViewVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_SampleMultiViewVideo",
            display_name="MVP4D Sample Multi-View Video",
            category=CATEGORY,
            description="Makes the videos that the plan asks for, all views of all frames in step with one another.",
            search_aliases=["generate views", "novel view", "multi-view diffusion", "proxy generator"],
            inputs=[
                ReferenceSocket.Input("reference", tooltip="The person, from Load Reference."),
                PlanSocket.Input("plan", tooltip="Cameras and expressions, from Condition Expressions."),
                io.Combo.Input(
                    "generator",
                    options=["auto", "proxy", "mmvdm"],
                    default="auto",
                    tooltip="auto: the best one that is installed. proxy: the photo projected on the fitted head, needs no weights. "
                    "mmvdm: the video diffusion model, with the bundled small weights, which know synthetic heads at 128 px.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=io.ControlAfterGenerate.fixed,
                    tooltip="Decides everything random; the same seed gives the same video.",
                ),
                # optional, so that workflows saved for scripts before these were there still run
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    optional=True,
                    tooltip="Steps of the mmvdm; 0 takes what suits its weights.",
                ),
                io.Float.Input(
                    "guidance",
                    default=0.0,
                    min=0.0,
                    max=50.0,
                    step=0.1,
                    optional=True,
                    tooltip="How closely the mmvdm keeps to the photo and the maps; 1 is none, in half the time; 0 takes what suits its "
                    "weights.",
                ),
                io.Combo.Input(
                    "mode",
                    options=["rollout", "stochastic"],
                    default="rollout",
                    optional=True,
                    advanced=True,
                    tooltip="rollout: the mmvdm makes views from finished ones. stochastic: all views at once, regrouped each step.",
                ),
                io.Float.Input(
                    "gpu_gb",
                    default=0.0,
                    min=0.0,
                    max=1024.0,
                    step=1.0,
                    optional=True,
                    advanced=True,
                    tooltip="Memory of the graphics card to fit the mmvdm into; 0 holds all of it on the device.",
                ),
            ],
            outputs=[
                VideoSocket.Output("video", tooltip="The multi-view video, for Distill Avatar."),
                io.Image.Output("images", tooltip="All frames on white: the frames of the first view, then of the second, and so on."),
                io.Mask.Output("masks", tooltip="Where the head is in each of the images."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        reference: TrackedReference,
        plan: ViewPlan,
        generator: str,
        seed: int,
        steps: int = 0,
        guidance: float = 0.0,
        mode: str = "rollout",
        gpu_gb: float = 0.0,
    ) -> io.NodeOutput:
        from ..mvp4d_core.create import choose_generator

        bar = host.ProgressBar()
        sampling = {"steps": steps or None, "guidance_scale": guidance or None}
        options = {**sampling, "mode": mode, "gpu_gb": gpu_gb or None, "on_step": bar.preview}
        with host.training():
            _, chosen, notices = choose_generator(generator, device=str(host.model_device()), **options)
            video = chosen.generate(reference.reference, plan, head_model=reference.head_model, seed=seed, progress=bar)
        for notice in notices:
            host.tell(cls.hidden.unique_id, notice)
        images = host.image_from_arrays(video.frames)
        views, frames = video.frames.shape[:2]
        first_frames = images[:: max(1, views // PREVIEW_VIEWS) * frames]
        return io.NodeOutput(video, images, host.mask_from_arrays(video.alphas), ui=ui.PreviewImage(first_frames, cls=cls))
