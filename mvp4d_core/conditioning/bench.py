# SPDX-License-Identifier: Apache-2.0
"""How fast the conditioning maps are drawn, side by side with ray casting by trimesh and embree."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ..cameras import Camera
from ..errors import InputError, MissingAssetError
from ..progress import Progress, silent
from ..render.jit import usable_cores
from ..rig import HeadModel, Parameters, load_head_model, showcase_performance, skin
from . import maps as conditioning
from .view_plan import plan_views

FRAMES = 5  # two latent frames a view: the first one's single frame, and four frames with motion
ROUNDS = 5
STAGE = "benchmarking maps"


def bench_conditions(*, views: int = 200, size: int = 512, traced_views: int = 20, progress: Progress = silent) -> dict[str, float]:
    """Times all 59 channels of `views` views of 5 frames, two latent frames a view, of the open head on all usable cores.

    Posing the head is part of our time. Ray casting is given the posed head; it draws `traced_views` of the same views, spread over the
    plan, on as many threads, and its time is scaled to all of them. Both take turns, the best of 5 rounds counts, compilation is excluded.

    Args:
        views: V.
        size: px, the side of a view's picture; its latents are an eighth of it.

    Returns:
        `seconds_200_views`, scaled to 200 where `views` is another number; `maps` drawn in that time (latent frames of all views);
        `seconds_200_views_trimesh_embreex`; `speedup`, the second over the first; `largest_difference` of the maps of both, leaving out
        the thousandth that differs most, where one side of a silhouette or of a fold was seen instead of the other.

    Raises:
        InputError: a number of views that is not positive.
        MissingAssetError: trimesh or embreex is not installed.
    """
    if not 1 <= traced_views <= views:
        raise InputError(f"`views` must be at least {max(1, traced_views)}, got {views}.")
    model = load_head_model()
    performance = showcase_performance(model).select(np.arange(20, 20 + FRAMES))
    cameras = plan_views(model, performance, preset=360, views=views, size=size).cameras
    latent_size = (size // 8, size // 8)
    traced = np.linspace(0, views - 1, traced_views).round().astype(int)
    posed = np.stack([_skinned(model, performance[frame]) for frame in range(FRAMES)])
    expression = _expression_offsets(model, performance[FRAMES - 1]), _expression_offsets(model, performance[0])

    def draw(chosen: tuple[Camera, ...]) -> torch.Tensor:
        options = {"reference_camera": cameras[0], "latent_size": latent_size}
        return conditioning.condition_maps(model, model, chosen, performance, **options)

    def trace(view: int) -> np.ndarray:
        tracer = RayCaster(model, cameras[view], cameras[0], latent_size)
        return np.stack([tracer.maps(posed[0], expression[1], None), tracer.maps(posed[-1], expression[0], posed[1:-1])])

    progress(STAGE, 0, ROUNDS)
    draw(cameras[:1])
    ours = theirs = float("inf")
    drawn, cast = torch.zeros(0), []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for done in range(1, ROUNDS + 1):
            started = time.perf_counter()
            drawn = draw(cameras)
            between = time.perf_counter()
            cast = list(pool.map(trace, traced))
            ours = min(ours, (between - started) * 200 / views)
            theirs = min(theirs, (time.perf_counter() - between) * 200 / traced_views)
            progress(STAGE, done, ROUNDS)
    difference = np.abs(np.stack(cast) - drawn[torch.from_numpy(traced)].numpy())
    return {
        "seconds_200_views": ours,
        "speedup": theirs / ours,
        "seconds_200_views_trimesh_embreex": theirs,
        "maps": 200 * drawn.shape[1],
        "largest_difference": float(np.quantile(difference, 0.999)),
    }


class RayCaster:
    """One view's maps by trimesh and embree in plain numpy: what one would write without a rasteriser, and the rasteriser's oracle."""

    def __init__(self, model: HeadModel, camera: Camera, reference_camera: Camera, latent_size: tuple[int, int]) -> None:
        try:
            import trimesh
            from trimesh.ray.ray_pyembree import RayMeshIntersector
        except ImportError:
            raise MissingAssetError("Ray casting needs trimesh and embreex. Install them with: pip install trimesh embreex") from None
        self._mesh, self._intersector = trimesh.Trimesh, RayMeshIntersector
        self._model, self._camera = model, camera
        self._canonical = conditioning.canonical_coordinates(model)
        height, width = (2 * side for side in latent_size)
        x, y = (np.arange(width) + 0.5) * camera.width / width, (np.arange(height) + 0.5) * camera.height / height
        pixels = np.stack([*np.meshgrid(x, y), np.ones((height, width))], axis=-1)
        self._directions = (pixels @ np.linalg.inv(camera.K).T @ camera.camera_from_world[:3, :3]).reshape(-1, 3)
        self._origins = np.tile(camera.position, (len(self._directions), 1))
        self._rays = conditioning.camera_rays(camera, reference_camera, latent_size)
        self._raster = (height, width)

    def maps(self, posed: np.ndarray, expression: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """(59, h, w) of the head `posed` (V, 3) with the offsets `expression` (V, 3) in metres, and the 3 frames `before` it (3, V, 3)."""
        faces = self._model.faces
        hit = self._intersector(self._mesh(posed, faces, process=False)).intersects_first(self._origins, self._directions)
        seen = np.nonzero(hit >= 0)[0]
        corners = faces[hit[seen]]
        weights = _barycentrics(self._origins[seen], self._directions[seen], posed[corners])
        position = np.einsum("nk,nkd->nd", weights, self._canonical[corners]).astype(np.float32)
        angles = position[:, :, None] * 2.0 ** np.arange(7, dtype=np.float32)
        samples = np.zeros((len(self._directions), conditioning.MAP_COUNT), np.float32)
        samples[seen, 0:42] = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(seen), 42)
        samples[seen, 42:45] = np.einsum("nk,nkd->nd", weights, expression[corners]) / conditioning.EXPRESSION_UNIT
        samples[:, 49] = 1
        if before is not None:
            samples[seen, 50:59] = np.einsum("nk,nkd->nd", weights, self._motion(posed, before)[corners])
        height, width = self._raster
        maps = samples.reshape(height // 2, 2, width // 2, 2, -1).mean(axis=(1, 3)).transpose(2, 0, 1).copy()
        maps[45:48] = self._rays
        return maps

    def _motion(self, posed: np.ndarray, before: np.ndarray) -> np.ndarray:
        """(V, 9): the offsets in the picture and in depth from `posed` to each of the frames `before`."""
        camera = self._camera
        projected = np.stack([posed, *before]) @ camera.camera_from_world[:3, :3].T + camera.camera_from_world[:3, 3]
        projected = projected @ camera.K.T
        projected[..., :2] /= projected[..., 2:] * (camera.width, camera.height)
        moved = (projected[1:] - projected[0]) / conditioning.MOTION_UNIT
        return moved.transpose(1, 0, 2).reshape(len(posed), 9)


def _barycentrics(origins: np.ndarray, directions: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(n, 3) of the points where rays (n, 3) meet the planes of their triangles (n, 3, 3) (Moeller and Trumbore 1997)."""
    edge1, edge2, start = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], origins - corners[:, 0]
    across = np.cross(directions, edge2)
    scale = 1 / (edge1 * across).sum(axis=1)
    second = (start * across).sum(axis=1) * scale
    third = (directions * np.cross(start, edge1)).sum(axis=1) * scale
    return np.stack([1 - second - third, second, third], axis=1)


def _skinned(model: HeadModel, pose: Parameters) -> np.ndarray:
    return skin(model, None, pose.expression, pose.rotations, pose.translation)


def _expression_offsets(model: HeadModel, pose: Parameters) -> np.ndarray:
    """(V, 3) metres: what expression, jaw and gaze do to the head at rest pose."""
    turns = pose.rotations.copy()
    turns[[joint for joint, name in enumerate(model.joint_names) if joint == 0 or name == "neck"]] = 0
    still = np.zeros(3, np.float32)
    return skin(model, None, pose.expression, turns, still) - skin(model, None, 0 * pose.expression, 0 * turns, still)
