# SPDX-License-Identifier: Apache-2.0
"""Lids that slide on the eyeball, and eyeballs that turn.

A lid vertex is written in spherical coordinates about the eyeball's centre: longitude and latitude as seen from the pole in front, and
distance. Closing a lid changes latitudes only, up to the line where both lids meet, and keeps a distance outside the ball, so at full
weight the lids touch all along and the ball stays inside. Between 0 and 1 a linear shape cuts the corner of that arc by at most
rho (1 - cos(angle / 2)), about 0.4 mm, which the ball's own slight shrinking takes up.
"""

from dataclasses import dataclass

import numpy as np

from mvp4d_core.rotations import axis_angle_to_matrix

from .geometry import Layout
from .mesh_fields import smoothstep
from .regions import RIM_RING, WATER_RING, FaceRings

MEETING = 0.22  # how far up the opening the closed lids meet, as a share
FOLD_RING = 9  # the ring of skin that no longer moves with the lid
CLEARANCE = 0.0007  # metres between eyeball and the inside of a lid that moves over it
POCKET_SHARE = (0.15, 0.45, 0.85)  # how much of the lid's motion the rings inside the pocket take
BALL_SHRINK = 0.05  # of the ball's radius, when its lids are shut
BLINK_OVERLAP = 1.14  # the upper lid goes a little past the meeting line, over the lower, so that wide eyes shut too
UPPER_OVER = 0.0005  # metres that the upper lid lies in front of the lower where it passes it


@dataclass(frozen=True)
class LidCurves:
    """The two edges of one eye's opening as latitude and distance over longitude, from the water line and from the rim."""

    longitude: dict[str, np.ndarray]
    latitude: dict[str, np.ndarray]
    distance: dict[str, np.ndarray]

    def at(self, edge: str, longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and distance of an edge (`upper_water`, `lower_rim`, ...) at longitudes; beyond the corners, the corner's."""
        order = self.longitude[edge]
        return np.interp(longitude, order, self.latitude[edge]), np.interp(longitude, order, self.distance[edge])


def to_spherical(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(N,3) longitude, latitude, distance about `centre`, the pole of neither on the gaze."""
    off = points - centre
    distance = np.linalg.norm(off, axis=1)
    return np.stack([np.arctan2(off[:, 0], off[:, 2]), np.arcsin(off[:, 1] / distance), distance], 1)


def from_spherical(coordinates: np.ndarray, centre: np.ndarray) -> np.ndarray:
    longitude, latitude, distance = coordinates.T
    unit = np.stack([np.sin(longitude) * np.cos(latitude), np.sin(latitude), np.cos(longitude) * np.cos(latitude)], 1)
    return centre + distance[:, None] * unit


def lid_curves(template: np.ndarray, rings: list[np.ndarray], centre: np.ndarray) -> LidCurves:
    """Splits the water line and the rim at the corners of the eye into an upper and a lower edge."""
    curves: dict[str, dict[str, np.ndarray]] = {"longitude": {}, "latitude": {}, "distance": {}}
    for name, ring in (("water", rings[WATER_RING]), ("rim", rings[RIM_RING])):
        at = to_spherical(template[ring], centre)
        first, last = at[np.argmin(at[:, 0])], at[np.argmax(at[:, 0])]
        chord = first[1] + (at[:, 0] - first[0]) / (last[0] - first[0]) * (last[1] - first[1])
        corners = np.isin(at[:, 0], [first[0], last[0]])
        for edge, chosen in (("upper", at[:, 1] > chord), ("lower", at[:, 1] < chord)):
            part = at[chosen | corners]
            part = part[np.argsort(part[:, 0])]
            for key, column in zip(curves, part.T, strict=True):
                curves[key][f"{edge}_{name}"] = column
    return LidCurves(**curves)


def lid_motion(template: np.ndarray, rings: list[np.ndarray], centre: np.ndarray, radius: float, upper: float, lower: float) -> np.ndarray:
    """Displacements (V,3) of one eye's lids.

    Args:
        upper, lower: how far each lid goes from where it is (0) to the line where they meet (1); negative opens wider.
    """
    curves = lid_curves(template, rings, centre)
    motion = np.zeros_like(template)
    for k, ring in enumerate(rings[: FOLD_RING + 1]):
        at = to_spherical(template[ring], centre)
        edge = "water" if k <= WATER_RING else "rim"
        (up, up_rho), (low, low_rho) = curves.at(f"upper_{edge}", at[:, 0]), curves.at(f"lower_{edge}", at[:, 0])
        meet, meet_rho = low + MEETING * (up - low), np.maximum((up_rho + low_rho) / 2, radius + CLEARANCE)
        is_upper = at[:, 1] > (up + low) / 2
        amount = np.where(is_upper, upper, lower)
        turn = amount * (meet - np.where(is_upper, up, low))
        passing = np.where(is_upper & (amount > 1), UPPER_OVER, 0.0)
        lift = np.clip(np.abs(amount), 0, 1) * (meet_rho - np.where(is_upper, up_rho, low_rho)) + passing
        share = _share(template, rings, centre, curves, k, at, is_upper)
        moved = at.copy()
        moved[:, 1] += share * turn
        moved[:, 2] += share * lift
        if k > WATER_RING and max(abs(upper), abs(lower)) > 0:
            held = np.maximum(moved[:, 2], radius + CLEARANCE + 0.0003 * (k - WATER_RING))
            moved[:, 2] = np.where(share > 0, held, moved[:, 2])
        motion[ring] = from_spherical(moved, centre) - template[ring]
    return motion


def _share(template, rings, centre, curves, k, at, is_upper) -> np.ndarray:
    """How much of the edge's turn a vertex of ring `k` makes: all at the edge, none at the fold, in proportion in between."""
    if k < WATER_RING:
        return np.full(len(at), POCKET_SHARE[k])
    if k <= RIM_RING:
        return np.ones(len(at))
    fold = to_spherical(template[rings[FOLD_RING]], centre)
    share = np.zeros(len(at))
    for upper, edge in ((True, "upper_rim"), (False, "lower_rim")):
        side = fold[(fold[:, 1] > np.median(fold[:, 1])) == upper]
        side = side[np.argsort(side[:, 0])]
        far = np.interp(at[:, 0], side[:, 0], side[:, 1])
        near = curves.at(edge, at[:, 0])[0]
        gone = np.clip((at[:, 1] - near) / np.where(np.abs(far - near) < 1e-6, 1e-6, far - near), 0, 1)
        share = np.where(is_upper == upper, 1 - smoothstep(0.5 * gone + 0.5 * gone**2, 0.0, 1.0), share)
    return share


def ball_turn(layout: Layout, template: np.ndarray, side: str, centre: np.ndarray, right: float, up: float) -> np.ndarray:
    """Displacements (V,3) of an eyeball that turns its gaze towards +x by `right` and towards +y by `up`, radians."""
    ids = layout.parts[f"{side}_eyeball"]
    matrix = axis_angle_to_matrix(np.array([-up, right, 0.0]))
    motion = np.zeros_like(template)
    motion[ids] = (template[ids] - centre) @ (matrix - np.eye(3)).T
    return motion


def ball_shrink(layout: Layout, template: np.ndarray, side: str, centre: np.ndarray, share: float) -> np.ndarray:
    """Displacements (V,3) of an eyeball that loses `share` of its radius."""
    ids = layout.parts[f"{side}_eyeball"]
    motion = np.zeros_like(template)
    motion[ids] = -share * (template[ids] - centre)
    return motion


def eye_shapes(layout: Layout, template: np.ndarray, rings: FaceRings, centre: np.ndarray, radius: float) -> dict[str, np.ndarray]:
    """The seven ARKit shapes of the left eye: name -> (V,3) metres at weight 1."""

    def lids(upper: float, lower: float) -> np.ndarray:
        return lid_motion(template, rings.eye_rings["left"], centre, radius, upper, lower)

    def ball(right: float, up: float) -> np.ndarray:
        return ball_turn(layout, template, "left", centre, np.radians(right), np.radians(up))

    return {
        "eyeBlinkLeft": lids(BLINK_OVERLAP, 1.0) + ball_shrink(layout, template, "left", centre, BALL_SHRINK),
        "eyeLookDownLeft": ball(0, -24) + lids(0.40, -1.0),
        "eyeLookInLeft": ball(-30, 0) + lids(0.02, 0.0),
        "eyeLookOutLeft": ball(30, 0) + lids(0.02, 0.0),
        "eyeLookUpLeft": ball(0, 22) + lids(-0.50, 0.35),
        "eyeSquintLeft": lids(0.22, 1.15),
        "eyeWideLeft": lids(-0.36, -0.5),
    }
