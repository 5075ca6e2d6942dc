# SPDX-License-Identifier: Apache-2.0
"""The studio's renderer on torch tensors, for GPUs: the same coverage and the same shading as the numba kernels.

Every triangle is spread over the samples of its box, all triangles of all frames at once, and the nearest of the triangles that cover a
sample wins it by an atomic minimum.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ...cameras import Camera
from ...render.kernels_mesh import SUBPIXELS
from .kernels import HAIR
from .scenes import ENCODING, Scene

NEAR = 0.01  # metres; the studio's cameras keep their distance, so nothing is clipped
CANDIDATES = 8_000_000  # pairs of triangle and sample that are looked at together


def render_frames(
    scene: Scene, camera: Camera, frames: Iterable[int], *, device: str, supersample: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Premultiplied images (n, H, W, 3) and alphas (n, H, W), float32 in 0..1, display-referred."""
    faces = torch.as_tensor(scene.faces.astype(np.int64), device=device)
    results = [_render(scene, camera, frame, faces, supersample) for frame in frames]
    images, alphas = (torch.stack(parts).cpu().numpy() for parts in zip(*results, strict=True))
    return images, alphas


def rasterize(vertices: Tensor, faces: Tensor, camera: Camera, supersample: int) -> tuple[Tensor, Tensor, Tensor]:
    """The samples that faces cover: their flat index (n,), face (n,) and barycentrics (n, 3) float32.

    Corners snap to 1/4096 of a sample and edges follow the top-left rule, as in `render/kernels_mesh.py`.
    """
    height, width = camera.height * supersample, camera.width * supersample
    matrix = torch.as_tensor(camera.camera_from_world, device=vertices.device)
    K = torch.as_tensor(np.diag([supersample, supersample, 1.0]) @ camera.K, device=vertices.device)
    points = (vertices.double() @ matrix[:3, :3].T + matrix[:3, 3]) @ K.T
    depth = points[:, 2]
    snapped = torch.round(points[:, :2] / depth[:, None] * SUBPIXELS).long()
    corners = snapped[faces]  # (F, 3, 2)
    area = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    half = SUBPIXELS // 2
    first = torch.div(corners.amin(dim=1) - half + SUBPIXELS - 1, SUBPIXELS, rounding_mode="floor").clamp_min(0)
    limit = torch.tensor([width - 1, height - 1], device=vertices.device)
    last = torch.minimum(torch.div(corners.amax(dim=1) - half, SUBPIXELS, rounding_mode="floor"), limit)
    extent = (last - first + 1).clamp_min(0)
    boxes = torch.where((area != 0) & (depth[faces] > NEAR).all(dim=1), extent.prod(dim=1), 0)
    best = torch.full((height * width,), torch.iinfo(torch.int64).max, device=vertices.device)
    inverse = 1 / depth
    for chosen in _batches(boxes):
        face = torch.repeat_interleave(chosen, boxes[chosen])
        start = torch.repeat_interleave(boxes[chosen].cumsum(0) - boxes[chosen], boxes[chosen])
        inside = torch.arange(len(face), device=face.device) - start
        column, row = first[face, 0] + inside % extent[face, 0], first[face, 1] + torch.div(inside, extent[face, 0], rounding_mode="floor")
        covered, weights = _edges(corners[face], area[face], torch.stack([column, row], dim=-1) * SUBPIXELS + half)
        face, sample, weights = face[covered], (row * width + column)[covered], weights[covered]
        z = (1 / (weights * inverse[faces[face]]).sum(dim=1)).float()
        # positive floats order as their bits do; ties go to the face that comes first, as they do in a loop
        best.scatter_reduce_(0, sample, (z.view(torch.int32).long() << 32) | face, "amin")
    sample = torch.nonzero(best < torch.iinfo(torch.int64).max)[:, 0]
    face = best[sample] & 0xFFFFFFFF
    place = torch.stack([sample % width, torch.div(sample, width, rounding_mode="floor")], dim=-1) * SUBPIXELS + half
    _, weights = _edges(corners[face], area[face], place)
    weights = weights * inverse[faces[face]]
    return sample, face, (weights / weights.sum(dim=1, keepdim=True)).float()


def _batches(boxes: Tensor) -> list[Tensor]:
    """Ids of the faces with a box, in groups of at most CANDIDATES samples or one face."""
    ids = torch.nonzero(boxes)[:, 0]
    group = torch.div(boxes[ids].cumsum(0), CANDIDATES, rounding_mode="floor")
    return list(torch.split(ids, torch.unique_consecutive(group, return_counts=True)[1].tolist())) if len(ids) else []


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _edges(corners: Tensor, area: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
    """Whether triangles (n, 3, 2) cover places (n, 2), and the screen-space weights (n, 3) of their corners, float64."""
    sign = torch.sign(area)
    values, biased = [], []
    for k in range(3):
        a, b = corners[:, (k + 1) % 3], corners[:, (k + 2) % 3]
        edge = sign * _cross(b - a, place - a)
        step = sign[:, None] * (b - a)
        owns = (step[:, 1] < 0) | ((step[:, 1] == 0) & (step[:, 0] > 0))
        values.append(edge)
        biased.append(edge - (~owns).long())
    return (torch.stack(biased).amin(dim=0) >= 0), torch.stack(values, dim=-1).double() / area.abs()[:, None]


def _render(scene: Scene, camera: Camera, frame: int, faces: Tensor, supersample: int) -> tuple[Tensor, Tensor]:
    device, pose = faces.device, scene.poses[frame]
    vertices = torch.as_tensor(pose.vertices, device=device)
    sample, face, weights = rasterize(vertices, faces, camera, supersample)
    colors = _shade(scene, frame, camera, faces, face, weights)
    height, width = camera.height * supersample, camera.width * supersample
    layers = torch.zeros(height * width, 4, device=device)
    layers[sample, :3], layers[sample, 3] = colors, 1.0
    layers = layers.view(camera.height, supersample, camera.width, supersample, 4).mean(dim=(1, 3))
    return layers[..., :3], layers[..., 3]


def _shade(scene: Scene, frame: int, camera: Camera, faces: Tensor, face: Tensor, weights: Tensor) -> Tensor:
    """Display-referred colours (n, 3) of samples; the formulas are those of `kernels.shade_samples`."""
    device, pose = faces.device, scene.poses[frame]
    corners = faces[face]

    def at(attributes: np.ndarray, corner: Tensor) -> Tensor:
        return (weights[..., None] * torch.as_tensor(attributes, device=device)[corner]).sum(dim=1)

    normal = torch.nn.functional.normalize(at(pose.normals, corners), dim=1, eps=1e-10)
    eye = torch.as_tensor(camera.position, dtype=torch.float32, device=device)
    toward = torch.nn.functional.normalize(eye - at(pose.vertices, corners), dim=1, eps=1e-10)
    visible, ambient = at(pose.lit[:, None], corners)[:, 0], at(scene.openness[:, None], corners)[:, 0]
    tangent = torch.nn.functional.normalize(at(pose.tangents, corners), dim=1, eps=1e-10)
    hairy = torch.as_tensor(scene.kinds == HAIR, device=device)[face]
    facing = (normal * toward).sum(dim=1)
    normal = torch.where((hairy & (facing < 0))[:, None], -normal, normal)
    facing = torch.where(hairy, facing.abs(), facing.clamp_min(0))
    uv = at(scene.uvs, torch.as_tensor(scene.uv_faces.astype(np.int64), device=device)[face])
    surface = torch.where(hairy[:, None], _lookup(scene.hair, uv), _lookup(scene.skin, uv))
    albedo, gloss = surface[:, :3], surface[:, 3]

    lights = torch.as_tensor(scene.lights.packed(), dtype=torch.float32, device=device)
    up = 0.5 + 0.5 * normal[:, 1:2]
    diffuse = ambient[:, None] * (lights[0, :3] * up + lights[1, :3] * (1 - up))
    specular = (0.35 * (1 - facing) ** 4 * gloss * ambient)[:, None] * lights[0, :3]
    wrap = torch.tensor([0.30, 0.14, 0.10], device=device)
    leak = torch.tensor([0.12, 0.05, 0.04], device=device)
    power = torch.where(hairy, 24.0, 6.0 + 250.0 * gloss**2)
    for index, light in enumerate(lights[2:]):
        direction, radiance = light[:3], light[3:]
        cosine = normal @ direction
        reach = visible if index == 0 else 0.4 + 0.6 * ambient
        on_skin = ((cosine[:, None] + wrap) / (1 + wrap)).clamp_min(0) * (leak + (1 - leak) * reach[:, None])
        on_hair = ((cosine + 0.35) / 1.35).clamp_min(0) * reach
        diffuse = diffuse + torch.where(hairy[:, None], on_hair[:, None], on_skin) * radiance
        halfway = torch.nn.functional.normalize(direction + toward, dim=1, eps=1e-10)
        along = (halfway * tangent).sum(dim=1)
        base = torch.where(hairy, (1 - along**2).clamp_min(0).sqrt(), (halfway * normal).sum(dim=1).clamp_min(0))
        strength = torch.where(
            hairy, 0.5 * gloss * reach * (3 * cosine).clamp_max(1), gloss * (0.25 + 2.6 * gloss**2) * reach * (4 * cosine).clamp_max(1)
        )
        shine = torch.where(cosine > 0, strength * (base + 1e-9) ** power, 0.0)
        specular = specular + shine[:, None] * radiance
    encode = torch.as_tensor(ENCODING, device=device)
    level = ((albedo * diffuse + specular) * 0.5).clamp(0, 1) * (len(encode) - 1)
    return encode[level.long()]


def _lookup(texture: np.ndarray, uv: Tensor) -> Tensor:
    """Bilinear (n, 4) at uv (n, 2), v up, texel centres at +0.5, clamped at the border."""
    picture = torch.as_tensor(texture, device=uv.device)
    rows, columns = picture.shape[:2]
    x = (uv[:, 0] * columns - 0.5).clamp(0, columns - 1.001)
    y = ((1 - uv[:, 1]) * rows - 0.5).clamp(0, rows - 1.001)
    x0, y0 = x.long(), y.long()
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    top = picture[y0, x0] * (1 - fx) + picture[y0, x0 + 1] * fx
    return top * (1 - fy) + (picture[y0 + 1, x0] * (1 - fx) + picture[y0 + 1, x0 + 1] * fx) * fy
