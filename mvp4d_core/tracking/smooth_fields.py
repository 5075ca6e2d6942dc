# SPDX-License-Identifier: Apache-2.0
"""Smooth fields on a head's mesh: Laplacians, and what the unseen half takes from its mirror image."""

import numpy as np
import scipy.sparse as sparse
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]

from ..rig import face_normals
from ..rig.surface import edges


def laplacian(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    """(V, V): L f = f minus the mean of its neighbours. Uniform weights: stiff by rings of vertices, so fine where the mesh is fine."""
    pairs = edges(faces)
    ones = np.ones(2 * len(pairs))
    adjacency = sparse.csr_matrix((ones, (pairs.ravel(order="F"), pairs[:, ::-1].ravel(order="F"))), shape=(count, count))
    degree = np.maximum(np.asarray(adjacency.sum(axis=1)).ravel(), 1)
    return sparse.identity(count, format="csr") - sparse.diags(1 / degree) @ adjacency


def cotangent_stiffness(vertices: np.ndarray, faces: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """The cotangent stiffness matrix C (V, V), whose f^T C f is the squared gradient over the surface, and vertex areas (V,), square
    metres.

    C f over the areas is the Laplacian of f (Pinkall and Polthier 1993). Cotangents are kept within 0.02..20, so that slivers stay
    harmless.
    """
    count = len(vertices)
    corners = vertices[faces]
    rows, columns, values = [], [], []
    for k in range(3):
        a, b, c = (corners[:, (k + i) % 3] for i in range(3))
        cosine = np.einsum("fd,fd->f", b - a, c - a)
        sine = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        rows.append(faces[:, (k + 1) % 3])
        columns.append(faces[:, (k + 2) % 3])
        values.append(0.5 * np.clip(cosine / np.maximum(sine, 1e-12), 0.02, 20))
    weights = sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count))
    weights = weights + weights.T
    double_area = np.linalg.norm(face_normals(vertices, faces), axis=1)
    areas = np.bincount(faces.ravel(), np.repeat(double_area / 6, 3), minlength=count)
    return (sparse.diags(np.asarray(weights.sum(axis=1)).ravel()) - weights).tocsr(), np.maximum(areas, 1e-8)


def mirror_vertices(template: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V,) the vertex nearest each one's mirror image in x, and (V,) bool whether it lies there within 2 mm."""
    distance, nearest = cKDTree(template).query(template * [-1, 1, 1])
    return nearest, distance < 0.002


def landmark_matrix(faces: np.ndarray, landmark_faces: np.ndarray, barycentrics: np.ndarray, count: int) -> sparse.csr_matrix:
    """(L, V): takes a field on vertices to the landmarks."""
    corners = faces[landmark_faces]
    rows = np.repeat(np.arange(len(corners)), 3)
    return sparse.csr_matrix((barycentrics.ravel().astype(np.float64), (rows, corners.ravel())), shape=(len(corners), count))
