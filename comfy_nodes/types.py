# SPDX-License-Identifier: Apache-2.0
"""The pack's sockets, and what travels through those that carry more than one thing of the core."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from comfy_api.latest import io

from ..mvp4d_core.avatar import GaussianAvatar
from ..mvp4d_core.rig import HeadModel
from ..mvp4d_core.tracking.reference import Reference

if TYPE_CHECKING:
    from .pipelines import ManagedPipeline

CATEGORY = "MVP4D"

ReferenceSocket = io.Custom("MVP4D_REFERENCE")  # TrackedReference
PerformanceSocket = io.Custom("MVP4D_PERFORMANCE")  # rig.Performance
PlanSocket = io.Custom("MVP4D_PLAN")  # conditioning.ViewPlan
VideoSocket = io.Custom("MVP4D_VIDEO")  # generate.MultiViewVideo
FaceLandmarksSocket = io.Custom("FACE_LANDMARKS")  # ComfyUI's own, see tracking.face_landmarks
AvatarSocket = io.Custom("MVP4D_AVATAR")  # BoundAvatar
HeadSocket = io.Custom("MVP4D_HEAD")  # rig.HeadModel
CamerasSocket = io.Custom("MVP4D_CAMERAS")  # conditioning.ViewCameras
ModelSocket = io.Custom("MVP4D_MODEL")  # ChosenModel


@dataclass(frozen=True)
class TrackedReference:
    """A tracked photo and the head it was tracked with."""

    reference: Reference
    head_model: HeadModel


@dataclass(frozen=True)
class BoundAvatar:
    """An avatar, and the head and identity that saving wants where the head's licence keeps the rig out of the file.

    Both are None for an avatar that was loaded.
    """

    avatar: GaussianAvatar
    head_model: HeadModel | None = None
    shape: np.ndarray | None = None


@dataclass(frozen=True)
class ChosenModel:
    """A generator that was chosen by name.

    Attributes:
        name: `proxy`, or whose weights: `nano`, or a folder in models/mvp4d.
        weights: their folder, None of the proxy.
        pipeline: what keeps them in memory between runs, None of the proxy.
    """

    name: str
    weights: Path | None = None
    pipeline: "ManagedPipeline | None" = None
