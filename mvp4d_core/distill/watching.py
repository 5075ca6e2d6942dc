# SPDX-License-Identifier: Apache-2.0
"""What a person may look at while a fit runs: the avatar beside its target, and how its loss falls."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from ..avatar import GaussianAvatar
from ..conditioning import head_centre
from ..generate.multiview import MultiViewVideo, to_bytes
from ..render.avatar import render_avatar

LEAST_SECONDS = 3.0  # between two looks: a look costs as much as a few steps
MOST_SIDE = 384  # pixels of either picture


@dataclass
class LossRecord:
    """The terms of a fit's loss, step by step; an `on_loss` of `distill_avatar`.

    Attributes:
        done: how many steps were done, rising; a fit that continues does not begin with 1.
        terms: name to as many weighted values.
    """

    done: list[int] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)

    def __call__(self, done: int, terms: Mapping[str, float]) -> None:
        self.done.append(done)
        for name, value in terms.items():  # a term that came later was nothing until then
            track = self.terms.setdefault(name, [0.0] * (len(self.done) - 1))
            track.append(value)
        for name in self.terms.keys() - terms.keys():
            self.terms[name].append(0.0)


class Looks:
    """An `on_step` of `distill_avatar` that shows a picture now and then: the first look at once, then one in `every` seconds at most.

    Args:
        show: is given (h, 2 w, 3) uint8, the target and the avatar side by side on white.
    """

    def __init__(
        self,
        video: MultiViewVideo,
        show: Callable[[np.ndarray], None],
        *,
        device: torch.device | str = "cpu",
        every: float = LEAST_SECONDS,
    ) -> None:
        self._video, self._show, self._device, self._every = video, show, device, every
        self._next = -np.inf

    def __call__(self, done: int, avatar: Callable[[], GaussianAvatar]) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._show(beside_target(avatar(), self._video, device=self._device))
        self._next = time.monotonic() + self._every


def beside_target(avatar: GaussianAvatar, video: MultiViewVideo, *, device: torch.device | str = "cpu") -> np.ndarray:
    """The video's middle frame from its most frontal view, and the avatar in its place: (h, 2 w, 3) uint8 on white."""
    plan = video.plan
    sides = np.stack([camera.position for camera in plan.cameras]) - head_centre(avatar.rig)
    view, frame = int(np.argmax(sides[:, 2] / np.linalg.norm(sides, axis=1))), len(plan.performance) // 2
    image, _ = render_avatar(avatar, plan.performance[frame], plan.cameras[view], device=device)
    both = np.concatenate([video.frames[view, frame], to_bytes(image)], axis=1)
    shrink = -(-both.shape[0] // MOST_SIDE)
    return np.ascontiguousarray(both[::shrink, ::shrink])
