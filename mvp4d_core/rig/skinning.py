# SPDX-License-Identifier: Apache-2.0
"""FLAME's linear blend skinning with pose correctives (Li et al. 2017, equations 1 to 5), on numpy.

v_shaped = v_template + shapedirs shape + exprdirs expression; J = J_regressor v_shaped;
v_posed = v_shaped + static_offsets + posedirs vec(R_1..R_{J-1} - I); v = sum_j w_j G_j v_posed + translation, G_j chained from the root.
"""

import numpy as np

from ..errors import InputError
from ..rotations import axis_angle_to_matrix
from .head_model import HeadModel


def pose_features(rotation_matrices: np.ndarray) -> np.ndarray:
    """(..., J, 3, 3) to (..., 9 (J-1)): the row-major entries of R_j - I of all joints but the root."""
    features = rotation_matrices[..., 1:, :, :] - np.eye(3, dtype=rotation_matrices.dtype)
    return features.reshape(*features.shape[:-3], -1)


def joint_transforms(joints: np.ndarray, parents: np.ndarray, rotation_matrices: np.ndarray) -> np.ndarray:
    """(J, 4, 4): for each joint the transform that takes a rest-pose point to its posed place (G_j with the rest joint taken off)."""
    transforms = np.zeros((len(joints), 4, 4), dtype=joints.dtype)
    for j, parent in enumerate(parents):
        local = np.eye(4, dtype=joints.dtype)
        local[:3, :3] = rotation_matrices[j]
        local[:3, 3] = joints[j] - rotation_matrices[j] @ joints[j]  # turns about the rest joint
        transforms[j] = local if parent < 0 else transforms[parent] @ local
    return transforms


def skin(model: HeadModel, shape: np.ndarray | None, expression: np.ndarray, rotations: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Vertices of a posed head.

    Args:
        shape: (S,) standard deviations, or None for the template.
        expression: (E,) weights.
        rotations: (J, 3) axis-angle, radians, each relative to the parent joint.
        translation: (3,) metres.

    Returns:
        (V, 3) metres, in the floating dtype of `expression`.
    """
    expression = np.asarray(expression)
    dtype = expression.dtype if expression.dtype.kind == "f" else np.float32
    expression, rotations, translation = (np.asarray(a, dtype=dtype) for a in (expression, rotations, translation))
    wanted = {"expression": (model.exprdirs.shape[2],), "rotations": (len(model.parents), 3), "translation": (3,)}
    for name, array in (("expression", expression), ("rotations", rotations), ("translation", translation)):
        if array.shape != wanted[name]:
            raise InputError(f"`{name}` must be {wanted[name]} for the head `{model.name}`, got {array.shape}.")
    shaped = model.v_template + model.exprdirs @ expression
    if shape is not None:
        shape = np.asarray(shape, dtype=dtype)
        if shape.ndim != 1 or len(shape) > model.shapedirs.shape[2]:
            raise InputError(f"`shape` must have at most {model.shapedirs.shape[2]} numbers for `{model.name}`, got {shape.shape}.")
        shaped = shaped + model.shapedirs[:, :, : len(shape)] @ shape
    joints = (model.J_regressor @ shaped).astype(dtype)
    matrices = axis_angle_to_matrix(rotations)
    posed = shaped + model.static_offsets + model.posedirs @ pose_features(matrices)
    per_vertex = np.tensordot(model.lbs_weights.astype(dtype), joint_transforms(joints, model.parents, matrices), axes=1)
    return np.einsum("vab,vb->va", per_vertex[:, :3, :3], posed) + per_vertex[:, :3, 3] + translation
