# SPDX-License-Identifier: Apache-2.0
"""Kernels of the head studio: lattice noise, vertex normals, shadows and the shading of samples. They release the GIL."""

import math

import numpy as np

from ...render.jit import inlined, kernel

SKIN, HAIR = 0, 1  # kinds of surface


@inlined
def _lattice(x, y, z, seed):
    """A number in -1..1 for each integer point: Wang-like mixing of 32-bit words."""
    h = np.uint32(x) * np.uint32(0x8DA6B343) ^ np.uint32(y) * np.uint32(0xD8163841) ^ np.uint32(z) * np.uint32(0xCB1AB31F) ^ np.uint32(seed)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    h = h ^ (h >> np.uint32(16))
    return np.float64(np.uint32(h)) * (2.0 / 4294967295.0) - 1.0


@kernel
def lattice_noise(points, frequencies, seed, out):
    """points (M, 3), frequencies (3,) cells a unit -> out (M,): value noise in -1..1, smooth between the lattice's points."""
    for i in range(points.shape[0]):
        x, y, z = points[i, 0] * frequencies[0], points[i, 1] * frequencies[1], points[i, 2] * frequencies[2]
        x0, y0, z0 = math.floor(x), math.floor(y), math.floor(z)
        fx, fy, fz = x - x0, y - y0, z - z0
        fx, fy, fz = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy), fz * fz * (3 - 2 * fz)
        ix, iy, iz = int(x0), int(y0), int(z0)
        total = 0.0
        for corner in range(8):
            cx, cy, cz = corner & 1, (corner >> 1) & 1, corner >> 2
            weight = (fx if cx else 1 - fx) * (fy if cy else 1 - fy) * (fz if cz else 1 - fz)
            total += weight * _lattice(ix + cx, iy + cy, iz + cz, seed)
        out[i] = total


@kernel
def accumulate_normals(vertices, faces, normals):
    """vertices (V, 3), faces (F, 3) -> normals (V, 3), area-weighted and unit; `normals` comes zeroed."""
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in range(3):
            v = faces[f, k]
            normals[v, 0] += nx
            normals[v, 1] += ny
            normals[v, 2] += nz
    for v in range(normals.shape[0]):
        length = math.sqrt(normals[v, 0] ** 2 + normals[v, 1] ** 2 + normals[v, 2] ** 2)
        if length > 0:
            for k in range(3):
                normals[v, k] /= length


@kernel
def seen_from(points, depth, bias, softness, out):
    """points (V, 3) homogeneous pixels and depths in a depth picture (H, W) -> out (V,): share of nine taps that reach the point.

    `bias` is the depth under which a surface does not hide itself, `softness` the spacing of the taps in pixels.
    """
    height, width = depth.shape
    for v in range(points.shape[0]):
        x, y, z = points[v, 0] / points[v, 2], points[v, 1] / points[v, 2], points[v, 2]
        lit = 0
        for tap in range(9):
            column = int(x + (tap % 3 - 1) * softness)
            row = int(y + (tap // 3 - 1) * softness)
            if column < 0 or row < 0 or column >= width or row >= height or depth[row, column] >= z - bias:
                lit += 1
        out[v] = lit / 9.0


@kernel
def shade_samples(
    face_ids, barycentrics, faces, kinds, attributes, tangents, uvs, uv_faces, skin, hair, lights, eye, factor, encode, image, alpha
):
    """Lights `factor` x `factor` samples a pixel and averages them, display-referred and premultiplied.

    kinds (F,): SKIN or HAIR. attributes (V, 8): normal, position, key light's visibility, ambient visibility; tangents (V, 3) run along
    hair. skin and hair (h, w, 4): linear albedo and gloss of either kind. lights (2 + L, 6): sky and ground radiance, then directions
    and radiances of the lights, the key light first. encode (n,): display-referred levels of linear 0..2.
    """
    share = 1.0 / (factor * factor)
    levels = encode.shape[0] - 1
    light_count = lights.shape[0] - 2
    for py in range(alpha.shape[0]):
        for px in range(alpha.shape[1]):
            for sample in range(factor * factor):
                sy, sx = py * factor + sample // factor, px * factor + sample % factor
                face = face_ids[sy, sx]
                if face < 0:
                    continue
                alpha[py, px] += share
                wa, wb, wc = barycentrics[sy, sx, 0], barycentrics[sy, sx, 1], barycentrics[sy, sx, 2]
                a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
                nx = wa * attributes[a, 0] + wb * attributes[b, 0] + wc * attributes[c, 0]
                ny = wa * attributes[a, 1] + wb * attributes[b, 1] + wc * attributes[c, 1]
                nz = wa * attributes[a, 2] + wb * attributes[b, 2] + wc * attributes[c, 2]
                vx = eye[0] - (wa * attributes[a, 3] + wb * attributes[b, 3] + wc * attributes[c, 3])
                vy = eye[1] - (wa * attributes[a, 4] + wb * attributes[b, 4] + wc * attributes[c, 4])
                vz = eye[2] - (wa * attributes[a, 5] + wb * attributes[b, 5] + wc * attributes[c, 5])
                visible = wa * attributes[a, 6] + wb * attributes[b, 6] + wc * attributes[c, 6]
                ambient = wa * attributes[a, 7] + wb * attributes[b, 7] + wc * attributes[c, 7]
                scale = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz + 1e-20)
                nx, ny, nz = nx * scale, ny * scale, nz * scale
                scale = 1.0 / math.sqrt(vx * vx + vy * vy + vz * vz + 1e-20)
                vx, vy, vz = vx * scale, vy * scale, vz * scale
                facing = nx * vx + ny * vy + nz * vz
                hairy = kinds[face] == HAIR
                if facing < 0.0:
                    if hairy:
                        nx, ny, nz = -nx, -ny, -nz
                    facing = -facing if hairy else 0.0
                ta, tb, tc = uv_faces[face, 0], uv_faces[face, 1], uv_faces[face, 2]
                u = wa * uvs[ta, 0] + wb * uvs[tb, 0] + wc * uvs[tc, 0]
                v = wa * uvs[ta, 1] + wb * uvs[tb, 1] + wc * uvs[tc, 1]
                texture = hair if hairy else skin
                rows, columns = texture.shape[0], texture.shape[1]
                tx = min(max(u * columns - 0.5, 0.0), columns - 1.001)
                ty = min(max((1.0 - v) * rows - 0.5, 0.0), rows - 1.001)
                x0, y0 = int(tx), int(ty)
                fx, fy = tx - x0, ty - y0
                w00, w01, w10, w11 = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
                x1, y1 = x0 + 1, y0 + 1
                red = w00 * texture[y0, x0, 0] + w01 * texture[y0, x1, 0] + w10 * texture[y1, x0, 0] + w11 * texture[y1, x1, 0]
                green = w00 * texture[y0, x0, 1] + w01 * texture[y0, x1, 1] + w10 * texture[y1, x0, 1] + w11 * texture[y1, x1, 1]
                blue = w00 * texture[y0, x0, 2] + w01 * texture[y0, x1, 2] + w10 * texture[y1, x0, 2] + w11 * texture[y1, x1, 2]
                gloss = w00 * texture[y0, x0, 3] + w01 * texture[y0, x1, 3] + w10 * texture[y1, x0, 3] + w11 * texture[y1, x1, 3]
                up = 0.5 + 0.5 * ny
                lr = ambient * (lights[0, 0] * up + lights[1, 0] * (1 - up))
                lg = ambient * (lights[0, 1] * up + lights[1, 1] * (1 - up))
                lb = ambient * (lights[0, 2] * up + lights[1, 2] * (1 - up))
                edge = 1.0 - facing
                edge = edge * edge * edge * edge
                shine = 0.35 * edge * gloss * ambient
                sr, sg, sb = shine * lights[0, 0], shine * lights[0, 1], shine * lights[0, 2]
                if hairy:
                    dx = wa * tangents[a, 0] + wb * tangents[b, 0] + wc * tangents[c, 0]
                    dy = wa * tangents[a, 1] + wb * tangents[b, 1] + wc * tangents[c, 1]
                    dz = wa * tangents[a, 2] + wb * tangents[b, 2] + wc * tangents[c, 2]
                    scale = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz + 1e-20)
                    dx, dy, dz = dx * scale, dy * scale, dz * scale
                power = 24.0 if hairy else 6.0 + 250.0 * gloss * gloss
                for light in range(2, 2 + light_count):
                    x, y, z = lights[light, 0], lights[light, 1], lights[light, 2]
                    cosine = nx * x + ny * y + nz * z
                    open_ = visible if light == 2 else 0.4 + 0.6 * ambient
                    if hairy:
                        amount = max(0.0, (cosine + 0.35) / 1.35) * open_
                        lr += amount * lights[light, 3]
                        lg += amount * lights[light, 4]
                        lb += amount * lights[light, 5]
                    else:  # light that wraps around and reddens on the way: a skin's scattering
                        lr += max(0.0, (cosine + 0.30) / 1.30) * (0.12 + 0.88 * open_) * lights[light, 3]
                        lg += max(0.0, (cosine + 0.14) / 1.14) * (0.05 + 0.95 * open_) * lights[light, 4]
                        lb += max(0.0, (cosine + 0.10) / 1.10) * (0.04 + 0.96 * open_) * lights[light, 5]
                    if cosine <= 0.0 or open_ <= 0.0:
                        continue
                    hx, hy, hz = x + vx, y + vy, z + vz
                    scale = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz + 1e-20)
                    if hairy:
                        along = (hx * dx + hy * dy + hz * dz) * scale
                        base = math.sqrt(max(0.0, 1.0 - along * along))
                        shine = 0.5 * gloss * open_ * min(1.0, 3.0 * cosine)
                    else:
                        base = max(0.0, (hx * nx + hy * ny + hz * nz) * scale)
                        shine = gloss * (0.25 + 2.6 * gloss * gloss) * open_ * min(1.0, 4.0 * cosine)
                    shine *= math.exp(power * math.log(base + 1e-9))
                    sr += shine * lights[light, 3]
                    sg += shine * lights[light, 4]
                    sb += shine * lights[light, 5]
                image[py, px, 0] += share * encode[int(min(max((red * lr + sr) * 0.5, 0.0), 1.0) * levels)]
                image[py, px, 1] += share * encode[int(min(max((green * lg + sg) * 0.5, 0.0), 1.0) * levels)]
                image[py, px, 2] += share * encode[int(min(max((blue * lb + sb) * 0.5, 0.0), 1.0) * levels)]
