# SPDX-License-Identifier: Apache-2.0
"""Named regions of the open head, and the vertex rings around eyes and mouth that the expressions are built on."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
import scipy.sparse.csgraph as csgraph

from .geometry import IRIS_RING, PUPIL_RING, SKIN_GROUP, Layout, eye_ring, rings_around
from .sources import BaseMesh, Targets
from .teeth import GUM_POINTS, PROFILE

LIP_RINGS = 7  # rings of skin from the mouth's inner edge over the red of the lips
LID_RINGS = (3, 10)  # rings around the eye opening that are lid: from the water line to the fold
WATER_RING = 3  # the ring of skin that touches the eyeball
RIM_RING = 4  # the outer edge of the lids, where lashes grow

# the hair line: height y (metres) over the azimuth from the front (degrees)
HAIR_LINE = (
    (0, 0.086), (25, 0.084), (45, 0.070), (58, 0.050), (72, 0.030), (86, 0.024), (104, 0.020), (118, -0.010), (140, -0.036), (180, -0.046),
)  # fmt: skip
# below this height skin is neck: over the depth z, from the back of the jaw to the chin
JAW_LINE = ((-0.05, -0.035), (-0.012, -0.036), (0.012, -0.062), (0.045, -0.084), (0.075, -0.098), (0.10, -0.104))


@dataclass(frozen=True)
class FaceRings:
    """Rings of vertices, in head numbering: eyes from the pocket's edge outwards, lips from the inner edge of the mouth outwards."""

    eye_rings: dict[str, list[np.ndarray]]
    lip_rings: list[np.ndarray]
    cavity: np.ndarray


def find_rings(layout: Layout, base: BaseMesh) -> FaceRings:
    """Walks the quads outwards from the eyes' pockets and from the mouth cavity."""
    edges, counts = np.unique(np.sort(layout.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0, return_counts=True)
    rim = edges[counts == 1]
    rim = rim[np.isin(rim, layout.parts["skin"]).all(1)]
    loops = _components(rim, len(layout.mirror))
    adult = layout.assemble(base.vertices)
    eye_rings = {}
    for side in ("left", "right"):
        centre = adult[layout.parts[f"{side}_eyeball"]].mean(0)
        start = min(loops, key=lambda loop: np.linalg.norm(adult[loop].mean(0) - centre))
        eye_rings[side] = rings_around(layout.skin_quads, start, 14)
    cavity = _cavity(layout, base, adult[layout.parts["tongue"]].mean(0))
    return FaceRings(eye_rings, rings_around(layout.skin_quads, cavity, LIP_RINGS + 4)[1:], cavity)


def _components(edges: np.ndarray, count: int) -> list[np.ndarray]:
    graph = sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(count, count))
    labels = csgraph.connected_components(graph, directed=False)[1]
    used = np.unique(edges)
    return [used[labels[used] == label] for label in np.unique(labels[used])]


def _cavity(layout: Layout, base: BaseMesh, tongue: np.ndarray) -> np.ndarray:
    """Head vertices of the mouth cavity: the UV chart of the base's body that lies around the tongue."""
    body = np.array(base.groups) == SKIN_GROUP
    uv_quads, quads = base.uv_quads[body], base.quads[body]
    pairs = np.concatenate([uv_quads[:, [k, (k + 1) % 4]] for k in range(4)])
    labels = csgraph.connected_components(sparse.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(base.uvs),) * 2), directed=False)[1]
    charts = labels[uv_quads[:, 0]]
    chart = min(np.unique(charts), key=lambda c: np.linalg.norm(base.vertices[quads[charts == c]].mean((0, 1)) - tongue))
    return np.flatnonzero(np.isin(layout.base_ids, quads[charts == chart]))


def ear_vertices(layout: Layout, targets: Targets) -> dict[str, np.ndarray]:
    """The ears by side: what MakeHuman's ear-wing targets move."""
    ears = {}
    for side in ("left", "right"):
        moved = np.linalg.norm(layout.assemble(targets[f"ears/{side[0]}-ear-wing-incr"]), axis=1) > 1e-3
        ears[side] = np.flatnonzero(moved)
    return ears


def hair_line(points: np.ndarray) -> np.ndarray:
    """Height of points (N,3) above the hair line, metres."""
    azimuth = np.degrees(np.abs(np.arctan2(points[:, 0], points[:, 2] - 0.01)))
    return points[:, 1] - np.interp(azimuth, *np.array(HAIR_LINE).T)


def build_regions(layout: Layout, template: np.ndarray, rings: FaceRings, ears: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """name -> ascending int32 vertex ids. Face, scalp, neck, ears, eyeballs, teeth, tongue and mouth cavity cover all vertices."""
    skin = np.zeros(len(layout.mirror), bool)
    skin[layout.parts["skin"]] = True
    inner = np.zeros_like(skin)
    inner[np.concatenate([rings.cavity, *ears.values()])] = True
    outer = skin & ~inner
    scalp = outer & (hair_line(template) > 0)
    below = template[:, 1] < np.interp(template[:, 2], *np.array(JAW_LINE).T)
    neck = outer & ~scalp & below
    masks = {"face": outer & ~scalp & ~neck, "scalp": scalp, "neck": neck}
    regions = {name: np.flatnonzero(mask) for name, mask in masks.items()}
    regions |= {part: layout.parts[part] for part in ("left_eyeball", "right_eyeball", "upper_teeth", "lower_teeth", "tongue")}
    regions |= {"mouth_cavity": rings.cavity, "lips": np.concatenate(rings.lip_rings[:LIP_RINGS])}
    gums = [layout.parts[part].reshape(-1, PROFILE)[:, GUM_POINTS].reshape(-1) for part in layout.arches]
    regions["gums"] = np.concatenate(gums)
    for side in ("left", "right"):
        ball = layout.parts[f"{side}_eyeball"]
        regions[f"{side}_ear"] = ears[side]
        regions[f"{side}_lids"] = np.concatenate(rings.eye_rings[side][LID_RINGS[0] : LID_RINGS[1]])
        regions[f"{side}_pupil"] = ball[np.concatenate([[0], *(eye_ring(k) for k in range(PUPIL_RING + 1))])]
        regions[f"{side}_iris"] = ball[np.concatenate([[0], *(eye_ring(k) for k in range(IRIS_RING + 1))])]
    return {name: np.unique(ids).astype(np.int32) for name, ids in regions.items()}
