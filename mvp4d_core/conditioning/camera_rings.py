# SPDX-License-Identifier: Apache-2.0
"""Cameras of a plan that no preset has: rings around the head, and a viewer's camera carried around what it looks at."""

from collections.abc import Sequence

import numpy as np

from ..cameras import Camera, orbit_camera, orbited
from ..errors import InputError
from .view_plan import ViewCameras

STEEPEST = 85.0  # degrees of elevation
NEAREST_RING, FARTHEST_RING = 0.5, 5.0  # metres
_FRAMED_FOV, _SIDE = 20.0, 256  # degrees and pixels of cameras whose pictures are cropped afterwards


def ring_cameras(
    elevations: Sequence[float], per_ring: int, *, azimuths: tuple[float, float] = (-180.0, 180.0), distance: float = 1.2, fov: float = 0.0
) -> ViewCameras:
    """Rings of cameras around the middle of the head, which they look at; the first view is the one that is most frontal.

    Args:
        elevations: degrees of each ring, -85 to 85, positive above the head.
        per_ring: cameras of each ring.
        azimuths: degrees from where to where, positive at the subject's left; a whole turn ends before it meets its beginning, and its
            rings are staggered.
        distance: 0.5 to 5 metres.
        fov: degrees that each picture shows; 0 crops it to the head.

    Raises:
        InputError: a number out of range, or none.
    """
    first, last = azimuths
    if not elevations or any(not abs(elevation) <= STEEPEST for elevation in elevations) or per_ring < 1:
        told = ", ".join(f"{elevation:g}" for elevation in elevations) or "none"
        raise InputError(f"Rings must have a camera and elevations of -{STEEPEST:g} to {STEEPEST:g} degrees, got {per_ring} at {told}.")
    if not (-360 <= first <= last <= 360 and last - first <= 360):
        raise InputError(f"`azimuths` must rise within a turn of -360 to 360 degrees, got {first:g} to {last:g}.")
    if not (NEAREST_RING <= distance <= FARTHEST_RING and 0 <= fov <= 120):
        raise InputError(
            f"Rings must be {NEAREST_RING:g} to {FARTHEST_RING:g} m away and show 0 to 120 degrees, got {distance:g} m and {fov:g}."
        )
    directions = [
        (azimuth, elevation)
        for ring, elevation in enumerate(elevations)
        for azimuth in _around(first, last, per_ring, stagger=ring / len(elevations))
    ]
    front = min(range(len(directions)), key=lambda view: np.hypot((directions[view][0] + 180) % 360 - 180, directions[view][1]))
    directions.insert(0, directions.pop(front))
    settings = {"target": np.zeros(3), "distance": distance, "fov_y": np.deg2rad(fov or _FRAMED_FOV), "width": _SIDE, "height": _SIDE}
    cameras = tuple(orbit_camera(*np.deg2rad(direction), **settings) for direction in directions)
    return ViewCameras(cameras, framed=fov == 0)


def turned_cameras(camera: Camera, target: np.ndarray, count: int, azimuths: tuple[float, float], *, framed: bool) -> ViewCameras:
    """A square camera of head space, carried around the upright line through `target` (3,), `count` times from one angle to the other.

    Args:
        azimuths: degrees from where the camera is, as in `ring_cameras`.
        framed: see `ViewCameras`.
    """
    angles = sorted(_around(*azimuths, count, stagger=0.0), key=abs)
    cameras = tuple(orbited(camera, np.deg2rad(angle), target) for angle in angles)
    return ViewCameras(cameras, about_head=False, framed=framed)


def _around(first: float, last: float, count: int, stagger: float) -> list[float]:
    """`count` azimuths (degrees); a single one is in the middle."""
    if last - first >= 360:
        return (first + (np.arange(count) + stagger) / count * 360).tolist()
    return [(first + last) / 2] if count == 1 else np.linspace(first, last, count).tolist()
