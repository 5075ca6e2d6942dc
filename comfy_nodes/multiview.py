# SPDX-License-Identifier: Apache-2.0
"""Stage one: the photo seen from many sides at once, moving."""

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from comfy_api.latest import InputImpl, Types, io, ui

from ..mvp4d_core.conditioning import ViewPlan
from ..mvp4d_core.errors import InputError, MissingAssetError
from ..mvp4d_core.rig import performance_to_tensors
from . import host
from .pipelines import ManagedPipeline, check_package
from .types import CATEGORY, ChosenModel, ModelSocket, PlanSocket, ReferenceSocket, TrackedReference, VideoSocket

if TYPE_CHECKING:
    from ..mvp4d_core.generate import MultiViewGenerator, MultiViewVideo

AUTO, PROXY, MMVDM, NANO = "auto", "proxy", "mmvdm", "nano"
PREVIEW_VIEWS, PREVIEW_FRAMES = 8, 4
VIEW, FRAME, GRID, ALL = "one view", "one frame", "grid", "all"


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_LoadModel",
            display_name="MVP4D Load Model",
            category=CATEGORY,
            description="Chooses what makes the multi-view video: the proxy, which needs no weights, or a video diffusion model.",
            search_aliases=["checkpoint loader", "mmvdm", "diffusion model", "weights", "nano"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[AUTO, PROXY, NANO, *host.pipeline_names()],
                    default=AUTO,
                    tooltip="auto: the best by the figures beside the weights. proxy: the photo projected on the fitted head. nano: the "
                    "small bundled model. Others are folders in models/mvp4d that hold a model_index.json.",
                ),
            ],
            outputs=[
                ModelSocket.Output("model", tooltip="For Sample Multi-View Video. Its weights stay loaded from run to run."),
                io.String.Output("report", tooltip="What was chosen, and why."),
            ],
        )

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        chosen, notices = _best_present() if model == AUTO else (model, ())
        if chosen == PROXY:
            return io.NodeOutput(ChosenModel(PROXY), "\n".join(["proxy: no weights.", *notices]))
        check_package("diffusers")
        from ..mvp4d_core.diffusion.generator import MMVDMGenerator, weights_folder

        name = NANO if model == AUTO else model
        weights = weights_folder(NANO) if name == NANO else host.pipeline_folder(name)
        MMVDMGenerator(weights).check(1, 1)
        return io.NodeOutput(ChosenModel(name, weights, ManagedPipeline()), "\n".join([f"{name}: {weights}", *notices]))

    @classmethod
    def validate_inputs(cls, model: str) -> bool | str:
        if model in (AUTO, PROXY, NANO, *host.pipeline_names()):
            return True
        return f"No model `{model}` in models/mvp4d. Put its folder there, with model_index.json, and press R to refresh the node."

    @classmethod
    def fingerprint_inputs(cls, model: str) -> str:
        return "" if model in (AUTO, PROXY, NANO) else host.folder_state(host.pipeline_folder(model))


class SampleMultiViewVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_SampleMultiViewVideo",
            display_name="MVP4D Sample Multi-View Video",
            category=CATEGORY,
            description="Makes the videos that the plan asks for, all views of all frames in step with one another. A stopped run goes on "
            "from the blocks it has finished.",
            search_aliases=["generate views", "novel view", "multi-view diffusion", "proxy generator"],
            inputs=[
                ReferenceSocket.Input("reference", tooltip="The person, from Load Reference."),
                PlanSocket.Input("plan", tooltip="Cameras and expressions, from Condition Expressions."),
                io.Combo.Input(
                    "generator",
                    options=[AUTO, PROXY, MMVDM],
                    default=AUTO,
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
                    tooltip="Memory of the graphics card to fit the mmvdm into; 0 takes what ComfyUI may use. More at once holds views "
                    "together better.",
                ),
                ModelSocket.Input("model", optional=True, tooltip="From Load Model, in place of what `generator` says."),
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
        model: ChosenModel | None = None,
    ) -> io.NodeOutput:
        from ..mvp4d_core.diffusion.blocks import digest_of, remove_blocks

        bar = host.ProgressBar()
        options = {"steps": steps or None, "guidance_scale": guidance or None, "mode": mode, "on_step": bar.preview}
        tensors, _ = performance_to_tensors(plan.performance)
        cameras = [[camera.K, camera.camera_from_world] for camera in plan.cameras]
        name = generator if model is None else model.name
        asked = [name, seed, steps, guidance, mode, reference.reference.image, plan.shape, cameras, tensors]
        blocks = host.temporary_path(f"blocks/{digest_of(asked)[:16]}")
        with host.training():
            chosen, notices = _generator(generator, model, plan, options, gpu_gb)
            video = chosen.generate(reference.reference, plan, head_model=reference.head_model, seed=seed, progress=bar, folder=blocks)
        remove_blocks(blocks)
        for notice in notices:
            host.tell(cls.hidden.unique_id, notice)
        images = host.image_from_arrays(video.frames)
        views, frames = video.frames.shape[:2]
        first_frames = images[:: max(1, views // PREVIEW_VIEWS) * frames]
        return io.NodeOutput(video, images, host.mask_from_arrays(video.alphas), ui=ui.PreviewImage(first_frames, cls=cls))


def _generator(
    generator: str, model: ChosenModel | None, plan: ViewPlan, options: dict[str, Any], gpu_gb: float
) -> "tuple[MultiViewGenerator, tuple[str, ...]]":
    """The generator that was asked for, its weights under ComfyUI's memory management; and notices."""
    if model is not None:
        name, notices = PROXY if model.weights is None else MMVDM, ()
    else:
        name, notices = _best_present() if generator == AUTO else (generator, ())
    if name == PROXY:
        from ..mvp4d_core.generate import ProxyGenerator

        return ProxyGenerator(), notices
    check_package("diffusers")
    from ..mvp4d_core.create import choose_generator
    from ..mvp4d_core.diffusion.generator import MMVDMGenerator

    weights = NANO if model is None else str(model.weights)
    device, budget = host.model_device(), host.memory_budget_gb()
    memory = {"gpu_gb": gpu_gb or budget, "least_offload": host.least_offload()} if budget else {"gpu_gb": gpu_gb or None}
    chosen = cast(MMVDMGenerator, choose_generator(MMVDM, weights=weights, device=str(device), **memory, **options)[1])
    activations = chosen.estimate(*plan.shape[:2]).parts["activations"] if budget else 0
    pipeline = model.pipeline if model is not None and model.pipeline is not None else ManagedPipeline()
    return replace(chosen, placement=pipeline.placement(activations)), notices


def _best_present() -> tuple[str, tuple[str, ...]]:
    """`mmvdm` or `proxy`, whichever is better of what works here; and notices."""
    try:
        check_package("diffusers")
    except MissingAssetError as missing:
        return PROXY, (f"The proxy was taken. {missing}",)
    from ..mvp4d_core.create import best_present

    return best_present()


class MultiViewToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_MultiViewToVideo",
            display_name="MVP4D Multi-View to Video",
            category=CATEGORY,
            description="Pictures of a multi-view video: one view over time, all views of one moment, or all views in a grid over time.",
            search_aliases=["view grid", "contact sheet", "multi-view images", "select view"],
            inputs=[
                VideoSocket.Input("video", tooltip="From Sample Multi-View Video."),
                io.Combo.Input(
                    "layout",
                    options=[GRID, VIEW, FRAME, ALL],
                    default=GRID,
                    tooltip="grid: all views side by side, over time. one view: over time. one frame: all views of it in turn. "
                    "all: the frames of the first view, then of the second, and so on.",
                ),
                io.Int.Input("view", default=0, min=0, max=999, tooltip="Which view, 0 being the first, where one is shown."),
                io.Int.Input("frame", default=0, min=0, max=999, tooltip="Which frame, 0 being the first, where one is shown."),
                io.Int.Input("columns", default=0, min=0, max=64, tooltip="Views side by side in a grid; 0 makes it about square."),
                io.Float.Input("fps", default=0.0, min=0.0, max=240.0, step=1.0, tooltip="Frames a second; 0 takes the plan's."),
            ],
            outputs=[
                io.Image.Output("images", tooltip="The pictures on white."),
                io.Mask.Output("masks", tooltip="Where the head is in each of them."),
                io.Video.Output("video", tooltip="The same pictures, for Save Video."),
                io.Float.Output("fps", tooltip="Frames a second of the video."),
            ],
        )

    @classmethod
    def execute(cls, video: "MultiViewVideo", layout: str, view: int, frame: int, columns: int, fps: float) -> io.NodeOutput:
        images, masks = (_arranged(pictures, layout, view, frame, columns) for pictures in (video.frames, video.alphas))
        rate = fps or float(video.plan.performance.fps)
        shown, alphas = host.image_from_arrays(images), host.mask_from_arrays(masks)
        made = InputImpl.VideoFromComponents(Types.VideoComponents(images=shown, frame_rate=Fraction(rate).limit_denominator(1001)))
        preview = ui.PreviewImage(shown[:: -(-len(shown) // PREVIEW_FRAMES)], cls=cls)
        return io.NodeOutput(shown, alphas, made, rate, ui=preview)


def _arranged(pictures: np.ndarray, layout: str, view: int, frame: int, columns: int) -> np.ndarray:
    """Pictures (V, F, H, W, ...) in the order and arrangement that is asked for, (N, H, W, ...)."""
    from ..mvp4d_core.generate.multiview import view_grid

    for name, number, count in (("view", view, len(pictures)), ("frame", frame, pictures.shape[1])):
        if layout == {"view": VIEW, "frame": FRAME}[name] and number >= count:
            raise InputError(f"`{name}` must be 0 to {count - 1} in this video, got {number}.")
    if layout == GRID:
        return view_grid(pictures, columns)
    if layout == ALL:
        return pictures.reshape(-1, *pictures.shape[2:])
    return pictures[view] if layout == VIEW else pictures[:, frame]
