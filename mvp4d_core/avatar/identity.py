# SPDX-License-Identifier: Apache-2.0
"""Whose head an avatar's rig is, found again from the head it was personalised from."""

import numpy as np

from ..errors import InputError
from ..rig import HeadModel

_SAME_SHAPE = 1e-5  # metres


def recover_shape(head_model: HeadModel, rig: HeadModel) -> np.ndarray:
    """The (S,) coefficients with which `head_model` was personalised into `rig`; InputError where no coefficients do."""
    if rig.faces.shape != head_model.faces.shape or np.any(rig.faces != head_model.faces):
        raise InputError(f"The avatar's head `{rig.name}` has other triangles than `{head_model.name}`. Give the head it was made from.")
    basis = head_model.shapedirs.reshape(-1, head_model.shapedirs.shape[2]).astype(np.float64)
    wanted = (rig.v_template - head_model.v_template).ravel().astype(np.float64)
    shape = np.linalg.lstsq(basis, wanted, rcond=1e-9)[0]
    worst = float(np.abs(basis @ shape - wanted).max(initial=0))
    if worst > _SAME_SHAPE:
        raise InputError(
            f"The avatar's head differs by {worst * 1000:.2g} mm from any shape of `{head_model.name}`. Give the head it was made from."
        )
    return shape.astype(np.float32)
