# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from mvp4d_core.avatar.harmonics import rotate_sh, sh_colors
from mvp4d_core.cameras import BLENDER_FROM_HEAD
from mvp4d_core.rotations import axis_angle_to_matrix


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("rotation", [np.eye(3), BLENDER_FROM_HEAD, axis_angle_to_matrix(np.array([0.3, -1.0, 2.0]))])
def test_turned_colours_convention_is_new_directions_are_the_matrix_times_old(degree, rotation):
    generator = np.random.default_rng(degree)
    sh = generator.normal(size=(50, (degree + 1) ** 2, 3))
    directions = generator.normal(size=(50, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    turned = np.concatenate([sh[:, :1], rotate_sh(sh[:, 1:], rotation)], axis=1)
    np.testing.assert_allclose(sh_colors(turned, directions @ rotation.T), sh_colors(sh, directions), atol=1e-12)
    assert rotate_sh(sh.astype(np.float32)[:, 1:], rotation).dtype == np.float32
