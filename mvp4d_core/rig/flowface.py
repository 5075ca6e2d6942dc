# SPDX-License-Identifier: Apache-2.0
"""The skinning that FlowFace's fits and CAP4D's weights were made with (Taubner et al. 2025). Its ways are not FLAME's.

Expressions are FLAME's first 64 and a blink in place of the 65th. Each joint turns about its own rest place and none carries another. The
neck's rotation sits in slot 0. Correctives are driven by slots 0, 2, 3, 4 as R - 2 I, the identity subtracted twice, so that they are not
zero at rest. The head's rotation and translation come last and turn about the origin. `skinning.skin` has none of this.
"""

from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..rotations import axis_angle_to_matrix
from .correspondence import nearest_vertices
from .head_model import HeadModel, load_head_model

SHAPES, EXPRESSIONS = 150, 65
BLINK = "blink"
_DRIVING = [0, 2, 3, 4]  # slots of the correctives


def flowface_head(model: HeadModel, blink: np.ndarray | None = None) -> HeadModel:
    """A FLAME head with FlowFace's 150 identity and 65 expression directions.

    Args:
        blink: (V, 3) metres, both lids shut, the last expression. Without it the open head's blink is carried over by the landmarks.

    Raises:
        InputError: fewer directions or joints than FLAME has, or a blink of another shape.
    """
    if model.shapedirs.shape[2] < SHAPES or model.exprdirs.shape[2] < EXPRESSIONS - 1 or len(model.parents) != 5:
        raise InputError(f"FlowFace needs a FLAME head with 150 identities, 64 expressions and 5 joints; `{model.name}` is not one.")
    if blink is None:
        blink = _own_blink(model)
    if blink.shape != model.v_template.shape:
        raise InputError(f"`blink` must be {model.v_template.shape} for the head `{model.name}`, got {blink.shape}.")
    directions = np.concatenate([model.exprdirs[:, :, : EXPRESSIONS - 1], blink[:, :, None]], axis=2)
    return replace(
        model,
        shapedirs=np.ascontiguousarray(model.shapedirs[:, :, :SHAPES]),
        shape_names=model.shape_names[:SHAPES],
        exprdirs=directions.astype(np.float32),
        expression_names=(*model.expression_names[: EXPRESSIONS - 1], BLINK),
    )


def skin_flowface(
    model: HeadModel,
    shape: np.ndarray,
    expression: np.ndarray,
    rotation: np.ndarray,
    translation: np.ndarray,
    eye_rotation: np.ndarray | None = None,
    neck_rotation: np.ndarray | None = None,
    jaw_rotation: np.ndarray | None = None,
    neck_slot: int = 0,
) -> np.ndarray:
    """Vertices of a head of `flowface_head`.

    Args:
        shape, expression: (S,) and (E,), as many as `model` has or fewer.
        rotation, translation: (3,) axis-angle about the origin and (3,) metres, of the whole head; last of all.
        eye_rotation: (3,) of both eyes.
        neck_rotation, jaw_rotation: (3,).
        neck_slot: 0 as CAP4D's skinner has it, 1 as the skinner it derives from.

    Returns:
        (V, 3) metres, in the floating dtype of `expression`.
    """
    expression = np.asarray(expression)
    dtype = expression.dtype if expression.dtype.kind == "f" else np.float32
    if neck_slot not in (0, 1) or len(model.parents) != 5:
        raise InputError(f"`neck_slot` must be 0 or 1 and the head FLAME's with 5 joints, got {neck_slot} and {len(model.parents)} joints.")
    shaped = model.v_template.astype(dtype)
    for name, weights, directions in (("shape", shape, model.shapedirs), ("expression", expression, model.exprdirs)):
        weights = np.asarray(weights, dtype)
        if weights.ndim != 1 or len(weights) > directions.shape[2]:
            raise InputError(f"`{name}` must have at most {directions.shape[2]} numbers for `{model.name}`, got {weights.shape}.")
        shaped = shaped + directions[:, :, : len(weights)] @ weights
    slots = np.zeros((5, 3), dtype)
    for slot, turn in ((neck_slot, neck_rotation), (2, jaw_rotation), (3, eye_rotation), (4, eye_rotation)):
        if turn is not None:
            slots[slot] = turn
    turns = axis_angle_to_matrix(slots)
    features = (turns[_DRIVING] - 2 * np.eye(3, dtype=dtype)).reshape(-1)
    posed = shaped + model.static_offsets + model.posedirs @ features
    joints = (model.J_regressor @ shaped).astype(dtype)
    weights = model.lbs_weights.astype(dtype)
    shifts = joints - np.einsum("jab,jb->ja", turns, joints)
    skinned = np.einsum("vj,jab,vb->va", weights, turns, posed, optimize=True) + weights @ shifts
    whole = axis_angle_to_matrix(np.asarray(rotation, dtype))
    return skinned @ whole.T + np.asarray(translation, dtype)


def _own_blink(model: HeadModel) -> np.ndarray:
    """(V, 3) the open head's blink of both eyes on another head."""
    own = load_head_model()
    both = sum(own.exprdirs[:, :, own.expression_names.index(name)] for name in ("eyeBlinkLeft", "eyeBlinkRight"))
    return np.asarray(both)[nearest_vertices(own, model)]
