# SPDX-License-Identifier: Apache-2.0
"""Random cameras around a scene, cropped as training and sampling crop: once for the whole clip."""

import numpy as np

from ...cameras import Camera, crop_camera, orbit_camera, project
from ...conditioning import PRESETS
from ...errors import InputError
from .scenes import Scene

DISTANCE = 1.2  # metres, give or take a fifth
MARGIN = 1.2  # side of the crop over the side of the head's box, give or take a tenth
HANGING = -0.06  # metres; hair below this height in the rest pose does not widen the crop


def random_cameras(place: Scene, rng: np.random.Generator, views: int, size: int, preset: int, jitter: float = 1.0) -> tuple[Camera, ...]:
    """The first camera sees the face; the rest lie anywhere in the preset's range.

    Args:
        jitter: scale of the random changes of distance (and with it the field of view), crop and its centre.

    Raises:
        InputError: a preset or a number of views that does not exist.
    """
    if preset not in PRESETS or views < 1:
        raise InputError(f"A clip must have a preset of {', '.join(map(str, PRESETS))} and at least 1 view, got {preset} and {views}.")
    points = bounds(place)
    cameras = []
    for view in range(views):
        azimuth, elevation = _direction(rng, view, preset)
        distance = max(0.6, DISTANCE * np.exp(0.18 * jitter * rng.normal()))
        camera = orbit_camera(azimuth, elevation, target=np.array([0.0, 0.01, 0.0]), distance=distance, fov_y=0.35, width=size, height=size)
        cameras.append(_cropped(camera, points, size, rng, jitter))
    return tuple(cameras)


def bounds(place: Scene) -> np.ndarray:
    """Points (n, 3) whose projections bound the head and its hair, long hair left out, over all frames, within a fraction of a pixel."""
    count, rest = place.head_vertices, place.worn.vertices[:, 1] > HANGING
    clouds = [pose.vertices[:count] for pose in place.poses] + [pose.vertices[count:][rest] for pose in place.poses]
    return np.concatenate([_outermost(cloud) for cloud in clouds if len(cloud)])


def _outermost(points: np.ndarray, directions: int = 64) -> np.ndarray:
    """The points (n, 3) of a cloud that lie farthest in each of many directions."""
    index = np.arange(directions)
    y, angle = 1 - 2 * (index + 0.5) / directions, index * np.pi * (3 - np.sqrt(5))
    axes = np.stack([np.sqrt(1 - y * y) * np.cos(angle), y, np.sqrt(1 - y * y) * np.sin(angle)], axis=1)
    return points[np.unique((axes.astype(points.dtype) @ points.T).argmax(axis=1))]


def _direction(rng: np.random.Generator, view: int, preset: int) -> tuple[float, float]:
    """Azimuth and elevation in radians."""
    if view == 0:
        degrees = rng.uniform(-25, 25), rng.uniform(-10, 10)
    elif preset == 360:
        degrees = rng.uniform(-180, 180), np.clip(rng.normal(10, 18), -20, 50)
    else:
        degrees = rng.uniform(-preset / 2, preset / 2), rng.uniform(-20, 20)
    return float(np.deg2rad(degrees[0])), float(np.deg2rad(degrees[1]))


def _cropped(camera: Camera, points: np.ndarray, size: int, rng: np.random.Generator, jitter: float) -> Camera:
    """A square crop around the projected points, a little off centre."""
    pixels, _ = project(points, camera)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    half = (high - low).max() / 2 * (MARGIN + jitter * rng.uniform(-0.12, 0.18))
    centre = (low + high) / 2 + jitter * rng.uniform(-0.06, 0.06, 2) * half
    return crop_camera(camera, np.concatenate([centre - half, centre + half]), size, size)
