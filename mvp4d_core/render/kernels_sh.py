# SPDX-License-Identifier: Apache-2.0
"""Kernels for view-dependent colour: real spherical harmonics to degree 3, in the order and signs that 3D Gaussian splatting files use.

The colour of a splat seen from a camera is `max(0, 1/2 + sum_b Y_b(d) c_b)`, d the unit direction from the camera to its centre.
"""

import math

import numpy as np
from numba import float32 as F

from .jit import inlined, kernel

DEGREE_1 = F(0.4886025119029199)  # sqrt(3 / (4 pi))
DEGREE_2 = (F(1.0925484305920792), F(0.31539156525252005), F(0.5462742152960396))
DEGREE_3 = (F(0.5900435899266435), F(2.890611442640554), F(0.4570457994644658), F(0.3731763325901154), F(1.445305721320277))
DEGREE_0 = F(0.28209479177387814)  # sqrt(1 / (4 pi))


@inlined
def _basis(x, y, z, degree, basis):
    """basis (16,): the first (degree + 1)^2 entries of Y at a unit vector."""
    basis[0] = DEGREE_0
    if degree > 0:
        basis[1] = -DEGREE_1 * y
        basis[2] = DEGREE_1 * z
        basis[3] = -DEGREE_1 * x
    if degree > 1:
        basis[4] = DEGREE_2[0] * x * y
        basis[5] = -DEGREE_2[0] * y * z
        basis[6] = DEGREE_2[1] * (F(2) * z * z - x * x - y * y)
        basis[7] = -DEGREE_2[0] * x * z
        basis[8] = DEGREE_2[2] * (x * x - y * y)
    if degree > 2:
        basis[9] = -DEGREE_3[0] * y * (F(3) * x * x - y * y)
        basis[10] = DEGREE_3[1] * x * y * z
        basis[11] = -DEGREE_3[2] * y * (F(4) * z * z - x * x - y * y)
        basis[12] = DEGREE_3[3] * z * (F(2) * z * z - F(3) * (x * x + y * y))
        basis[13] = -DEGREE_3[2] * x * (F(4) * z * z - x * x - y * y)
        basis[14] = DEGREE_3[4] * z * (x * x - y * y)
        basis[15] = -DEGREE_3[0] * x * (x * x - F(3) * y * y)


@inlined
def _weighted_basis_gradient(x, y, z, degree, w):
    """Gradient of sum_b w_b Y_b with respect to (x, y, z), the polynomials above taken as they stand."""
    gx = gy = gz = F(0)
    if degree > 0:
        gx, gy, gz = -DEGREE_1 * w[3], -DEGREE_1 * w[1], DEGREE_1 * w[2]
    if degree > 1:
        p, q, r = DEGREE_2
        gx += p * (y * w[4] - z * w[7]) - F(2) * q * x * w[6] + F(2) * r * x * w[8]
        gy += p * (x * w[4] - z * w[5]) - F(2) * q * y * w[6] - F(2) * r * y * w[8]
        gz += -p * (y * w[5] + x * w[7]) + F(4) * q * z * w[6]
    if degree > 2:
        p, q, r, s, t = DEGREE_3
        xx, yy, zz, xy, xz, yz = x * x, y * y, z * z, x * y, x * z, y * z
        gx += -F(6) * p * xy * w[9] + q * yz * w[10] + F(2) * r * xy * w[11] - F(6) * s * xz * w[12]
        gx += -r * (F(4) * zz - F(3) * xx - yy) * w[13] + F(2) * t * xz * w[14] - F(3) * p * (xx - yy) * w[15]
        gy += -F(3) * p * (xx - yy) * w[9] + q * xz * w[10] - r * (F(4) * zz - xx - F(3) * yy) * w[11] - F(6) * s * yz * w[12]
        gy += F(2) * r * xy * w[13] - F(2) * t * yz * w[14] + F(6) * p * xy * w[15]
        gz += q * xy * w[10] - F(8) * r * yz * w[11] + s * (F(6) * zz - F(3) * (xx + yy)) * w[12]
        gz += -F(8) * r * xz * w[13] + t * (xx - yy) * w[14]
    return gx, gy, gz


@inlined
def _direction(means, i, positions, v):
    """Unit vector from camera v to splat i and one over their distance."""
    x, y, z = means[i, 0] - positions[v, 0], means[i, 1] - positions[v, 1], means[i, 2] - positions[v, 2]
    inverse = F(1) / math.sqrt(max(F(1e-24), x * x + y * y + z * z))
    return x * inverse, y * inverse, z * inverse, inverse


@kernel
def shade_splats(first, last, means, coefficients, positions, degree, tile_counts, records):
    """Writes the colours of items [first, last) into records 8-10. coefficients (N, K, 3), camera positions (C, 3)."""
    count = means.shape[0]
    basis = np.zeros(16, np.float32)
    for item in range(first, last):
        if tile_counts[item] == 0:
            continue
        i = item % count
        x, y, z, _ = _direction(means, i, positions, item // count)
        _basis(x, y, z, degree, basis)
        red = green = blue = F(0.5)
        for b in range((degree + 1) * (degree + 1)):
            red += basis[b] * coefficients[i, b, 0]
            green += basis[b] * coefficients[i, b, 1]
            blue += basis[b] * coefficients[i, b, 2]
        records[item, 8] = max(F(0), red)
        records[item, 9] = max(F(0), green)
        records[item, 10] = max(F(0), blue)


@kernel
def shade_splats_backward(
    first, last, means, coefficients, positions, degree, tile_counts, records, item_gradients, coefficient_gradients, mean_gradients
):
    """Adds the colour gradients of splats [first, last) over all views to their coefficients and, through the direction, to their means."""
    count = means.shape[0]
    basis = np.zeros(16, np.float32)
    weights = np.zeros(16, np.float32)
    for i in range(first, last):
        for v in range(positions.shape[0]):
            item = v * count + i
            if tile_counts[item] == 0:
                continue
            red = item_gradients[item, 6] if records[item, 8] > F(0) else F(0)
            green = item_gradients[item, 7] if records[item, 9] > F(0) else F(0)
            blue = item_gradients[item, 8] if records[item, 10] > F(0) else F(0)
            x, y, z, inverse = _direction(means, i, positions, v)
            _basis(x, y, z, degree, basis)
            for b in range((degree + 1) * (degree + 1)):
                weights[b] = coefficients[i, b, 0] * red + coefficients[i, b, 1] * green + coefficients[i, b, 2] * blue
                coefficient_gradients[i, b, 0] += basis[b] * red
                coefficient_gradients[i, b, 1] += basis[b] * green
                coefficient_gradients[i, b, 2] += basis[b] * blue
            if degree > 0:
                gx, gy, gz = _weighted_basis_gradient(x, y, z, degree, weights)
                along = gx * x + gy * y + gz * z
                mean_gradients[i, 0] += (gx - along * x) * inverse
                mean_gradients[i, 1] += (gy - along * y) * inverse
                mean_gradients[i, 2] += (gz - along * z) * inverse


@kernel
def copy_colors(first, last, colors, tile_counts, records):
    """Writes given colours (N, D) of items [first, last) into records 8 and on."""
    for item in range(first, last):
        if tile_counts[item] > 0:
            for k in range(colors.shape[1]):
                records[item, 8 + k] = colors[item % colors.shape[0], k]


@kernel
def copy_colors_backward(first, last, item_gradients, color_gradients):
    """Adds the colour gradients of splats [first, last) over all views."""
    count, channels = color_gradients.shape
    for i in range(first, last):
        for item in range(i, item_gradients.shape[0], count):
            for k in range(channels):
                color_gradients[i, k] += item_gradients[item, 6 + k]


@kernel
def copy_depths(first, last, depths, tile_counts, field, records):
    """Writes the depths (C*N,) of items [first, last) into one field of the records."""
    for item in range(first, last):
        if tile_counts[item] > 0:
            records[item, field] = depths[item]
