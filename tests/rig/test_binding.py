# SPDX-License-Identifier: Apache-2.0
"""Triangle frames: their definition, their inverse, and how they follow rigid motion."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mvp4d_core.rig import bound_to_world, triangle_frames, world_to_bound
from mvp4d_core.rotations import axis_angle_to_matrix, quaternion_to_matrix
from tests.support.asserts import assert_arrays_close


def scene(seed: int, faces: int = 6, splats: int = 20):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(3 * faces, 3)) * 0.1
    quats = rng.normal(size=(splats, 4))
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    binding = rng.integers(faces, size=splats).astype(np.int32)
    return vertices, np.arange(3 * faces).reshape(-1, 3), rng.normal(size=(splats, 3)), quats, rng.uniform(0.1, 2, (splats, 3)), binding


def test_convention_frame_of_a_known_triangle():
    vertices = np.array([[0, 0, 0], [2.0, 0, 0], [0.5, 1.0, 0]])
    frames = triangle_frames(vertices, np.array([[0, 1, 2]]))
    # a0 along the first edge, n towards the reader, a2 = -(n x a0)
    assert_arrays_close(frames.rotations[0].T, [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-15)
    assert_arrays_close(frames.sizes, [(2 + 1) / 2])
    assert_arrays_close(frames.centres, [[2.5 / 3, 1 / 3, 0]])


@given(st.integers(0, 10**6))
def test_frames_are_rotations_and_binding_inverts(seed):
    vertices, faces, means, quats, scales, binding = scene(seed)
    frames = triangle_frames(vertices, faces)
    assert_arrays_close(
        frames.rotations @ np.swapaxes(frames.rotations, 1, 2), np.broadcast_to(np.eye(3), frames.rotations.shape), atol=1e-9
    )
    assert (np.linalg.det(frames.rotations) > 0.999).all()
    world = bound_to_world(means, quats, scales, binding, frames)
    back = world_to_bound(*world, binding, frames)
    assert_arrays_close(back[0], means, atol=1e-7, rtol=1e-7)
    assert_arrays_close(quaternion_to_matrix(back[1]), quaternion_to_matrix(quats), atol=1e-9)
    assert_arrays_close(back[2], scales, rtol=1e-9)


@given(st.integers(0, 10**6))
def test_binding_follows_rigid_motion_and_scale(seed):
    vertices, faces, means, quats, scales, binding = scene(seed)
    rng = np.random.default_rng(seed + 1)
    turn, shift, factor = axis_angle_to_matrix(rng.normal(size=3)), rng.normal(size=3), rng.uniform(0.5, 2)
    before = bound_to_world(means, quats, scales, binding, triangle_frames(vertices, faces))
    after = bound_to_world(means, quats, scales, binding, triangle_frames(factor * vertices @ turn.T + shift, faces))
    assert_arrays_close(after[0], factor * before[0] @ turn.T + shift, atol=1e-9, rtol=1e-9)
    assert_arrays_close(quaternion_to_matrix(after[1]), turn @ quaternion_to_matrix(before[1]), atol=1e-8)
    assert_arrays_close(after[2], factor * before[2], rtol=1e-9)


def test_a_collapsed_triangle_gives_finite_numbers():
    vertices = np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0], [2, 0, 0]])
    frames = triangle_frames(vertices, np.array([[0, 1, 2], [3, 4, 5]]))
    assert np.isfinite(frames.rotations).all() and np.isfinite(frames.sizes).all()
