# SPDX-License-Identifier: Apache-2.0
"""What training learns from: several synchronised videos of one head, with exact or tracked cameras and motion."""

from dataclasses import dataclass

import numpy as np

from ..cameras import Camera
from ..errors import InputError
from ..rig import Performance


@dataclass(frozen=True)
class Clip:
    """V static cameras times F frames of one person.

    Attributes:
        frames: (V, F, H, W, 3) uint8, display-referred, the head on white unless the source says otherwise.
        alphas: (V, F, H, W) uint8, coverage of the person.
        cameras: V cameras of one size; each is the crop that the frames show. A monocular video has one, and the head's own motion lies
            in `performance`.
        inside: (V, H, W) bool, pixels inside the original picture, or None where all are.
        performance: F frames for the head model; root rotation and translation allowed.
        shape: (S,) float32 identity, standard deviations.
        offsets: (N, 3) float32 metres on the head's vertices, zero where unknown.
        head_digest: of the head model that `shape` and `offsets` belong to.
        name: of the identity and the clip.
        source: where it comes from: `synthetic`, or the name of a data set.
    """

    frames: np.ndarray
    alphas: np.ndarray
    cameras: tuple[Camera, ...]
    inside: np.ndarray | None
    performance: Performance
    shape: np.ndarray
    offsets: np.ndarray
    head_digest: str
    name: str
    source: str

    def __post_init__(self) -> None:
        views, frames, height, width = self.frames.shape[:4] if self.frames.ndim == 5 else (0, 0, 0, 0)
        wanted = {
            "frames": (self.frames, (views, frames, height, width, 3), np.uint8),
            "alphas": (self.alphas, (views, frames, height, width), np.uint8),
            "shape": (self.shape, (self.shape.size,), np.float32),
            "offsets": (self.offsets, (len(self.offsets), 3), np.float32),
        }
        if self.inside is not None:
            wanted["inside"] = (self.inside, (views, height, width), np.bool_)
        for name, (array, shape, dtype) in wanted.items():
            if array.shape != shape or array.dtype != dtype:
                raise InputError(
                    f"`{name}` of the clip `{self.name}` must be {np.dtype(dtype).name} {shape}, got {array.dtype} {array.shape}."
                )
        if not views or not frames or len(self.cameras) != views or len(self.performance) != frames:
            raise InputError(
                f"The clip `{self.name}` must have a camera a view and a pose a frame, "
                f"got {views} views, {len(self.cameras)} cameras, {frames} frames and {len(self.performance)} poses."
            )
        if any((camera.height, camera.width) != (height, width) for camera in self.cameras):
            raise InputError(f"The cameras of the clip `{self.name}` must be {width} x {height} px like its frames.")
