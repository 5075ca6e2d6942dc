# SPDX-License-Identifier: Apache-2.0
"""What every generator makes, how it is kept, and what a generator is."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..conditioning import ViewPlan, load_plan, save_plan
from ..errors import FormatError, InputError
from ..io.atomic import atomic_text, remove_temporaries
from ..io.images import read_image, write_image
from ..progress import Progress, silent, steps
from ..rig import HeadModel
from ..tracking.reference import Reference

MARKER = "multiview.json"  # written last: a folder without it is unfinished


@dataclass(frozen=True)
class MultiViewVideo:
    """V synchronised videos of F frames.

    Attributes:
        frames: (V, F, H, W, 3) uint8, display-referred sRGB on white.
        alphas: (V, F, H, W) uint8.
        plan: the cameras and the performance.
        provenance: texts: generator, seed, versions, the photo's digest.
    """

    frames: np.ndarray
    alphas: np.ndarray
    plan: ViewPlan
    provenance: dict[str, str]

    def __post_init__(self) -> None:
        shape = self.plan.shape
        if self.frames.shape != (*shape, 3) or self.alphas.shape != shape or self.frames.dtype != np.uint8 or self.alphas.dtype != np.uint8:
            raise InputError(f"A multi-view video of this plan must be uint8 {(*shape, 3)} with alphas, got {self.frames.shape}.")


class MultiViewGenerator(Protocol):
    """Makes the videos a plan asks for. `seed` decides everything random; `progress` may cancel; a generator that takes long keeps what is
    finished in `folder`, and goes on from there."""

    def generate(
        self,
        reference: Reference,
        plan: ViewPlan,
        *,
        head_model: HeadModel,
        seed: int,
        progress: Progress = silent,
        folder: Path | None = None,
    ) -> MultiViewVideo: ...


def to_bytes(image: np.ndarray) -> np.ndarray:
    """0..1 floats to rounded uint8."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def view_grid(pictures: np.ndarray, columns: int = 0) -> np.ndarray:
    """The V pictures of each frame in one: (V, F, H, W, ...) to (F, rows H, columns W, ...).

    Args:
        columns: how many lie side by side; 0 makes the grid about square. What the last row lacks is white, and clear in alphas.
    """
    views, frames, height, width, *rest = pictures.shape
    across = min(columns or math.ceil(math.sqrt(views)), views)
    rows = -(-views // across)
    paper = np.iinfo(pictures.dtype).max if rest else 0
    cells = np.full((rows * across, frames, height, width, *rest), paper, pictures.dtype)
    cells[:views] = pictures
    cells = cells.reshape(rows, across, frames, height, width, *rest)
    return np.moveaxis(cells, (0, 1, 2, 3, 4), (1, 3, 0, 2, 4)).reshape(frames, rows * height, across * width, *rest)


def save_multiview(video: MultiViewVideo, folder: str | Path, progress: Progress = silent) -> None:
    """One PNG with alpha a frame (`view_00/frame_000.png`), the plan, and last a marker with the provenance.

    The frames of an earlier video in the folder go first.
    """
    folder = Path(folder)
    views, frames = video.frames.shape[:2]
    (folder / MARKER).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    remove_temporaries(folder)
    for old in folder.glob("view_*"):
        remove_temporaries(old)
        for frame in old.glob("frame_*.png"):
            frame.unlink()
    save_plan(video.plan, folder / "plan.safetensors")
    for view, frame in steps(np.ndindex(views, frames), "save views", views * frames, progress):
        target = folder / f"view_{view:02d}"
        target.mkdir(exist_ok=True)
        alpha = video.alphas[view, frame].astype(np.float32)[..., None] / 255
        on_white = video.frames[view, frame].astype(np.float32) / 255
        straight = np.where(alpha > 0, (on_white - (1 - alpha)) / np.maximum(alpha, 1e-6), 1)
        write_image(target / f"frame_{frame:03d}.png", np.concatenate([np.clip(straight, 0, 1), alpha], axis=-1))
    atomic_text(folder / MARKER, json.dumps(video.provenance, indent=2))


def load_multiview(folder: str | Path) -> MultiViewVideo:
    """Reads what `save_multiview` wrote; colours are put on white again.

    Raises:
        FormatError: the folder is unfinished, or a frame is missing or of another size.
    """
    folder = Path(folder)
    if not (folder / MARKER).is_file():
        raise FormatError(f"{folder} holds no finished multi-view video ({MARKER} is missing); generate it again.")
    plan = load_plan(folder / "plan.safetensors")
    views, frames, height, width = plan.shape
    video = np.zeros((views, frames, height, width, 3), np.uint8)
    alphas = np.zeros((views, frames, height, width), np.uint8)
    for view, frame in np.ndindex(views, frames):
        path = folder / f"view_{view:02d}" / f"frame_{frame:03d}.png"
        rgb, alpha = read_image(path)
        if rgb.shape != (height, width, 3):
            raise FormatError(f"{path} must be {width} x {height} px like its plan, got {rgb.shape[1]} x {rgb.shape[0]}.")
        alpha = np.ones((height, width), np.float32) if alpha is None else alpha
        video[view, frame] = to_bytes(rgb * alpha[..., None] + 1 - alpha[..., None])
        alphas[view, frame] = to_bytes(alpha)
    try:
        provenance = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{folder / MARKER} must be JSON, got: {error}.") from None
    return MultiViewVideo(video, alphas, plan, provenance)
