# SPDX-License-Identifier: Apache-2.0
"""Regions of a head by what they are, whichever way the head names them: one region, or one for each side or jaw."""

import numpy as np

from ..rig import HeadModel

_SIDES = ("left_", "right_", "upper_", "lower_")


def kind(name: str) -> str:
    """`ears`, `left_ear` -> `ear`; `upper_teeth` -> `teeth`."""
    for side in _SIDES:
        name = name.removeprefix(side)
    return name.removesuffix("s")


def mask_of(model: HeadModel, *kinds: str) -> np.ndarray:
    """(V,) bool: the vertices of all regions of these kinds; kinds that the head does not have add nothing."""
    names = [name for name in model.regions if kind(name) in kinds]
    return model.region_mask(*names)


def sides_of(model: HeadModel, wanted: str) -> tuple[np.ndarray, np.ndarray]:
    """(V,) bool twice: the vertices of a kind on the subject's left (x > 0) and right."""
    mask = mask_of(model, wanted)
    left = model.v_template[:, 0] > 0
    return mask & left, mask & ~left
