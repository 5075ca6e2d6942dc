# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole scene from an avatar, without an interface and without registering the add-on; and how exact it is."""

from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np

from mvp4d_core.avatar import GaussianAvatar, load_avatar
from mvp4d_core.cameras import Camera
from mvp4d_core.progress import Progress, silent, steps
from mvp4d_core.rig import Parameters, Performance, load_performance, rest_parameters, retarget, skin

from . import animation, bridge, rig, scene
from .import_avatar import ImportedAvatar, import_avatar
from .movements import expression_movements

START = 1  # the scene frame of a performance's first frame

_LARGEST_TURN = 0.5  # radians a joint, of random poses
_LARGEST_MOVE = 0.05  # metres
_LARGEST_EXPRESSION = 2.0


@dataclass(frozen=True)
class BuiltScene:
    """What `build_scene` put into the current Blender file. `camera` is the one the scene's Blender camera equals."""

    avatar: GaussianAvatar
    imported: ImportedAvatar
    performance: Performance | None
    camera: Camera
    position_error: float

    def parameters(self, frame: int) -> Parameters:
        """What the avatar does in scene frame `frame`."""
        return rest_parameters(self.avatar.rig) if self.performance is None else self.performance[frame - START]


def build_scene(
    avatar_path: str | Path,
    blend_path: str | Path,
    *,
    performance_path: str | Path | None = None,
    camera: Camera | None = None,
    size: int = 512,
    progress: Progress = silent,
) -> BuiltScene:
    """Replaces the current file by a scene with the avatar, keyed and ready to render, and saves it.

    Args:
        performance_path: what the avatar does; without it, it rests.
        camera: in head space; without it, one in front of the head.
        size: pixels of the longer side of pictures.

    Returns:
        The scene, with the largest distance in metres between splat centres in Blender and `GaussianAvatar.pose` over ten random poses.
    """
    avatar = load_avatar(avatar_path)
    performance = None if performance_path is None else retarget(load_performance(performance_path), avatar.rig)
    rest = rest_parameters(avatar.rig)
    if camera is None:
        camera = scene.portrait_camera(skin(avatar.rig, None, rest.expression, rest.rotations, rest.translation), size)
    camera = scene.resized(camera, size)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    imported = import_avatar(avatar, Path(avatar_path).stem, progress)
    scene.add_camera(camera, "Camera", imported.collection)
    scene.match_training(bpy.context.scene)
    scene.show_in_viewports()
    error = position_error(avatar, imported, progress=progress)
    if performance is not None:
        animation.use_timing(bpy.context.scene, performance)
        animation.key_performance(imported.armature, performance, Path(performance_path).stem, start=START)
        animation.use_range(bpy.context.scene, performance, START)
    bpy.context.scene.frame_set(START)
    scene.save_blend(blend_path)
    return BuiltScene(avatar, imported, performance, camera, error)


def splat_centres(imported: ImportedAvatar) -> np.ndarray:
    """(N, 3) float64 centres of the splats as Blender draws them now, head space, in the avatar's order."""
    corners = bridge.evaluated_vertices(imported.splats).reshape(-1, 4, 3).astype(np.float64)
    return bridge.head_from_blender(corners.mean(axis=1))


def position_error(
    avatar: GaussianAvatar, imported: ImportedAvatar, *, poses: int = 10, seed: int = 0, progress: Progress = silent
) -> float:
    """The largest distance of a splat centre from `avatar.pose`, metres, over random poses and expressions. Leaves the avatar at rest."""
    generator = np.random.default_rng(seed)
    worst = 0.0
    for _ in steps(range(poses), "measure", poses, progress):
        parameters = _random_parameters(avatar, generator)
        rig.pose(imported.armature, avatar.rig, parameters)
        distances = np.linalg.norm(splat_centres(imported) - avatar.pose(parameters).means, axis=1)
        worst = max(worst, float(distances.max(initial=0)))
    rig.pose(imported.armature, avatar.rig, rest_parameters(avatar.rig))
    return worst


def _random_parameters(avatar: GaussianAvatar, generator: np.random.Generator) -> Parameters:
    """Any expression its slider reaches, every joint turned."""
    reach = np.array([movement.reach for movement in expression_movements(avatar.rig)]).reshape(-1, 2)
    low, high = np.clip(reach, -_LARGEST_EXPRESSION, _LARGEST_EXPRESSION).T
    return Parameters(
        generator.uniform(low, high).astype(np.float32),
        generator.uniform(-_LARGEST_TURN, _LARGEST_TURN, (len(avatar.rig.joint_names), 3)).astype(np.float32),
        generator.uniform(-_LARGEST_MOVE, _LARGEST_MOVE, 3).astype(np.float32),
    )
