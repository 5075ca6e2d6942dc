# SPDX-License-Identifier: Apache-2.0
"""The contact sheet of an evaluation: people below one another, generators side by side."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..conditioning import ViewPlan, head_centre
from ..rig import HeadModel

HEADER = 22  # pixels
GAP = 6  # pixels between generators
ERROR_GAIN = 4
LEAST_SIDE = 128  # pixels of a picture: below, its column is narrower than its title


def shown_cells(plan: ViewPlan, head_model: HeadModel) -> list[tuple[int, int]]:
    """The (view, frame) of three pictures that tell most: a middle view, and those farthest to either side, at different times."""
    directions = np.stack([camera.position for camera in plan.cameras]) - head_centre(head_model)
    order = np.argsort(np.arctan2(directions[:, 0], directions[:, 2]), kind="stable")
    frames = len(plan.performance)
    return [(int(order[0]), frames // 3), (int(order[len(order) // 2]), 2 * frames // 3), (int(order[-1]), frames - 1)]


def strip(frames: np.ndarray, cells: list[tuple[int, int]]) -> np.ndarray:
    """Some pictures of (V, F, H, W, 3) uint8 side by side: (H, n W, 3) uint8."""
    return np.concatenate([frames[view, frame] for view, frame in cells], axis=1)


def comparison_sheet(truth: np.ndarray, pictures: np.ndarray, views: Sequence[int]) -> np.ndarray:
    """The middle frame of some views beside the truth, and where they differ: (H', W', 3) float32 in 0..1. Tiny pictures are enlarged.

    Args:
        truth, pictures: (V, F, H, W, 3) uint8.
    """
    frame = truth.shape[1] // 2
    larger = -(-LEAST_SIDE // truth.shape[3])
    wanted, made = ([video[view, frame].repeat(larger, 0).repeat(larger, 1) for view in views] for video in (truth, pictures))
    errors = [error_picture(a, b) for a, b in zip(made, wanted, strict=True)]
    return contact_sheet({"truth": wanted, "avatar": made, f"difference x {ERROR_GAIN}": errors})


def error_picture(made: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How far two uint8 pictures are apart, `ERROR_GAIN` times as bright."""
    return np.clip(np.abs(made.astype(np.int16) - truth) * ERROR_GAIN, 0, 255).astype(np.uint8)


def contact_sheet(columns: dict[str, list[np.ndarray]]) -> np.ndarray:
    """Titled columns of strips (H, any, 3) uint8, a strip a person: (H', W', 3) float32 in 0..1."""
    stacked = [np.concatenate(strips, axis=0) for strips in columns.values()]
    height, width = stacked[0].shape[0] + HEADER, sum(s.shape[1] for s in stacked) + GAP * (len(stacked) - 1)
    sheet = Image.new("RGB", (width, height), "white")
    pen, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(14), 0
    for title, column in zip(columns, stacked, strict=True):
        sheet.paste(Image.fromarray(column), (left, HEADER))
        pen.text((left + 4, 3), title, fill="black", font=font)
        left += column.shape[1] + GAP
    return np.asarray(sheet, np.float32) / 255
