# SPDX-License-Identifier: Apache-2.0
"""The torch twins of the triangle binding against the ground floor's, and their gradients against finite differences."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp4d_core.differentiable.binding import matrix_to_quaternion, triangle_frames
from mvp4d_core.rig import triangle_frames as numpy_triangle_frames
from mvp4d_core.rotations import axis_angle_to_matrix, quaternion_to_matrix
from tests.support.asserts import assert_arrays_close


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_triangle_frames_are_the_ground_floors(seed):
    rng = np.random.default_rng(seed)
    vertices, faces = rng.normal(size=(9, 3)), rng.integers(0, 9, size=(12, 3))  # some triangles have no area
    wanted = numpy_triangle_frames(vertices, faces)
    found = triangle_frames(torch.as_tensor(vertices), torch.as_tensor(faces))
    for name in ("rotations", "centres", "sizes"):
        assert_arrays_close(getattr(found, name).numpy(), getattr(wanted, name), atol=1e-9, name=name)
    assert_arrays_close(quaternion_to_matrix(found.quats.numpy()), wanted.rotations, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(axis=st.lists(st.floats(-4, 4), min_size=3, max_size=3))
def test_convention_quaternions_of_matrices_are_wxyz(axis):
    matrix = axis_angle_to_matrix(np.array(axis))
    quaternion = matrix_to_quaternion(torch.as_tensor(matrix))
    assert abs(float(quaternion.norm()) - 1) < 1e-9
    assert_arrays_close(quaternion_to_matrix(quaternion.numpy()), matrix, atol=1e-9)


def test_gradients_of_the_frames():
    generator = torch.Generator().manual_seed(0)
    vertices = torch.randn(6, 3, dtype=torch.float64, generator=generator).requires_grad_()
    faces = torch.tensor([[0, 1, 2], [2, 3, 4], [5, 0, 3]])

    def frames(vertices: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = triangle_frames(vertices, faces)
        return found.rotations, found.quats, found.centres, found.sizes

    assert torch.autograd.gradcheck(frames, (vertices,))


def test_triangles_without_area_have_no_gradient_that_is_not_finite():
    vertices = torch.zeros(3, 3, requires_grad=True)
    found = triangle_frames(vertices, torch.tensor([[0, 1, 2]]))
    (found.rotations.sum() + found.quats.sum() + found.centres.sum() + found.sizes.sum()).backward()
    assert torch.isfinite(vertices.grad).all()
