# SPDX-License-Identifier: GPL-3.0-or-later
"""What each slider of an avatar does to its head: the head's own expressions, ARKit's where it has others, and its identity."""

from dataclasses import dataclass

import numpy as np

from mvp4d_core.errors import InputError
from mvp4d_core.rig import ARKIT_NAMES, HeadModel, fit_head_map, load_head_model, rest_parameters, skin

WIDE_RANGE = (-5.0, 5.0)  # of movements that are standard deviations, FLAME's
_UNIT_RANGE = (0.0, 1.0)


@dataclass(frozen=True)
class Movement:
    """One slider at 1.

    Attributes:
        displacement: (V, 3) metres in head space, before the joints turn.
        joints: (J, 3) metres by which the joints move.
        reach: the values that the slider offers; others can be typed and keyed.
    """

    name: str
    displacement: np.ndarray
    joints: np.ndarray
    reach: tuple[float, float]


def expression_movements(rig: HeadModel) -> list[Movement]:
    """The head's own expressions, in its order."""
    movements = _directed(rig, rig.expression_names, rig.exprdirs)
    return [Movement(m.name, m.displacement, m.joints, _UNIT_RANGE if m.name in ARKIT_NAMES else WIDE_RANGE) for m in movements]


def identity_movements(rig: HeadModel, model: HeadModel) -> list[Movement]:
    """The directions of identity of a head, or where it is one person's and they are spent, those of the `model` it was made from.

    Empty where that model has other triangles: a head that was cut anew, or given a mouth, or another head.
    """
    source = rig if rig.shape_names else model
    if rig.faces.shape != source.faces.shape or np.any(rig.faces != source.faces):
        return []
    return _directed(source, source.shape_names, source.shapedirs)


def arkit_movements(rig: HeadModel) -> list[Movement]:
    """ARKit's 52 expressions on a head whose own have other names; empty where it has one of them, or carries no landmarks to find them by.

    Each is where the least squares map of `fit_head_map` takes the head, jaw and eyes included, as one straight movement.
    """
    if set(rig.expression_names) & set(ARKIT_NAMES):
        return []
    model = load_head_model()
    try:
        found = fit_head_map(model, rig)
    except InputError:  # no landmarks, as of a head that came as bare triangles
        return []
    rest = rest_parameters(rig)
    neutral = skin(rig, None, rest.expression.astype(np.float64), rest.rotations, rest.translation)
    movements = []
    for name in ARKIT_NAMES:
        controls = dict(zip(found.target_names, found.matrix[:, found.source_names.index(name)], strict=True))
        expression = np.array([controls.get(own, 0.0) for own in rig.expression_names])
        rotations = np.array([[controls.get(f"{joint}.{axis}", 0.0) for axis in "xyz"] for joint in rig.joint_names])
        moved = skin(rig, None, expression, rotations, rest.translation)
        joints = rig.J_regressor.astype(np.float64) @ (rig.exprdirs @ expression)
        movements.append(Movement(name, moved - neutral, joints, _UNIT_RANGE))
    return movements


def joint_drift(movements: list[Movement]) -> float:
    """How far a joint moves at most with one slider at 1, metres."""
    return max((float(np.linalg.norm(m.joints, axis=1).max(initial=0)) for m in movements), default=0.0)


def _directed(rig: HeadModel, names: tuple[str, ...], directions: np.ndarray) -> list[Movement]:
    joints = np.einsum("jv,vde->jde", rig.J_regressor.astype(np.float64), directions, optimize=True)
    return [Movement(name, directions[:, :, k].astype(np.float64), joints[:, :, k], WIDE_RANGE) for k, name in enumerate(names)]
