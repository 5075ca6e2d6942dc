# SPDX-License-Identifier: Apache-2.0
"""Posed splats in the axes of splat files and of ComfyUI's SPLAT sockets: (x, -y, -z) of head space."""

from pathlib import Path

import numpy as np

from ..cameras import FILE_FROM_HEAD
from ..rig import Parameters
from ..rotations import matrix_to_quaternion, multiply_quaternions
from .gaussian_avatar import GaussianAvatar, PosedSplats
from .ply import write_ply
from .stored_splats import StoredSplats

# How each spherical harmonic of degrees 0 to 3 changes when y and z change sign: by the parity of its polynomial in y and z,
# in the order 1; y z x; xy yz zz xz xx-yy; y(3xx-yy) xyz y(4zz-..) z(2zz-..) x(4zz-..) z(xx-yy) x(xx-3yy).
_SH_SIGNS = np.array([1, -1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], dtype=np.float32)


def to_file_space(splats: PosedSplats) -> PosedSplats:
    """The same splats in file axes; colours look the same from the same side."""
    turn = matrix_to_quaternion(FILE_FROM_HEAD).astype(splats.quats.dtype)
    return PosedSplats(
        means=(splats.means @ FILE_FROM_HEAD.T).astype(splats.means.dtype),
        quats=multiply_quaternions(turn, splats.quats),
        scales=splats.scales,
        opacities=splats.opacities,
        sh=splats.sh * _SH_SIGNS[: splats.sh.shape[1], None],
    )


def turned(splats: StoredSplats) -> StoredSplats:
    """Stored splats from file axes to head axes, or back: half a turn about x, exactly its own inverse.

    A Gaussian has no direction along its axes, so its rotation R may become F R F in place of F R; w and x then stay as they are.
    """
    return splats._replace(
        means=splats.means * np.array([1, -1, -1], np.float32),
        quats=splats.quats * np.array([1, 1, -1, -1], np.float32),
        shN=splats.shN * _SH_SIGNS[1 : splats.shN.shape[1] + 1, None],
    )


def stored_pose(avatar: GaussianAvatar, parameters: Parameters) -> StoredSplats:
    """One pose as files store it, in file axes."""
    splats = to_file_space(avatar.pose(parameters))
    return StoredSplats(splats.means, splats.quats, np.log(splats.scales), avatar.opacity_logits, splats.sh[:, 0], splats.sh[:, 1:])


def write_posed_ply(path: str | Path, avatar: GaussianAvatar, parameters: Parameters) -> None:
    """One pose as a 3DGS PLY, atomically."""
    write_ply(path, *stored_pose(avatar, parameters))
