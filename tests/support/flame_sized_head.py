# SPDX-License-Identifier: Apache-2.0
"""A head with FLAME's counts of vertices, triangles and joints, and nothing of FLAME's data: a dented ball."""

import numpy as np

from mvp4d_core.rig import HeadModel

VERTICES, FACES = 5023, 9976


def flame_sized_head(shapes: int = 12, expressions: int = 8, seed: int = 0) -> HeadModel:
    """V = 5023, F = 9976, joints root, neck, jaw, left_eye, right_eye; as a licensed head is, it may not travel in an avatar."""
    rng = np.random.default_rng(seed)
    turn = np.arange(VERTICES) * np.pi * (3 - 5**0.5)
    height = 1 - 2 * (np.arange(VERTICES) + 0.5) / VERTICES
    ring = np.sqrt(1 - height**2)
    vertices = 0.1 * np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1)
    first = rng.integers(0, VERTICES - 90, FACES)
    faces = np.stack([first, first + 34, first + 55], axis=1)  # neighbours on the spiral
    weights = rng.dirichlet(np.ones(5), VERTICES)
    regressor = rng.dirichlet(np.full(VERTICES, 0.01), 5)
    uvs = np.stack([turn % 1, (height + 1) / 2], axis=1)
    return HeadModel(
        v_template=vertices.astype(np.float32),
        faces=faces.astype(np.int32),
        uvs=uvs.astype(np.float32),
        uv_faces=faces.astype(np.int32),
        shapedirs=(1e-3 * rng.normal(size=(VERTICES, 3, shapes))).astype(np.float32),
        exprdirs=(1e-3 * rng.normal(size=(VERTICES, 3, expressions))).astype(np.float32),
        posedirs=(1e-4 * rng.normal(size=(VERTICES, 3, 36))).astype(np.float32),
        J_regressor=regressor.astype(np.float32),
        parents=np.array([-1, 0, 1, 1, 1], np.int32),
        lbs_weights=weights.astype(np.float32),
        landmark_faces=np.zeros(0, np.int32),
        landmark_barycentrics=np.zeros((0, 3), np.float32),
        static_offsets=np.zeros((VERTICES, 3), np.float32),
        joint_names=("root", "neck", "jaw", "left_eye", "right_eye"),
        expression_names=tuple(f"expression_{index:02d}" for index in range(expressions)),
        shape_names=tuple(f"shape_{index:02d}" for index in range(shapes)),
        name="flame-sized",
        licence="LicenseRef-licensed",
    )
