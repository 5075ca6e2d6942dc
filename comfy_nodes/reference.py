# SPDX-License-Identifier: Apache-2.0
"""The photo: who it shows, and how the head sits in it."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..mvp4d_core.rig import OPEN_HEAD, HeadModel, load_head_model
from . import host
from .types import CATEGORY, FaceLandmarksSocket, HeadSocket, ReferenceSocket, TrackedReference


class LoadHeadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_LoadHeadModel",
            display_name="MVP4D Load Head Model",
            category=CATEGORY,
            description="A head to fit to photos and to read tracks with: the built-in open head, or FLAME as you have converted it.",
            search_aliases=["FLAME", "head rig", "morphable model", "3dmm"],
            inputs=[
                io.Combo.Input(
                    "head",
                    options=host.head_names(),
                    default=OPEN_HEAD,
                    tooltip="The built-in open head, or a .safetensors in models/mvp4d that `mvp4d import-flame` made.",
                ),
            ],
            outputs=[
                HeadSocket.Output("head_model", tooltip="For Load Reference, Load Performance and Track Video."),
                io.String.Output("report", tooltip="What the head has, and under which licence."),
            ],
        )

    @classmethod
    def execute(cls, head: str) -> io.NodeOutput:
        model = load_head_model(host.head_source(head))
        counts = f"{len(model.v_template):,} vertices, {len(model.shape_names)} identities, {len(model.expression_names)} expressions"
        report = f"{model.name}: {counts}, joints {', '.join(model.joint_names)}.\nLicence: {model.licence}"
        return io.NodeOutput(model, report)

    @classmethod
    def validate_inputs(cls, head: str) -> bool | str:
        return _missing_head(head) or True

    @classmethod
    def fingerprint_inputs(cls, head: str) -> str:
        return host.head_state(head)


class LoadReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MVP4D_LoadReference",
            display_name="MVP4D Load Reference",
            category=CATEGORY,
            description="Fits a 3D head to a portrait photo: identity, expression, pose and camera. The overlay shows how well it sits.",
            search_aliases=["portrait", "photo to avatar", "face tracking", "fit head"],
            inputs=[
                io.Image.Input("image", tooltip="One portrait photo: face visible from the front or nearly so, at least 128 px wide."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the person is, in the photo's size. Found by itself when nothing is connected or the mask is even.",
                ),
                io.Combo.Input(
                    "mask_marks",
                    options=["background", "person"],
                    default="background",
                    tooltip="What is white in the mask: the background (Load Image) or the person (Remove Background).",
                    advanced=True,
                ),
                io.Int.Input(
                    "face",
                    default=0,
                    min=0,
                    max=99,
                    tooltip="Which face, if there are several: 1 is the largest, 2 the next. 0 takes the largest and says so.",
                ),
                io.Combo.Input(
                    "head",
                    options=host.head_names(),
                    default=OPEN_HEAD,
                    tooltip="The head to fit: the built-in open head, or one of your own in models/mvp4d.",
                    advanced=True,
                ),
                FaceLandmarksSocket.Input(
                    "face_landmarks",
                    optional=True,
                    tooltip="Points of MediaPipe Face Landmarker for this very image. Found by itself when nothing is connected.",
                ),
                HeadSocket.Input(
                    "head_model", optional=True, tooltip="A head of Load Head Model, which then is fitted in place of the one in `head`."
                ),
            ],
            outputs=[
                ReferenceSocket.Output("reference", tooltip="The fitted person, for Condition, Sample and Distill."),
                io.Image.Output("overlay", tooltip="The photo with the fitted head drawn over it, to judge the fit by."),
                io.String.Output("report", tooltip="How well the head fits, and what was noticed."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        mask_marks: str,
        face: int,
        head: str,
        mask: torch.Tensor | None = None,
        face_landmarks: Mapping[str, Any] | None = None,
        head_model: HeadModel | None = None,
    ) -> io.NodeOutput:
        from ..mvp4d_core.tracking import draw_overlay, track_portrait
        from ..mvp4d_core.tracking.face_landmarks import points_of_frame

        rgb, alpha = host.photo_from_image(image)
        masked = host.alpha_from_mask(mask, *rgb.shape[:2], marks_background=mask_marks == "background")
        head_model = head_model or load_head_model(host.head_source(head))
        with host.training():
            reference = track_portrait(
                rgb,
                alpha if masked is None else masked,
                head_model=head_model,
                face=face or None,
                points=None if face_landmarks is None else points_of_frame(face_landmarks, *rgb.shape[:2]),
                source_sha256=_digest(rgb),
                progress=host.ProgressBar(),
            )
        for line in (*reference.notices, *reference.warnings):
            host.tell(cls.hidden.unique_id, line)
        overlay = host.image_from_arrays(draw_overlay(reference, head_model))
        report = "\n".join(
            [
                f"Landmark error {reference.landmark_error_percent:.2f} % of the distance between the eyes.",
                *reference.notices,
                *reference.warnings,
            ]
        )
        return io.NodeOutput(TrackedReference(reference, head_model), overlay, report, ui=ui.PreviewImage(overlay, cls=cls))

    @classmethod
    def validate_inputs(cls, head: str) -> bool | str:
        return _missing_head(head) or True

    @classmethod
    def fingerprint_inputs(cls, head: str, **_: object) -> str:
        return host.head_state(head)


def _missing_head(head: str) -> str | None:
    if head in host.head_names():
        return None
    return f"No head `{head}` in models/mvp4d. Put it there and press R to refresh the node."


def _digest(rgb: np.ndarray) -> str:
    """SHA-256 of the 8-bit picture: the file itself does not reach a node."""
    return hashlib.sha256((rgb * 255 + 0.5).astype(np.uint8).tobytes()).hexdigest()
