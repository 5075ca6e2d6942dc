# SPDX-License-Identifier: Apache-2.0
"""What hands have set in the web player, as it tells in `getState`: sliders, joints and the camera."""

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FormatError
from ..rig import HeadModel, Parameters, rest_parameters

MOST_CHARACTERS = 1_000_000
MOST_VALUE = 100.0  # of a weight, and of a joint's radians


@dataclass(frozen=True)
class PlayerState:
    """Sliders and camera; empty tables and None are what nobody touched.

    Attributes:
        expression: name to weight.
        joints: name to (3,) axis-angle radians relative to the parent.
        camera: `position` and `target` {x, y, z} and `fov`, see `cameras.camera_of_viewer`.
    """

    expression: dict[str, float]
    joints: dict[str, tuple[float, float, float]]
    camera: dict[str, Any] | None

    def pose(self, rig: HeadModel) -> Parameters:
        """The pose on a head; what it has no name for is left out, as the player does."""
        parameters = rest_parameters(rig)
        for name, weight in self.expression.items():
            if name in rig.expression_names:
                parameters.expression[rig.expression_names.index(name)] = weight
        for name, turn in self.joints.items():
            if name in rig.joint_names:
                parameters.rotations[rig.joint_names.index(name)] = np.array(turn, np.float32)
        return parameters


def read_state(text: str) -> PlayerState:
    """The state in a text of the player; the rest of everything for an empty one.

    Raises:
        FormatError: no JSON of that kind, or a number that no slider gives.
    """
    if not text.strip():
        return PlayerState({}, {}, None)
    try:
        value = json.loads(text) if len(text) <= MOST_CHARACTERS else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise FormatError(f"The player's state must be the JSON that the player gives, got `{text[:40]}`. Empty it to begin at rest.")
    expression, joints, camera = value.get("expression", {}), value.get("joints", {}), value.get("camera")
    if not isinstance(expression, dict) or not isinstance(joints, dict) or not isinstance(camera, dict | None):
        raise FormatError("The player's state must have tables of `expression` and `joints`, and a `camera`. Empty it to begin at rest.")
    weights = {name: _number(weight, name) for name, weight in expression.items()}
    turns = {name: _three(turn, name) for name, turn in joints.items()}
    return PlayerState(weights, turns, camera)


def _three(value: Any, name: str) -> tuple[float, float, float]:
    if not isinstance(value, list) or len(value) != 3:
        raise FormatError(f"The joint `{name[:40]}` of the player's state must be three numbers. Empty the state to begin at rest.")
    x, y, z = (_number(part, name) for part in value)
    return x, y, z


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST_VALUE or not math.isfinite(value):
        got = f"must be a number up to {MOST_VALUE:g}, got {str(value)[:20]}"
        raise FormatError(f"`{name[:40]}` of the player's state {got}. Empty the state to begin at rest.")
    return float(value)
