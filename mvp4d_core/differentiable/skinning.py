# SPDX-License-Identifier: Apache-2.0
"""The torch twin of `rig.skinning` for many frames at once, on any device."""

import torch

from ..errors import InputError
from ..rig import HeadModel


def skin_frames(
    model: HeadModel, expression: torch.Tensor, rotations: torch.Tensor, translation: torch.Tensor, corrections: torch.Tensor | None = None
) -> torch.Tensor:
    """Vertices of a head in T poses; differentiable in each of them.

    Args:
        expression: (T, E) float weights.
        rotations: (T, J, 3) axis-angle, radians, each relative to the parent joint.
        translation: (T, 3) metres.
        corrections: (T, V, 3) metres, added to the shaped head at rest, as more expression directions would be.

    Returns:
        (T, V, 3) metres, in the dtype and on the device of `expression`.
    """
    frames, vertices, joints = len(expression), len(model.v_template), len(model.parents)
    wanted = {"expression": (frames, model.exprdirs.shape[2]), "rotations": (frames, joints, 3), "translation": (frames, 3)}
    for name, tensor in (("expression", expression), ("rotations", rotations), ("translation", translation)):
        if tuple(tensor.shape) != wanted[name]:
            raise InputError(f"`{name}` must be {wanted[name]} for the head `{model.name}`, got {tuple(tensor.shape)}.")
    template, offsets, exprdirs, posedirs, regressor, weights = (
        torch.from_numpy(getattr(model, name)).to(expression)
        for name in ("v_template", "static_offsets", "exprdirs", "posedirs", "J_regressor", "lbs_weights")
    )
    shaped = template + (expression @ exprdirs.reshape(3 * vertices, -1).T).reshape(frames, vertices, 3)
    if corrections is not None:
        shaped = shaped + corrections
    matrices = _rotation_matrices(rotations.to(expression))
    features = (matrices[:, 1:] - torch.eye(3).to(expression)).reshape(frames, -1)
    posed = shaped + offsets + (features @ posedirs.reshape(3 * vertices, -1).T).reshape(frames, vertices, 3)
    turns, shifts = _joint_transforms(regressor @ shaped, model.parents.tolist(), matrices)
    blended = weights @ torch.cat([turns, shifts[..., None]], dim=-1).reshape(frames, joints, 12)
    blended = blended.reshape(frames, vertices, 3, 4)
    return (blended[..., :3] * posed[..., None, :]).sum(dim=-1) + blended[..., 3] + translation[:, None].to(expression)


def _rotation_matrices(rotations: torch.Tensor) -> torch.Tensor:
    """(..., 3) axis-angle to (..., 3, 3): the exponential of the cross-product matrix, smooth at zero."""
    x, y, z = rotations.unbind(dim=-1)
    zero = torch.zeros_like(x)
    return torch.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*rotations.shape, 3))


def _joint_transforms(joints: torch.Tensor, parents: list[int], matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """joints (T, J, 3) at rest -> turns (T, J, 3, 3) and shifts (T, J, 3) that take rest-pose points to their posed place."""
    turns: list[torch.Tensor] = []
    shifts: list[torch.Tensor] = []
    for joint, parent in enumerate(parents):
        turn = matrices[:, joint]
        shift = joints[:, joint] - (turn @ joints[:, joint, :, None])[..., 0]  # turns about the rest joint
        if parent >= 0:
            turn, shift = turns[parent] @ turn, (turns[parent] @ shift[..., None])[..., 0] + shifts[parent]
        turns.append(turn)
        shifts.append(shift)
    return torch.stack(turns, dim=1), torch.stack(shifts, dim=1)
