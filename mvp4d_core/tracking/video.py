# SPDX-License-Identifier: Apache-2.0
"""From a webcam or phone clip to what its person does: `track_video` gives a `Performance` that drives any avatar of the head."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..cameras import Camera
from ..errors import InputError, TrackingError
from ..progress import Progress, silent
from ..rig import HeadModel, Performance
from ..rotations import axis_angle_to_matrix, matrix_to_quaternion, nearest_rotation, quaternion_to_axis_angle
from .face_solver import FacePose, SolverSettings, face_rig, residuals, solve_face, with_identity
from .fit import eye_distance
from .landmark_sets import LANDMARKS
from .point_rig import turns
from .shared_identity import KEY_FRAMES, SharedIdentity, fit_identity, key_frames
from .time_smoothing import filled, shots, smooth_in_time
from .watch import WatchedVideo, watch_video

CAMERA, PERSON = "camera", "person"
_FACING = np.diag([1.0, -1.0, -1.0])  # camera from head, of a head that looks straight into the camera
# how long a mean in time lasts (seconds), and the change in it that is motion
_WEIGHT, _LIP_OR_LID, _GAZE = (0.05, 0.10), (0.03, 0.06), (0.05, np.radians(2.5))
_TURN, _TRAVEL = (0.06, np.radians(1.5)), (0.10, 0.004)
_QUICK = ("eyeBlink", "jaw", "mouth", "tongue")
_SHUT = 0.35  # of eyeBlink: an eye whose iris is no longer to be believed
_UNEVEN = 0.5  # of a frame: times farther off an even beat than this are resampled


@dataclass(frozen=True)
class VideoTrack:
    """What is known of a driving video of T frames at an even rate.

    Attributes:
        performance: T frames. Where no face was seen it goes straight from what was before to what came after.
        camera: that saw it, at rest; the person's neutral head at the middle of its travel is the head at rest.
        shape: (S,) the identity, standard deviations.
        seen: (T,) bool, where the face was.
        cuts: the first frames of new shots.
        landmark_error_percent: mean distance of the fitted points from the detected ones over the distance between the eyes.
        points: (T, 478, 2) float32 px of the fitted head's landmarks as the detector would tell them, NaN where nothing was seen.
        notices: what a person should know.
    """

    performance: Performance
    camera: Camera
    shape: np.ndarray
    seen: np.ndarray
    cuts: tuple[int, ...]
    landmark_error_percent: float
    points: np.ndarray
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Solved:
    """T frames of the head in the camera: `turns` (T, 3) axis-angle from the rotation `origin` (3, 3), `translations` (T, 3), `weights`
    (T, E), `angles` (T, 2 M), and `points` (T, 478, 2) px.
    """

    origin: np.ndarray
    turns: np.ndarray
    translations: np.ndarray
    weights: np.ndarray
    angles: np.ndarray
    points: np.ndarray


_COLUMNS = ("turns", "translations", "weights", "angles", "points")


def track_video(
    path: str | Path,
    *,
    head_model: HeadModel,
    straight: str = CAMERA,
    smooth: float = 1.0,
    resume: Path | None = None,
    settings: SolverSettings | None = None,
    progress: Progress = silent,
) -> VideoTrack:
    """The performance of the largest face of a video.

    Args:
        head_model: whose expressions and joints the performance has.
        straight: what looking straight ahead is: `camera`, into the lens, or `person`, as the person holds the head on average, for a
            camera that stood to the side or below.
        smooth: how long the means in time last, 1 as usual, 0 for what each frame says by itself.
        resume: a file that keeps the points as they are found and from which a stopped run continues.

    Raises:
        FormatError, InputError, StorageError: no video, or one that is too large.
        TrackingError: no face in any frame.
        MissingAssetError: a package is missing.
    """
    if straight not in (CAMERA, PERSON) or not 0 <= smooth <= 10:
        raise InputError(f"`straight` must be {CAMERA} or {PERSON} and `smooth` 0 to 10, got {straight!r} and {smooth}.")
    if len(head_model.landmark_faces) != LANDMARKS:
        raise InputError(f"Tracking needs a head with {LANDMARKS} face points, `{head_model.name}` has {len(head_model.landmark_faces)}.")
    return track_points(
        watch_video(path, resume=resume, progress=progress),
        head_model=head_model,
        straight=straight,
        smooth=smooth,
        settings=settings,
        progress=progress,
    )


def track_points(
    video: WatchedVideo,
    *,
    head_model: HeadModel,
    straight: str = CAMERA,
    smooth: float = 1.0,
    settings: SolverSettings | None = None,
    progress: Progress = silent,
) -> VideoTrack:
    """As `track_video`, of face points that were found before."""
    seen = video.seen
    if not seen.any():
        raise TrackingError(
            f"No face found in any of the {len(seen)} frames.\nGive a video in which a face is seen from the front, unhidden and upright."
        )
    settings = settings or SolverSettings()
    whole = face_rig(head_model, settings)
    progress("identity", 0, 1)
    known = video.points[seen].astype(np.float64)
    keys = key_frames(with_identity(whole, np.zeros(whole.identities)), known, KEY_FRAMES)
    identity = fit_identity(whole, known[keys], video.width, video.height, settings)
    progress("identity", 1, 1)
    solved = _with_held_gaze(_solve(video, identity, settings, progress), seen, identity, head_model)
    error = _error_percent(solved, video)
    fps, solved, seen, cuts = _evenly(solved, video)
    solved = _smoothed(solved, cuts, fps, smooth, head_model)
    performance, camera = _performance(solved, identity, head_model, video, fps, straight)
    solved.points[~seen] = np.nan
    return VideoTrack(
        performance=performance,
        camera=camera,
        shape=identity.weights[: len(head_model.shape_names)].astype(np.float32),
        seen=seen,
        cuts=cuts,
        landmark_error_percent=error,
        points=solved.points.astype(np.float32),
        notices=_notices(seen, cuts, fps),
    )


def _solve(video: WatchedVideo, identity: SharedIdentity, settings: SolverSettings, progress: Progress) -> _Solved:
    """Each frame from the one before; frames without a face lie on straight lines between their neighbours."""
    rig, focal, centre = identity.rig, identity.focal, np.array([video.width, video.height]) / 2
    frames, seen = len(video.points), video.seen
    rotation = np.zeros((frames, 3, 3))
    columns = {"weights": np.zeros((frames, rig.basis.shape[2])), "angles": np.zeros((frames, 2 * len(rig.turned)))}
    columns |= {"translations": np.zeros((frames, 3)), "points": np.zeros((frames, 2 * LANDMARKS))}
    pose: FacePose | None = None
    progress("expressions", 0, frames)
    for frame in range(frames):
        if not seen[frame]:
            pose = None
            continue
        points = video.points[frame].astype(np.float64)
        pose = solve_face(rig, points, focal, centre, settings, None if frame in video.cuts else pose)
        columns["weights"][frame], columns["angles"][frame] = pose.weights, pose.angles.ravel()
        rotation[frame], columns["translations"][frame] = pose.rotation, pose.translation
        columns["points"][frame] = residuals(rig, pose, points, focal, centre).pixels.ravel()
        progress("expressions", frame + 1, frames)
    # as small turns from one frame in the middle, in which lines and means are nearly those of the rotations
    origin = rotation[np.nonzero(seen)[0][seen.sum() // 2]]
    turned = np.zeros((frames, 3))
    turned[seen] = quaternion_to_axis_angle(matrix_to_quaternion(rotation[seen] @ origin.T))
    filling = {name: filled(values, seen) for name, values in (*columns.items(), ("turns", turned))}
    return _Solved(origin=origin, **{**filling, "points": filling["points"].reshape(frames, LANDMARKS, 2)})


def _with_held_gaze(solved: _Solved, seen: np.ndarray, identity: SharedIdentity, model: HeadModel) -> _Solved:
    """Behind closed lids a detector guesses where the iris is: there the gaze goes straight from before the blink to after it."""
    angles = solved.angles.copy()
    for m, joint in enumerate(identity.rig.joint_names):
        lids = {"left_eye": "eyeBlinkLeft", "right_eye": "eyeBlinkRight"}.get(joint, "")
        if lids in model.expression_names:
            open_eye = seen & (solved.weights[:, model.expression_names.index(lids)] < _SHUT)
            if open_eye.any():
                angles[:, 2 * m : 2 * m + 2] = filled(angles[:, 2 * m : 2 * m + 2], open_eye)
    return replace(solved, angles=angles)


def _error_percent(solved: _Solved, video: WatchedVideo) -> float:
    """Mean distance of the expected points from the detected ones over the distance between the eyes, in percent."""
    fitted, found = solved.points[video.seen], video.points[video.seen].astype(np.float64)
    apart = np.linalg.norm(fitted - found[:, :, :2], axis=2).mean(axis=1)
    return 100 * float(np.mean(apart / np.array([max(eye_distance(points), 1e-6) for points in found])))


def _evenly(solved: _Solved, video: WatchedVideo) -> tuple[float, _Solved, np.ndarray, tuple[int, ...]]:
    """Frames a second, and the same at an even beat: what a `Performance` is. Most videos have one already and stay as they are."""
    times, count = video.times, len(video.times)
    step = float(np.median(np.diff(times))) if count > 1 else 1 / 25
    fps = float(np.clip((count - 1) / times[-1] if count > 1 and times[-1] > 0 else 25.0, 1.0, 1000.0))
    if count < 3 or np.abs(times - np.arange(count) / fps).max() * fps <= _UNEVEN:
        return fps, solved, video.seen, video.cuts
    fps = float(np.clip(1 / max(step, 1e-3), 1.0, 1000.0))
    beat = np.arange(int(times[-1] * fps + 1e-6) + 1) / fps
    nearest = np.rint(np.interp(beat, times, np.arange(count))).astype(int)

    def at_beat(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(count, -1)
        return np.stack([np.interp(beat, times, column) for column in flat.T], axis=1).reshape(-1, *values.shape[1:])

    even = _Solved(solved.origin, *(at_beat(getattr(solved, name)) for name in _COLUMNS))
    cuts = tuple(int(np.searchsorted(beat, times[cut] - 1e-9)) for cut in video.cuts)
    return fps, even, video.seen[nearest], tuple(cut for cut in cuts if 0 < cut < len(beat))


def _smoothed(solved: _Solved, cuts: tuple[int, ...], fps: float, smooth: float, model: HeadModel) -> _Solved:
    """Means in time within each shot, short ones for lids and lips."""
    if smooth == 0:
        return solved
    quick = np.array([name.startswith(_QUICK) for name in model.expression_names], bool)
    out = {name: getattr(solved, name).copy() for name in _COLUMNS}
    for shot in shots(cuts, len(solved.weights)):
        for mask, (seconds, jump) in ((quick, _LIP_OR_LID), (~quick, _WEIGHT)):
            out["weights"][shot][:, mask] = smooth_in_time(solved.weights[shot][:, mask], smooth * seconds * fps, jump)
        for name, (seconds, jump) in (("angles", _GAZE), ("turns", _TURN), ("translations", _TRAVEL)):
            out[name][shot] = smooth_in_time(getattr(solved, name)[shot], smooth * seconds * fps, jump)
    return _Solved(solved.origin, **out)


def _performance(
    solved: _Solved, identity: SharedIdentity, model: HeadModel, video: WatchedVideo, fps: float, straight: str
) -> tuple[Performance, Camera]:
    """The head's motion as turns of the neck's joint and travel, before a camera that stands still."""
    frames = len(solved.weights)
    head_in_camera = axis_angle_to_matrix(solved.turns) @ solved.origin
    facing = _FACING
    if straight == PERSON:
        facing = nearest_rotation(head_in_camera.mean(axis=0))
    turn = facing.T @ head_in_camera
    neck = model.joint_names.index("neck") if "neck" in model.joint_names else 0
    shape = model.shapedirs @ identity.weights[: len(model.shape_names)]
    joint = model.J_regressor[neck].astype(np.float64) @ (model.v_template + shape)
    travel = solved.translations @ facing + turn @ joint - joint
    middle = np.median(travel, axis=0)
    rotations = np.zeros((frames, len(model.joint_names), 3))
    rotations[:, neck] = quaternion_to_axis_angle(matrix_to_quaternion(turn))
    for m, name in enumerate(identity.rig.joint_names):
        matrices, _ = turns(solved.angles[:, 2 * m : 2 * m + 2])
        rotations[:, model.joint_names.index(name)] = quaternion_to_axis_angle(matrix_to_quaternion(matrices))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = facing, facing @ middle
    K = np.array([[identity.focal, 0, video.width / 2], [0, identity.focal, video.height / 2], [0, 0, 1]])
    performance = Performance(solved.weights, rotations, travel - middle, fps, model.expression_names, model.joint_names)
    return performance, Camera(K, pose, video.width, video.height)


def _notices(seen: np.ndarray, cuts: tuple[int, ...], fps: float) -> tuple[str, ...]:
    notices = []
    if not seen.all():
        edges = np.diff(np.concatenate([[True], seen, [True]]).astype(int))
        gaps = list(zip(np.nonzero(edges < 0)[0], np.nonzero(edges > 0)[0], strict=True))
        told = ", ".join(f"{first / fps:.2f} to {last / fps:.2f} s" for first, last in gaps[:5])
        notices.append(f"No face in {int((~seen).sum())} of {len(seen)} frames ({told}{', …' if len(gaps) > 5 else ''}); bridged.")
    if cuts:
        told = ", ".join(f"{cut / fps:.2f} s" for cut in cuts[:5])
        notices.append(f"{len(cuts)} cuts, at {told}{', …' if len(cuts) > 5 else ''}; the identity is one for all shots.")
    return tuple(notices)
