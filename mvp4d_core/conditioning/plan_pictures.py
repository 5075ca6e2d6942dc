# SPDX-License-Identifier: Apache-2.0
"""A plan as pictures for people: where its cameras stand, and what it tells the video model."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..cameras import Camera, crop_camera
from ..rig import HeadModel, load_head_model, personalize
from ..tracking.reference import Reference
from .map_pictures import COLUMNS, GAP, picture_maps
from .maps import condition_maps
from .reference_crop import reference_camera
from .view_plan import ViewCameras, ViewPlan, head_centre

PANEL = 384  # pixels a side of a panel of the cameras' picture
MAPS_SIZE, ZOOM = 256, 3  # pixels a side of the pictures whose maps are shown, and of a latent pixel in the sheet
_MARGIN, _HEADER, _LABEL = 0.86, 22, 108
_PAPER, _INK, _FAINT, _HEAD, _CAMERA, _FIRST = "#ffffff", "#30343a", "#d9dce1", "#c9a08a", "#2f6fb5", "#d1495b"
# title, and which way x and y of the picture go in head space
_PANELS = (("from above", (1, 0, 0), (0, 0, 1)), ("from the subject's right", (0, 0, 1), (0, -1, 0)))
_BEFORE = 4  # frames that a latent frame's motion looks back


def cameras_picture(cameras: ViewCameras) -> np.ndarray:
    """The cameras around a head, from above (the face looks down) and from the subject's right (the face looks right); numbers are views.

    Returns:
        (384, 768, 3) uint8.
    """
    head = load_head_model()
    centre = np.zeros(3) if not cameras.about_head else head_centre(head)
    vertices = head.v_template - centre
    places = np.stack([camera.position for camera in cameras.cameras])
    looks = np.stack([camera.camera_from_world[2, :3] for camera in cameras.cameras])
    reach = max(np.abs(places).max(), 0.4) / (_MARGIN / 2 * PANEL)  # metres a pixel
    sheet = Image.new("RGB", (2 * PANEL, PANEL), _PAPER)
    for panel, (title, across, down) in enumerate(_PANELS):
        view = np.array([across, down], np.float64).T
        middle = np.array([panel * PANEL + PANEL / 2, PANEL / 2])
        _panel(ImageDraw.Draw(sheet), title, middle, vertices @ view / reach, head.faces, places @ view / reach, looks @ view)
    return np.array(sheet)


def _panel(
    pen: ImageDraw.ImageDraw, title: str, middle: np.ndarray, head: np.ndarray, faces: np.ndarray, places: np.ndarray, looks: np.ndarray
) -> None:
    """The head (V, 2) and cameras at `places` (N, 2) pixels from the middle, looking along `looks` (N, 2)."""
    font = ImageFont.load_default(12)
    radius = np.linalg.norm(places, axis=1).max()
    pen.ellipse((*(middle - radius), *(middle + radius)), outline=_FAINT)
    for triangle in head[faces] + middle:
        pen.polygon([tuple(corner) for corner in triangle.tolist()], fill=_HEAD)
    for view in reversed(range(len(places))):
        at, along = middle + places[view], looks[view] * 15
        side = np.array([-along[1], along[0]]) * 0.5
        colour = _CAMERA if view else _FIRST
        pen.line([tuple(at), tuple(at + along * 2.2)], fill=_FAINT)
        pen.polygon([tuple(at), tuple(at + along + side), tuple(at + along - side)], outline=colour, fill=_PAPER)
        pen.ellipse((*(at - 3), *(at + 3)), fill=colour)
        pen.text(tuple(at - along * 0.8), str(view), fill=colour, font=font, anchor="mm")
    pen.text((middle[0] - PANEL / 2 + 8, 6), title, fill=_INK, font=ImageFont.load_default(13))


def maps_picture(plan: ViewPlan, reference: Reference, head_model: HeadModel, *, most_views: int = 4) -> np.ndarray:
    """The condition maps of a plan's first and middle frame, of up to `most_views` of its views: one row each, columns named.

    Returns:
        (H, W, 3) uint8; colours as in `picture_maps`.
    """
    rig = personalize(head_model, reference.shape, np.zeros_like(head_model.v_template))
    views = np.unique(np.linspace(0, len(plan.cameras) - 1, most_views).round().astype(int)).tolist()
    settings = {
        "reference_camera": reference_camera(reference, reference.rig(head_model), MAPS_SIZE),
        "latent_size": (MAPS_SIZE // 8, MAPS_SIZE // 8),
    }
    cameras = [_resized(plan.cameras[view], MAPS_SIZE) for view in views]
    frames = sorted({0, len(plan.performance) // 2})
    rows = []
    for frame in frames:
        clip = [max(0, frame - _BEFORE + k) for k in range(_BEFORE + 1)] if frame else [0]
        rows.append(condition_maps(head_model, rig, cameras, plan.performance.select(clip), **settings)[:, -1])
    sheet = picture_maps(torch.stack(rows, dim=1), zoom=ZOOM)
    labels = [f"view {view}, frame {frame}" for view in views for frame in frames]
    return _labelled((sheet * 255 + 0.5).astype(np.uint8), labels)


def _resized(camera: Camera, size: int) -> Camera:
    return crop_camera(camera, np.array([0, 0, camera.width, camera.height]), size, size)


def _labelled(sheet: np.ndarray, rows: list[str]) -> np.ndarray:
    """A sheet of `picture_maps` with names above its columns and beside its rows."""
    height, width = sheet.shape[0] // len(rows), sheet.shape[1] // len(COLUMNS)
    page = Image.new("RGB", (_LABEL + sheet.shape[1], _HEADER + sheet.shape[0]), _PAPER)
    page.paste(Image.fromarray(sheet), (_LABEL, _HEADER))
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    for column, name in enumerate(COLUMNS):
        pen.text((_LABEL + column * width + (width - GAP) / 2, _HEADER / 2), name, fill=_INK, font=font, anchor="mm")
    for row, name in enumerate(rows):
        pen.text((6, _HEADER + row * height + height / 2), name, fill=_INK, font=font, anchor="lm")
    return np.array(page)
