# SPDX-License-Identifier: Apache-2.0
"""A head from a mesh that somebody else animated: its rigid motion becomes the root joint's, what is left the fewest linear movements."""

import numpy as np

from ..rig import HeadModel, Performance
from ..rotations import matrix_to_quaternion, nearest_rotation, quaternion_to_axis_angle

IMPORTED_LICENCE = "LicenseRef-imported"
_EXACT = 1e-4  # metres; how far a vertex may lie from where the file has it before one more movement is added
_MOST_MOVEMENTS = 256
_MOST_STUDIED = 512  # frames that decide the movements


def bake_rig(vertices: np.ndarray, faces: np.ndarray, *, fps: float, name: str) -> tuple[HeadModel, Performance]:
    """A one-joint head whose rest pose is the first frame, and the performance that plays all frames.

    Movements are the principal components about the first frame, each scaled so that its largest weight is 1.

    Args:
        vertices: (T, V, 3) float32 metres, head space, T and V at least 1.
        faces: (F, 3) int32.
        fps: frames a second.
        name: of the head.
    """
    rest = vertices[0].astype(np.float64)
    centre = rest.mean(axis=0)
    turns, places, moved = _without_rigid_motion(vertices, rest)
    directions, weights = _movements(moved - rest)
    exprdirs = np.zeros((len(rest) + 1, 3, directions.shape[1]), np.float32)
    exprdirs[:-1] = directions.reshape(*rest.shape, -1)
    # one vertex more, of no triangle, is where the joint sits: a joint that is read off vertices that move would move with them
    template = np.concatenate([rest, centre[None]]).astype(np.float32)
    regressor = np.zeros((1, len(template)), np.float32)
    regressor[0, -1] = 1
    uvs, uv_faces = _triangle_atlas(len(faces))
    rig = HeadModel(
        v_template=template,
        faces=faces,
        uvs=uvs,
        uv_faces=uv_faces,
        shapedirs=np.zeros((*template.shape, 0), np.float32),
        exprdirs=exprdirs,
        posedirs=np.zeros((*template.shape, 0), np.float32),
        J_regressor=regressor,
        parents=np.array([-1], np.int32),
        lbs_weights=np.ones((len(template), 1), np.float32),
        landmark_faces=np.zeros(0, np.int32),
        landmark_barycentrics=np.zeros((0, 3), np.float32),
        static_offsets=np.zeros(template.shape, np.float32),
        joint_names=("root",),
        expression_names=tuple(f"movement_{index:03d}" for index in range(directions.shape[1])),
        shape_names=(),
        name=name,
        licence=IMPORTED_LICENCE,
    )
    axis_angles = quaternion_to_axis_angle(matrix_to_quaternion(turns))[:, None]
    performance = Performance(weights, axis_angles, places - centre, fps, rig.expression_names, rig.joint_names)
    return rig, performance


def _without_rigid_motion(vertices: np.ndarray, rest: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rotations (T, 3, 3), centres (T, 3), and vertices (T, V, 3) turned and moved back onto `rest`, by least squares (Kabsch 1976)."""
    centre = rest.mean(axis=0)
    places = vertices.mean(axis=1, dtype=np.float64)
    turns, moved = np.zeros((len(vertices), 3, 3)), np.zeros(vertices.shape)
    for frame, here in enumerate(vertices.astype(np.float64)):
        turns[frame] = nearest_rotation((here - places[frame]).T @ (rest - centre))
        moved[frame] = (here - places[frame]) @ turns[frame] + centre
    return turns, places, moved


def _movements(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, V, 3) offsets as directions (3V, K) and weights (T, K), K as small as `_EXACT` allows."""
    flat = offsets.reshape(len(offsets), -1)
    studied = flat[np.unique(np.linspace(0, len(flat) - 1, min(len(flat), _MOST_STUDIED)).astype(int))]
    energies, mixes = np.linalg.eigh(studied @ studied.T)
    order = np.argsort(-energies)[:_MOST_MOVEMENTS]
    order = order[energies[order] > 1e-12 * max(float(energies.max()), 1e-12)]
    basis = studied.T @ mixes[:, order] / np.sqrt(energies[order])
    weights = flat @ basis
    count, low, high = len(order), 0, len(order)
    while low < high:  # fewer movements never fit better, so halving finds the fewest
        count = (low + high) // 2
        worst = np.abs(flat - weights[:, :count] @ basis[:, :count].T).max(initial=0)
        low, high = (low, count) if worst <= _EXACT else (count + 1, high)
    basis, weights = basis[:, :low], weights[:, :low]
    peak = np.take_along_axis(weights, np.abs(weights).argmax(axis=0)[None], axis=0)[0]
    return basis * peak, weights / peak


def _triangle_atlas(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Texture coordinates for meshes without any: two triangles in each cell of a square grid, apart from one another."""
    side = max(1, int(np.ceil(np.sqrt((count + 1) // 2))))
    corners = np.array([[[0.1, 0.1], [0.8, 0.1], [0.1, 0.8]], [[0.9, 0.9], [0.2, 0.9], [0.9, 0.2]]])
    cell, half = np.divmod(np.arange(count), 2)
    origin = np.stack([cell % side, cell // side], axis=1)
    uvs = (origin[:, None] + corners[half]) / side
    return uvs.reshape(-1, 2).astype(np.float32), np.arange(3 * count, dtype=np.int32).reshape(count, 3)
