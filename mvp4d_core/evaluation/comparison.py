# SPDX-License-Identifier: Apache-2.0
"""An avatar's pictures against the truth, and the floor: the same figures of the truth itself, re-encoded.

The floor is what each figure gives for pictures that nobody would tell from the truth: JPEG of quality 95 without colour subsampling. A
difference below it means nothing. `tracker_on_truth` is the tracker's own error on the true pictures, against landmarks and expressions
that are known exactly; it bounds how far `akd` and `expression_distance` can be read as distances of faces rather than of pictures.
"""

import io
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..avatar import GaussianAvatar
from ..errors import MissingAssetError
from ..generate.multiview import to_bytes
from ..progress import Progress, silent, steps
from ..render.avatar import render_splats
from ..rig import Performance, retarget
from . import faces
from .instruments import Instruments
from .jod import SLOWEST
from .lpips import LEAST_SIDE as LPIPS_LEAST_SIDE
from .metrics import MS_SSIM_LEAST_SIDE, WINDOW, ms_ssim, psnr, ssim_map
from .report import BEST_DECIBELS
from .reprojection import camera_pairs, consistency
from .truth import Truth

FLOOR_QUALITY = 95
PICTURE_FIGURES = ("psnr", "foreground_psnr", "ssim", "ms_ssim", "lpips")
FIGURES = (*PICTURE_FIGURES, "jod", *faces.FIGURES, "re_lg")


@dataclass(frozen=True)
class Scores:
    """Every figure of V x F pictures, NaN where it is absent: (V, F), but `jod` (V, 1), one a video, and `re_lg` (P, F), pairs of views."""

    figures: dict[str, np.ndarray]

    def means(self) -> dict[str, float | None]:
        """The mean of each figure over where it is present; None where it is nowhere."""
        return {name: _mean(values) for name, values in self.figures.items()}

    def of_view(self, view: int) -> dict[str, float | None]:
        """The means over one view's pictures."""
        return {name: _mean(values[view]) for name, values in self.figures.items() if name != "re_lg"}

    def by_view(self, name: str) -> np.ndarray:
        """(V,) means of one figure, NaN where it is absent."""
        return np.array([_mean(values) for values in self.figures[name]], np.float64)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_avatar` found.

    Attributes:
        pictures: (V, F, H, W, 3) uint8, the avatar's.
        avatar, floor: the figures.
        tracker: the tracker's error on the truth, empty where nothing is known to hold it against.
        faces: how many pictures show a face to the camera, and in how many the tracker found it.
        absent: figure to reason.
        names: figure to what measured it.
        notes: what a reader has to know, a line each.
    """

    truth: Truth
    pictures: np.ndarray
    avatar: Scores
    floor: Scores
    tracker: dict[str, float]
    faces: dict[str, int]
    absent: dict[str, str]
    names: dict[str, str]
    notes: tuple[str, ...]
    seconds: float

    def report(self) -> dict[str, Any]:
        """As JSON: the avatar's figures, `floor`, `tracker_on_truth`, `by_view`, what is absent and why, what measured."""
        views, frames, height, width = self.pictures.shape[:4]
        return {
            **self.avatar.means(),
            "floor": self.floor.means(),
            "tracker_on_truth": self.tracker or None,
            "absent": self.absent,
            "instruments": self.names,
            "faces": self.faces,
            "against": self.truth.name,
            "pictures": views * frames,
            "views": views,
            "frames": frames,
            "width": width,
            "height": height,
            "fps": self.truth.performance.fps,
            "by_view": [{"view": number, **self.avatar.of_view(view)} for view, number in enumerate(self.truth.views)],
            "notes": list(self.notes),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class _Task:
    """What is compared with what, and by what; `absent` gains what turns out to be."""

    avatar: GaussianAvatar
    performance: Performance
    truth: Truth
    instruments: Instruments
    absent: dict[str, str]
    device: torch.device | str
    progress: Progress

    @property
    def remembers(self) -> bool:
        """Whether the avatar was fitted to the truth itself."""
        provenance = self.truth.provenance
        return bool(provenance) and all(self.avatar.metadata.get(key) == text for key, text in provenance.items())


def evaluate_avatar(
    avatar: GaussianAvatar, truth: Truth, instruments: Instruments, *, device: torch.device | str = "cpu", progress: Progress = silent
) -> Evaluation:
    """Renders the avatar doing what the truth does, in its cameras, on white, and measures.

    Raises:
        InputError: the truth's performance shares no expression and no joint with the avatar.
    """
    started = time.perf_counter()
    performance = retarget(truth.performance, avatar.rig)
    absent = {**instruments.absent, **_too_little(truth, instruments)}
    task = _Task(avatar, performance, truth, instruments, absent, device, progress)
    pictures, recoded = render_pictures(avatar, performance, truth, device, progress), re_encoded(truth.frames)
    made, floor = _compare(task, pictures, "compare"), _compare(task, recoded, "floor")
    tracker, counts = _compare_faces(task, {"avatar": (pictures, made), "floor": (recoded, floor)})
    for name, mean in Scores(made).means().items():
        if mean is None:
            absent.setdefault(name, "nothing in these pictures lets it be measured")
    notes = list(truth.notes)
    if task.remembers:
        notes.append("The avatar was fitted to this very video: outside the pictures that its fit kept out, the figures tell of memory.")
    seconds = time.perf_counter() - started
    return Evaluation(truth, pictures, Scores(made), Scores(floor), tracker, counts, absent, instruments.names, tuple(notes), seconds)


def render_pictures(
    avatar: GaussianAvatar, performance: Performance, truth: Truth, device: torch.device | str = "cpu", progress: Progress = silent
) -> np.ndarray:
    """(V, F, H, W, 3) uint8 on white, the avatar in the truth's cameras."""
    pictures = np.zeros_like(truth.frames)
    for frame in steps(range(len(performance)), "render", len(performance), progress):
        images, _ = render_splats(avatar.pose(performance[frame]), truth.cameras, device=device)
        pictures[:, frame] = to_bytes(images)
    return pictures


def re_encoded(pictures: np.ndarray) -> np.ndarray:
    """Pictures (V, F, H, W, 3) uint8 after JPEG of `FLOOR_QUALITY` without colour subsampling."""
    from PIL import Image

    result = np.zeros_like(pictures)
    for view, frame in np.ndindex(pictures.shape[:2]):
        stream = io.BytesIO()
        Image.fromarray(pictures[view, frame]).save(stream, "JPEG", quality=FLOOR_QUALITY, subsampling=0)
        result[view, frame] = np.asarray(Image.open(stream))
    return result


def _too_little(truth: Truth, instruments: Instruments) -> dict[str, str]:
    """The figures that pictures of this size, so few a second, or a single view, don't have."""
    side, absent = min(truth.frames.shape[2:4]), {}
    least = {"ssim": WINDOW, "ms_ssim": MS_SSIM_LEAST_SIDE}
    if instruments.lpips:
        least["lpips"] = LPIPS_LEAST_SIDE[instruments.lpips.backbone]
    for name, pixels in least.items():
        if side < pixels:
            absent[name] = f"it wants pictures of at least {pixels} px a side, these have {side}"
    if instruments.jod and len(truth.performance) > 1 and truth.performance.fps <= SLOWEST:
        absent["jod"] = f"it wants more than {SLOWEST:g} frames a second, these videos have {truth.performance.fps:g}"
    if instruments.matcher and not camera_pairs(truth.cameras):
        absent["re_lg"] = "it compares two views or more, and there is one"
    return absent


def _compare(task: _Task, pictures: np.ndarray, stage: str) -> dict[str, np.ndarray]:
    """The figures that need no tracker; those that do are NaN."""
    truth, instruments, absent = task.truth, task.instruments, task.absent
    views, frames = pictures.shape[:2]
    figures = {name: np.full((views, frames), np.nan) for name in (*PICTURE_FIGURES, *faces.FIGURES)}
    figures["jod"] = np.full((views, 1), np.nan)
    figures["re_lg"] = np.full((max(len(camera_pairs(truth.cameras)), 1), frames), np.nan)
    for frame in steps(range(frames), stage, frames, task.progress):
        made, wanted = (torch.as_tensor(p[:, frame], device=task.device).float() / 255 for p in (pictures, truth.frames))
        inside = torch.as_tensor(truth.alphas[:, frame] > 127, device=task.device)
        for view in range(views):
            figures["psnr"][view, frame] = _decibels(psnr(made[view], wanted[view]))
            if inside[view].any():
                figures["foreground_psnr"][view, frame] = _decibels(psnr(made[view], wanted[view], inside[view]))
            if instruments.lpips and "lpips" not in absent:
                with torch.no_grad():
                    figures["lpips"][view, frame] = float(instruments.lpips(made[view, None], wanted[view, None]))
        if "ssim" not in absent:
            figures["ssim"][:, frame] = ssim_map(made, wanted).mean(dim=(1, 2, 3)).cpu()
        if "ms_ssim" not in absent:
            figures["ms_ssim"][:, frame] = ms_ssim(made, wanted).cpu()
        if instruments.matcher and "re_lg" not in absent:
            figures["re_lg"][:, frame] = consistency(pictures[:, frame], truth.cameras, instruments.matcher)
    if instruments.jod and "jod" not in absent:
        for view in steps(range(views), f"{stage} jod", views, task.progress):
            figures["jod"][view, 0] = instruments.jod(pictures[view], truth.frames[view], truth.performance.fps)
    return figures


def _compare_faces(task: _Task, rows: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]) -> tuple[dict[str, float], dict[str, int]]:
    """Puts the tracker's figures into the `rows` of pictures and figures; gives its error on the truth, and the counts of faces."""
    tracker, rig, truth = task.instruments.faces, task.avatar.rig, task.truth
    if tracker is None:
        return {}, {}
    try:
        shown = faces.shown_faces(rig, task.performance, truth.cameras)
    except MissingAssetError as error:
        task.absent.update({name: str(error) for name in faces.FIGURES if name not in task.absent})
        return {}, {}
    wanted = tracker.look(truth.frames, rig, shown, "faces: truth", task.progress)
    counts = {"shown": len(shown), "found_in_truth": len(wanted)}
    for name, (pictures, figures) in rows.items():
        seen = tracker.look(pictures, rig, shown, f"faces: {name}", task.progress)
        figures.update(faces.compare_faces(seen, wanted, (pictures.shape[0], pictures.shape[1]), rig))
        counts[f"found_in_{name}"] = len(seen)
    person, deeds = (rig, task.performance) if task.remembers else (truth.rig, truth.performance)
    if person is None:
        return {}, counts
    known = faces.known_landmarks(person, deeds, truth.cameras, wanted)
    return faces.tracker_error(wanted, known, rig, task.performance), counts


def _decibels(value: torch.Tensor) -> float:
    return min(BEST_DECIBELS, float(value))


def _mean(values: np.ndarray) -> float | None:
    present = values[~np.isnan(values)]
    return float(present.mean()) if present.size else None
