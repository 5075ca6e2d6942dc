# SPDX-License-Identifier: Apache-2.0
"""Colour for what a portrait hardly shows: eyeballs, teeth, tongue and the inside of the mouth.

Eyes and teeth take their colours from the photo where it shows them, and their pattern from here, because a few pixels of a photographed
eye smear over the ball as soon as it turns.
"""

from collections.abc import Callable

import numpy as np

from ..rig import HeadModel
from ..tracking.reference import Reference

IRIS_RADIUS, PUPIL_RADIUS = 0.0058, 0.0021  # metres; they differ little between adults
CATCHLIGHT = np.deg2rad([7.0, 8.0])  # where a window behind the photographer glints: to the subject's left, up
SCLERA = np.array([0.86, 0.83, 0.81])
IRIS = np.array([0.33, 0.24, 0.17])
ENAMEL = np.array([0.87, 0.83, 0.76])
GUM = np.array([0.66, 0.36, 0.34])
TONGUE = np.array([0.68, 0.36, 0.35])
CAVITY, THROAT = np.array([0.36, 0.13, 0.12]), np.array([0.07, 0.02, 0.02])
ARCH = 0.028  # metres from the front teeth to the middle of the dental arch
CROWN = 0.009  # metres of a tooth that shows
IRIS_LANDMARKS = {"right_eye": (468, 470), "left_eye": (473, 475)}  # MediaPipe: centre and the rim's top


def paint_interiors(
    colors: np.ndarray,
    reference: Reference,
    model: HeadModel,
    canonical: np.ndarray,
    normals: np.ndarray,
    within: Callable[[np.ndarray], np.ndarray],
    weight: np.ndarray,
    seed: int,
) -> np.ndarray:
    """`colors` (M, 3) of texels at `canonical` (M, 3) with `normals` (M, 3), with the interiors painted.

    Args:
        within: maps a vertex mask (V,) to the texels (M,) inside it.
        weight: (M,) how well the photo shows each texel.
        seed: decides the iris' pattern.
    """
    colors = colors.copy()
    joints = model.J_regressor @ model.v_template
    for eye in ("left_eye", "right_eye"):
        if f"{eye}ball" in model.regions and eye in model.joint_names:
            ball = within(model.region_mask(f"{eye}ball"))
            centre = joints[model.joint_names.index(eye)]
            colors[ball] = paint_eye(canonical[ball] - centre, iris_color(reference, eye), sclera_color(colors[ball], weight[ball]), seed)
    for teeth, root in (("upper_teeth", 1.0), ("lower_teeth", -1.0)):
        if teeth in model.regions:
            chosen = within(model.region_mask(teeth))
            colors[chosen] = paint_teeth(canonical[chosen], normals[chosen], root)
    if "gums" in model.regions:
        chosen = within(model.region_mask("gums"))
        colors[chosen] = _deepen(canonical[chosen], GUM, GUM * 0.4)
    if "tongue" in model.regions:
        chosen = within(model.region_mask("tongue"))
        colors[chosen] = _deepen(canonical[chosen], TONGUE, TONGUE * 0.2)
    if "mouth_cavity" in model.regions:
        chosen = within(model.region_mask("mouth_cavity"))
        colors[chosen] = _deepen(canonical[chosen], CAVITY, THROAT)
    return colors


def paint_eye(offsets: np.ndarray, iris: np.ndarray, sclera: np.ndarray, seed: int) -> np.ndarray:
    """Colours (M, 3) of an eyeball that looks along +z, at `offsets` (M, 3) metres from its centre."""
    if not len(offsets):
        return offsets
    radius = np.linalg.norm(offsets, axis=1, keepdims=True)
    ball = max(float(np.median(radius)), IRIS_RADIUS)
    iris_angle, pupil_angle = np.arcsin(IRIS_RADIUS / ball), np.arcsin(PUPIL_RADIUS / ball)  # half angles seen from the ball's centre
    direction = offsets / np.maximum(radius, 1e-9)
    angle = np.arccos(np.clip(direction[:, 2], -1, 1))
    around = np.arctan2(direction[:, 1], direction[:, 0])
    phases = np.random.default_rng((seed, 7)).uniform(0, 2 * np.pi, 8)
    waves = [np.cos(around * frequency + phase) for frequency, phase in zip((5, 9, 14, 21, 27, 33, 44, 51), phases, strict=True)]
    fibres = np.mean(waves, axis=0)
    part = np.clip(angle / iris_angle, 0, 1)[:, None]
    stroma = iris * (1.15 - 0.35 * part) * (1 + 0.25 * fibres[:, None])
    stroma *= 1 - 0.55 * _step(part, 0.80, 1.0)  # limbal ring
    blood = np.array([0.78, 0.60, 0.57])
    white = sclera + (blood * sclera.mean() / SCLERA.mean() - sclera) * (0.8 * _step(angle, np.deg2rad(45), np.deg2rad(80)))[:, None]
    colors = stroma + (white - stroma) * _step(angle, iris_angle * 0.94, iris_angle * 1.06)[:, None]
    colors = 0.02 + (colors - 0.02) * _step(angle, pupil_angle * 0.9, pupil_angle * 1.1)[:, None]
    glint = np.arctan2(direction[:, :2], direction[:, 2:]) - CATCHLIGHT
    bright = 1 - _step(np.linalg.norm(glint, axis=1), np.deg2rad(2.0), np.deg2rad(4.5))
    return colors + (0.95 - colors) * (bright * (direction[:, 2] > 0))[:, None] * 0.85


def paint_teeth(canonical: np.ndarray, normals: np.ndarray, root: float) -> np.ndarray:
    """Enamel from the biting edge to the gum, `root` is the sign of y from edge to gum.

    It darkens towards the back of the mouth and where a crown turns away from the lips, so that the teeth part from one another.
    """
    if not len(canonical):
        return canonical
    height = root * canonical[:, 1]
    edge = np.quantile(height, 0.02)
    gum = _step(height, edge + CROWN, edge + CROWN * 1.3)[:, None]
    # outward of the dental arch is away from a point behind the front teeth
    outward = (canonical - [0, 0, canonical[:, 2].max() - ARCH]) * [1, 0, 1]
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-9)
    facing = np.clip(np.einsum("md,md->m", normals, outward), 0, 1)[:, None]
    enamel = _deepen(canonical, ENAMEL, ENAMEL * 0.45) * (0.55 + 0.45 * facing**1.5)
    return enamel * (1 - gum) + _deepen(canonical, GUM, GUM * 0.4) * gum


def iris_color(reference: Reference, eye: str) -> np.ndarray:
    """Median colour (3,) of the photographed iris between pupil and rim, a common brown where it is under two pixels wide."""
    centre, top = (reference.landmarks[i] for i in IRIS_LANDMARKS[eye])
    radius = np.linalg.norm(centre - top)
    height, width = reference.image.shape[:2]
    row, column = np.mgrid[:height, :width]
    distance = np.hypot(column + 0.5 - centre[0], row + 0.5 - centre[1])
    # the upper half lies under the lid's shadow and the lashes
    ring = (distance > 0.45 * radius) & (distance < 0.85 * radius) & (row + 0.5 > centre[1] - 0.3 * radius)
    if radius < 2 or np.count_nonzero(ring) < 6:
        return IRIS
    pixels = reference.image[ring]
    keep = pixels.mean(axis=1) <= np.quantile(pixels.mean(axis=1), 0.8)  # no highlights
    return np.median(pixels[keep], axis=0)


def sclera_color(colors: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The brightest part of the eyeball the photo shows, kept near the usual white."""
    seen = colors[weight > 0.5]
    if len(seen) < 10:
        return SCLERA
    bright = seen[seen.mean(axis=1) >= np.quantile(seen.mean(axis=1), 0.7)].mean(axis=0)
    return np.clip(0.5 * SCLERA + 0.5 * bright, SCLERA - 0.25, SCLERA + 0.1)


def _deepen(canonical: np.ndarray, front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """From `front` at the lips to `back` four centimetres behind them."""
    if not len(canonical):
        return canonical
    depth = np.clip((canonical[:, 2].max() - canonical[:, 2]) / 0.04, 0, 1)[:, None]
    return front + (back - front) * depth


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    part = np.clip((value - low) / (high - low), 0, 1)
    return part * part * (3 - 2 * part)
