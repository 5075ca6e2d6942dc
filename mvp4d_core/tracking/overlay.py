# SPDX-License-Identifier: Apache-2.0
"""The picture to judge a track by: landmarks, mesh, and head matte with the mesh's outline, side by side, with what there is to say
below.
"""

import textwrap
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from ..cameras import Camera, crop_camera, project
from ..render.mesh import MeshBuffers, rasterize_mesh
from ..rig import HeadModel, face_normals, skin
from . import landmark_sets as sets
from .crops import crop_square
from .reference import Reference

PANEL = 512  # px
_BEYOND = 225  # grey of what lies beyond the photo's border
_FINE = 2  # drawn at this multiple and reduced
_MARGIN = 10
_INK, _PAPER, _DETECTED, _FITTED, _OUTLINE, _ALARM = "#22262b", "#f4f4f2", "#00d0ff", "#ffb000", "#e5006d", "#b3261e"
_RINGS = (
    (sets.FACE_OVAL, True), (sets.LEFT_EYE, True), (sets.RIGHT_EYE, True), (sets.OUTER_LIPS, True), (sets.INNER_LIPS, True),
    (sets.LEFT_IRIS[1:], True), (sets.RIGHT_IRIS[1:], True), (sets.LEFT_BROW[:5], False), (sets.LEFT_BROW[5:], False),
    (sets.RIGHT_BROW[:5], False), (sets.RIGHT_BROW[5:], False), (sets.NOSE_BRIDGE, False), (sets.NOSE_BASE, False),
)  # fmt: skip


@dataclass(frozen=True)
class _View:
    """The square of the photo that is shown, and the head in it."""

    picture: np.ndarray
    head_matte: np.ndarray
    camera: Camera
    vertices: np.ndarray
    fitted: np.ndarray
    detected: np.ndarray
    buffers: MeshBuffers


def draw_overlay(reference: Reference, head_model: HeadModel) -> np.ndarray:
    """(H, W, 3) float32 in 0..1.

    Left: the photo with the detected points in blue and the fitted head's in yellow. Middle: the fitted head. Right: the head matte on
    white with the fitted head's outline in red. Below: the landmark error, notices and warnings.

    Raises:
        InputError: `head_model` is not the head that was fitted.
    """
    view = _look(reference, head_model)
    panels = [_landmark_panel(view), _mesh_panel(view, head_model), _matte_panel(view)]
    row = Image.new("RGB", (3 * PANEL + 4 * _MARGIN, PANEL + 2 * _MARGIN), _PAPER)
    for index, panel in enumerate(panels):
        row.paste(panel.resize((PANEL, PANEL), Image.Resampling.LANCZOS), (_MARGIN + index * (PANEL + _MARGIN), _MARGIN))
    caption = _caption(reference, row.width)
    sheet = Image.new("RGB", (row.width, row.height + caption.height), _PAPER)
    sheet.paste(row, (0, 0))
    sheet.paste(caption, (0, row.height))
    return np.asarray(sheet, np.float32) / np.float32(255)


def _look(reference: Reference, head_model: HeadModel) -> _View:
    rig = reference.rig(head_model)
    parameters = reference.parameters
    vertices = skin(rig, None, parameters.expression.astype(np.float64), parameters.rotations, parameters.translation)
    pixels, _ = project(vertices, reference.camera)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    centre, side = (low + high) / 2, 1.12 * float((high - low).max())
    size = PANEL * _FINE
    half = side / 2
    camera = crop_camera(reference.camera, np.array([*(centre - half), *(centre + half)]), size, size)
    image = np.rint(reference.image * 255).astype(np.uint8)
    scale = size / side
    place = (np.arange(size) + 0.5) / scale
    outside = [(place + start < 0) | (place + start > end) for start, end in zip(centre - half, image.shape[1::-1], strict=True)]
    beyond = outside[1][:, None] | outside[0]
    return _View(
        picture=np.where(beyond[..., None], np.uint8(_BEYOND), crop_square(image, centre, side, size)),
        head_matte=np.where(beyond, np.float32(0), crop_square(reference.head_matte, centre, side, size)),
        camera=camera,
        vertices=vertices,
        fitted=project(rig.landmarks(vertices), camera)[0],
        detected=(reference.landmarks.astype(np.float64) - (centre - half)) * scale,
        buffers=rasterize_mesh(vertices, rig.faces, camera),
    )


def _landmark_panel(view: _View) -> Image.Image:
    panel = Image.fromarray(view.picture)
    draw = ImageDraw.Draw(panel)
    for ring, closed in _RINGS:
        members = [*ring, ring[0]] if closed else list(ring)
        draw.line([tuple(p) for p in view.fitted[members]], fill=_FITTED, width=2)
    for points, colour, radius in ((view.detected, _DETECTED, 2.6), (view.fitted, _FITTED, 1.7)):
        for x, y in points:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return panel


def _mesh_panel(view: _View, model: HeadModel) -> Image.Image:
    """The head in clay with its triangles, over the faded photo."""
    photo = view.picture.astype(np.float32) / 255
    mask, faces = view.buffers.mask, view.buffers.face_ids
    normals = face_normals(view.vertices, model.faces) @ view.camera.camera_from_world[:3, :3].T
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    light = np.array([-0.35, -0.55, -0.76])
    shade = 0.35 + 0.65 * np.clip(normals @ light, 0, 1)
    clay = np.ones(3) * shade[faces][..., None] * [0.93, 0.90, 0.86]
    line = _wire(view, model)[..., None]
    clay = clay * (1 - 0.45 * line) + 0.45 * line * np.array([0.05, 0.25, 0.45])
    blend = np.where(mask[..., None], 0.28 * photo + 0.72 * clay, 0.55 * photo + 0.45)
    return Image.fromarray((255 * np.clip(blend, 0, 1)).astype(np.uint8))


def _wire(view: _View, model: HeadModel) -> np.ndarray:
    """(H, W) 1 on the edges of the triangles that are seen, by the distance in pixels that barycentrics and heights give."""
    pixels, _ = project(view.vertices, view.camera)
    corners = pixels[model.faces]
    opposite = np.linalg.norm(np.roll(corners, -1, axis=1) - np.roll(corners, -2, axis=1), axis=2)
    ab, ac = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.abs(ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0])
    heights = area[:, None] / np.maximum(opposite, 1e-6)
    distance = (view.buffers.barycentrics * heights[view.buffers.face_ids]).min(axis=-1)
    return np.where(view.buffers.mask, np.clip(1.3 - distance, 0, 1), 0)


def _matte_panel(view: _View) -> Image.Image:
    matte = view.head_matte[..., None]
    cut = view.picture * matte + 255 * (1 - matte)
    mask = view.buffers.mask
    line = ndimage.binary_dilation(mask, iterations=2) & ~ndimage.binary_erosion(mask)  # pyright: ignore[reportOperatorIssue]
    cut = np.where(line[..., None], np.array([int(_OUTLINE[i : i + 2], 16) for i in (1, 3, 5)]), cut)
    return Image.fromarray(cut.astype(np.uint8))


def _caption(reference: Reference, width: int) -> Image.Image:
    """The lines of text under the panels."""
    font = ImageFont.load_default(size=17)
    head = f"blue: detected   yellow: fitted   red: outline of the head   landmark error {reference.landmark_error_percent:.2f} %"
    lines = [(head, _INK)] + [(text, _INK) for text in reference.notices] + [(f"Warning: {text}", _ALARM) for text in reference.warnings]
    wrapped = [(part, colour) for text, colour in lines for part in textwrap.wrap(text, width=(width - 2 * _MARGIN) // 9)]
    image = Image.new("RGB", (width, 24 * len(wrapped) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(image)
    for index, (text, colour) in enumerate(wrapped):
        draw.text((_MARGIN, 24 * index), text, fill=colour, font=font)
    return image
