# SPDX-License-Identifier: Apache-2.0
"""What the file of a tracker becomes, and how FLAME's parameters are laid out in it.

Coefficients of FLAME are named `expr000`, `expr001`, ... as on heads that `mvp4d import-flame` makes. What trackers close the lids with
beside FLAME is named `eyeBlinkLeft` and `eyeBlinkRight`, so that it reaches any head that has those.
"""

from dataclasses import dataclass

import numpy as np

from ..cameras import Camera
from ..rig import HeadModel, Performance
from ..rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_axis_angle

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")
FPS = 25.0  # where neither a file nor a person says


@dataclass(frozen=True)
class ImportedTrack:
    """A track from elsewhere.

    Attributes:
        kind: whose file it is.
        performance: of a FLAME head.
        shape: (S,) float32, identity coefficients.
        cameras: of the recording, in the world in which the performance moves; empty where the file has none.
        cameras_move: the cameras are one a frame of one view, else one a view.
        offsets: (V, 3) float32 metres, the person's own shape beyond the coefficients, or None.
        views: the names of the cameras' folders, where the file has them.
        notes: what the file holds and the performance lacks, a line each.
    """

    kind: str
    performance: Performance
    shape: np.ndarray
    cameras: tuple[Camera, ...] = ()
    cameras_move: bool = False
    offsets: np.ndarray | None = None
    views: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def coefficient_names(count: int) -> tuple[str, ...]:
    """The names of FLAME's first `count` expression coefficients."""
    return tuple(f"expr{index:03d}" for index in range(count))


def flame_performance(
    expression: np.ndarray, joints: dict[str, np.ndarray], translation: np.ndarray | None, fps: float, lids: np.ndarray | None = None
) -> Performance:
    """A performance from FLAME's parameters.

    Args:
        expression: (T, E).
        joints: (T, 3) axis-angle by joint name; those left out are at rest.
        translation: (T, 3) metres, or None for none.
        lids: (T, 2) weights in 0..1 that close the left and the right eye.
    """
    frames = len(expression)
    rotations = np.zeros((frames, len(JOINTS), 3), np.float32)
    for name, turns in joints.items():
        rotations[:, JOINTS.index(name)] = turns
    names = coefficient_names(expression.shape[1])
    if lids is not None:
        expression, names = np.concatenate([expression, lids], axis=1), (*names, *BLINKS)
    moved = np.zeros((frames, 3), np.float32) if translation is None else translation
    return Performance(expression, rotations, moved, fps, names, JOINTS)


def coefficients(performance: Performance, count: int) -> np.ndarray:
    """(T, count) float32: FLAME's first coefficients of a performance, zero where it has none of the name."""
    return named_weights(performance, coefficient_names(count))


def named_weights(performance: Performance, names: tuple[str, ...]) -> np.ndarray:
    """(T, len(names)) float32 expression weights by name; zero where the performance has none of the name."""
    result = np.zeros((len(performance), len(names)), np.float32)
    places = {name: index for index, name in enumerate(performance.expression_names)}
    for column, name in enumerate(names):
        if name in places:
            result[:, column] = performance.expression[:, places[name]]
    return result


def named_rotations(performance: Performance, name: str) -> np.ndarray:
    """(T, 3) axis-angle of one joint; zero where the performance has none of the name."""
    if name not in performance.joint_names:
        return np.zeros((len(performance), 3), np.float32)
    return performance.rotations[:, performance.joint_names.index(name)]


def rest_joints(head_model: HeadModel, shape: np.ndarray, performance: Performance) -> np.ndarray:
    """(T, J, 3) float64 metres: where the joints of a head are before they turn, frame by frame, since expressions move them a little."""
    regressor = head_model.J_regressor.astype(np.float64)
    known = min(len(shape), head_model.shapedirs.shape[2])
    shaped = head_model.v_template + head_model.shapedirs[:, :, :known].astype(np.float64) @ shape[:known]
    by_expression = np.einsum("jv,vae->jae", regressor, head_model.exprdirs, optimize=True)
    weights = named_weights(performance, head_model.expression_names).astype(np.float64)
    return regressor @ shaped + np.einsum("jae,te->tja", by_expression, weights)


def matrices(axis_angles: np.ndarray) -> np.ndarray:
    """(T, 3, 3) float64 rotation matrices of axis-angles (T, 3)."""
    return axis_angle_to_matrix(np.asarray(axis_angles, np.float64))


def axis_angles(rotation_matrices: np.ndarray) -> np.ndarray:
    """(T, 3) float32 axis-angles of rotation matrices (T, 3, 3)."""
    return quaternion_to_axis_angle(matrix_to_quaternion(rotation_matrices)).astype(np.float32)


def turned(rotation_matrices: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (T, 3), each turned by its matrix (T, 3, 3)."""
    return np.einsum("tab,tb->ta", rotation_matrices, points)
