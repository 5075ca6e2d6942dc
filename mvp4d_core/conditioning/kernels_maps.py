# SPDX-License-Identifier: Apache-2.0
"""The CPU kernels of the conditioning maps (see maps.py for what the channels mean)."""

import math

import numpy as np

from ..render.jit import inlined, kernel
from ..render.kernels_mesh import rasterize_triangles

SUPERSAMPLE = 2  # raster samples a latent pixel, along each axis
FREQUENCIES = 7  # 2^0 .. 2^6
POSITION_CHANNELS = 3 * 2 * FREQUENCIES
FIRST_MOTION = POSITION_CHANNELS + 3  # among the channels that are painted on the head: positions, expression, motion
PAINTED_CHANNELS = FIRST_MOTION + 9
FRAMES_A_LATENT = 4
NEAR = 0.01  # metres
SNAP_MARGIN = 1.0 / 1024.0  # px, more than the rasteriser moves a corner


@inlined
def _project(vertices, projection, points):
    """vertices (V, 3) world, projection (3, 4) -> points (V, 3) float64: x and y in raster pixels, depth in metres."""
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        depth = projection[2, 0] * x + projection[2, 1] * y + projection[2, 2] * z + projection[2, 3]
        inverse = 1.0 / depth
        points[i, 0] = (projection[0, 0] * x + projection[0, 1] * y + projection[0, 2] * z + projection[0, 3]) * inverse
        points[i, 1] = (projection[1, 0] * x + projection[1, 1] * y + projection[1, 2] * z + projection[1, 3]) * inverse
        points[i, 2] = depth


@inlined
def _measure_motion(frames, anchor, projection, points, unit, scratch, motion):
    """motion (V, 9): how far each vertex is from its place in the anchor frame in each of the three frames before it."""
    for before in range(FRAMES_A_LATENT - 1):
        _project(frames[anchor - FRAMES_A_LATENT + 1 + before], projection, scratch)
        for i in range(points.shape[0]):
            for k in range(3):
                motion[i, 3 * before + k] = (scratch[i, k] - points[i, k]) * unit[k]


@inlined
def _keep_visible_sized(points, faces, height, width, kept, kept_ids):
    """Collects the faces whose box holds a pixel centre of the raster; returns how many. At latent size most hold none."""
    count = 0
    for face in range(faces.shape[0]):
        a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
        low = min(points[a, 0], points[b, 0], points[c, 0]) - SNAP_MARGIN
        high = max(points[a, 0], points[b, 0], points[c, 0]) + SNAP_MARGIN
        if high < 0.5 or low > width - 0.5 or math.ceil(low - 0.5) > math.floor(high - 0.5):
            continue
        low = min(points[a, 1], points[b, 1], points[c, 1]) - SNAP_MARGIN
        high = max(points[a, 1], points[b, 1], points[c, 1]) + SNAP_MARGIN
        if high < 0.5 or low > height - 0.5 or math.ceil(low - 0.5) > math.floor(high - 0.5):
            continue
        kept[count, 0], kept[count, 1], kept[count, 2] = a, b, c
        kept_ids[count] = face
        count += 1
    return count


@kernel
def _add_encoding(angles, weights, first, last, sines, cosines, rows):
    """Adds weights times the sines (rows 0..6) and cosines (rows 7..13) of 2^0 .. 2^6 times the angles, for the pixels [first, last).

    Written for vector instructions: polynomials at a sixteenth of the angle, exact to 1e-10 for all |angle| < 8, and then the formulas of
    the double angle, which also lead from one frequency to the next. angles, weights, sines, cosines (w,) float64; rows (14, w).
    """
    for x in range(first, last):
        t = angles[x] * 0.0625
        q = t * t
        sine = t * (1.0 - q / 6.0 * (1.0 - q / 20.0 * (1.0 - q / 42.0 * (1.0 - q / 72.0))))
        cosine = 1.0 - q / 2.0 * (1.0 - q / 12.0 * (1.0 - q / 30.0 * (1.0 - q / 56.0 * (1.0 - q / 90.0))))
        sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
        sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
        sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
        sines[x], cosines[x] = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine
    for band in range(FREQUENCIES):
        sine_row, cosine_row = rows[band], rows[FREQUENCIES + band]
        for x in range(first, last):
            sine, cosine = sines[x], cosines[x]
            sine_row[x] += weights[x] * sine
            cosine_row[x] += weights[x] * cosine
            sines[x], cosines[x] = 2.0 * sine * cosine, 1.0 - 2.0 * sine * sine


@inlined
def _paint(face_ids, barycentrics, faces, canonical, deformation, motion, moving, angles, waves, row, positions, expression, motions):
    """Averages what the samples of each latent pixel see; samples that see no face count as zero.

    positions (42, h, w), expression (3, h, w) and motions (9, h, w) are parts of the output, zero before; angles (3, w), waves (3, w) and
    row (54, w) are scratch.
    """
    height, width = positions.shape[1], positions.shape[2]
    share = 1.0 / (SUPERSAMPLE * SUPERSAMPLE)
    weights = waves[2]
    for y in range(height):
        covered = False
        for sample in range(SUPERSAMPLE * SUPERSAMPLE):
            first, last = width, 0
            for x in range(width):
                sy, sx = SUPERSAMPLE * y + sample // SUPERSAMPLE, SUPERSAMPLE * x + sample % SUPERSAMPLE
                face = face_ids[sy, sx]
                if face < 0:
                    weights[x], angles[0, x], angles[1, x], angles[2, x] = 0.0, 0.0, 0.0, 0.0
                    continue
                first, last = min(first, x), x + 1
                if not covered:
                    covered = True
                    row[:] = 0.0
                a, b, c = faces[face, 0], faces[face, 1], faces[face, 2]
                wa, wb, wc = barycentrics[sy, sx, 0], barycentrics[sy, sx, 1], barycentrics[sy, sx, 2]
                weights[x] = share
                for k in range(3):
                    angles[k, x] = wa * canonical[a, k] + wb * canonical[b, k] + wc * canonical[c, k]
                    moved = wa * deformation[a, k] + wb * deformation[b, k] + wc * deformation[c, k]
                    row[POSITION_CHANNELS + k, x] += share * moved
                if moving:
                    for k in range(9):
                        row[FIRST_MOTION + k, x] += share * (wa * motion[a, k] + wb * motion[b, k] + wc * motion[c, k])
            if first < last:
                for axis in range(3):
                    bands = row[2 * FREQUENCIES * axis : 2 * FREQUENCIES * (axis + 1)]
                    _add_encoding(angles[axis], weights, first, last, waves[0], waves[1], bands)
        if covered:
            positions[:, y] = row[:POSITION_CHANNELS]
            expression[:, y] = row[POSITION_CHANNELS:FIRST_MOTION]
            motions[:, y] = row[FIRST_MOTION:]


@kernel
def draw_maps(first, last, frames, deformation, canonical, faces, projections, motion_units, positions, expression, motions):
    """Draws the maps `first` to `last` of V views times L latent frames, views first.

    Args:
        frames: (F, V, 3) float32, the posed head, world space.
        deformation: (L, V, 3) float32, what is painted as E.
        canonical: (V, 3) float32, what is encoded as P.
        faces: (n, 3) int32.
        projections: (V, 3, 4) float64, raster pixels from world.
        motion_units: (3,) float64, painted motion a raster pixel in x, in y, and a metre in depth.
        positions, expression, motions: (V, L, 42, h, w), (V, L, 3, h, w) and (V, L, 9, h, w) float32, zero before.
    """
    latents, height, width = positions.shape[1], positions.shape[3] * SUPERSAMPLE, positions.shape[4] * SUPERSAMPLE
    count = canonical.shape[0]
    points, scratch = np.zeros((count, 3)), np.zeros((count, 3))
    motion = np.zeros((count, 9), np.float32)
    kept, kept_ids = np.zeros_like(faces), np.zeros(faces.shape[0], np.int32)
    depth = np.zeros((height, width), np.float32)
    face_ids = np.zeros((height, width), np.int32)
    barycentrics = np.zeros((height, width, 3), np.float32)
    angles, waves = np.zeros((3, positions.shape[4])), np.zeros((3, positions.shape[4]))
    row = np.zeros((PAINTED_CHANNELS, positions.shape[4]), np.float32)
    for job in range(first, last):
        view, latent = job // latents, job % latents
        anchor = FRAMES_A_LATENT * latent
        _project(frames[anchor], projections[view], points)
        if latent > 0:
            _measure_motion(frames, anchor, projections[view], points, motion_units, scratch, motion)
        visible = kept[: _keep_visible_sized(points, faces, height, width, kept, kept_ids)]
        for i in range(count):  # homogeneous, as the rasteriser wants them
            points[i, 0] *= points[i, 2]
            points[i, 1] *= points[i, 2]
        depth[:] = np.inf
        face_ids[:] = -1
        rasterize_triangles(points, visible, NEAR, False, depth, face_ids, barycentrics)
        _paint(
            face_ids, barycentrics, visible, canonical, deformation[latent], motion, latent > 0, angles, waves, row,
            positions[view, latent], expression[view, latent], motions[view, latent],
        )  # fmt: skip
