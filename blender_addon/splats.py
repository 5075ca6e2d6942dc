# SPDX-License-Identifier: GPL-3.0-or-later
"""The splats' mesh: one quad a Gaussian, all it needs to follow its triangle in attributes.

Faces carry the Gaussian in the space of its triangle (`bind_*`), its opacity and its colour; points carry `corner`, where on the Gaussian
the corner lies in standard deviations. The quads have no place of their own: the geometry nodes of `nodes.py` give them one.
"""

import bpy
import numpy as np

from mvp4d_core.avatar import GaussianAvatar

from . import bridge

BIND_FACE, BIND_MEAN, BIND_ROTATION, BIND_SCALE = "bind_face", "bind_mean", "bind_rotation", "bind_scale"
CORNER, OPACITY, COLOR = "corner", "opacity", "color"

SH_C0 = 0.5 / np.sqrt(np.pi)  # the constant spherical harmonic
MIN_ALPHA = 1 / 255  # 3D Gaussian splatting draws nothing fainter
_SQUARE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)


def sh_attribute(index: int) -> str:
    """The name of higher spherical-harmonic coefficient `index`, 0 to 14."""
    return f"sh_{index + 1}"


def new_splat_mesh(name: str, avatar: GaussianAvatar) -> bpy.types.Mesh:
    """The quads of all Gaussians of `avatar`, in its order.

    `color` is display-referred; it is final without higher harmonics and what they add to otherwise.
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
        *((sh_attribute(k), "FLOAT_VECTOR", avatar.shN[:, k]) for k in range(avatar.shN.shape[1])),
    ]
    for attribute, kind, values in faces:
        bridge.add_attribute(mesh, attribute, kind, "FACE", values)
    bridge.add_attribute(mesh, CORNER, "FLOAT_VECTOR", "POINT", reach[:, None, None] * _SQUARE)
    return mesh
