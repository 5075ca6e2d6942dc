# SPDX-License-Identifier: GPL-3.0-or-later
"""What Blender has made of an avatar at a frame, as splat files: poses, controls and constraints included, whatever moved the head."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy
import numpy as np

from mvp4d_core.avatar.file_space import turned
from mvp4d_core.avatar.harmonics import rotate_sh
from mvp4d_core.avatar.posed_files import write_splats
from mvp4d_core.avatar.stored_splats import StoredSplats
from mvp4d_core.cameras import BLENDER_FROM_HEAD
from mvp4d_core.errors import InputError
from mvp4d_core.io.folders import make_folder
from mvp4d_core.rotations import matrix_to_quaternion, multiply_quaternions

from . import bridge, compat, native_names, nodes
from .look import splat_modifier

_EVEN = 1e-4  # how far the three sizes of an object may differ, as a share
_FAINTEST = 1e-6  # of an opacity, so that its logit is finite


@contextmanager
def gaussians_of(splats: bpy.types.Object) -> Iterator[bpy.types.Object]:
    """A twin of an avatar's splats that holds its Gaussians as points, for as long as the block lasts. The avatar itself is left alone."""
    twin = splats.copy()
    bpy.context.scene.collection.objects.link(twin)
    try:
        twin.hide_render, twin.hide_viewport = True, False
        compat.set_modifier_input(splat_modifier(twin), nodes.VIEWPORT, nodes.NATIVE)
        yield twin
    finally:
        bpy.data.objects.remove(twin)


def posed_splats(twin: bpy.types.Object) -> StoredSplats:
    """The Gaussians of the current frame where the scene has them, in the axes of splat files.

    Raises:
        InputError: the avatar is sheared or scaled unevenly, which no Gaussian file can say; or it has no splats left.
    """
    geometry = bridge.evaluated_geometry(twin)
    points = geometry.pointcloud
    if points is None or not len(points.points):
        raise InputError(f"`{twin.name}` shows no splats at all. Raise its density.")
    size, turn, shift = _similarity(twin)
    base = bridge.read_attribute(points, native_names.BASE).astype(np.float64)
    opacities = np.clip(base[:, 3], _FAINTEST, 1 - _FAINTEST)
    means = size * bridge.read_attribute(points, "position") @ turn.T + shift
    names = [native_names.sh_attribute(index) for index in range(15) if native_names.sh_attribute(index) in points.attributes]
    harmonics = np.stack([bridge.read_attribute(points, name) for name in names], axis=1) if names else np.zeros((len(means), 0, 3))
    to_head = BLENDER_FROM_HEAD.T @ turn
    quats = multiply_quaternions(matrix_to_quaternion(to_head), bridge.read_attribute(points, native_names.ROTATION).astype(np.float64))
    in_head = StoredSplats(
        means=bridge.head_from_blender(means).astype(np.float32),
        quats=quats.astype(np.float32),
        log_scales=np.log(np.maximum(size * bridge.read_attribute(points, native_names.SCALE), 1e-12)).astype(np.float32),
        opacity_logits=np.log(opacities / (1 - opacities)).astype(np.float32),
        sh0=base[:, :3].astype(np.float32),
        shN=rotate_sh(harmonics, to_head).astype(np.float32),
    )
    return turned(in_head)


def bake_sequence(splats: bpy.types.Object, folder: Path, frames: range, ending: str = ".ply") -> Iterator[tuple[int, int]]:
    """Writes `frame_0001.ply` and so on, named by the scene's frames, each as a whole; yields (done, total) after each.

    The scene is at its old frame again when the iteration ends, however it does.

    Raises:
        InputError: as `posed_splats`.
        StorageError: a file cannot be written.
    """
    make_folder(folder)
    scene = bpy.context.scene
    before = scene.frame_current
    try:
        with gaussians_of(splats) as twin:
            for done, frame in enumerate(frames, start=1):
                scene.frame_set(frame)
                write_splats(folder / f"frame_{frame:04d}{ending}", posed_splats(twin))
                yield done, len(frames)
    finally:
        scene.frame_set(before)


def _similarity(thing: bpy.types.Object) -> tuple[float, np.ndarray, np.ndarray]:
    """Size, rotation (3, 3) and shift (3,) of an object in the world."""
    matrix = np.array(thing.matrix_world, np.float64)
    sizes = np.linalg.norm(matrix[:3, :3], axis=0)
    size = float(sizes.mean())
    turn = matrix[:3, :3] / max(size, 1e-12)
    if not np.allclose(turn.T @ turn, np.eye(3), atol=_EVEN) or np.linalg.det(turn) < 0:
        raise InputError(
            f"`{thing.name}` is mirrored, sheared or scaled unevenly, and splat files cannot say that. Apply or clear its scale first."
        )
    return size, turn, matrix[:3, 3]
