# SPDX-License-Identifier: Apache-2.0
"""Pictures and videos by which a person judges an avatar: showcase, turntable, contact sheet."""

from pathlib import Path

import numpy as np

from .avatar import GaussianAvatar
from .cameras import Camera, orbit_camera
from .conditioning import frame_camera, head_centre, reference_camera, resample_photo
from .io.folders import make_folder
from .io.images import straight_alpha, write_image
from .io.video import PLAYABLE, WITH_ALPHA, write_video
from .progress import Progress, silent
from .render.avatar import WHITE, render_avatar, render_performance
from .rig import Parameters, Performance, arkit_faces, perform_on, rest_parameters, single_frame, skin
from .tracking.reference import Reference

BLACK = (0.0, 0.0, 0.0)
DISTANCE, FOV_Y = 1.2, np.deg2rad(20)
TURN_FPS, TURN_SECONDS = 24.0, 4.0
# contact sheet: one expression a row, one direction a column (azimuth, elevation in degrees)
SHEET_VIEWS = ((0, 5), (-35, 5), (35, 5), (90, 5), (180, 10))
SHEET_EXPRESSIONS: dict[str, dict[str, float]] = {
    "rest": {},
    "jaw open": {"jawOpen": 1.0},
    "smile": {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    "eyes shut": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "brows up, pucker": {"browInnerUp": 1.0, "browOuterUpLeft": 1.0, "browOuterUpRight": 1.0, "mouthPucker": 1.0},
}


def orbit_around(avatar: GaussianAvatar, azimuth: float, elevation: float, size: int) -> Camera:
    """A square camera that looks at the avatar's head from a portrait distance; angles in radians."""
    return orbit_camera(azimuth, elevation, target=head_centre(avatar.rig), distance=DISTANCE, fov_y=FOV_Y, width=size, height=size)


def show_camera(
    avatar: GaussianAvatar, performance: Performance, size: int, azimuth: float = 0.0, elevation: float = np.deg2rad(3)
) -> Camera:
    """A camera that holds the whole performance."""
    frames = [performance[f] for f in range(0, len(performance), max(1, len(performance) // 24))]
    points = np.stack([skin(avatar.rig, None, p.expression, p.rotations, p.translation) for p in frames])
    return frame_camera(orbit_around(avatar, azimuth, elevation, size), points, size, margin=1.1)


def named_parameters(avatar: GaussianAvatar, weights: dict[str, float]) -> Parameters:
    """The rest pose with some of ARKit's expressions, or what comes nearest on a rig without them."""
    return perform_on(arkit_faces([weights]), avatar.rig)[0]


def write_showcase(
    path: Path, avatar: GaussianAvatar, performance: Performance, camera: Camera, *, device: str = "cpu", progress: Progress = silent
) -> None:
    """The performance from one camera: on white as MP4, or with alpha as ProRes 4444 (`.mov`) or VP9 (`.webm`), by the ending."""
    quality = WITH_ALPHA.get(Path(path).suffix.lower(), PLAYABLE)
    background = BLACK if quality.has_alpha else WHITE
    frames = render_performance(avatar, performance, [camera], background=background, device=device, progress=progress, stage="showcase")
    images = (straight_alpha(image, alpha) if quality.has_alpha else image for image, alpha in frames)
    write_video(path, images, performance.fps, quality=quality)


def write_pictures(
    folder: Path, avatar: GaussianAvatar, performance: Performance, camera: Camera, *, device: str = "cpu", progress: Progress = silent
) -> None:
    """The performance from one camera as `frame_0000.png` and so on, with alpha; the folder is made where it is missing."""
    make_folder(folder)
    frames = render_performance(avatar, performance, [camera], background=BLACK, device=device, progress=progress, stage="export")
    for index, (image, alpha) in enumerate(frames):
        write_image(folder / f"frame_{index:04d}.png", straight_alpha(image, alpha))


def write_turntable(
    path: Path, avatar: GaussianAvatar, performance: Performance, size: int, *, device: str = "cpu", progress: Progress = silent
) -> None:
    """Once around the head while it performs, as MP4."""
    count = round(TURN_FPS * TURN_SECONDS)
    chosen = performance.select(np.round(np.linspace(0, len(performance) - 1, count)).astype(int))
    cameras = [orbit_around(avatar, angle, np.deg2rad(8), size) for angle in np.linspace(0, 2 * np.pi, count, endpoint=False)]
    widest = max((show_camera(avatar, chosen, size, angle, np.deg2rad(8)) for angle in (0, np.pi / 2)), key=lambda c: 1 / c.K[0, 0])
    cameras = [Camera(widest.K, camera.camera_from_world, size, size) for camera in cameras]
    frames = render_performance(avatar, chosen, cameras, device=device, progress=progress, stage="turntable")
    write_video(path, (image for image, _ in frames), TURN_FPS)


def contact_sheet(avatar: GaussianAvatar, reference: Reference, cell: int, *, device: str = "cpu") -> np.ndarray:
    """One picture: the photo beside the avatar in its place, then expressions from several directions. (H, W, 3) float32."""
    camera = reference_camera(reference, avatar.rig, cell)
    rows = [[resample_photo(reference, camera)[0], render_avatar(avatar, reference.parameters, camera, device=device)[0]]]
    cameras = [
        show_camera(avatar, single_frame(rest_parameters(avatar.rig), avatar.rig), cell, np.deg2rad(a), np.deg2rad(e))
        for a, e in SHEET_VIEWS
    ]
    for weights in SHEET_EXPRESSIONS.values():
        parameters = named_parameters(avatar, weights)
        rows.append([render_avatar(avatar, parameters, camera, device=device)[0] for camera in cameras])
    rows[0] += [np.ones((cell, cell, 3), np.float32)] * (len(SHEET_VIEWS) - 2)
    return np.concatenate([np.concatenate(row, axis=1) for row in rows], axis=0)
