# SPDX-License-Identifier: Apache-2.0
"""Hair as a dark shell and a few hundred locks over it.

A strand starts at a pole (the crown, or the tie of a tail), follows the head's surface at some height and, past the widest place, hangs
down. It is named by its azimuth about the pole (0 towards the face, positive to the subject's left) and the part of its way, 0 at the pole
to 1 at the tip; everything is arrays of such points.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ...generate.texture import INTERIORS
from ...rig import HeadModel
from .haircuts import Cut, cut_of
from .identity import Identity
from .noise import cloud, named_rng, smoothstep
from .worn import LOCKS, SHELL, Worn, directions_along, joined, on_joint, ribbons, strip_faces, unit

AZIMUTHS, POLARS = 72, 40  # cells of the table of the head's radius
REACH = 0.1  # metres of a strand's way for each radian over the head
WIDEST = np.deg2rad(98.0)  # polar angle from which hanging hair leaves the head
NAPE = np.deg2rad(122.0)  # and to which short hair reaches at the back
EAR = np.deg2rad(99.0)
STATIONS = 9  # points along a lock


@dataclass(frozen=True)
class Skull:
    """The head around its hair, in directions about a pole: `centre` (3,), `turn` (3, 3) from the pole's axes to the head's,
    `radius` (POLARS, AZIMUTHS) metres, `hairline` (AZIMUTHS,) polar angle."""

    centre: np.ndarray
    turn: np.ndarray
    radius: np.ndarray
    hairline: np.ndarray

    def direction(self, azimuth: np.ndarray, polar: np.ndarray) -> np.ndarray:
        """Unit directions (..., 3) in the head's axes."""
        return _direction(azimuth, polar) @ self.turn.T

    def around(self, azimuth: np.ndarray, polar: np.ndarray) -> np.ndarray:
        """Radius in metres."""
        return _looked_up(self.radius, np.clip(polar / np.pi, 0, 1) * (POLARS - 1), azimuth)

    def line(self, azimuth: np.ndarray) -> np.ndarray:
        """Polar angle of the hairline."""
        return _looked_up(self.hairline[None].repeat(2, 0), np.zeros_like(azimuth), azimuth)


def _looked_up(table: np.ndarray, row: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Bilinear; the columns go around."""
    column = azimuth / (2 * np.pi) % 1.0 * table.shape[1]
    r0, c0 = np.minimum(row.astype(int), table.shape[0] - 2), column.astype(int) % table.shape[1]
    fr, fc, c1 = row - r0, column - np.floor(column), (c0 + 1) % table.shape[1]
    top = table[r0, c0] * (1 - fc) + table[r0, c1] * fc
    return top * (1 - fr) + (table[r0 + 1, c0] * (1 - fc) + table[r0 + 1, c1] * fc) * fr


def _direction(azimuth: np.ndarray, polar: np.ndarray) -> np.ndarray:
    return np.stack([np.sin(azimuth) * np.sin(polar), np.cos(polar), np.cos(azimuth) * np.sin(polar)], axis=-1)


def measure_skull(model: HeadModel, vertices: np.ndarray, pole: float) -> Skull:
    """The skull of a person's rest-pose vertices (V, 3), seen from a pole that leans back `pole` radians."""
    scalp = vertices[model.regions["scalp"]]
    centre = np.array([0.0, 0.45 * scalp[:, 1].max() + 0.01, (scalp[:, 2].min() + scalp[:, 2].max()) / 2])
    c, s = np.cos(pole), np.sin(pole)
    turn = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])  # takes +y to (0, cos, -sin): backwards
    inner = model.region_mask(*(n for n in (*INTERIORS, "left_ear", "right_ear", "left_lids", "right_lids") if n in model.regions))
    outer = (vertices[~inner] - centre) @ turn
    length = np.linalg.norm(outer, axis=1)
    polar, azimuth = np.meshgrid(np.linspace(0, np.pi, POLARS), np.arange(AZIMUTHS) / AZIMUTHS * 2 * np.pi, indexing="ij")
    distance, index = cKDTree(outer / length[:, None]).query(_direction(azimuth, polar).reshape(-1, 3), k=6)
    weights = 1 / (distance + 0.01)
    radius = ((weights * length[index]).sum(axis=1) / weights.sum(axis=1)).reshape(polar.shape)

    level = scalp - centre
    steep = np.arctan2(np.hypot(level[:, 0], level[:, 2]), level[:, 1])
    side = np.abs(np.arctan2(level[:, 0], level[:, 2]))
    limit = EAR + (NAPE - EAR) * smoothstep(side, 1.9, 2.5)  # hair is cut short around the ears and at the nape
    offset = level[steep < limit] @ turn
    around = np.arctan2(offset[:, 0], offset[:, 2])
    down = np.arctan2(np.hypot(offset[:, 0], offset[:, 2]), offset[:, 1])
    near = np.abs((around[None] - azimuth[0][:, None] + np.pi) % (2 * np.pi) - np.pi) < 0.16
    hairline = ndimage.gaussian_filter1d(np.where(near, down[None], 0).max(axis=1), 1.6, mode="wrap")
    return Skull(
        centre,
        turn,
        ndimage.gaussian_filter1d(ndimage.gaussian_filter1d(radius, 0.7, axis=0), 0.7, axis=1, mode="wrap"),
        np.maximum(hairline, 0.15),
    )


def _place(skull: Skull, cut: Cut, azimuth: np.ndarray, part: np.ndarray, height: np.ndarray, ragged: np.ndarray | float) -> np.ndarray:
    """Points (..., 3) of strands at `azimuth`, `part` of their way from the pole, `height` metres above the scalp; `ragged` is the share
    by which they hang lower than the cut says."""
    away = (azimuth - cut.parting + np.pi) % (2 * np.pi) - np.pi
    root = np.abs((azimuth + np.pi) % (2 * np.pi) - np.pi)
    azimuth = azimuth + cut.sweep * np.sign(away) * np.exp(-((np.abs(away) / 0.9) ** 2)) * smoothstep(part, 0.02, 0.45)
    angle = np.abs((azimuth + np.pi) % (2 * np.pi) - np.pi)  # from the nose's direction, 0..pi
    hanging = smoothstep(angle, cut.face_gap - 0.12, cut.face_gap + 0.12) * (max(cut.hang) > 0)
    tip = skull.line(azimuth) + cut.fringe * (1 - smoothstep(root, 0.55, 1.0))
    tip = tip + (WIDEST - tip) * hanging
    drop = hanging * np.interp(angle, [0, np.pi / 2, np.pi], cut.hang)
    drop = drop * (1 + ragged)
    on_head = tip * REACH
    way = part * (on_head + drop)
    polar, below = np.minimum(way / REACH, tip), np.clip(way - on_head, 0, None)
    flat = 1 - 0.85 * (1 - hanging) * (1 - (cut.fringe > 0.1)) * smoothstep(part, 0.7, 1.0)  # cropped hair lies down at the hairline
    front = (1 - smoothstep(angle, 0.5, 1.2)) * smoothstep(part, 0.35, 0.75) * (1 - smoothstep(part, 0.9, 1.05))
    height = height * flat * smoothstep(part, -0.15, 0.2) + cut.quiff * front
    points = skull.centre + skull.direction(azimuth, polar) * (skull.around(azimuth, polar) + height)[..., None]
    outward = np.stack([np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], axis=-1)
    points = points - outward * (0.16 * below * smoothstep(below, 0.0, 0.06))[..., None]
    points[..., 1] -= below
    return points


def _normals(skull: Skull, points: np.ndarray) -> np.ndarray:
    """Where a smooth head of hair looks: away from the head's middle, level where it hangs."""
    offset = points - skull.centre
    offset[..., 1] = np.where(offset[..., 1] > 0, offset[..., 1], 0.15 * offset[..., 1])
    return unit(offset)


def grow_hair(person: Identity, model: HeadModel, vertices: np.ndarray) -> Worn | None:
    """The hair of a person whose rest-pose head has `vertices` (V, 3), or None where it is shaven."""
    rng = named_rng("hair", person.key)
    cut = cut_of(person, rng)
    if cut is None:
        return None
    skull = measure_skull(model, vertices, cut.pole)
    seed = int(rng.integers(2**31))
    pieces = [_shell(skull, cut, seed), _locks(skull, cut, rng)]
    if cut.sweep or any(cut.hang):  # a cap below, for where strands part
        pieces.append(_shell(skull, replace(cut, sweep=0.0, hang=(0.0, 0.0, 0.0), fringe=0.0, thickness=0.5 * cut.thickness), seed))
    if cut.tail or cut.bun:
        pieces.append(_knot(skull, cut))
    return joined([on_joint(model, *piece, smoothstep(piece[0][:, 1], -0.15, -0.03)) for piece in pieces])  # pyright: ignore[reportCallIssue]


def _shell(skull: Skull, cut: Cut, seed: int) -> tuple[np.ndarray, ...]:
    """The ground that keeps the scalp from showing: a grid of strands side by side."""
    columns, rows = 96, 22
    azimuth, part = np.meshgrid(np.linspace(0, 2 * np.pi, columns), np.linspace(0, 0.985, rows), indexing="xy")
    around = _direction(azimuth, 0.2 + 1.6 * part).reshape(-1, 3)
    bumps = [cloud(around, 0.22 if cut.puff else 0.4, seed + 5 + k, 2) for k in range(4)]
    height = 0.85 * cut.thickness + (cut.puff or 0.12 * cut.thickness) * bumps[0].reshape(azimuth.shape)
    points = _place(skull, cut, azimuth, part, height, 0.0)
    tangents = np.swapaxes(directions_along(np.swapaxes(points, 0, 1)), 0, 1)
    low, high = SHELL
    uvs = np.stack([azimuth / (2 * np.pi), high + (low - high) * part], axis=-1)
    faces, flat = strip_faces(rows, columns), points.reshape(-1, 3)
    longest = np.max([np.linalg.norm(flat[faces[:, i]] - flat[faces[:, i - 1]], axis=1) for i in range(3)], axis=0)
    faces = faces[longest < 0.045]  # where strands part, nothing spans the gap
    normals = unit(_normals(skull, flat) + (0.5 if cut.puff else 0.12) * np.stack(bumps[1:], axis=1))
    return flat, normals, tangents.reshape(-1, 3), uvs.reshape(-1, 2), faces


def _locks(skull: Skull, cut: Cut, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Ribbons that lie on the shell at heights of their own."""
    count, along = cut.locks, np.linspace(0, 1, STATIONS)[None]
    azimuth = rng.uniform(0, 2 * np.pi, (count, 1))
    start = rng.uniform(0, 0.8, (count, 1)) ** 0.6  # a ball has more room away from its pole
    end = np.minimum(start + rng.uniform(0.25, 0.9, (count, 1)), 1.0) * rng.uniform(0.94, 1.015, (count, 1))
    if cut.puff:
        end = np.minimum(start + rng.uniform(0.05, 0.12, (count, 1)), 1.0)
    part = start + (end - start) * along
    raised = rng.uniform(0.85, 1.0, (count, 1)) * cut.thickness + rng.beta(1, 3, (count, 1)) * cut.lift * (0.2 + 0.8 * along**2)
    raised = raised + cut.puff * rng.uniform(-0.6, 0.6, (count, 1))
    phase, beat = rng.uniform(0, 2 * np.pi, (2, count, 1))
    wave = cut.curl / REACH * np.sin(phase + (9 + 3 * np.sin(beat)) * part * (6 if cut.puff else 1))
    middle = azimuth + wave + rng.normal(0, 0.05, (count, 1)) * (part - start)
    taper = np.minimum(1.0, 0.6 + 3.4 * along) * np.sqrt(1 - 0.98 * along)
    half = 0.5 * cut.width / REACH * rng.uniform(0.6, 1.4, (count, 1)) * taper
    if not any(cut.hang):  # as wide in metres near the pole as far from it
        half = half / np.clip(np.sin(np.clip(part * skull.line(azimuth), 0.2, np.pi / 2)), 0.3, 1)
    sides = np.stack([middle - half, middle + half], axis=1)  # (count, 2, STATIONS)
    part, raised = (np.repeat(a[:, None], 2, axis=1) for a in (part, raised))
    points = _place(skull, cut, sides, part, raised, rng.uniform(-0.2, 0.12, (count, 1, 1)))
    left = rng.uniform(0, 0.95, (count, 1, 1))
    low, high = LOCKS
    u = np.broadcast_to(left + np.array([0.0, 0.045])[None, :, None], sides.shape)
    uvs = np.stack([u, high + (low - high) * np.clip(part, 0, 1)], axis=-1)
    return ribbons(points, _normals(skull, points), uvs)


def _knot(skull: Skull, cut: Cut) -> tuple[np.ndarray, ...]:
    """A bun, or the tail that hangs from the tie."""
    rows, columns = 18, 20
    part, around = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 2 * np.pi, columns), indexing="ij")
    here = np.zeros(1)
    out = skull.direction(here, here)[0]
    root = skull.centre + out * (skull.around(here, here)[0] + 0.5 * cut.thickness)
    first = np.array([1.0, 0, 0])
    second = unit(np.cross(out, first))
    if cut.tail:
        rise, fall = np.sin(np.clip(part * 4, 0, np.pi / 2)) * 0.03, np.clip(part - 0.12, 0, None) * cut.tail * 1.1
        middle = root + out * rise[..., None] + np.array([0, -1.0, -0.12]) * fall[..., None]
        radius = (0.008 + 0.018 * np.sin(np.pi * np.clip(part * 0.8 + 0.1, 0, 1))) * np.clip((1 - part) * 6, 0.05, 1)
        turn, second = around, np.where(part[..., None] < 0.2, second, np.array([0, 0, -1.0]))
    else:
        middle = root + out * (cut.bun * 0.75 * (1 - np.cos(np.pi * part)))[..., None]
        radius, turn = cut.bun * np.sin(np.pi * np.clip(part, 0.02, 0.98)), around + 4 * part
    ring = first * np.cos(turn)[..., None] + second * np.sin(turn)[..., None]
    points = middle + ring * (radius * (1 + 0.06 * np.sin(7 * turn + 3 * part)))[..., None]
    normals = unit(ring + out * (0.8 * (part[..., None] * 2 - 1)) * bool(cut.bun))
    tangents = np.swapaxes(directions_along(np.swapaxes(points, 0, 1)), 0, 1)
    low, high = LOCKS
    uvs = np.stack([around / (2 * np.pi), high + (low - high) * part], axis=-1)
    return points.reshape(-1, 3), normals.reshape(-1, 3), tangents.reshape(-1, 3), uvs.reshape(-1, 2), strip_faces(rows, columns)
