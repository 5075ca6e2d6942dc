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
    x, y, z = directions.T
    xx, yy, zz = x * x, y * y, z * z
    basis = [
        np.full_like(x, SH_C0),
        -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x,
        1.092548430592079 * x * y, -1.092548430592079 * y * z, 0.315391565252520 * (2 * zz - xx - yy), -1.092548430592079 * x * z,
        0.5462742152960395 * (xx - yy),
        -0.5900435899266435 * y * (3 * xx - yy), 2.890611442640554 * x * y * z, -0.4570457994644657 * y * (4 * zz - xx - yy),
        0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy), -0.4570457994644657 * x * (4 * zz - xx - yy),
        1.445305721320277 * z * (xx - yy), -0.5900435899266435 * x * (xx - 3 * yy),
    ]  # fmt: skip
    return 0.5 + np.einsum("kn,nkc->nc", np.stack(basis[: sh.shape[1]]), sh)
