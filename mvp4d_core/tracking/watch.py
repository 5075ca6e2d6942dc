# SPDX-License-Identifier: Apache-2.0
"""The face points of every frame of a video: followed from frame to frame, searched for where the face was lost, and kept on disk as it
goes, so that a stopped run continues.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FormatError, InputError, StorageError
from ..io import safetensors_numpy
from ..io.reading import file_sha256
from ..io.schema import read_as
from ..io.video import frame_times, video_frames
from ..progress import Progress, silent
from .detect import find_faces
from .face_models import FaceModels
from .landmark_sets import LANDMARKS

SCHEMA = "mvp4d-watched-video/1"
_KEPT_EVERY = 240  # frames
_SEARCH_EVERY = 6  # frames between searches while there is no face
_THUMBNAIL = 24  # cells along the shorter side
_CUT, _CUT_FACTOR, _RECENT = 0.06, 5.0, 12  # mean change of a cell that may be a cut, how much above the usual, and over how many frames
_JUMP = 0.75  # of a face's width in one frame: another face


@dataclass(frozen=True)
class WatchedVideo:
    """`points` (T, 478, 3) float32 px and relative depth, NaN where no face was seen; `cuts` the first frames of new shots; `times` (T,)
    seconds; `width` and `height` px.
    """

    points: np.ndarray
    cuts: tuple[int, ...]
    times: np.ndarray
    width: int
    height: int

    @property
    def seen(self) -> np.ndarray:
        """(T,) bool."""
        return np.isfinite(self.points[:, 0, 0])


def watch_video(path: str | Path, *, resume: Path | None = None, progress: Progress = silent) -> WatchedVideo:
    """Follows the largest face of a video.

    Args:
        resume: a file that is written from time to time and when the work is stopped, and continued from where it fits the video.

    Raises:
        FormatError, InputError, StorageError: as `io.video.video_frames`.
        Cancelled: `progress` stopped the work.
    """
    times = frame_times(path)
    key = file_sha256(path) if resume else ""
    points = _kept(resume, key)
    changes = _Changes()
    cuts: list[int] = []
    width = height = 0
    with FaceModels() as models:
        follower = _Follower(models)
        try:
            progress("watch", 0, len(times))
            for number, picture in enumerate(_limited(video_frames(path), len(times))):
                height, width = picture.shape[:2]
                cut = changes.is_cut(picture)
                if cut:
                    cuts.append(number)
                if number < len(points):
                    follower.told(points[number], cut)
                    continue
                points.append(follower.see(picture, cut))
                if resume and len(points) % _KEPT_EVERY == 0:
                    _keep(resume, key, points)
                progress("watch", number + 1, len(times))
        except BaseException:
            if resume and points:
                with suppress(StorageError):
                    _keep(resume, key, points)
            raise
    if not points:
        raise FormatError(f"{path} has no frame that can be decoded. Take a fresh copy of it.")
    return WatchedVideo(np.array(points, np.float32), tuple(cuts), times[: len(points)], width, height)


def _limited(frames: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """No more frames than there are times."""
    for _, frame in zip(range(count), frames, strict=False):
        yield frame


class _Follower:
    """One face from frame to frame."""

    def __init__(self, models: FaceModels) -> None:
        self._models = models
        self._last: np.ndarray | None = None
        self._waited = _SEARCH_EVERY

    def see(self, picture: np.ndarray, cut: bool) -> np.ndarray:
        """(478, 3) float32, NaN where there is no face."""
        found = None
        if self._last is not None and not cut:
            found = self._models.follow(picture, self._last)
            if found is not None and _moved(found, self._last) > _JUMP:
                found = None
        if found is None and (self._last is not None or cut or self._waited >= _SEARCH_EVERY):
            self._waited = 0
            found = self._search(picture)
        self._waited += 1
        kept = np.full((LANDMARKS, 3), np.nan, np.float32) if found is None else found.astype(np.float32)
        # followed from what is kept on disk, so that a continued run sees the same
        self._last = None if found is None else kept.astype(np.float64)
        return kept

    def told(self, points: np.ndarray, cut: bool) -> None:
        """What was seen in a frame that is not looked at again."""
        lost = not np.isfinite(points).all()
        self._waited = 1 if lost and (self._last is not None or cut or self._waited >= _SEARCH_EVERY) else self._waited + 1
        self._last = None if lost else points.astype(np.float64)

    def _search(self, picture: np.ndarray) -> np.ndarray | None:
        found = self._models.landmarks(picture)
        if not len(found):
            faces, turns = find_faces(self._models, picture)
            if not faces or turns:
                return None
            return self._models.follow(picture, faces[0].points)
        sizes = np.ptp(found[:, :, :2], axis=1).max(axis=1)
        return self._models.follow(picture, found[int(np.argmax(sizes))])


def _moved(points: np.ndarray, before: np.ndarray) -> float:
    """How far the middle of the face moved, in its widths."""
    step = np.linalg.norm(points[:, :2].mean(axis=0) - before[:, :2].mean(axis=0))
    return float(step / max(np.ptp(before[:, 0]), 1e-6))


class _Changes:
    """How much each frame differs from the one before: a cut is a change far above the usual."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._recent: list[float] = []

    def is_cut(self, picture: np.ndarray) -> bool:
        """Whether the picture (H, W, 3) uint8 begins a new shot."""
        step = max(1, min(picture.shape[:2]) // (4 * _THUMBNAIL))
        small = picture[::step, ::step].astype(np.float32)
        rows, columns = small.shape[0] // 4 * 4, small.shape[1] // 4 * 4
        cells = (
            small[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4, 3).mean(axis=(1, 3)) / 255 if rows and columns else small / 255
        )
        before, self._before = self._before, cells
        if before is None:
            return False
        change = float(np.abs(cells - before).mean())
        usual = float(np.median(self._recent)) if self._recent else 0.0
        cut = change > max(_CUT, _CUT_FACTOR * usual)
        self._recent = [*self._recent, change][-_RECENT:] if not cut else []
        return cut


def _keep(path: Path, key: str, points: list[np.ndarray]) -> None:
    safetensors_numpy.write(path, {"points": np.array(points, np.float32)}, {"schema": SCHEMA, "video": key})


def _kept(path: Path | None, key: str) -> list[np.ndarray]:
    """What an earlier run saw of the same video; nothing where the file is missing, damaged or of another one."""
    if path is None or not path.exists():
        return []
    try:
        tensors, metadata = read_as(path, SCHEMA, "a watched video")
    except (FormatError, InputError):
        return []
    points = tensors.get("points", np.zeros(0, np.float32))
    if metadata.get("video") != key or points.ndim != 3 or points.shape[1:] != (LANDMARKS, 3) or points.dtype != np.float32:
        return []
    return list(points)
