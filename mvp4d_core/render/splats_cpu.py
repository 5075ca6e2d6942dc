# SPDX-License-Identifier: Apache-2.0
"""The CPU rasteriser: numba kernels behind one differentiable torch function.

Forward: project every splat into every view, shade it, sort by depth, list the splats of each tile, blend. Backward: one gradient row for
each entry of a tile list, summed per splat and view, then carried through shading and projection. Nothing is summed in an order that
depends on the threads, so results are bitwise the same for any number of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from ..errors import InputError
from .jit import Team, team
from .kernels_project import RECORD, TILE, project_splats, project_splats_backward
from .kernels_raster import blend_tiles, blend_tiles_backward
from .kernels_sh import copy_colors, copy_colors_backward, copy_depths, shade_splats, shade_splats_backward
from .kernels_tiles import CHUNK, count_tiles, fill_tiles, sort_by_depth, sum_rows

MAX_ENTRIES = 2**31 - 1
FIRST_COLOR, FIRST_COLOR_GRADIENT = 8, 6  # in records, in gradient rows
DEPTH_CHANNEL = 3  # after the colours
PIECES_PER_THREAD = 16  # of the tiles, for balance
TILE_OVERHEAD = 16  # the work of an empty tile, in entries


@dataclass(frozen=True)
class Settings:
    """What a render does not differentiate: views (C, 4, 4), Ks (C, 3, 3), camera positions (C, 3), all float32, and plain numbers."""

    viewmats: np.ndarray
    Ks: np.ndarray
    positions: np.ndarray
    width: int
    height: int
    sh_degree: int | None
    near: float
    far: float
    eps2d: float
    antialiased: bool
    depth: bool  # a further channel: the blended depths
    absgrad: bool
    threads: int | None

    @property
    def views(self) -> int:
        return len(self.viewmats)

    @property
    def depth_field(self) -> int:
        """Which of an item's gradients is that of its depth; 0 for none."""
        return FIRST_COLOR_GRADIENT + DEPTH_CHANNEL if self.depth else 0

    @property
    def absolute(self) -> tuple[int, ...]:
        """Columns of absolute gradients, as the kernels take them."""
        return (0, 0) if self.absgrad else ()

    @property
    def tiles(self) -> tuple[int, int]:
        """Rows and columns of tiles in one view."""
        return -(-self.height // TILE), -(-self.width // TILE)


@dataclass(frozen=True)
class Projection:
    """Items are (view, splat) pairs. See kernels_project.py for the records."""

    records: np.ndarray  # (C*N, 16)
    depths: np.ndarray  # (C*N,)
    radii: np.ndarray  # (C*N, 2)
    tile_boxes: np.ndarray  # (C*N, 4)
    tile_masks: np.ndarray  # (C*N,)
    tile_counts: np.ndarray  # (C*N,)


@dataclass(frozen=True)
class TileLists:
    """For each tile of all views, which items touch it, near to far. See kernels_tiles.py."""

    offsets: np.ndarray  # (tiles + 1,)
    items: np.ndarray  # (M,)
    slots: np.ndarray  # (M,) where an item's entries are, from first_slots[item] on
    first_slots: np.ndarray  # (C*N,)


def rasterize(
    means: torch.Tensor,
    quats: torch.Tensor,
    scales: torch.Tensor,
    opacities: torch.Tensor,
    colors: torch.Tensor,
    backgrounds: torch.Tensor,
    settings: Settings,
) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Images (C, H, W, D), alphas (C, H, W, 1) and info, from checked float32 CPU tensors."""
    info: dict[str, Any] = {"backend": "cpu", "width": settings.width, "height": settings.height}
    means2d = torch.from_numpy(np.zeros((settings.views, len(means), 2), np.float32))
    # A leaf that the forward fills: its .grad is then the gradient of the pixel positions.
    means2d.requires_grad_(torch.is_grad_enabled() and means.requires_grad)
    images, alphas = _Rasterize.apply(means, quats, scales, opacities, colors, backgrounds, means2d, settings, info)
    info["means2d"] = means2d
    return images, alphas, info


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, means, quats, scales, opacities, colors, backgrounds, means2d, settings, info):
        splats = tuple(np.ascontiguousarray(t.detach().numpy()) for t in (means, quats, scales, opacities, colors))
        backdrop = np.ascontiguousarray(backgrounds.detach().numpy())
        crew = team(settings.threads)
        projection = _project(crew, splats, settings)
        lists = _list_tiles(crew, projection, len(means), settings)
        images, transmittances = _blend(crew, projection, lists, backdrop, settings)
        views, count = settings.views, len(means)
        means2d.detach().numpy()[:] = projection.records[:, :2].reshape(views, count, 2)
        info["radii"] = torch.from_numpy(projection.radii.reshape(views, count, 2))
        info["depths"] = torch.from_numpy(projection.depths.reshape(views, count))
        info["n_isects"] = len(lists.items)
        outputs = torch.from_numpy(images), torch.from_numpy(1 - transmittances)[..., None]
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(means, quats, scales, opacities, colors, outputs[0])
            ctx.state = projection, lists, transmittances, settings
            ctx.means2d = means2d
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx, image_gradients, alpha_gradients):
        *splats, images = (np.ascontiguousarray(t.detach().numpy()) for t in ctx.saved_tensors)
        projection, lists, transmittances, settings = ctx.state
        image_gradients = np.ascontiguousarray(image_gradients.numpy(), dtype=np.float32)
        alpha_gradients = np.ascontiguousarray(alpha_gradients.numpy()[..., 0], dtype=np.float32)
        channels = images.shape[-1]
        crew = team(settings.threads)
        fields = FIRST_COLOR_GRADIENT + channels + len(settings.absolute)
        rows = np.zeros((len(lists.items), fields), np.float32)
        _run_tiles(
            crew, blend_tiles_backward, lists, projection.records, settings.width, settings.height, (0,) * channels, settings.absolute,
            images, transmittances, image_gradients, alpha_gradients, rows,
        )  # fmt: skip
        items = np.zeros((len(projection.depths), fields), np.float32)
        crew.run(sum_rows, len(items), rows, lists.slots, lists.first_slots, projection.tile_counts, (0,) * rows.shape[1], items)
        gradients = _project_backward(crew, splats, projection, items, settings)
        means2d = items[:, :2].reshape(settings.views, -1, 2).copy()
        if settings.absgrad:
            ctx.means2d.absgrad = torch.from_numpy(items[:, -2:].reshape(settings.views, -1, 2).copy())
        backgrounds = np.einsum("chwd,chw->cd", image_gradients, transmittances) if ctx.needs_input_grad[5] else None
        return (
            *(torch.from_numpy(g) for g in gradients),
            None if backgrounds is None else torch.from_numpy(backgrounds),
            torch.from_numpy(means2d),
            None,
            None,
        )


def _project(crew: Team, splats: tuple[np.ndarray, ...], settings: Settings) -> Projection:
    means, quats, scales, opacities, colors = splats
    items = settings.views * len(means)
    projection = Projection(
        records=np.zeros((items, RECORD), np.float32),
        depths=np.zeros(items, np.float32),
        radii=np.zeros((items, 2), np.int32),
        tile_boxes=np.zeros((items, 4), np.int32),
        tile_masks=np.zeros(items, np.uint64),
        tile_counts=np.zeros(items, np.int32),
    )
    crew.run(
        project_splats, items, means, quats, scales, opacities, settings.viewmats, settings.Ks, settings.width, settings.height,
        np.float32(settings.eps2d), settings.antialiased, np.float32(settings.near), np.float32(settings.far), projection.records,
        projection.depths, projection.radii, projection.tile_boxes, projection.tile_masks, projection.tile_counts,
    )  # fmt: skip
    if settings.sh_degree is None:
        crew.run(copy_colors, items, colors, projection.tile_counts, projection.records)
    else:
        crew.run(shade_splats, items, means, colors, settings.positions, settings.sh_degree, projection.tile_counts, projection.records)
    if settings.depth:
        crew.run(copy_depths, items, projection.depths, projection.tile_counts, FIRST_COLOR + DEPTH_CHANNEL, projection.records)
    return projection


def _project_backward(
    crew: Team, splats: list[np.ndarray], projection: Projection, items: np.ndarray, settings: Settings
) -> list[np.ndarray]:
    """Gradients of means, quats, scales, opacities and colours from those of the items."""
    means, quats, scales, opacities, colors = splats
    gradients = [np.zeros_like(array) for array in splats]
    crew.run(
        project_splats_backward, len(means), means, quats, scales, opacities, settings.viewmats, settings.Ks, settings.width,
        settings.height, np.float32(settings.eps2d), settings.antialiased, settings.depth_field, projection.tile_counts, items,
        *gradients[:4],
    )  # fmt: skip
    if settings.sh_degree is None:
        crew.run(copy_colors_backward, len(means), items, gradients[4])
    else:
        crew.run(
            shade_splats_backward, len(means), means, colors, settings.positions, settings.sh_degree, projection.tile_counts,
            projection.records, items, gradients[4], gradients[0],
        )  # fmt: skip
    return gradients


def _list_tiles(crew: Team, projection: Projection, count: int, settings: Settings) -> TileLists:
    views = settings.views
    tile_rows, columns = settings.tiles
    order = np.zeros((views, count), np.int32)
    visible = np.zeros(views, np.int64)
    depth_bits = projection.depths.view(np.uint32).reshape(views, count)
    crew.run(sort_by_depth, views, depth_bits, projection.tile_counts.reshape(views, count), order, visible, grain=1)

    chunks = max(1, -(-int(visible.max(initial=0)) // CHUNK))
    counts = np.zeros((views, chunks, tile_rows * columns), np.int64)
    boxes = projection.tile_boxes, projection.tile_masks, projection.tile_counts
    crew.run(count_tiles, views * chunks, order, visible, *boxes, columns, counts, grain=1)
    sizes = counts.sum(axis=1).reshape(-1)
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    total = int(offsets[-1])
    if total > MAX_ENTRIES:
        raise InputError(f"the splats cover {total} tiles, more than {MAX_ENTRIES}; check their scales or render fewer views at once.")

    cursors = offsets[:-1].reshape(views, 1, tile_rows * columns) + np.cumsum(counts, axis=1) - counts
    first_slots = np.cumsum(projection.tile_counts, dtype=np.int64) - projection.tile_counts
    items, slots = np.zeros(total, np.int32), np.zeros(total, np.int32)
    crew.run(fill_tiles, views * chunks, order, visible, *boxes, columns, cursors, first_slots, items, slots, grain=1)
    return TileLists(offsets, items, slots, first_slots)


def _blend(
    crew: Team, projection: Projection, lists: TileLists, backgrounds: np.ndarray, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    shape = settings.views, settings.height, settings.width
    channels = backgrounds.shape[1]
    images, transmittances = np.zeros((*shape, channels), np.float32), np.zeros(shape, np.float32)
    _run_tiles(
        crew, blend_tiles, lists, projection.records, backgrounds, settings.width, settings.height, (0,) * channels, images, transmittances
    )
    return images, transmittances


def _run_tiles(crew: Team, kernel: Any, lists: TileLists, *arguments: Any) -> None:
    """Runs a kernel on all tiles, cut into runs of tiles with about the same number of entries."""
    tiles = len(lists.offsets) - 1
    work = lists.offsets + TILE_OVERHEAD * np.arange(tiles + 1)
    pieces = min(tiles, 1 if crew.threads == 1 else PIECES_PER_THREAD * crew.threads)
    cuts = np.searchsorted(work, np.linspace(0, work[-1], pieces + 1)[1:-1]).tolist()
    crew.run_pieces(kernel, [0, *cuts, tiles], lists.offsets, lists.items, *arguments)
