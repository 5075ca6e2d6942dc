# SPDX-License-Identifier: Apache-2.0
"""Splat rendering in plain torch, written to be read: what the fast rasterisers are measured against.

`rasterize_dense` blends every splat at every pixel, in the precision of its inputs; in float64 it is the oracle of images and, through
autograd, of gradients. `rasterize_tiled` is what one would write in torch for speed: tile lists, then padded batches of tiles.
Both follow `splats.rasterize_splats` in arguments and semantics and take any floating type on any device.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_ALPHA = 1 / 255
MAX_ALPHA = 0.99
MIN_TRANSMITTANCE = 1e-4
TILE = 16


@dataclass(frozen=True)
class Projected:
    """Splats on one image plane: positions (N, 2) px, conics (N, 3) as A, B, C, opacities and depths (N,), drawn (N,) bool, half extents
    (N, 2) px."""

    means2d: Tensor
    conics: Tensor
    opacities: Tensor
    depths: Tensor
    drawn: Tensor
    extents: Tensor


def rotation_matrices(quats: Tensor) -> Tensor:
    """(N, 4) wxyz, any length -> (N, 3, 3)."""
    w, x, y, z = (quats / quats.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(-1, 3, 3)


def project(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, viewmat: Tensor, K: Tensor,
    width: int, height: int, near: float, far: float, eps2d: float, antialiased: bool,
) -> Projected:  # fmt: skip
    """EWA splatting: the 2D Gaussian is `J W S W^T J^T + eps2d I` at the projected centre.

    Antialiased, the opacity is scaled by the root of the ratio of the determinants without and with `eps2d`.
    """
    spread = rotation_matrices(quats) * scales[:, None, :]
    rotation = viewmat[:3, :3]
    x, y, z = (means @ rotation.T + viewmat[:3, 3]).unbind(-1)
    inside = (z >= near) & (z <= far)
    z_safe = torch.where(inside, z, torch.ones_like(z))
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    slope_x = (x / z_safe).clamp(-(cx + 0.15 * width) / fx, (1.15 * width - cx) / fx)
    slope_y = (y / z_safe).clamp(-(cy + 0.15 * height) / fy, (1.15 * height - cy) / fy)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z_safe, zero, -fx * slope_x / z_safe, zero, fy / z_safe, -fy * slope_y / z_safe], dim=-1).reshape(-1, 2, 3)
    factor = jacobian @ rotation @ spread
    covariance = factor @ factor.transpose(1, 2)
    a, b, c = covariance[:, 0, 0] + eps2d, covariance[:, 0, 1], covariance[:, 1, 1] + eps2d
    determinant = a * c - b * b
    if antialiased:
        opacities = opacities * ((a - eps2d) * (c - eps2d) - b * b).clamp(min=0).div(determinant).sqrt()
    conics = torch.stack([c, -b, a], dim=-1) / determinant[:, None]
    means2d = torch.stack([fx * x / z_safe + cx, fy * y / z_safe + cy], dim=-1)
    drawn = (inside & (opacities >= MIN_ALPHA) & (determinant > 0)).detach()
    reach = 2 * torch.log((opacities.detach() / MIN_ALPHA).clamp(min=1))
    extents = torch.sqrt(reach[:, None] * torch.stack([a, c], dim=-1).detach())
    return Projected(means2d, conics, opacities, z, drawn, extents)


def spherical_harmonics(directions: Tensor, degree: int) -> Tensor:
    """Real basis (N, (degree + 1)^2) at unit directions (N, 3), from associated Legendre functions, with the Condon-Shortley phase."""
    x, y, z = directions.unbind(-1)
    basis = []
    for band in range(degree + 1):
        for order in range(-band, band + 1):
            m = abs(order)
            norm = math.sqrt((2 * band + 1) / (4 * math.pi) * math.factorial(band - m) / math.factorial(band + m))
            # (x + iy)^m carries sin(theta)^m, so the Legendre part is a polynomial in z alone
            real, imaginary = torch.ones_like(x), torch.zeros_like(x)
            for _ in range(m):
                real, imaginary = real * x - imaginary * y, real * y + imaginary * x
            azimuth = real if order >= 0 else imaginary
            basis.append(norm * (math.sqrt(2) if m else 1.0) * _legendre_over_sine(band, m, z) * azimuth)
    return torch.stack(basis, dim=-1)


def _legendre_over_sine(band: int, m: int, z: Tensor) -> Tensor:
    """P_band^m(z) / sin(theta)^m by the standard recurrences."""
    current = torch.full_like(z, math.prod(-(2 * k - 1) for k in range(1, m + 1)))
    previous = torch.zeros_like(z)
    for n in range(m + 1, band + 1):
        previous, current = current, ((2 * n - 1) * z * current - (n + m - 1) * previous) / (n - m)
    return current


def shade(means: Tensor, colors: Tensor, viewmat: Tensor, sh_degree: int | None, depths: Tensor | None = None) -> Tensor:
    """Colours (N, D) as seen by one camera, followed by the depths (N,) where these are given."""
    if depths is not None:
        return torch.cat([shade(means, colors, viewmat, sh_degree), depths[:, None]], dim=-1)
    if sh_degree is None:
        return colors
    position = -torch.linalg.inv(viewmat[:3, :3]) @ viewmat[:3, 3]
    directions = torch.nn.functional.normalize(means - position, dim=-1)
    basis = spherical_harmonics(directions, sh_degree)
    return (torch.einsum("nb,nbd->nd", basis, colors[:, : basis.shape[1]]) + 0.5).clamp(min=0)


def splat_alphas(splats: Projected, ids: Tensor, pixels: Tensor) -> Tensor:
    """Uncapped alphas (..., P, L) of the splats `ids` (..., L) at pixel centres (..., P, 2)."""
    offsets = splats.means2d[ids].unsqueeze(-3) - pixels.unsqueeze(-2)
    a, b, c = splats.conics[ids].unsqueeze(-3).unbind(-1)
    dx, dy = offsets.unbind(-1)
    return splats.opacities[ids].unsqueeze(-2) * torch.exp(-(0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy))


def blend(alphas: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
    """Front to back: uncapped alphas (..., P, L), near to far, and colours (..., L, D) -> (..., P, D) and transmittance (..., P)."""
    alphas = alphas.clamp(max=MAX_ALPHA)
    alphas = torch.where(alphas >= MIN_ALPHA, alphas, torch.zeros_like(alphas))
    with torch.no_grad():
        ended = torch.cumprod(1 - alphas, dim=-1) <= MIN_TRANSMITTANCE
    alphas = torch.where(ended, torch.zeros_like(alphas), alphas)
    after = torch.cumprod(1 - alphas, dim=-1)
    before = torch.cat([torch.ones_like(after[..., :1]), after[..., :-1]], dim=-1)
    return (alphas * before) @ colors, after[..., -1]


def rasterize_dense(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, *, sh_degree: int | None = None, backgrounds: Tensor | None = None,
    near: float = 0.01, far: float = 1e10, eps2d: float = 0.3, rasterize_mode: str = "classic", render_mode: str = "RGB",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Every splat at every pixel: images (C, H, W, D), alphas (C, H, W, 1). Memory grows with N * H * W."""
    images, alphas = [], []
    pixels = pixel_centers(width, height, means)
    for v, (viewmat, K) in enumerate(zip(viewmats, Ks, strict=True)):
        splats = project(means, quats, scales, opacities, viewmat, K, width, height, near, far, eps2d, rasterize_mode == "antialiased")
        ids = torch.argsort(splats.depths.detach(), stable=True)
        ids = ids[splats.drawn[ids]]
        values = shade(means, colors, viewmat, sh_degree, None if render_mode == "RGB" else splats.depths)
        backdrop = torch.zeros_like(values[0]) if len(values) else pixels.new_zeros(values.shape[-1])
        if backgrounds is not None:
            backdrop = torch.cat([backgrounds[v], backdrop[len(backgrounds[v]) :]])
        image, transmittance = pixels.new_zeros(len(pixels), values.shape[-1]), pixels.new_ones(len(pixels))
        if len(ids):
            image, transmittance = blend(splat_alphas(splats, ids, pixels), values[ids])
        image = image + transmittance[:, None] * backdrop
        if render_mode == "RGB+ED":
            image = torch.cat([image[:, :-1], image[:, -1:] / (1 - transmittance).clamp(min=1e-10)[:, None]], dim=-1)
        images.append(image.reshape(height, width, -1))
        alphas.append((1 - transmittance).reshape(height, width, 1))
    return torch.stack(images), torch.stack(alphas)


@torch.no_grad()
def threshold_margin(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, *, sh_degree: int | None = None, near: float = 0.01, far: float = 1e10, eps2d: float = 0.3,
    rasterize_mode: str = "classic",
) -> float:  # fmt: skip
    """How close a scene comes to a decision that rounding could flip, as the least relative distance over all pixels and splats.

    Decisions: alpha against 1/255 and 0.99, transmittance against 1e-4, a harmonic colour against 0, and which of two overlapping splats
    is nearer. Images and gradients of two correct rasterisers may differ by whole contributions where this is near the precision of one.
    """
    margins = [math.inf]
    pixels = pixel_centers(width, height, means)
    for viewmat, K in zip(viewmats, Ks, strict=True):
        splats = project(means, quats, scales, opacities, viewmat, K, width, height, near, far, eps2d, rasterize_mode == "antialiased")
        ids = torch.argsort(splats.depths, stable=True)
        ids = ids[splats.drawn[ids]]
        if not len(ids):
            continue
        uncapped = splat_alphas(splats, ids, pixels)
        alphas = torch.where(uncapped >= MIN_ALPHA, uncapped.clamp(max=MAX_ALPHA), torch.zeros_like(uncapped))
        after = torch.cumprod(1 - alphas, dim=-1)
        alive = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=-1) > MIN_TRANSMITTANCE * 0.99
        margins += [(uncapped[alive] / level - 1).abs().min().item() for level in (MIN_ALPHA, MAX_ALPHA)]
        margins.append((after[alive & (alphas > 0)] / MIN_TRANSMITTANCE - 1).abs().amin().item() if (alphas > 0).any() else math.inf)
        margins.append((splats.depths[ids].diff() / splats.depths[ids][1:]).abs().amin().item() if len(ids) > 1 else math.inf)
        if sh_degree is not None:
            position = -torch.linalg.inv(viewmat[:3, :3]) @ viewmat[:3, 3]
            basis = spherical_harmonics(torch.nn.functional.normalize(means[ids] - position, dim=-1), sh_degree)
            raw = torch.einsum("nb,nbd->nd", basis, colors[ids, : basis.shape[1]]) + 0.5
            margins.append(raw.abs().min().item())
    return min(margins)


def rasterize_tiled(
    means: Tensor, quats: Tensor, scales: Tensor, opacities: Tensor, colors: Tensor, viewmats: Tensor, Ks: Tensor,
    width: int, height: int, *, sh_degree: int | None = None, backgrounds: Tensor | None = None,
    near: float = 0.01, far: float = 1e10, eps2d: float = 0.3, batch_elements: int = 4_000_000,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Tile by tile: images (C, H, W, D), alphas (C, H, W, 1).

    Tiles of similar length share a padded batch of about `batch_elements` (tile, pixel, splat) triples.
    """
    images, alphas = [], []
    rows, columns = -(-height // TILE), -(-width // TILE)
    for v, (viewmat, K) in enumerate(zip(viewmats, Ks, strict=True)):
        splats = project(means, quats, scales, opacities, viewmat, K, width, height, near, far, eps2d, antialiased=False)
        tiles = _blend_tiles(splats, shade(means, colors, viewmat, sh_degree), width, height, batch_elements)
        image = tiles.reshape(rows, columns, TILE, TILE, -1).transpose(1, 2).reshape(rows * TILE, columns * TILE, -1)[:height, :width]
        backdrop = 0 if backgrounds is None else backgrounds[v]
        images.append(image[..., :-1] + image[..., -1:] * backdrop)
        alphas.append(1 - image[..., -1:])
    return torch.stack(images), torch.stack(alphas)


def _blend_tiles(splats: Projected, colors: Tensor, width: int, height: int, batch_elements: int) -> Tensor:
    """All tiles of a view, (tiles, pixels, D + 1) with the transmittance last."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    items, offsets = _tile_lists(splats, width, height)
    lengths = offsets.diff()
    order = torch.argsort(lengths)
    order = order[lengths[order] > 0]
    inner = pixel_centers(TILE, TILE, colors)
    corners = pixel_centers(columns, rows, colors).sub(0.5) * TILE
    pieces, owners = [], []
    for tiles in _batches(order, lengths, batch_elements):
        steps = torch.arange(int(lengths[tiles].max()), device=items.device)
        valid = steps < lengths[tiles, None]
        ids = items[(offsets[tiles, None] + steps).clamp(max=len(items) - 1)]
        uncapped = splat_alphas(splats, ids, inner + corners[tiles, None])
        blended, transmittance = blend(uncapped * valid[:, None], colors[ids])
        pieces.append(torch.cat([blended, transmittance[..., None]], dim=-1))
        owners.append(tiles)
    image = colors.new_zeros(rows * columns, TILE * TILE, colors.shape[-1] + 1)
    image[..., -1] = 1
    return image.index_copy(0, torch.cat(owners), torch.cat(pieces)) if pieces else image


def _batches(order: Tensor, lengths: Tensor, batch_elements: int) -> Iterator[Tensor]:
    """Runs of tiles, whose lengths ascend, that fill at most `batch_elements` triples when padded to the longest, or hold one tile."""
    first = 0
    while first < len(order):
        padded = lengths[order[first:]] * torch.arange(1, len(order) - first + 1, device=order.device) * TILE * TILE
        size = max(1, int((padded <= batch_elements).sum()))
        yield order[first : first + size]
        first += size


@torch.no_grad()
def _tile_lists(splats: Projected, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Splat ids tile after tile, near to far, and offsets (tiles + 1,): every tile that a splat's bounding box meets lists it."""
    rows, columns = -(-height // TILE), -(-width // TILE)
    ids = torch.argsort(splats.depths, stable=True)
    low, high = splats.means2d - splats.extents, splats.means2d + splats.extents
    on_screen = splats.drawn & (high > 0).all(-1) & (low[:, 0] < width) & (low[:, 1] < height)
    ids = ids[on_screen[ids]]
    limits = torch.tensor([columns - 1, rows - 1], device=ids.device)
    first = (low[ids] / TILE).floor().long().clamp(min=0).minimum(limits)
    last = (high[ids] / TILE).floor().long().clamp(min=0).minimum(limits)
    spans = last - first + 1
    counts = spans.prod(-1)
    owner = torch.repeat_interleave(torch.arange(len(ids), device=ids.device), counts)
    local = torch.arange(len(owner), device=ids.device) - (counts.cumsum(0) - counts)[owner]
    tiles = (first[owner, 1] + local // spans[owner, 0]) * columns + first[owner, 0] + local % spans[owner, 0]
    tiles, by_tile = torch.sort(tiles, stable=True)
    offsets = torch.searchsorted(tiles, torch.arange(rows * columns + 1, device=ids.device))
    return ids[owner[by_tile]], offsets


def pixel_centers(width: int, height: int, like: Tensor) -> Tensor:
    """(H*W, 2) pixel centres, row after row."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5).to(like)
