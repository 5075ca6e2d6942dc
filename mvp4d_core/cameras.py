# SPDX-License-Identifier: Apache-2.0
"""Pinhole cameras and the suite's coordinate systems.

World space is head space: metres, x to the subject's left, y up, z out of the face. Cameras are OpenCV's: x right, y down, z forward,
pixel centres at +0.5. A matrix `a_from_b` maps column vectors of b to a.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import InputError
from .rotations import matrix_to_quaternion, quaternion_to_matrix

# Axis changes, each its own 3x3 rotation. They act on points and directions alike.
BLENDER_FROM_HEAD = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float64)
FILE_FROM_HEAD = np.diag([1.0, -1.0, -1.0])  # ComfyUI's SPLAT sockets and splat files: y down, z forward
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])  # camera axes: y up, looking down -z
VIEWER_FOV = 35.0  # degrees, of a viewer's camera that does not say
_FARTHEST = 1e4  # metres


@dataclass(frozen=True)
class Camera:
    """One pinhole camera.

    Attributes:
        K: (3, 3) float64, pixels.
        camera_from_world: (4, 4) float64, OpenCV camera axes, metres.
        width, height: pixels.
    """

    K: np.ndarray
    camera_from_world: np.ndarray
    width: int
    height: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "K", np.asarray(self.K, dtype=np.float64))
        object.__setattr__(self, "camera_from_world", np.asarray(self.camera_from_world, dtype=np.float64))
        if self.K.shape != (3, 3) or self.camera_from_world.shape != (4, 4):
            raise InputError(f"Camera wants K (3, 3) and camera_from_world (4, 4), got {self.K.shape} and {self.camera_from_world.shape}.")
        if self.width < 1 or self.height < 1 or not (np.isfinite(self.K).all() and np.isfinite(self.camera_from_world).all()):
            raise InputError(f"Camera wants a positive size and finite matrices, got {self.width} x {self.height} px.")

    @property
    def position(self) -> np.ndarray:
        """Where the camera is in the world, (3,) metres."""
        return -self.camera_from_world[:3, :3].T @ self.camera_from_world[:3, 3]


def project(points: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """World points (..., 3) to pixels (..., 2) and depths (...) along the optical axis. Points at depth <= 0 give no meaningful pixel."""
    in_camera = points @ camera.camera_from_world[:3, :3].T + camera.camera_from_world[:3, 3]
    depth = in_camera[..., 2]
    homogeneous = in_camera @ camera.K.T
    return homogeneous[..., :2] / np.where(depth == 0, 1e-12, depth)[..., None], depth


def look_at(position: np.ndarray, target: np.ndarray, up: np.ndarray | tuple[float, float, float] = (0.0, 1.0, 0.0)) -> np.ndarray:
    """camera_from_world (4, 4) of a camera at `position` whose optical axis meets `target`; `up` is up in the picture."""
    position, target, up = (np.asarray(v, dtype=np.float64) for v in (position, target, up))
    forward = target - position
    if not np.linalg.norm(forward) > 0 or np.linalg.norm(np.cross(forward, up)) < 1e-9 * np.linalg.norm(forward):
        raise InputError(f"look_at wants position and target apart and `up` off their line, got {position} and {target}.")
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = -rotation @ position
    return matrix


def orbit_camera(azimuth: float, elevation: float, *, target: np.ndarray, distance: float, fov_y: float, width: int, height: int) -> Camera:
    """A camera on a sphere around `target`.

    Args:
        azimuth: radians; 0 looks the subject in the face, positive moves the camera towards the subject's left (+x).
        elevation: radians; positive looks down on the subject.
        target: (3,) metres.
        distance: metres.
        fov_y: vertical field of view, radians.
    """
    direction = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    return Camera(intrinsics(fov_y, width, height), look_at(np.asarray(target) + distance * direction, target), width, height)


def intrinsics(fov_y: float, width: int, height: int) -> np.ndarray:
    """K (3, 3) with square pixels and the principal point at the centre; `fov_y` in radians."""
    focal = height / (2 * np.tan(fov_y / 2))
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def crop_camera(camera: Camera, box: np.ndarray, width: int, height: int) -> Camera:
    """The camera that sees the pixel box (x0, y0, x1, y1) of `camera` as a picture of width x height."""
    x0, y0, x1, y1 = (float(v) for v in box)
    scale = np.diag([width / (x1 - x0), height / (y1 - y0), 1.0])
    shift = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]])
    return replace(camera, K=scale @ shift @ camera.K, width=width, height=height)


def orbited(camera: Camera, angle: float, target: np.ndarray) -> Camera:
    """The camera carried `angle` radians around the upright line through `target` (3,), towards +x when it stands in front."""
    sine, cosine = np.sin(angle), np.cos(angle)
    turn = np.eye(4)
    turn[:3, :3] = [[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]
    turn[:3, 3] = np.asarray(target) - turn[:3, :3] @ np.asarray(target)
    return replace(camera, camera_from_world=camera.camera_from_world @ np.linalg.inv(turn))


def camera_of_viewer(info: Mapping[str, Any], width: int, height: int) -> tuple[Camera, np.ndarray]:
    """The camera of a three.js viewer, as ComfyUI's LOAD3D_CAMERA tells it, and what it orbits.

    A viewer's world is head space, and its cameras are OpenGL's: y up, looking down -z.

    Args:
        info: `position` and `target`, each `{x, y, z}` in metres; `fov` in degrees across the picture's smaller side, `VIEWER_FOV` without;
            `zoom`, which multiplies the focal length; `quaternion` `{x, y, z, w}`, how the camera is turned in the world. Without that one
            it looks at the target.

    Returns:
        The camera for a picture of this size, and the target (3,).

    Raises:
        InputError: something is missing or no number, the projection is no perspective, or position and target coincide.
    """
    if not isinstance(info, Mapping) or not str(info.get("cameraType", "perspective")).lower().startswith("persp"):
        raise InputError("`camera_info` must be a perspective camera of a 3D viewer or of Create Camera Info. Set its type to perspective.")
    position, target = (_coordinates(info, name, "xyz") for name in ("position", "target"))
    fov, zoom = (_finite(info.get(name) or usual, f"`{name}`") for name, usual in (("fov", VIEWER_FOV), ("zoom", 1.0)))
    if not (0.1 <= fov <= 170 and 1e-3 <= zoom <= 1e3):
        raise InputError(f"`camera_info` must have a `fov` of 0.1 to 170 degrees and a `zoom` of 0.001 to 1000, got {fov:g} and {zoom:g}.")
    if info.get("quaternion"):
        turn = _coordinates(info, "quaternion", "wxyz")
        if np.linalg.norm(turn) < 1e-6:
            raise InputError("`quaternion` of the camera must be a rotation, got zeros. Leave it out to look at the target.")
        camera_from_world = np.eye(4)
        camera_from_world[:3, :3] = OPENGL_FROM_OPENCV @ quaternion_to_matrix(turn).T
        camera_from_world[:3, 3] = -camera_from_world[:3, :3] @ position
    else:
        camera_from_world = look_at(position, target)
    focal = zoom * min(width, height) / (2 * np.tan(np.deg2rad(fov) / 2))
    return Camera(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]), camera_from_world, width, height), target


def viewer_info(camera: Camera, target: np.ndarray) -> dict[str, Any]:
    """The inverse of `camera_of_viewer`, for a camera with square pixels and the principal point at the centre."""
    w, x, y, z = matrix_to_quaternion((OPENGL_FROM_OPENCV @ camera.camera_from_world[:3, :3]).T).tolist()
    fov = 2 * np.arctan(min(camera.width, camera.height) / (2 * camera.K[1, 1]))
    return {
        "position": dict(zip("xyz", camera.position.tolist(), strict=True)),
        "target": dict(zip("xyz", np.asarray(target, np.float64).tolist(), strict=True)),
        "quaternion": {"x": x, "y": y, "z": z, "w": w},
        "fov": float(np.rad2deg(fov)),
        "zoom": 1.0,
        "cameraType": "perspective",
    }


def _coordinates(info: Mapping[str, Any], name: str, axes: str) -> np.ndarray:
    table = info.get(name)
    if not isinstance(table, Mapping):
        raise InputError(f"`camera_info` must have a `{name}` of {', '.join(axes)}, got {str(table)[:40]}.")
    return np.array([_finite(table.get(axis), f"`{name}.{axis}`") for axis in axes])


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _FARTHEST:
        raise InputError(f"{name} of a viewer's camera must be a number up to {_FARTHEST:g}, got {str(value)[:40]}.")
    return float(value)
