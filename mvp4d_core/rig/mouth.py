# SPDX-License-Identifier: Apache-2.0
"""The inside of a mouth for heads that end at the lips, as FLAME's does: palate and teeth on the skull, floor and teeth on the jaw.

CAP4D (Taubner et al. 2025) gives FLAME half spheres for this. Shape, place and the floor's motion here are this project's own.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..rotations import nearest_rotation
from .head_model import HeadModel

REGION, JAW = "mouth_cavity", "jaw"
# MediaPipe's points on the seam of the lips from the right corner to the left, and on the chin, which moves as the jaw's bone does
_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
_CHIN = (152, 148, 377, 176, 400, 175, 199, 200)
BEHIND = 0.002  # metres from the seam, which is on the skin, to a sheet's rim
ROWS = 12  # of vertices between the lips and the throat
LENGTH = 0.6  # from the lips to the throat, of the way from the lips to the jaw's joint
SOFT = 0.5  # the share of that length over which lips turn into bone
ARCH_WIDTH, ARCH_DEPTH = 0.85, 0.85  # of the teeth, of the lips' half width; at the last tooth they lie that much further in
# how far behind the lips' seam and above it each row of teeth lies, in half widths of the lips: gum, edge, edge and gum behind
_UPPER_TEETH = ((0.34, 0.34), (0.32, -0.14), (0.40, -0.14), (0.46, 0.30))
_LOWER_TEETH = ((0.48, -0.46), (0.45, -0.12), (0.53, -0.12), (0.58, -0.44))
STRIP = 0.15  # the share of the atlas that the mouth takes, at its bottom


@dataclass(frozen=True)
class _Part:
    """A grid of vertices (n k, 3) that hangs on k points of a lip: how much each follows its point, its bone, its place in the atlas."""

    vertices: np.ndarray
    lip: tuple[int, ...]
    softness: np.ndarray
    upper: bool
    corner: tuple[float, float]
    size: tuple[float, float]
    region: str


def with_mouth(model: HeadModel) -> HeadModel:
    """The head with regions `mouth_cavity`, `upper_teeth` and `lower_teeth`, whose vertices are the last of the head.

    The cavity is two sheets of `ROWS` x 11 vertices. Each hangs on one lip and moves with it there, so that no gap can open; the upper one
    rises to a palate and falls behind the throat, the lower one sinks to a floor, and cheeks join their sides. The teeth are two arches
    that go with skull and jaw. The atlas shrinks upward by `STRIP` to make room for them. A head that has a cavity, or no jaw, stays as it
    is.
    """
    if REGION in model.regions or JAW not in model.joint_names:
        return model
    jaw = model.joint_names.index(JAW)
    pivot = model.J_regressor[jaw] @ model.v_template
    bones = np.eye(len(model.joint_names))[[jaw, model.parents[jaw]]]
    uvs = [model.uvs * [1, 1 - STRIP] + [0, STRIP]]
    arrays: dict[str, list[np.ndarray]] = {name: [getattr(model, name)] for name in _PER_VERTEX}
    faces, uv_faces, regions = [model.faces], [model.uv_faces], dict(model.regions)
    count = len(model.v_template)
    for part in _parts(model, pivot):
        added, rows = len(part.vertices), len(part.vertices) // len(part.lip)
        moved = _bone_directions(model, pivot, part.vertices)
        rigid = {
            "exprdirs": 0 * moved if part.upper else moved,
            "posedirs": np.zeros((added, 3, 1)),
            "lbs_weights": np.tile(bones[int(part.upper)], (added, 1)),
        }
        for name, parts in arrays.items():
            soft = np.tile(model.landmarks(getattr(model, name))[list(part.lip)], (rows, *[1] * (parts[0].ndim - 1)))
            share = part.softness.reshape(-1, *[1] * (parts[0].ndim - 1)) if name in rigid else 1.0
            parts.append(part.vertices if name == "v_template" else share * soft + ((1 - share) * rigid[name] if name in rigid else 0.0))
        grid, places = _grid(rows, len(part.lip), upper=part.upper)
        faces.append(grid + count)
        uv_faces.append(grid + sum(map(len, uvs)))
        uvs.append(places * part.size * np.array([1, STRIP]) + np.array(part.corner) * [1, STRIP])
        ids = np.arange(count, count + added, dtype=np.int32)
        regions[part.region] = np.concatenate([regions.get(part.region, ids[:0]), ids])
        count += added
    for triangles, places in _walls(*np.split(regions[REGION], 2)):
        faces.append(triangles)
        uv_faces.append(np.arange(3 * len(triangles)).reshape(-1, 3) + sum(map(len, uvs)))
        uvs.append(places)
    return replace(
        model,
        **{name: np.concatenate(parts).astype(np.float32) for name, parts in arrays.items()},
        faces=np.concatenate(faces).astype(np.int32),
        uvs=np.concatenate(uvs).astype(np.float32),
        uv_faces=np.concatenate(uv_faces).astype(np.int32),
        J_regressor=np.pad(model.J_regressor, ((0, 0), (0, count - len(model.v_template)))),
        regions=regions,
    )


def _parts(model: HeadModel, pivot: np.ndarray) -> list[_Part]:
    softness = np.repeat(np.clip(1 - np.linspace(0, 1, ROWS) / SOFT, 0, 1) ** 2, len(_UPPER))
    parts = []
    for left, lip, upper in ((0.02, _UPPER, True), (0.52, _LOWER, False)):
        seam = model.landmarks(model.v_template)[list(lip)]
        parts.append(_Part(_sheet(seam, pivot, upper=upper), lip, softness, upper, (left, 0.03), (0.46, 0.6), REGION))
        name = f"{'upper' if upper else 'lower'}_teeth"
        if name not in model.regions:
            arch = _arch(seam, pivot, upper=upper)
            parts.append(_Part(arch, lip, np.zeros(len(arch)), upper, (left, 0.7), (0.46, 0.25), name))
    return parts


_PER_VERTEX = ("v_template", "shapedirs", "exprdirs", "posedirs", "static_offsets", "lbs_weights")


def _axes(lip: np.ndarray, pivot: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Of a mouth: its middle (3,), unit vectors (3,) inward and up, half its width, and the way from lips to jaw joint."""
    middle = lip[len(lip) // 2] * [0, 1, 1]
    inward = (pivot - middle) * [0, 1, 1]
    way = float(np.linalg.norm(inward))
    inward = inward / way
    return middle, inward, np.cross([1.0, 0.0, 0.0], inward), float(np.abs(lip[:, 0]).max()), way


def _arch(lip: np.ndarray, pivot: np.ndarray, *, upper: bool) -> np.ndarray:
    """(4 n, 3) teeth behind a lip's seam (n, 3): gum, edge in front, edge behind, gum behind. The lower ones bite behind the upper ones."""
    middle, half = _axes(lip, pivot)[0], _axes(lip, pivot)[3]
    inward, up = np.array([0.0, 0.0, -1.0]), np.array([0.0, 1.0, 0.0])
    x = ARCH_WIDTH * lip[:, 0]
    back = ARCH_DEPTH * (x / half) ** 2 * half
    rows = [
        middle + x[:, None] * [1.0, 0, 0] + (depth * half + (1 - 0.1 * k) * back)[:, None] * inward + height * half * up
        for k, (depth, height) in enumerate(_UPPER_TEETH if upper else _LOWER_TEETH)
    ]
    return np.concatenate(rows)


def _sheet(lip: np.ndarray, pivot: np.ndarray, *, upper: bool) -> np.ndarray:
    """(ROWS n, 3) from a lip's seam (n, 3), rows first."""
    middle, inward, up, half, way = _axes(lip, pivot)
    length = LENGTH * way
    x, t = lip[:, 0], np.linspace(0, 1, ROWS)[:, None]  # across and along
    teeth = 1 - 0.35 * (x / half) ** 2  # they stand in an arch
    if upper:  # up to the palate and, in the last quarter, down behind the floor
        deep = 1.3 * np.minimum(t, 1 / 1.3) * length * teeth
        rise = 0.55 * half * np.sin(np.pi * np.minimum(t / 0.75, 1)) - 8 * half * np.maximum(t - 0.75, 0)
    else:
        deep = 0.95 * t * length * teeth
        rise = -0.6 * half * np.sin(np.pi * t)
    across = x * (1 + 0.25 * np.sin(np.pi * t))
    bend = (lip - middle) @ np.stack([inward, up], axis=1) * (1 - t[..., None])  # the seam's own, which fades toward the throat
    sheet = (
        middle
        + across[..., None] * [1.0, 0, 0]
        + (BEHIND + deep + bend[..., 0])[..., None] * inward
        + (rise + bend[..., 1])[..., None] * up
    )
    return sheet.reshape(-1, 3)


def _grid(rows: int, columns: int, *, upper: bool) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (F, 3) of a sheet's vertices, seen from inside the mouth, and their places (rows columns, 2) in 0..1."""
    number = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (block.ravel() for block in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], axis=-1), np.stack([b, d, c], axis=-1)])
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, rows))
    return triangles[:, ::-1] if upper else triangles, np.stack([u.ravel(), v.ravel()], axis=-1)


def _walls(upper: np.ndarray, lower: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The cheeks: triangles (n, 3) between the outer columns of two sheets of ids, and the corners' places (3 n, 2) in the atlas."""
    walls = []
    for column, left in ((0, 0.02), (-1, 0.52)):
        a, b = upper.reshape(ROWS, -1)[:, column], lower.reshape(ROWS, -1)[:, column]
        triangles = np.concatenate([np.stack([a[:-1], b[:-1], a[1:]], axis=1), np.stack([b[:-1], b[1:], a[1:]], axis=1)])
        along = left + 0.46 * np.linspace(0, 1, ROWS)
        high, low = np.full(ROWS - 1, 0.99 * STRIP), np.full(ROWS - 1, 0.965 * STRIP)
        near, far = along[:-1], along[1:]
        first = np.stack([near, high, near, low, far, high], axis=1)
        second = np.stack([near, low, far, low, far, high], axis=1)
        places = np.concatenate([first, second]).reshape(-1, 3, 2)
        if column:
            triangles, places = triangles[:, ::-1], places[:, ::-1]
        walls.append((triangles, places.reshape(-1, 2)))
    return walls


def _bone_directions(model: HeadModel, pivot: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, 3, E) how far each expression at full weight carries `points` (n, 3) if they go with the chin as with a bone.

    The bone turns about the jaw's joint as the chin does at best (Kabsch 1976), and shifts by what is then left of the chin's motion.
    """
    chin = model.landmarks(model.v_template)[list(_CHIN)] - pivot
    moved = chin[..., None] + model.landmarks(model.exprdirs)[list(_CHIN)]
    turns = nearest_rotation(np.einsum("lde,lf->edf", moved, chin))
    shifts = (moved - np.einsum("edf,lf->lde", turns, chin)).mean(axis=0)
    return np.einsum("edf,nf->nde", turns - np.eye(3), points - pivot) + shifts
