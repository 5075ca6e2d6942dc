# SPDX-License-Identifier: Apache-2.0
"""V static cameras times F performance frames, one square crop a view.

The camera ranges of the presets are this project's own choice; the method's authors name 120 and 360 degree settings, whose ranges are
not known to us.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..cameras import Camera, crop_camera, orbit_camera, project
from ..errors import FormatError, InputError
from ..io import safetensors_numpy
from ..io.schema import read_as
from ..rig import HeadModel, Performance, head_box, performance_from_tensors, performance_to_tensors, skin

SCHEMA = "mvp4d-plan/1"
CROP_MARGIN = 1.2  # side of the crop over the side of the head's box, as CAP4D crops
DISTANCE = 1.2  # metres from the head's middle: a portrait photographer's distance
NEAREST = 0.05  # metres from a camera to the head, at least
MOST_VIEWS = 1000
_FOV, _SIDE = np.deg2rad(20), 256  # of cameras whose pictures are cropped to the head: any that hold it will do
# preset -> half ranges of azimuth and elevation in degrees; 360 has rings instead
ELLIPSES = {60: (30.0, 15.0), 120: (60.0, 20.0), 180: (90.0, 20.0)}
RINGS_360 = (15.0, -10.0, 40.0)
PRESETS = (*ELLIPSES, 360)
DEFAULT_VIEWS = {60: 12, 120: 16, 180: 20, 360: 24}


@dataclass(frozen=True)
class ViewCameras:
    """Where the cameras of a plan stand.

    Attributes:
        cameras: V square ones, in the order of the views; the first is the one that a generator begins with.
        about_head: the origin of their world is the middle of the head, whoever's it is; else it is that of head space.
        framed: pictures are cropped to the head; else they keep the cameras' own field of view.
    """

    cameras: tuple[Camera, ...]
    about_head: bool = True
    framed: bool = True

    def __post_init__(self) -> None:
        if not 1 <= len(self.cameras) <= MOST_VIEWS or any(camera.width != camera.height for camera in self.cameras):
            raise InputError(f"A plan must have 1 to {MOST_VIEWS} cameras of square pictures, got {len(self.cameras)} cameras.")


@dataclass(frozen=True)
class ViewPlan:
    """What a generator is asked for: `cameras` (V of one size) and `performance` (F frames). `preset` is 60, 120, 180 or 360 degrees."""

    cameras: tuple[Camera, ...]
    performance: Performance
    preset: int

    def __post_init__(self) -> None:
        if not self.cameras or len({(c.width, c.height) for c in self.cameras}) != 1:
            raise InputError(f"A view plan must have cameras of one size, got {len(self.cameras)} cameras.")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(V, F, H, W)."""
        return len(self.cameras), len(self.performance), self.cameras[0].height, self.cameras[0].width


def view_directions(preset: int, views: int) -> np.ndarray:
    """(V, 2) azimuth and elevation in radians; the first view of every preset is frontal or nearly so."""
    if preset not in PRESETS or views < 1:
        raise InputError(f"A view plan must have a preset of {', '.join(map(str, PRESETS))} and at least 1 view, got {preset} and {views}.")
    if preset == 360:
        rings = [np.arange(ring, views, len(RINGS_360)) for ring in range(len(RINGS_360))]
        degrees = np.zeros((views, 2))
        for ring, members in enumerate(rings):
            around = (np.arange(len(members)) + ring / len(RINGS_360)) / max(1, len(members)) * 360
            degrees[members] = np.stack([(around + 180) % 360 - 180, np.full(len(members), RINGS_360[ring])], axis=-1)
        return np.deg2rad(degrees)
    azimuth, elevation = ELLIPSES[preset]
    # a sunflower covers an ellipse evenly for any number of views: golden angle, radius growing as the square root
    index = np.arange(views)
    radius, angle = np.sqrt(index / max(1, views - 1)), index * np.pi * (3 - np.sqrt(5))
    return np.deg2rad(np.stack([azimuth * radius * np.cos(angle), elevation * radius * np.sin(angle)], axis=-1))


def head_centre(rig: HeadModel) -> np.ndarray:
    """The middle of the head's box (3,), where cameras look; shoulders and neck left out where the rig names its neck."""
    low, high = head_box(rig)
    return (low + high) / 2


def frame_camera(camera: Camera, points: np.ndarray, size: int, margin: float = CROP_MARGIN) -> Camera:
    """`camera` cropped to a square of `size` pixels around the projected `points` (..., 3), `margin` times as wide as their box."""
    pixels, depth = project(points.reshape(-1, 3), camera)
    _check_before(camera, depth)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    centre, half = (low + high) / 2, (high - low).max() / 2 * margin
    return crop_camera(camera, np.concatenate([centre - half, centre + half]), size, size)


def _check_before(camera: Camera, depth: np.ndarray) -> None:
    if depth.min() <= NEAREST:
        place = ", ".join(f"{metres:.2f}" for metres in camera.position)
        raise InputError(f"A camera must be {NEAREST} m or more before the whole head, got one at ({place}) m that is not; move it away.")


def preset_cameras(preset: int, views: int | None = None) -> ViewCameras:
    """The cameras of a preset (60, 120, 180 or 360 degrees), `views` of them or the preset's own number."""
    directions = view_directions(preset, views or DEFAULT_VIEWS.get(preset, 1))
    settings = {"target": np.zeros(3), "distance": DISTANCE, "fov_y": _FOV, "width": _SIDE, "height": _SIDE}
    return ViewCameras(tuple(orbit_camera(azimuth, elevation, **settings) for azimuth, elevation in directions))


def plan_views(
    rig: HeadModel,
    performance: Performance,
    *,
    preset: int = 120,
    views: int | None = None,
    size: int = 256,
    cameras: ViewCameras | None = None,
) -> ViewPlan:
    """Cameras around a person's rig, each cropped once for the whole performance.

    Args:
        rig: a personalised head.
        performance: F frames for this rig.
        preset: degrees: 60, 120, 180 or 360.
        views: V, or None for the preset's own number.
        size: pixels, the side of every square frame.
        cameras: in place of the preset's, which is then the least that goes as far around.

    Raises:
        InputError: a size, preset or number of views that can't be, or a head that reaches a camera.
    """
    if not 16 <= size <= 2048:
        raise InputError(f"`size` of a view plan must be 16 to 2048 px, got {size}.")
    posed = np.stack([skin(rig, None, p.expression, p.rotations, p.translation) for p in (performance[f] for f in range(len(performance)))])
    centre = head_centre(rig)
    chosen = cameras or preset_cameras(preset, views)
    placed = [_moved(camera, centre) for camera in chosen.cameras] if chosen.about_head else list(chosen.cameras)
    if cameras is not None:
        preset = _least_preset(np.stack([camera.position for camera in placed]) - centre)
    crop = frame_camera if chosen.framed else _scaled
    return ViewPlan(tuple(crop(camera, posed, size) for camera in placed), performance, preset)


def _scaled(camera: Camera, points: np.ndarray, size: int) -> Camera:
    """`camera` with a square of `size` pixels and its own field of view, once it is sure that all points (..., 3) are before it."""
    _check_before(camera, project(points.reshape(-1, 3), camera)[1])
    return crop_camera(camera, np.array([0, 0, camera.width, camera.height]), size, size)


def _moved(camera: Camera, offset: np.ndarray) -> Camera:
    """The camera carried by `offset` (3,)."""
    pose = camera.camera_from_world.copy()
    pose[:3, 3] -= pose[:3, :3] @ offset
    return replace(camera, camera_from_world=pose)


def _least_preset(places: np.ndarray) -> int:
    """The smallest preset whose cameras go as far around the head as those at `places` (V, 3) from its middle."""
    reach = 2 * np.rad2deg(np.abs(np.arctan2(places[:, 0], places[:, 2]))).max()
    return next((preset for preset in ELLIPSES if reach <= preset + 1e-6), 360)


def save_plan(plan: ViewPlan, path: str | Path) -> None:
    """Writes a plan as one safetensors file, atomically."""
    tensors, texts = performance_to_tensors(plan.performance)
    tensors |= {"K": np.stack([c.K for c in plan.cameras]), "camera_from_world": np.stack([c.camera_from_world for c in plan.cameras])}
    texts |= {"size": json.dumps([plan.cameras[0].width, plan.cameras[0].height]), "preset": json.dumps(plan.preset)}
    safetensors_numpy.write(path, tensors, {"schema": SCHEMA, **texts})


def load_plan(path: str | Path) -> ViewPlan:
    """Reads what `save_plan` wrote; raises FormatError for anything else."""
    tensors, metadata = read_as(path, SCHEMA, "a view plan")
    try:
        width, height = (int(v) for v in json.loads(metadata["size"]))
        cameras = tuple(Camera(K, m, width, height) for K, m in zip(tensors["K"], tensors["camera_from_world"], strict=True))
        return ViewPlan(cameras, performance_from_tensors(tensors, metadata), int(json.loads(metadata["preset"])))
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError, InputError, FormatError) as error:
        raise FormatError(f"{Path(path).name} is a damaged view plan: {error}") from None
