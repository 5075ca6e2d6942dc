# SPDX-License-Identifier: Apache-2.0
"""Rotations against scipy-free identities: each formula is checked by another way to the same rotation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mvp4d_core import rotations
from tests.support.asserts import assert_arrays_close

vectors = arrays(np.float64, (3,), elements=st.floats(-3.1, 3.1))
quaternions = arrays(np.float64, (4,), elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 1e-3)


def exponential(axis_angle: np.ndarray) -> np.ndarray:
    """The matrix exponential of the cross-product matrix, summed as a series."""
    x, y, z = axis_angle
    generator = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    total, term = np.eye(3), np.eye(3)
    for order in range(1, 60):
        term = term @ generator / order
        total = total + term
    return total


@given(vectors)
def test_axis_angle_is_the_exponential_map(axis_angle):
    assert_arrays_close(rotations.axis_angle_to_matrix(axis_angle), exponential(axis_angle), atol=1e-12)


@given(quaternions)
def test_matrix_and_back(quat):
    matrix = rotations.quaternion_to_matrix(quat)
    assert_arrays_close(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) > 0
    assert_arrays_close(rotations.quaternion_to_matrix(rotations.matrix_to_quaternion(matrix)), matrix, atol=1e-12)


@given(quaternions)
def test_double_cover(quat):
    assert_arrays_close(rotations.quaternion_to_matrix(-quat), rotations.quaternion_to_matrix(quat), atol=1e-15)


@given(quaternions, quaternions)
def test_product_composes_matrices(left, right):
    product = rotations.multiply_quaternions(left, right)
    expected = rotations.quaternion_to_matrix(left) @ rotations.quaternion_to_matrix(right)
    assert_arrays_close(rotations.quaternion_to_matrix(product), expected, atol=1e-12)


@given(vectors)
def test_axis_angle_and_back(axis_angle):
    back = rotations.quaternion_to_axis_angle(rotations.axis_angle_to_quaternion(axis_angle))
    assert_arrays_close(rotations.axis_angle_to_matrix(back), rotations.axis_angle_to_matrix(axis_angle), atol=1e-9)
    assert np.linalg.norm(back) <= np.pi + 1e-9


def test_axis_angle_near_zero_and_pi_keeps_its_digits():
    for length in (0.0, 1e-12, 1e-7, 1e-5, np.pi - 1e-9, np.pi):
        vector = length * np.array([0.6, -0.8, 0.0])
        back = rotations.quaternion_to_axis_angle(rotations.axis_angle_to_quaternion(vector))
        assert_arrays_close(back, vector, atol=1e-12, rtol=1e-9)


def test_half_turns_survive_the_matrix():
    for axis in np.eye(3):
        matrix = rotations.axis_angle_to_matrix(np.pi * axis)
        assert_arrays_close(rotations.quaternion_to_matrix(rotations.matrix_to_quaternion(matrix)), matrix, atol=1e-12)


def test_convention_quaternions_are_wxyz_and_turn_right_handed():
    quarter_about_z = np.array([np.cos(np.pi / 4), 0, 0, np.sin(np.pi / 4)])
    assert_arrays_close(rotations.quaternion_to_matrix(quarter_about_z) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


def test_zero_quaternion_is_the_identity():
    assert_arrays_close(rotations.normalize_quaternions(np.zeros((2, 4))), [[1, 0, 0, 0]] * 2)


def test_dtype_is_kept():
    for function, size in ((rotations.axis_angle_to_matrix, 3), (rotations.quaternion_to_matrix, 4)):
        assert function(np.ones((2, size), np.float32)).dtype == np.float32


matrices = arrays(np.float64, (3, 3), elements=st.floats(-1, 1)).filter(lambda m: np.linalg.svd(m)[1][1] > 1e-2)


@given(matrices, vectors)
def test_no_rotation_is_nearer_than_the_nearest(matrix, axis_angle):
    nearest = rotations.nearest_rotation(matrix)
    assert_arrays_close(nearest @ nearest.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(nearest) > 0
    for size in (1.0, 1e-2):
        other = rotations.axis_angle_to_matrix(size * axis_angle) @ nearest
        assert np.linalg.norm(matrix - nearest) <= np.linalg.norm(matrix - other) + 1e-12


@given(vectors, arrays(np.float64, (5, 3), elements=st.floats(-1, 1)).filter(lambda p: np.linalg.svd(p)[1][1] > 1e-2))
def test_points_turned_are_turned_back_by_the_nearest_rotation(axis_angle, points):
    turn = rotations.axis_angle_to_matrix(axis_angle)
    sums = (points @ turn.T).T @ points
    assert_arrays_close(rotations.nearest_rotation(np.stack([sums, np.eye(3)])), np.stack([turn, np.eye(3)]), atol=1e-6)
