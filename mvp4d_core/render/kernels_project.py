# SPDX-License-Identifier: Apache-2.0
"""Kernels that project 3D Gaussians to the image plane (EWA splatting) and carry gradients back.

A Gaussian of covariance `S = R diag(s)^2 R^T` seen by `x_c = W x + t` becomes a 2D Gaussian at `(fx x/z + cx, fy y/z + cy)` with covariance
`B B^T + eps2d I`, where `B = J W R diag(s)` and J is the Jacobian of the projection. J is evaluated at most 15 % of the image size outside
the image, as gsplat does, because the linearisation fails beyond.

With `antialiased` the opacity is scaled by rho = sqrt(det(B B^T) / det(B B^T + eps2d I)), so that a splat thinner than a pixel keeps its
light when eps2d widens it (Yu et al. 2024, Mip-Splatting's 2D filter; gsplat's mode of that name).

Work items are (view, splat) pairs, `item = view * N + splat`. A record is one 64-byte cache line per item:
0-1 centre (px), 2-3 half extents of the visible ellipse (px), 4-6 conic (A/2, B, C/2), 7 opacity, 8-11 colour and depth, the rest unused.
"""

import math

import numpy as np
from numba import float32 as F

from .jit import inlined, kernel

RECORD = 16
USED_FIELDS = 12
TILE = 16
MASK_TILES = 64
MIN_ALPHA = np.float32(1 / 255)
MAX_EXPONENT = F(6.0)  # exp(-6) < 1/255: nothing farther out is ever drawn
SLOPE_MARGIN = F(0.15)


@inlined
def _slope_limits(focal, centre, size):
    """The least and greatest x/z (or y/z) at which the Jacobian is evaluated."""
    return -(centre + SLOPE_MARGIN * size) / focal, ((F(1) + SLOPE_MARGIN) * size - centre) / focal


@inlined
def _to_camera(view, x, y, z):
    return (
        view[0, 0] * x + view[0, 1] * y + view[0, 2] * z + view[0, 3],
        view[1, 0] * x + view[1, 1] * y + view[1, 2] * z + view[1, 3],
        view[2, 0] * x + view[2, 1] * y + view[2, 2] * z + view[2, 3],
    )


@inlined
def _normalized(w, x, y, z):
    """The unit quaternion and the factor that made it one."""
    factor = F(1) / math.sqrt(w * w + x * x + y * y + z * z)
    return w * factor, x * factor, y * factor, z * factor, factor


@inlined
def _rotation(w, x, y, z):
    """Row-major matrix of a unit quaternion."""
    return (
        F(1) - F(2) * (y * y + z * z), F(2) * (x * y - w * z), F(2) * (x * z + w * y),
        F(2) * (x * y + w * z), F(1) - F(2) * (x * x + z * z), F(2) * (y * z - w * x),
        F(2) * (x * z - w * y), F(2) * (y * z + w * x), F(1) - F(2) * (x * x + y * y),
    )  # fmt: skip


@inlined
def _jacobian_times_view(view, j00, j02, j11, j12):
    """Row-major (2, 3) product of J = [[j00, 0, j02], [0, j11, j12]] and the rotation of the view."""
    return (
        j00 * view[0, 0] + j02 * view[2, 0], j00 * view[0, 1] + j02 * view[2, 1], j00 * view[0, 2] + j02 * view[2, 2],
        j11 * view[1, 0] + j12 * view[2, 0], j11 * view[1, 1] + j12 * view[2, 1], j11 * view[1, 2] + j12 * view[2, 2],
    )  # fmt: skip


@inlined
def _product_2x3_3x3(a, r):
    return (
        a[0] * r[0] + a[1] * r[3] + a[2] * r[6], a[0] * r[1] + a[1] * r[4] + a[2] * r[7], a[0] * r[2] + a[1] * r[5] + a[2] * r[8],
        a[3] * r[0] + a[4] * r[3] + a[5] * r[6], a[3] * r[1] + a[4] * r[4] + a[5] * r[7], a[3] * r[2] + a[4] * r[5] + a[5] * r[8],
    )  # fmt: skip


@inlined
def _clamp(value, low, high):
    return min(high, max(low, value))


@inlined
def _ellipse_meets_tile(px, py, a, b, c, limit, column, row):
    """Whether (a dx^2 + c dy^2)/2 + b dx dy <= limit somewhere in the square spanned by the tile's pixel centres (exact)."""
    left, right = F(column * TILE) + F(0.5) - px, F(column * TILE + TILE) - F(0.5) - px
    top, bottom = F(row * TILE) + F(0.5) - py, F(row * TILE + TILE) - F(0.5) - py
    if left <= F(0) and right >= F(0) and top <= F(0) and bottom >= F(0):
        return True
    least = F(1e30)
    if left > F(0) or right < F(0):
        dx = left if left > F(0) else right
        dy = _clamp(-b * dx / c, top, bottom)
        least = F(0.5) * (a * dx * dx + c * dy * dy) + b * dx * dy
    if top > F(0) or bottom < F(0):
        dy = top if top > F(0) else bottom
        dx = _clamp(-b * dy / a, left, right)
        least = min(least, F(0.5) * (a * dx * dx + c * dy * dy) + b * dx * dy)
    return least <= limit


@inlined
def _find_tiles(item, px, py, half_x, half_y, a, b, c, limit, width, height, tile_boxes, tile_masks):
    """Stores the box of tiles a splat may touch and which of them it does; returns how many.

    Decided once and stored, so that counting and filling the tile lists can never disagree. A box of more than 64 tiles counts as full.
    """
    first_x = int(math.ceil(max(F(0), px - half_x - F(0.5))))
    last_x = int(math.floor(min(F(width - 1), px + half_x - F(0.5))))
    first_y = int(math.ceil(max(F(0), py - half_y - F(0.5))))
    last_y = int(math.floor(min(F(height - 1), py + half_y - F(0.5))))
    if last_x < first_x or last_y < first_y:
        return 0
    first_column, last_column = first_x // TILE, last_x // TILE
    first_row, last_row = first_y // TILE, last_y // TILE
    tile_boxes[item, 0] = first_column
    tile_boxes[item, 1] = last_column
    tile_boxes[item, 2] = first_row
    tile_boxes[item, 3] = last_row
    area = (last_column - first_column + 1) * (last_row - first_row + 1)
    if area > MASK_TILES:
        return area
    count = 0
    mask = np.uint64(0)
    bit = np.uint64(1)
    for row in range(first_row, last_row + 1):
        for column in range(first_column, last_column + 1):
            if _ellipse_meets_tile(px, py, a, b, c, limit, column, row):
                mask |= bit
                count += 1
            bit <<= np.uint64(1)
    tile_masks[item] = mask
    return count


@inlined
def _sharp_determinant(b00, b01, b02, b10, b11, b12):
    """det(B B^T) as the squared length of the rows' cross product: nothing cancels for splats thinner than a pixel."""
    x, y, z = b01 * b12 - b02 * b11, b02 * b10 - b00 * b12, b00 * b11 - b01 * b10
    return x * x + y * y + z * z


@kernel
def project_splats(
    first, last, means, quats, scales, opacities, viewmats, Ks, width, height, eps2d, antialiased, near, far,
    records, depths, radii, tile_boxes, tile_masks, tile_counts,
):  # fmt: skip
    """Fills records 0-7, depths, radii (px, rounded up; 0 where culled) and the tiles of items [first, last).

    All outputs come in zeroed.
    """
    count = means.shape[0]
    for item in range(first, last):
        i = item % count
        view = viewmats[item // count]
        K = Ks[item // count]
        opacity = opacities[i]
        x, y, z = _to_camera(view, means[i, 0], means[i, 1], means[i, 2])
        depths[item] = z
        if not (z >= near and z <= far and opacity >= MIN_ALPHA):
            continue
        fx, fy = K[0, 0], K[1, 1]
        inverse_z = F(1) / z
        low_x, high_x = _slope_limits(fx, K[0, 2], F(width))
        low_y, high_y = _slope_limits(fy, K[1, 2], F(height))
        slope_x, slope_y = _clamp(x * inverse_z, low_x, high_x), _clamp(y * inverse_z, low_y, high_y)
        j00, j11 = fx * inverse_z, fy * inverse_z
        view_jacobian = _jacobian_times_view(view, j00, -j00 * slope_x, j11, -j11 * slope_y)
        qw, qx, qy, qz, _ = _normalized(quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3])
        e = _product_2x3_3x3(view_jacobian, _rotation(qw, qx, qy, qz))
        s0, s1, s2 = scales[i, 0], scales[i, 1], scales[i, 2]
        b00, b01, b02 = e[0] * s0, e[1] * s1, e[2] * s2
        b10, b11, b12 = e[3] * s0, e[4] * s1, e[5] * s2
        cov_xx = b00 * b00 + b01 * b01 + b02 * b02 + eps2d
        cov_xy = b00 * b10 + b01 * b11 + b02 * b12
        cov_yy = b10 * b10 + b11 * b11 + b12 * b12 + eps2d
        determinant = cov_xx * cov_yy - cov_xy * cov_xy
        if not (determinant > F(0) and determinant < F(np.inf)):
            continue
        inverse = F(1) / determinant
        a, b, c = cov_yy * inverse, -cov_xy * inverse, cov_xx * inverse
        if antialiased:
            opacity *= math.sqrt(_sharp_determinant(b00, b01, b02, b10, b11, b12) * inverse)
            if opacity < MIN_ALPHA:
                continue
        px, py = fx * x * inverse_z + K[0, 2], fy * y * inverse_z + K[1, 2]
        limit = min(MAX_EXPONENT, math.log(opacity * F(255)))
        half_x, half_y = math.sqrt(F(2) * limit * cov_xx), math.sqrt(F(2) * limit * cov_yy)
        if not (px + half_x > F(0) and px - half_x < F(width) and py + half_y > F(0) and py - half_y < F(height)):
            continue
        tiles = _find_tiles(item, px, py, half_x, half_y, a, b, c, limit, width, height, tile_boxes, tile_masks)
        if tiles == 0:
            continue
        tile_counts[item] = tiles
        records[item, 0] = px
        records[item, 1] = py
        records[item, 2] = half_x
        records[item, 3] = half_y
        records[item, 4] = F(0.5) * a
        records[item, 5] = b
        records[item, 6] = F(0.5) * c
        records[item, 7] = opacity
        radii[item, 0] = min(F(1 << 30), math.ceil(half_x))
        radii[item, 1] = min(F(1 << 30), math.ceil(half_y))


@inlined
def _quaternion_gradient(d, w, x, y, z):
    """Gradient with respect to a unit quaternion, given the gradient d (row-major) with respect to its matrix.

    From R = (1 - 2 v.v) I + 2 v v^T + 2 w [v]x: with k the axial vector of D - D^T, dw = 2 k.v and dv = 2 (w k + (D + D^T) v - 2 tr(D) v).
    """
    kx, ky, kz = d[7] - d[5], d[2] - d[6], d[3] - d[1]
    trace = F(2) * (d[0] + d[4] + d[8])
    xy, xz, yz = d[1] + d[3], d[2] + d[6], d[5] + d[7]
    return (
        F(2) * (kx * x + ky * y + kz * z),
        F(2) * (w * kx + (F(2) * d[0] - trace) * x + xy * y + xz * z),
        F(2) * (w * ky + xy * x + (F(2) * d[4] - trace) * y + yz * z),
        F(2) * (w * kz + xz * x + yz * y + (F(2) * d[8] - trace) * z),
    )


@inlined
def _conic_to_covariance_gradient(a, b, c, ga, gb, gc):
    """-Q G Q for the conic Q = [[a, b], [b, c]] and G = [[ga, gb/2], [gb/2, gc]]: the gradient (xx, xy, yy) of the 2D covariance."""
    half = F(0.5) * gb
    h00, h01, h10, h11 = a * ga + b * half, a * half + b * gc, b * ga + c * half, b * half + c * gc
    return -(h00 * a + h01 * b), -(h00 * b + h01 * c), -(h10 * b + h11 * c)


@inlined
def _position_gradient(x, y, inverse_z, fx, fy, inside_x, inside_y, slope_x, slope_y, g, g00, g02, g11, g12):
    """Camera-space gradient of the centre, from that of the pixel position (g[0], g[1]) and of the four entries of J.

    Inside the slope limits j02 = -fx x / z^2; outside, the slope is a constant, so j02 = -fx slope / z.
    """
    jx, jy = fx * inverse_z, fy * inverse_z
    vx, vy = jx * g[0], jy * g[1]
    vz = -inverse_z * (jx * (x * g[0] + g00) + jy * (y * g[1] + g11))
    if inside_x:
        vx -= jx * inverse_z * g02
        vz += F(2) * jx * slope_x * inverse_z * g02
    else:
        vz += jx * slope_x * inverse_z * g02
    if inside_y:
        vy -= jy * inverse_z * g12
        vz += F(2) * jy * slope_y * inverse_z * g12
    else:
        vz += jy * slope_y * inverse_z * g12
    return vx, vy, vz


@inlined
def _compensation_gradient(xx, xy, yy, eps2d, inverse, rho):
    """The gradient (xx, xy, yy) of rho with respect to the 2D covariance: (adj(B B^T)/det - rho^2 cov^-1) / (2 rho).

    xx, xy, yy are those of B B^T; `inverse` is one over the determinant of cov = B B^T + eps2d I. No splat with rho below 1/255 is drawn.
    """
    half, square = F(0.5) / rho * inverse, rho * rho
    return half * (yy - square * (yy + eps2d)), -half * (F(1) - square) * xy, half * (xx - square * (xx + eps2d))


@kernel
def project_splats_backward(
    first, last, means, quats, scales, opacities, viewmats, Ks, width, height, eps2d, antialiased, depth_field, tile_counts, item_gradients,
    mean_gradients, quat_gradients, scale_gradients, opacity_gradients,
):  # fmt: skip
    """Adds the gradients of splats [first, last) over all views, in the order of the views.

    item_gradients (C*N, 6 + D or more): pixel position (2), conic A, B, C (3), opacity, colour; `depth_field` is the one of them that holds
    the gradient of the depth, 0 for none. Outputs come in holding what is to be added to.
    """
    count = means.shape[0]
    for i in range(first, last):
        qw, qx, qy, qz, factor = _normalized(quats[i, 0], quats[i, 1], quats[i, 2], quats[i, 3])
        rotation = _rotation(qw, qx, qy, qz)
        s0, s1, s2 = scales[i, 0], scales[i, 1], scales[i, 2]
        for v in range(viewmats.shape[0]):
            item = v * count + i
            if tile_counts[item] == 0:
                continue
            view = viewmats[v]
            fx, fy = Ks[v, 0, 0], Ks[v, 1, 1]
            g = item_gradients[item]
            opacity_gradient = g[5]
            x, y, z = _to_camera(view, means[i, 0], means[i, 1], means[i, 2])
            inverse_z = F(1) / z
            low_x, high_x = _slope_limits(fx, Ks[v, 0, 2], F(width))
            low_y, high_y = _slope_limits(fy, Ks[v, 1, 2], F(height))
            slope_x, slope_y = x * inverse_z, y * inverse_z
            inside_x, inside_y = slope_x > low_x and slope_x < high_x, slope_y > low_y and slope_y < high_y
            slope_x, slope_y = _clamp(slope_x, low_x, high_x), _clamp(slope_y, low_y, high_y)
            j00, j11 = fx * inverse_z, fy * inverse_z
            w = _jacobian_times_view(view, j00, -j00 * slope_x, j11, -j11 * slope_y)
            e = _product_2x3_3x3(w, rotation)
            b00, b01, b02 = e[0] * s0, e[1] * s1, e[2] * s2
            b10, b11, b12 = e[3] * s0, e[4] * s1, e[5] * s2
            cov_xx = b00 * b00 + b01 * b01 + b02 * b02 + eps2d
            cov_xy = b00 * b10 + b01 * b11 + b02 * b12
            cov_yy = b10 * b10 + b11 * b11 + b12 * b12 + eps2d
            inverse = F(1) / (cov_xx * cov_yy - cov_xy * cov_xy)
            c00, c01, c11 = _conic_to_covariance_gradient(cov_yy * inverse, -cov_xy * inverse, cov_xx * inverse, g[2], g[3], g[4])
            if antialiased:
                sharp_xx, sharp_yy = b00 * b00 + b01 * b01 + b02 * b02, b10 * b10 + b11 * b11 + b12 * b12
                rho = math.sqrt(_sharp_determinant(b00, b01, b02, b10, b11, b12) * inverse)
                r00, r01, r11 = _compensation_gradient(sharp_xx, cov_xy, sharp_yy, eps2d, inverse, rho)
                weight = opacity_gradient * opacities[i]
                c00, c01, c11 = c00 + weight * r00, c01 + weight * r01, c11 + weight * r11
                opacity_gradient *= rho
            opacity_gradients[i] += opacity_gradient
            # covariance = B B^T, so dB = 2 dcov B; then B = E diag(s), E = (J W) R
            d00, d01, d02 = F(2) * (c00 * b00 + c01 * b10), F(2) * (c00 * b01 + c01 * b11), F(2) * (c00 * b02 + c01 * b12)
            d10, d11, d12 = F(2) * (c01 * b00 + c11 * b10), F(2) * (c01 * b01 + c11 * b11), F(2) * (c01 * b02 + c11 * b12)
            scale_gradients[i, 0] += d00 * e[0] + d10 * e[3]
            scale_gradients[i, 1] += d01 * e[1] + d11 * e[4]
            scale_gradients[i, 2] += d02 * e[2] + d12 * e[5]
            d00, d01, d02, d10, d11, d12 = d00 * s0, d01 * s1, d02 * s2, d10 * s0, d11 * s1, d12 * s2
            rotation_gradient = (
                w[0] * d00 + w[3] * d10, w[0] * d01 + w[3] * d11, w[0] * d02 + w[3] * d12,
                w[1] * d00 + w[4] * d10, w[1] * d01 + w[4] * d11, w[1] * d02 + w[4] * d12,
                w[2] * d00 + w[5] * d10, w[2] * d01 + w[5] * d11, w[2] * d02 + w[5] * d12,
            )  # fmt: skip
            gw, gx, gy, gz = _quaternion_gradient(rotation_gradient, qw, qx, qy, qz)
            along = gw * qw + gx * qx + gy * qy + gz * qz  # normalisation removes what points along the quaternion
            quat_gradients[i, 0] += (gw - along * qw) * factor
            quat_gradients[i, 1] += (gx - along * qx) * factor
            quat_gradients[i, 2] += (gy - along * qy) * factor
            quat_gradients[i, 3] += (gz - along * qz) * factor
            # d(J W) = dE R^T, dJ = d(J W) W^T
            f = _product_2x3_3x3(
                (d00, d01, d02, d10, d11, d12),
                (rotation[0], rotation[3], rotation[6], rotation[1], rotation[4], rotation[7], rotation[2], rotation[5], rotation[8]),
            )
            vx, vy, vz = _position_gradient(
                x, y, inverse_z, fx, fy, inside_x, inside_y, slope_x, slope_y, g,
                f[0] * view[0, 0] + f[1] * view[0, 1] + f[2] * view[0, 2],
                f[0] * view[2, 0] + f[1] * view[2, 1] + f[2] * view[2, 2],
                f[3] * view[1, 0] + f[4] * view[1, 1] + f[5] * view[1, 2],
                f[3] * view[2, 0] + f[4] * view[2, 1] + f[5] * view[2, 2],
            )  # fmt: skip
            if depth_field > 0:
                vz += g[depth_field]
            mean_gradients[i, 0] += view[0, 0] * vx + view[1, 0] * vy + view[2, 0] * vz
            mean_gradients[i, 1] += view[0, 1] * vx + view[1, 1] * vy + view[2, 1] * vz
            mean_gradients[i, 2] += view[0, 2] * vx + view[1, 2] * vy + view[2, 2] * vz
