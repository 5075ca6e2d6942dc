# SPDX-License-Identifier: GPL-3.0-or-later
"""The splats' mesh: one quad a Gaussian, all it needs to follow its triangle in attributes.

Faces carry the Gaussian in the space of its triangle (`bind_*`), how that triangle lies at rest, its opacity and its colour; harmonics and
rest are in Blender's axes. Points carry `corner`, where on the Gaussian the corner lies in standard deviations. The quads have no place of
their own: the geometry nodes of `nodes.py` give them one.
"""

import bpy
import numpy as np

from mvp4d_core.avatar import GaussianAvatar
from mvp4d_core.avatar.harmonics import rotate_sh
from mvp4d_core.cameras import BLENDER_FROM_HEAD
from mvp4d_core.rig import triangle_frames
from mvp4d_core.rotations import matrix_to_quaternion

from . import bridge, native_names

BIND_FACE, BIND_MEAN, BIND_ROTATION, BIND_SCALE = "bind_face", "bind_mean", "bind_rotation", "bind_scale"
REST_ROTATION = "rest_rotation"  # only with harmonics, which may turn with the triangle
CORNER, OPACITY, COLOR = "corner", "opacity", "splat_color"  # Cycles keeps `color` for volumes

SH_C0 = 0.5 / np.sqrt(np.pi)  # the constant spherical harmonic
MIN_ALPHA = 1 / 255  # 3D Gaussian splatting draws nothing fainter
_SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)


def new_splat_mesh(name: str, avatar: GaussianAvatar) -> bpy.types.Mesh:
    """The quads of all Gaussians of `avatar`, in its order.

    `splat_color` is display-referred; it is final without higher harmonics and what they add to otherwise.
    """
    count = len(avatar)
    mesh = bridge.new_quad_mesh(name, count)
    opacities = 1 / (1 + np.exp(-avatar.opacity_logits.astype(np.float64)))
    reach = np.sqrt(2 * np.log(np.maximum(opacities / MIN_ALPHA, 1)))
    colors = 0.5 + SH_C0 * avatar.sh0.astype(np.float64)
    if avatar.sh_degree == 0:
        colors = np.maximum(colors, 0)
    lengths = np.linalg.norm(avatar.quats, axis=1, keepdims=True)
    faces = [
        (BIND_FACE, "INT", avatar.binding),
        (BIND_MEAN, "FLOAT_VECTOR", avatar.means),
        (BIND_ROTATION, "QUATERNION", avatar.quats / np.maximum(lengths, 1e-12)),
        (BIND_SCALE, "FLOAT_VECTOR", np.exp(avatar.log_scales)),
        (OPACITY, "FLOAT", opacities),
        (COLOR, "FLOAT_VECTOR", colors),
    ]
    if avatar.sh_degree:
        harmonics = rotate_sh(avatar.shN, BLENDER_FROM_HEAD)
        faces += [(native_names.sh_attribute(k), "FLOAT_VECTOR", harmonics[:, k]) for k in range(harmonics.shape[1])]
        faces.append((REST_ROTATION, "QUATERNION", _rest_rotations(avatar)))
    for attribute, kind, values in faces:
        bridge.add_attribute(mesh, attribute, kind, "FACE", values)
    bridge.add_attribute(mesh, CORNER, "FLOAT_VECTOR", "POINT", reach[:, None, None] * _SQUARE)
    return mesh


def _rest_rotations(avatar: GaussianAvatar) -> np.ndarray:
    """(N, 4) wxyz of each Gaussian's triangle at rest."""
    vertices = (avatar.rig.v_template + avatar.rig.static_offsets).astype(np.float64)
    rotations = BLENDER_FROM_HEAD @ triangle_frames(vertices, avatar.rig.faces).rotations
    return matrix_to_quaternion(rotations)[avatar.binding]
