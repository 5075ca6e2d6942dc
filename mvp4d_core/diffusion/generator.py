# SPDX-License-Identifier: Apache-2.0
"""The `mmvdm` generator: MVP4D's model, rolled out over a plan.

The model paints at the size it was trained for; frames are scaled to the plan's size (Lanczos) and cut out from their white background
(`cutout.py`). The maps show the head of the person's shape alone: hair and what else no identity direction reaches is the photo's to tell.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import __version__
from ..cameras import Camera, crop_camera
from ..conditioning import ViewPlan, head_centre, reference_camera, resample_photo
from ..conditioning.maps import MAP_COUNT
from ..errors import FormatError, InputError, MissingAssetError
from ..generate.multiview import MultiViewVideo
from ..progress import Progress, silent, steps
from ..render.device import torch_device
from ..render.mesh import rasterize_mesh
from ..rig import HeadModel, head_model_digest, personalize, skin
from ..tracking.reference import Reference
from .autoencoding import latent_size
from .blocks import BlockStore, digest_of, files_digest
from .cutout import cut_out
from .memory import MemoryEstimate, MemoryPlan, ModelConfig, Offload, apply_plan, choose_plan, estimate_memory
from .pipeline import MVP4DPipeline, OnStep, no_preview
from .rollout import TEMPORAL, Block, plan_blocks
from .sampling import SPATIAL, Sampling, Scene, sample_grid
from .schedule import Solver

NANO = "nano"
MOST_GB = 32  # of finished frames and alphas, which are held in memory as bytes
_TRAIN = "Train it with `mvp4d train`, or give the folder of another MVP4D pipeline."
# how the pipeline in a folder comes to a device, and what becomes of it afterwards
Placement = Callable[[Path, MemoryPlan, str], AbstractContextManager[MVP4DPipeline]]


def nano_folder() -> Path:
    """Where the bundled pipeline lies."""
    return Path(__file__).parent / "assets" / "nano"


@contextmanager
def from_disk(weights: Path, memory: MemoryPlan, device: str) -> Iterator[MVP4DPipeline]:
    """The `Placement` that reads the weights anew and forgets them."""
    yield apply_plan(MVP4DPipeline.from_folder(weights, dtype=memory.dtype), memory, device)


@dataclass(frozen=True)
class MMVDMGenerator:
    """A `MultiViewGenerator` that samples a diffusion model.

    Attributes:
        weights: `nano`, the bundled model, or the folder of a pipeline.
        steps, guidance_scale, solver, without_maps: see `Sampling`.
        mode, view_block, frame_block, overlap, neighbours: see `plan_blocks`.
        sample_independently: each view on its own, from the photo alone.
        device: `cpu`, `cuda` or `cuda:N`.
        dtype: of weights and activations.
        gpu_gb: memory (2^30 bytes) to fit into; `choose_plan` then decides offloading, tiles, dtype and block sizes. None takes those
            above, and holds the whole model on the device.
        least_offload: which offloading `choose_plan` begins with.
        placement: how the weights come to the device.
        on_step: called after each solver step with its index within its block and a rough picture (V, L, h, w, 3) in 0..1 of that block's
            views, an eighth of the model's size.
    """

    weights: str | Path = NANO
    steps: int = 20
    guidance_scale: float = 2.0
    solver: Solver = "dpm"
    mode: str = "rollout"
    view_block: int = 8
    frame_block: int = 13
    overlap: int = 5
    neighbours: int = 2
    sample_independently: bool = False
    without_maps: tuple[str, ...] = ()
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    gpu_gb: float | None = None
    least_offload: Offload = "none"
    placement: Placement = from_disk
    on_step: OnStep = no_preview

    def __post_init__(self) -> None:
        memory = self._plain_memory()
        self._sampling(0, memory)
        plan_blocks(1, 1, **self._rollout(memory))

    def check(self, views: int, frames: int) -> None:
        """Raises what `generate` will for a plan of that many views and frames, its cameras and the values of the weights aside.

        Settings and headers are read alone, so it takes a moment.
        """
        torch_device(self.device)
        weights = weights_folder(self.weights)
        picture_size(MVP4DPipeline.from_folder(weights, device="meta"), weights)
        plan_blocks(views, frames, **self._rollout(self._memory(views, frames, weights)))

    def estimate(self, views: int, frames: int) -> MemoryEstimate:
        """What `generate` will take on the device for a plan of that many views and frames; errors of `check`."""
        weights = weights_folder(self.weights)
        config, memory = ModelConfig.from_folder(weights), self._memory(views, frames, weights)
        size = config.pipeline.transformer.config.sample_width * SPATIAL
        return estimate_memory(config, views, frames, size, memory, guidance_scale=self.guidance_scale)

    def generate(
        self,
        reference: Reference,
        plan: ViewPlan,
        *,
        head_model: HeadModel,
        seed: int,
        progress: Progress = silent,
        folder: Path | None = None,
    ) -> MultiViewVideo:
        """See `MultiViewGenerator`.

        Args:
            folder: where finished blocks are kept; a run that was killed goes on from them and ends with the same bytes. They stay until
                `remove_blocks(folder)`. None keeps none.

        Raises:
            MissingAssetError: no weights, or no such device.
            FormatError: the weights are of another model.
            InputError: the plan or the seed is not one this model can make. All of these before any long work.
        """
        rig = reference.rig(head_model)
        _check_plan(plan, rig)
        torch_device(self.device)
        weights = weights_folder(self.weights)
        memory = self._memory(len(plan.cameras), len(plan.performance), weights)
        blocks = self._blocks(plan, rig, memory)
        with self.placement(weights, memory, self.device) as pipeline:
            size = picture_size(pipeline, weights)
            scene, sampling, digest = make_scene(reference, plan, head_model, size), self._sampling(seed, memory), weights_digest(weights)
            store = BlockStore(Path(folder), self._run_key(scene, blocks, sampling, memory, digest)) if folder else None
            grid = sample_grid(pipeline, scene, blocks, sampling, store=store, progress=progress, on_step=self._previews(pipeline))
        frames, alphas = finish(grid, scene.rig, plan, progress)
        provenance = {
            "generator": "mmvdm",
            "seed": str(seed),
            "version": __version__,
            "source_sha256": reference.source_sha256,
            "head": rig.name,
            "weights": weights.name,
            "weights_sha256": digest,
            "steps": str(self.steps),
            "guidance_scale": str(self.guidance_scale),
            "solver": self.solver,
            "mode": "one by one" if self.sample_independently else self.mode,
            "blocks": f"{sampling.view_block} views x {memory.frame_block} frames",
            "model_size": str(size),
        }
        return MultiViewVideo(frames, alphas, plan, provenance)

    def _plain_memory(self) -> MemoryPlan:
        return MemoryPlan(view_block=self.view_block, frame_block=self.frame_block, dtype=self.dtype)

    def _previews(self, pipeline: MVP4DPipeline) -> OnStep:
        """`on_step` as the sampling calls it, with latents."""
        return no_preview if self.on_step is no_preview else lambda step, latents: self.on_step(step, pipeline.preview(latents))

    def _memory(self, views: int, frames: int, weights: Path) -> MemoryPlan:
        """How the model and its blocks fit the device."""
        if self.gpu_gb is None:
            return self._plain_memory()
        config = ModelConfig.from_folder(weights)
        size = config.pipeline.transformer.config.sample_width * SPATIAL
        options = {"guidance_scale": self.guidance_scale, "least_offload": self.least_offload}
        return choose_plan(config, self.gpu_gb, views, frames, size, **options)

    def _sampling(self, seed: int, memory: MemoryPlan) -> Sampling:
        view_block = self._rollout(memory)["view_block"]
        return Sampling(self.steps, self.guidance_scale, self.solver, seed, view_block, memory.batch_guidance, self.without_maps)

    def _rollout(self, memory: MemoryPlan) -> dict:
        """Settings of `plan_blocks`."""
        overlap = self.overlap if self.gpu_gb is None else min(self.overlap, max(1, memory.frame_block - TEMPORAL))
        one_by_one = {"view_block": 1, "mode": "rollout"} if self.sample_independently else {}
        sizes = {"view_block": memory.view_block, "frame_block": memory.frame_block, "overlap": overlap}
        return {"neighbours": self.neighbours, "mode": self.mode} | sizes | one_by_one

    def _blocks(self, plan: ViewPlan, rig: HeadModel, memory: MemoryPlan) -> list[Block]:
        directions = np.stack([camera.position for camera in plan.cameras]) - head_centre(rig)
        return plan_blocks(len(plan.cameras), len(plan.performance), directions=directions, **self._rollout(memory))

    def _run_key(self, scene: Scene, blocks: list[Block], sampling: Sampling, memory: MemoryPlan, weights_digest: str) -> str:
        """Of everything that decides the bytes of the blocks."""
        cameras = [[camera.K, camera.camera_from_world, camera.width] for camera in (*scene.cameras, scene.camera)]
        poses = [[p.expression, p.rotations, p.translation] for p in (scene.performance, scene.parameters)]
        pictures = [scene.photo, scene.inside, scene.rig.v_template]
        order = [[block.given_views, block.new_views, block.start, block.stop, block.prefix] for block in blocks]
        place = [__version__, weights_digest, torch.device(self.device).type, str(memory.dtype), memory.offload, memory.tile]
        return digest_of([cameras, poses, pictures, head_model_digest(scene.head_model), order, vars(sampling), place])


def weights_folder(weights: str | Path) -> Path:
    """The folder of `nano` or of a path. Raises MissingAssetError where there is none."""
    if str(weights) == NANO:
        folder = nano_folder()
        if not folder.is_dir():
            raise MissingAssetError(f"This installation lacks the weights `{NANO}` ({folder}).\n{_TRAIN}")
        return folder
    folder = Path(weights)
    if not folder.is_dir():
        raise MissingAssetError(f"There is no folder {folder} with the weights of a pipeline.\n{_TRAIN}")
    return folder


def weights_digest(folder: Path) -> str:
    """SHA-256, in hexadecimal, of the parts of a pipeline that decide its pictures; a card or a report may lie beside them."""
    return digest_of([files_digest(folder / part) for part in ("vae", "transformer", "scheduler")])


def picture_size(pipeline: MVP4DPipeline, folder: Path) -> int:
    """Pixels a side of the pictures a pipeline was trained on.

    Raises:
        FormatError: its autoencoder or its transformer is not of this method, or it paints pictures that are not square.
    """
    config = pipeline.transformer.config
    spatial, temporal = latent_size(pipeline.vae), pipeline.vae.config.temporal_compression_ratio
    if (spatial, temporal) != (SPATIAL, config.temporal_compression_ratio):
        raise FormatError(
            f"The autoencoder in {folder} compresses {spatial} times in space and {temporal} in time, the transformer is for {SPATIAL} and "
            f"{config.temporal_compression_ratio}: they are not of one model."
        )
    if config.map_channels != MAP_COUNT:
        raise FormatError(f"The transformer in {folder} takes {config.map_channels} maps, this version makes {MAP_COUNT}.\n{_TRAIN}")
    if config.sample_height != config.sample_width or config.sample_width % config.patch_size:
        width, height = config.sample_width * SPATIAL, config.sample_height * SPATIAL
        raise FormatError(
            f"The transformer in {folder} paints {width} x {height} px, not squares: it was not trained on heads, as CogVideoX's own "
            f"weights are not.\n{_TRAIN}"
        )
    return config.sample_width * SPATIAL


def make_scene(reference: Reference, plan: ViewPlan, head_model: HeadModel, size: int) -> Scene:
    """The plan and the photo as a model of pictures of `size` pixels is told of them."""
    camera = reference_camera(reference, reference.rig(head_model), size)
    photo, _ = resample_photo(reference, camera)
    return Scene(
        head_model=head_model,
        rig=personalize(head_model, reference.shape, np.zeros_like(head_model.v_template)),
        cameras=tuple(crop_camera(c, np.array([0, 0, c.width, c.height]), size, size) for c in plan.cameras),
        performance=plan.performance,
        photo=np.clip(photo, 0, 1).astype(np.float32),
        inside=inside_photo(reference.camera, camera),
        camera=camera,
        parameters=reference.parameters,
    )


def inside_photo(whole: Camera, crop: Camera) -> np.ndarray:
    """(H, W) bool: the pixels of a crop whose centres lie within the whole picture."""
    scale = np.array([whole.K[0, 0] / crop.K[0, 0], whole.K[1, 1] / crop.K[1, 1]])
    shift = whole.K[:2, 2] - crop.K[:2, 2] * scale
    x, y = (np.arange(crop.width) + 0.5) * scale[0] + shift[0], (np.arange(crop.height) + 0.5) * scale[1] + shift[1]
    return ((y >= 0) & (y <= whole.height))[:, None] & ((x >= 0) & (x <= whole.width))


def finish(grid: np.ndarray, rig: HeadModel, plan: ViewPlan, progress: Progress = silent) -> tuple[np.ndarray, np.ndarray]:
    """Frames (V, F, S, S, 3) uint8 at the plan's size (V, F, H, W, 3), white where clear, and their alphas (V, F, H, W); both uint8."""
    views, count, height, width = plan.shape
    frames = np.full((views, count, height, width, 3), 255, np.uint8)
    alphas = np.zeros((views, count, height, width), np.uint8)

    def cut(view: int, frame: int, vertices: np.ndarray) -> None:
        picture = Image.fromarray(grid[view, frame]).resize((width, height), Image.Resampling.LANCZOS)
        pixels = np.asarray(picture, np.uint8)
        silhouette = rasterize_mesh(vertices, rig.faces, plan.cameras[view]).mask
        alpha = np.rint(cut_out(pixels.astype(np.float32) / 255, silhouette) * 255).astype(np.uint8)
        frames[view, frame] = np.where(alpha[..., None] > 0, pixels, 255)
        alphas[view, frame] = alpha

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for frame in steps(range(count), "cut out", count, progress):
            p = plan.performance[frame]
            vertices = skin(rig, None, p.expression, p.rotations, p.translation)
            list(pool.map(lambda view: cut(view, frame, vertices), range(views)))  # noqa: B023  the map ends within the iteration
    return frames, alphas


def _check_plan(plan: ViewPlan, rig: HeadModel) -> None:
    views, frames, height, width = plan.shape
    if height != width:
        raise InputError(f"A plan for this generator must have square crops, got {width} x {height} px; make it with `plan_views`.")
    if views * frames * height * width * 4 > MOST_GB * 1e9:
        needed = views * frames * height * width * 4 / 1e9
        raise InputError(
            f"{views} views x {frames} frames of {width} px take {needed:.0f} GB, at most {MOST_GB} are held at once.\n"
            "Plan fewer views or frames, or a smaller size."
        )
    performance = plan.performance
    if performance.expression_names != rig.expression_names or performance.joint_names != rig.joint_names:
        raise InputError(f"The plan's performance is not for the head `{rig.name}`; retarget it first.")
