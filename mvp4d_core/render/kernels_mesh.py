# SPDX-License-Identifier: Apache-2.0
"""Kernels of the mesh rasteriser.

Points are homogeneous image coordinates `h = K p` with `p` in camera space: pixel `(h0 / h2, h1 / h2)`, depth `h2`. Coverage is decided in
integers: corners are snapped to 1/4096 px and edge functions are exact, with the top-left rule for pixel centres that lie on an edge.
So two triangles that share an edge leave no gap between them and cover no pixel twice.
"""

import math

import numpy as np

from .jit import inlined, kernel

SUBPIXELS = 4096
GUARD_BAND = 131072.0  # px; farther corners are clipped, which keeps every edge function below 2**62
CLIP_PLANES = 5
MAX_CORNERS = 3 + CLIP_PLANES


@inlined
def _plane_distance(h, plane, near):
    """Signed distance-like value, >= 0 inside: the near plane, then the left, right, top and bottom of the guard band."""
    if plane == 0:
        return h[2] - near
    if plane == 1:
        return h[0] + GUARD_BAND * h[2]
    if plane == 2:
        return GUARD_BAND * h[2] - h[0]
    if plane == 3:
        return h[1] + GUARD_BAND * h[2]
    return GUARD_BAND * h[2] - h[1]


@kernel
def _clip_polygon(polygon, near, scratch):
    """Sutherland-Hodgman in place. polygon (MAX_CORNERS, 6): homogeneous point, barycentrics. Returns the number of corners left.

    A crossing point is always computed from the inside corner towards the outside one, so neighbours that share the edge agree on it.
    """
    corners = 3
    for plane in range(CLIP_PLANES):
        kept = 0
        for i in range(corners):
            j = i + 1 if i + 1 < corners else 0
            here = _plane_distance(polygon[i], plane, near)
            there = _plane_distance(polygon[j], plane, near)
            if here >= 0.0:
                for k in range(6):
                    scratch[kept, k] = polygon[i, k]
                kept += 1
            if (here >= 0.0) != (there >= 0.0):
                inside, outside = (i, j) if here >= 0.0 else (j, i)
                low, high = (here, there) if here >= 0.0 else (there, here)
                t = low / (low - high)
                for k in range(6):
                    scratch[kept, k] = polygon[inside, k] + t * (polygon[outside, k] - polygon[inside, k])
                kept += 1
        corners = kept
        for i in range(corners):
            for k in range(6):
                polygon[i, k] = scratch[i, k]
        if corners < 3:
            return 0
    return corners


@inlined
def _edge_bias(dx, dy):
    """0 for top and left edges, which own the pixel centres on them, else -1."""
    return 0 if dy < 0 or (dy == 0 and dx > 0) else -1


@kernel
def _fill_triangle(polygon, i0, i1, i2, face, cull, depth, face_ids, barycentrics):
    """Rasterises three corners of `polygon` into the z-buffer."""
    height, width = depth.shape
    inverse_z0, inverse_z1, inverse_z2 = 1.0 / polygon[i0, 2], 1.0 / polygon[i1, 2], 1.0 / polygon[i2, 2]
    ax = int(np.rint(polygon[i0, 0] * inverse_z0 * SUBPIXELS))
    ay = int(np.rint(polygon[i0, 1] * inverse_z0 * SUBPIXELS))
    bx = int(np.rint(polygon[i1, 0] * inverse_z1 * SUBPIXELS))
    by = int(np.rint(polygon[i1, 1] * inverse_z1 * SUBPIXELS))
    cx = int(np.rint(polygon[i2, 0] * inverse_z2 * SUBPIXELS))
    cy = int(np.rint(polygon[i2, 1] * inverse_z2 * SUBPIXELS))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0 or (cull and area > 0):  # y points down, so a counter-clockwise face that looks at the camera has a negative area
        return
    if area < 0:
        bx, by, cx, cy, area = cx, cy, bx, by, -area
        i1, i2 = i2, i1
        inverse_z1, inverse_z2 = inverse_z2, inverse_z1
    half = SUBPIXELS // 2
    x_first = max(0, -((half - min(ax, bx, cx)) // SUBPIXELS))
    x_last = min(width - 1, (max(ax, bx, cx) - half) // SUBPIXELS)
    y_first = max(0, -((half - min(ay, by, cy)) // SUBPIXELS))
    y_last = min(height - 1, (max(ay, by, cy) - half) // SUBPIXELS)
    if x_first > x_last or y_first > y_last:
        return
    px, py = x_first * SUBPIXELS + half, y_first * SUBPIXELS + half
    row_a = (cx - bx) * (py - by) - (cy - by) * (px - bx) + _edge_bias(cx - bx, cy - by)
    row_b = (ax - cx) * (py - cy) - (ay - cy) * (px - cx) + _edge_bias(ax - cx, ay - cy)
    row_c = (bx - ax) * (py - ay) - (by - ay) * (px - ax) + _edge_bias(bx - ax, by - ay)
    a_dx, a_dy = -(cy - by) * SUBPIXELS, (cx - bx) * SUBPIXELS
    b_dx, b_dy = -(ay - cy) * SUBPIXELS, (ax - cx) * SUBPIXELS
    c_dx, c_dy = -(by - ay) * SUBPIXELS, (bx - ax) * SUBPIXELS
    inverse_area = 1.0 / area
    u0, u1, u2 = polygon[i0, 3] * inverse_z0, polygon[i1, 3] * inverse_z1, polygon[i2, 3] * inverse_z2
    v0, v1, v2 = polygon[i0, 4] * inverse_z0, polygon[i1, 4] * inverse_z1, polygon[i2, 4] * inverse_z2
    for y in range(y_first, y_last + 1):
        ea, eb, ec = row_a, row_b, row_c
        for x in range(x_first, x_last + 1):
            if (ea | eb | ec) >= 0:
                wa = ea * inverse_area
                wb = eb * inverse_area
                wc = 1.0 - wa - wb
                z = 1.0 / (wa * inverse_z0 + wb * inverse_z1 + wc * inverse_z2)
                if np.float32(z) < depth[y, x]:
                    u = min(1.0, max(0.0, z * (wa * u0 + wb * u1 + wc * u2)))
                    v = min(1.0 - u, max(0.0, z * (wa * v0 + wb * v1 + wc * v2)))
                    depth[y, x] = z
                    face_ids[y, x] = face
                    barycentrics[y, x, 0] = u
                    barycentrics[y, x, 1] = v
                    barycentrics[y, x, 2] = 1.0 - u - v
            ea += a_dx
            eb += b_dx
            ec += c_dx
        row_a += a_dy
        row_b += b_dy
        row_c += c_dy


@kernel
def rasterize_triangles(points, faces, near, cull, depth, face_ids, barycentrics):
    """points (V, 3) float64 homogeneous, faces (F, 3) -> depth (H, W), face_ids (H, W), barycentrics (H, W, 3), all prefilled as empty."""
    polygon = np.zeros((MAX_CORNERS, 6))
    scratch = np.zeros((MAX_CORNERS, 6))
    for face in range(faces.shape[0]):
        inside = True
        for i in range(3):
            for k in range(3):
                polygon[i, k] = points[faces[face, i], k]
                polygon[i, 3 + k] = 1.0 if i == k else 0.0
            reach = GUARD_BAND * polygon[i, 2]
            inside &= polygon[i, 2] >= near and math.fabs(polygon[i, 0]) <= reach and math.fabs(polygon[i, 1]) <= reach
        corners = 3 if inside else _clip_polygon(polygon, near, scratch)
        for i in range(1, corners - 1):
            _fill_triangle(polygon, 0, i, i + 1, face, cull, depth, face_ids, barycentrics)


@kernel
def interpolate_attributes(face_ids, barycentrics, faces, attributes, out):
    """out (H, W, D): barycentric mean of the corner attributes (V, D) of each pixel's face; untouched where there is none."""
    for y in range(face_ids.shape[0]):
        for x in range(face_ids.shape[1]):
            face = face_ids[y, x]
            if face >= 0:
                u, v, w = barycentrics[y, x, 0], barycentrics[y, x, 1], barycentrics[y, x, 2]
                a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
                for k in range(attributes.shape[1]):
                    out[y, x, k] = u * attributes[a, k] + v * attributes[b, k] + w * attributes[c, k]


@inlined
def _texel_weights(texture, u, v):
    """The four neighbours of a UV position (v up) and the two fractions between them; positions outside clamp to the border."""
    rows, columns = texture.shape[0], texture.shape[1]
    x = min(max(u * columns - 0.5, 0.0), columns - 1.0)
    y = min(max((1.0 - v) * rows - 0.5, 0.0), rows - 1.0)
    x0, y0 = int(x), int(y)
    return x0, min(x0 + 1, columns - 1), y0, min(y0 + 1, rows - 1), x - x0, y - y0


@kernel
def sample_bilinear(texture, uv, out):
    """texture (h, w, C), uv (N, 2), v up -> out (N, C)."""
    for i in range(uv.shape[0]):
        x0, x1, y0, y1, fx, fy = _texel_weights(texture, uv[i, 0], uv[i, 1])
        for k in range(texture.shape[2]):
            top = texture[y0, x0, k] * (1 - fx) + texture[y0, x1, k] * fx
            bottom = texture[y1, x0, k] * (1 - fx) + texture[y1, x1, k] * fx
            out[i, k] = top * (1 - fy) + bottom * fy


@kernel
def shade_textured(face_ids, barycentrics, uvs, uv_faces, texture, factor, image, alpha):
    """Textures `factor` x `factor` samples a pixel and averages them: premultiplied image (H, W, C), coverage alpha (H, W)."""
    share = 1.0 / (factor * factor)
    for y in range(alpha.shape[0]):
        for x in range(alpha.shape[1]):
            for sample in range(factor * factor):
                sy, sx = y * factor + sample // factor, x * factor + sample % factor
                face = face_ids[sy, sx]
                if face < 0:
                    continue
                a, b, c = uv_faces[face, 0], uv_faces[face, 1], uv_faces[face, 2]
                wa, wb, wc = barycentrics[sy, sx, 0], barycentrics[sy, sx, 1], barycentrics[sy, sx, 2]
                u = wa * uvs[a, 0] + wb * uvs[b, 0] + wc * uvs[c, 0]
                v = wa * uvs[a, 1] + wb * uvs[b, 1] + wc * uvs[c, 1]
                x0, x1, y0, y1, fx, fy = _texel_weights(texture, u, v)
                for k in range(texture.shape[2]):
                    top = texture[y0, x0, k] * (1 - fx) + texture[y0, x1, k] * fx
                    bottom = texture[y1, x0, k] * (1 - fx) + texture[y1, x1, k] * fx
                    image[y, x, k] += share * (top * (1 - fy) + bottom * fy)
                alpha[y, x] += share
