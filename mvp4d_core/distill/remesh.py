# SPDX-License-Identifier: Apache-2.0
"""The rig on a regular mesh over its UV atlas, as CAP4D binds its Gaussians (Taubner et al. 2025).

Each texel of the atlas becomes a vertex, and four neighbours a quad. Triangles are then of even size where the atlas is, whatever the
head's own mesh is like: a head with a coarse scalp gains detail there. Charts are cut where the atlas is; splats cover the seams.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sparse
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ..errors import InputError
from ..render.mesh import rasterize_uv
from ..rig import HeadModel
from ..rig.correspondence import nearest_of_triangles
from ..rig.surface import parts

_CANDIDATES = 8  # nearest triangles that a point is tried on


def uv_remesh(rig: HeadModel, resolution: int = 128) -> HeadModel:
    """A rig whose vertices are the covered texels of an atlas of `resolution` x `resolution`; names, joints and licence stay.

    All per-vertex arrays are interpolated. Joints come from the new vertices by the old regressor, carried over point by point.

    Raises:
        InputError: `resolution` is not 16 to 1024, or the atlas is so small that no quad is covered.
    """
    if not 16 <= resolution <= 1024:
        raise InputError(f"`resolution` of a remeshed head must be 16 to 1024, got {resolution}.")
    texels = rasterize_uv(rig.uvs, rig.uv_faces, resolution)
    faces, ids = _grid_faces(rig, texels.face_ids)
    if not len(faces):
        raise InputError(f"No quad of {resolution} x {resolution} texels is covered by the atlas of `{rig.name}`; raise the resolution.")
    rows, columns = np.nonzero(ids >= 0)
    corners = rig.faces[texels.face_ids[rows, columns]]
    weights = texels.barycentrics[rows, columns].astype(np.float64)
    count, vertices = len(rows), len(rig.v_template)
    new_from_old = sparse.csr_matrix((weights.ravel(), (np.repeat(np.arange(count), 3), corners.ravel())), shape=(count, vertices))

    def carried(array: np.ndarray) -> np.ndarray:
        return (new_from_old @ array.reshape(vertices, -1)).reshape(count, *array.shape[1:]).astype(np.float32)

    template = carried(rig.v_template)
    old_from_new = _on_surface(rig.v_template, template, faces)
    owners, shares = _attach(rig.landmarks(rig.v_template), template, faces)
    uvs = np.stack([(columns + 0.5) / resolution, 1 - (rows + 0.5) / resolution], axis=-1).astype(np.float32)
    member = {name: new_from_old @ np.isin(np.arange(vertices), region).astype(np.float64) for name, region in rig.regions.items()}
    return replace(
        rig,
        v_template=template,
        faces=faces,
        uvs=uvs,
        uv_faces=faces,
        **{name: carried(getattr(rig, name)) for name in ("shapedirs", "exprdirs", "posedirs", "lbs_weights", "static_offsets")},
        J_regressor=(rig.J_regressor @ old_from_new).astype(np.float32),
        landmark_faces=owners,
        landmark_barycentrics=shares.astype(np.float32),
        regions={name: np.flatnonzero(share > 0.5).astype(np.int32) for name, share in member.items()},
    )


def _grid_faces(rig: HeadModel, face_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (F, 3) int32 that look as the head's do, and (H, W) the vertex id of each texel, -1 where no triangle needs it.

    Four neighbouring texels are a quad where one chart covers all of them.
    """
    chart_of_uv = parts(rig.uv_faces, len(rig.uvs))
    charts = np.where(face_ids >= 0, chart_of_uv[rig.uv_faces[np.maximum(face_ids, 0), 0]], -1)
    corners = [charts[:-1, :-1], charts[:-1, 1:], charts[1:, :-1], charts[1:, 1:]]
    whole = corners[0] >= 0
    for corner in corners[1:]:
        whole &= corner == corners[0]
    height, width = face_ids.shape
    number = np.arange(height * width).reshape(height, width)
    a, b, c, d = (block[whole] for block in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    triangles = np.concatenate([np.stack([a, c, b], axis=-1), np.stack([b, c, d], axis=-1)])  # counter-clockwise in an atlas with v up
    mirrored = _mirrored_charts(rig, chart_of_uv)[charts.ravel()[triangles[:, 0]]]
    triangles[mirrored] = triangles[mirrored][:, [0, 2, 1]]
    used, flat = np.unique(triangles, return_inverse=True)
    ids = np.full(height * width, -1, np.int64)
    ids[used] = np.arange(len(used))
    return flat.reshape(-1, 3).astype(np.int32), ids.reshape(height, width)


def _mirrored_charts(rig: HeadModel, chart_of_uv: np.ndarray) -> np.ndarray:
    """(charts,) bool: the atlas shows the chart's inside, because its triangles run clockwise there."""
    a, b, c = (rig.uvs[rig.uv_faces[:, k]].astype(np.float64) for k in range(3))
    twice = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    return np.bincount(chart_of_uv[rig.uv_faces[:, 0]], weights=twice, minlength=chart_of_uv.max() + 1) < 0


def _on_surface(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> sparse.csr_matrix:
    """(P, V): each of `points` (P, 3) as a mean of the corners of the triangle it lies nearest to."""
    owners, shares = _attach(points, vertices, faces)
    rows = np.repeat(np.arange(len(points)), 3)
    return sparse.csr_matrix((shares.ravel(), (rows, faces[owners].ravel())), shape=(len(points), len(vertices)))


def _attach(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest triangle (P,) int32 of each point and the barycentrics (P, 3) of the place on it, within the triangle."""
    corners = vertices[faces].astype(np.float64)
    near = cKDTree(corners.mean(axis=1)).query(points, k=min(_CANDIDATES, len(faces)))[1].reshape(len(points), -1)
    return nearest_of_triangles(points, corners, near)
