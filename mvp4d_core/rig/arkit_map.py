# SPDX-License-Identifier: Apache-2.0
"""From one head's expressions to another's: ARKit's 52 weights to FLAME's directions and jaw, and back.

No table: both heads carry the same 478 points, so the map is computed from the two models. A source control (an expression, an axis of the
jaw or of an eye) moves the source's points; the motion, brought to the target by the similarity that lays one rest face on the other, is
what the target's controls must reproduce. With D_s, D_t the motions of the points a unit of each control, and R, s the similarity,

    M = argmin_M |D_t M - s R D_s|^2 / noise^2 + |M / scale|^2    (ridge least squares; `scale` is how far a target control commonly goes)

`convert_performance` starts there and goes on with what a linear map has not: the target's bounds and the arc of its jaw.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from ..rotations import nearest_rotation
from .arkit import ARKIT_NAMES
from .bounded_least_squares import bounded_least_squares
from .head_model import HeadModel, load_head_model
from .landmark_motion import (
    Controls,
    LandmarkRig,
    controls_of,
    landmark_basis,
    landmark_positions,
    landmark_rig,
    unpacked,
)
from .performance import Performance, retarget

FACE_JOINTS = ("jaw", "left_eye", "right_eye")
NOISE = 5e-4  # metres by which a point may miss before a control goes beyond its common reach for it
_ROUNDS = 6
# the joints that a head with these expressions does not need
_SPARED = {"jaw": "jawOpen", "left_eye": "eyeLookUpLeft", "right_eye": "eyeLookUpRight"}


@dataclass(frozen=True)
class HeadMap:
    """The linear map from S controls of one head to M of another, and how well it does.

    Attributes:
        matrix: (M, S) units of a target control a unit of a source control.
        source_names, target_names: the controls: expressions, then axes of joints such as `jaw.x` (radians).
        motion_mm: (S,) root mean square motion of the 478 points at a unit of each source control, in the target's size.
        residual_mm: (S,) what of it the target does not follow.
    """

    matrix: np.ndarray
    source_names: tuple[str, ...]
    target_names: tuple[str, ...]
    motion_mm: np.ndarray
    residual_mm: np.ndarray

    def carried(self) -> dict[str, float]:
        """For each source control the share 0..1 of its motion that the target follows; 1 for one that moves no point."""
        lost = self.residual_mm / np.maximum(self.motion_mm, 1e-9)
        return {name: float(1 - share) if moves > 1e-6 else 1.0
                for name, share, moves in zip(self.source_names, np.clip(lost, 0, 1), self.motion_mm, strict=True)}  # fmt: skip


@dataclass(frozen=True)
class Conversion:
    """A performance on another head, `motion` (T, L, 3) metres, how its points should move from its face at rest as those of the first do,
    and `missed` (T, L, 3) metres, what they lack of that.
    """

    performance: Performance
    motion: np.ndarray
    missed: np.ndarray

    @property
    def residual_mm(self) -> np.ndarray:
        """(T,) root mean square of what is missed, in millimetres."""
        return 1e3 * np.sqrt((self.missed**2).sum(axis=-1).mean(axis=-1))


@dataclass(frozen=True)
class _Pair:
    """Two heads side by side, their landmarks at rest (L, 3), and `linear` (3, 3), which brings a motion of the source to the target."""

    source: LandmarkRig
    target: LandmarkRig
    source_controls: Controls
    target_controls: Controls
    source_rest: np.ndarray
    target_rest: np.ndarray
    linear: np.ndarray


def fit_head_map(source: HeadModel, target: HeadModel, joints: tuple[str, ...] | None = None) -> HeadMap:
    """The least squares map from the controls of `source` to those of `target`.

    Args:
        joints: of the target, that may move beside its expressions; by default the jaw and the eyes, but for those whose work its
            expressions do (a head with ARKit's names opens its mouth by `jawOpen` and looks by `eyeLook*`).

    Raises:
        InputError: the two heads don't carry the same landmarks.
    """
    pair = _pair(source, target, joints)
    wanted, basis = _wanted_motion(pair), landmark_basis(pair.target, pair.target_controls)
    matrix = np.linalg.solve(_normal(basis, pair.target_controls), basis.T @ wanted)
    points = len(wanted) / 3

    def rms_mm(motion: np.ndarray) -> np.ndarray:
        return 1e3 * np.sqrt((motion**2).sum(axis=0) / points)

    names = pair.source_controls.names, pair.target_controls.names
    return HeadMap(matrix, *names, motion_mm=rms_mm(wanted), residual_mm=rms_mm(wanted - basis @ matrix))


def convert_performance(
    performance: Performance,
    source: HeadModel,
    target: HeadModel,
    joints: tuple[str, ...] | None = None,
    progress: Progress = silent,
) -> Conversion:
    """A performance of `source` on `target`, within the target's limits; see `fit_head_map` for `joints` and errors.

    Neck, root and translation are the head's, not the face's: they come along by name.
    """
    pair = _pair(source, target, joints)
    acted = retarget(performance, source)
    controls = pair.target_controls
    basis = landmark_basis(pair.target, controls)
    normal, gram = _normal(basis, controls), basis.T @ basis
    face = np.isin(source.joint_names, FACE_JOINTS)[:, None]
    moved = landmark_positions(pair.source, acted.expression, acted.rotations * face) - pair.source_rest
    motion = moved @ pair.linear.T
    wanted = pair.target_rest + motion
    values = np.zeros((len(acted), len(controls.names)))
    missed = motion
    for done in range(_ROUNDS):  # the slopes of the rest pose serve every round: the arc of a jaw is gentle
        right = missed.reshape(len(acted), -1) @ basis + values @ gram
        values = bounded_least_squares(normal, right, controls.low, controls.high)
        missed = wanted - landmark_positions(pair.target, *unpacked(controls, values, len(target.joint_names)))
        progress("fit", done + 1, _ROUNDS)
    expression, rotations = unpacked(controls, values, len(target.joint_names))
    for joint, name in enumerate(target.joint_names):
        if name in source.joint_names and name not in FACE_JOINTS:
            rotations[:, joint] = acted.rotations[:, source.joint_names.index(name)]
    converted = Performance(expression, rotations, acted.translation, acted.fps, target.expression_names, target.joint_names)
    return Conversion(converted, motion, missed)


def perform_on(performance: Performance, model: HeadModel, source: HeadModel | None = None) -> Performance:
    """The performance on `model`: by name where the head has the performance's expressions, else through the least squares map.

    Args:
        source: the head that the performance's expressions belong to; for ARKit's names the open head by default.

    Raises:
        InputError: the expressions are neither the head's nor ARKit's, and no `source` tells what they mean.
    """
    moving = {name for name, track in zip(performance.expression_names, performance.expression.T, strict=True) if np.any(track)}
    if source is None and not moving - set(model.expression_names):
        return retarget(performance, model)
    if source is None and moving & set(ARKIT_NAMES) and set(model.expression_names) & set(ARKIT_NAMES):
        return retarget(performance, model)
    if source is None and not moving <= set(ARKIT_NAMES):
        strange = sorted(moving - set(ARKIT_NAMES))[0]
        raise InputError(f"The performance's expression `{strange}` is neither ARKit's nor the head's: name the head it was made for.")
    return convert_performance(performance, source or load_head_model(), model).performance


def _pair(source: HeadModel, target: HeadModel, joints: tuple[str, ...] | None) -> _Pair:
    points = len(source.landmark_faces), len(target.landmark_faces)
    if points[0] != points[1] or points[0] < 4:
        raise InputError(f"Heads correspond by their landmarks, but `{source.name}` has {points[0]} and `{target.name}` {points[1]}.")
    if joints is None:
        joints = tuple(name for name in FACE_JOINTS if _SPARED[name] not in target.expression_names)
    rigs = landmark_rig(source), landmark_rig(target)
    first, second = (landmark_positions(rig, np.zeros((1, rig.directions.shape[1])), np.zeros((1, len(rig.parents), 3)))[0] for rig in rigs)
    controls = controls_of(source, FACE_JOINTS), controls_of(target, joints)
    return _Pair(rigs[0], rigs[1], controls[0], controls[1], first, second, _similarity(first, second))


def _similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(3, 3) scale times rotation that lays points on points with the least squares (Umeyama 1991)."""
    source, target = source - source.mean(axis=0), target - target.mean(axis=0)
    rotation = nearest_rotation(target.T @ source)
    return (target * (source @ rotation.T)).sum() / (source**2).sum() * rotation


def _wanted_motion(pair: _Pair) -> np.ndarray:
    """(L * 3, S) the source's basis in the target's size and attitude."""
    basis = landmark_basis(pair.source, pair.source_controls)
    return np.einsum("ab,lbs->las", pair.linear, basis.reshape(-1, 3, basis.shape[1])).reshape(basis.shape)


def _normal(basis: np.ndarray, controls: Controls) -> np.ndarray:
    return basis.T @ basis + np.diag((NOISE / controls.scale) ** 2)
