# SPDX-License-Identifier: Apache-2.0
"""Colours of splats from a side: real spherical harmonics of degrees 0 to 3, in the order and signs of 3DGS.

The polynomials are those of the specification of KHR_gaussian_splatting, "Calculating color from Spherical Harmonics".
"""

import numpy as np

SH_C0 = 0.28209479177387814


def sh_colors(sh: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Colours (N, 3), 0.5 added, not clipped.

    Args:
        sh: (N, K, 3) coefficients, K of 1, 4, 9 or 16.
        directions: (N, 3) unit vectors from the eye to the splat.
    """
    return 0.5 + np.einsum("kn,nkc->nc", _basis(directions)[: sh.shape[1]], sh)


def rotate_sh(sh: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Higher coefficients (N, K, 3), K of 0, 3, 8 or 15, of the same colours after a turn: along R d as before along d.

    Args:
        rotation: R (3, 3), as in `new = R old` of directions.
    """
    turned = np.zeros_like(sh)
    spread = np.random.default_rng(0).normal(size=(64, 3))  # any directions will do: the harmonics of a degree stay among themselves
    spread /= np.linalg.norm(spread, axis=1, keepdims=True)
    before, after = _basis(spread @ rotation), _basis(spread)  # rows of d' = R d are d = R^T d'
    first = 0
    for degree in range(1, round((sh.shape[1] + 1) ** 0.5)):
        count = 2 * degree + 1
        rows = slice(1 + first, 1 + first + count)
        mixing = np.linalg.lstsq(after[rows].T, before[rows].T, rcond=None)[0]
        turned[:, first : first + count] = np.einsum("jk,nkc->njc", mixing.astype(sh.dtype), sh[:, first : first + count])
        first += count
    return turned


def _basis(directions: np.ndarray) -> np.ndarray:
    """(16, N) values of the harmonics along unit directions (N, 3)."""
    x, y, z = directions.T
    xx, yy, zz = x * x, y * y, z * z
    values = [
        np.full_like(x, SH_C0),
        -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x,
        1.092548430592079 * x * y, -1.092548430592079 * y * z, 0.315391565252520 * (2 * zz - xx - yy), -1.092548430592079 * x * z,
        0.5462742152960395 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z, -0.4570457994644657 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy), -0.4570457994644657 * x * (4 * zz - xx - yy),
        1.445305721320277 * z * (xx - yy), -0.5900435899266435 * x * (xx - 3 * yy),
    ]  # fmt: skip
    return np.stack(values)
