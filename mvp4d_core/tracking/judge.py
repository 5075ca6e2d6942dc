# SPDX-License-Identifier: Apache-2.0
"""Doubts about a track, each a line that says what was seen and what it does to the result."""

from dataclasses import dataclass

import numpy as np

from .detect import Face
from .fit import Fit
from .matte import chroma
from .zones import Zones

YAW_LIMIT, PITCH_LIMIT = 45.0, 35.0  # degrees
ERROR_LIMIT = 5.0  # percent, before the offsets
UNSURE_SPREAD = 0.01  # face widths
SMALL_FACE = 80  # px
LOOSE_HAIR = 0.05  # share of the head matte


@dataclass(frozen=True)
class Seen:
    """The square crop (n, n, 3) around the head, and in it the person's and the head's matte, the fitted head's zones before hair was
    grown, what the head covers after that, and what of the square is photo, each (n, n).
    """

    crop: np.ndarray
    person: np.ndarray
    head: np.ndarray
    zones: Zones
    covered: np.ndarray
    inside: np.ndarray


def doubts(fit: Fit, face: Face, seen: Seen) -> tuple[str, ...]:
    """The warnings that a track deserves."""
    return tuple(_pose(fit) + _likeness(fit, face) + _hidden(seen) + _cut_off(seen))


def head_angles(fit: Fit) -> tuple[float, float]:
    """How far the head is turned from the line of sight, degrees: to the side, and up or down; the signs say which way the camera lies."""
    x, y, z = fit.camera.position / np.linalg.norm(fit.camera.position)
    return float(np.degrees(np.arctan2(x, z))), float(np.degrees(np.arcsin(y)))


def _pose(fit: Fit) -> list[str]:
    yaw, pitch = head_angles(fit)
    if abs(yaw) > YAW_LIMIT:
        return [
            f"The head is turned {abs(yaw):.0f}° away (beyond {YAW_LIMIT:.0f}° half of it is guessed); a photo from the front does better."
        ]
    if abs(pitch) > PITCH_LIMIT:
        return [f"The head is tilted {abs(pitch):.0f}° (beyond {PITCH_LIMIT:.0f}° the fit is a guess); a photo at eye level does better."]
    return []


def _likeness(fit: Fit, face: Face) -> list[str]:
    found = []
    if fit.error > ERROR_LIMIT:
        found.append(
            f"The face fits no head well ({fit.error:.1f} % landmark error before offsets, limit {ERROR_LIMIT:.0f} %): "
            "a drawing, a mask or a mistake? Look at the overlay."
        )
    if face.spread > UNSURE_SPREAD:
        found.append("The face points are unsure (hidden, blurred or seen from the side); look at the overlay.")
    if face.size < SMALL_FACE:
        found.append(f"The face is small ({face.size:.0f} px wide, {SMALL_FACE} px or more are better): expect a soft texture.")
    return found


def _hidden(seen: Seen) -> list[str]:
    """Matte missing on the face, one half of it of another colour than skin, or eyes without a white."""
    zones, crop = seen.zones, seen.crop
    share = float(seen.person[zones.face].mean()) if zones.face.any() else 0.0
    if share < 0.85:
        return [f"The matte covers only {100 * share:.0f} % of the face: something hides it, or the cut-out is wrong. Look at the overlay."]
    skin = zones.face & (zones.below_eyes > 0.15) & (zones.below_eyes < 0.95)
    if skin.sum() < 50:
        return []
    colour = chroma(crop)
    typical = np.median(colour[skin], axis=0)
    odd = np.linalg.norm(colour - typical, axis=-1) > 0.16
    middle = np.median(np.nonzero(skin)[1])
    left = np.arange(crop.shape[1]) < middle
    shares = [float(odd[skin & side].mean()) for side in (left, ~left) if (skin & side).any()]
    if max(shares) > 0.35:
        return [f"{100 * max(shares):.0f} % of one half of the face is not of the colour of skin: is it hidden? Look at the overlay."]
    # the white of an open eye is among the brightest of a face, whatever the light
    if zones.eyes.sum() > 20 and np.percentile(crop[zones.eyes].max(axis=1), 90) < 0.4 * np.median(crop[skin].max(axis=1)):
        return ["The eyes look dark, as behind sunglasses: the avatar's eyes will too. A photo without them does better."]
    return []


def _cut_off(seen: Seen) -> list[str]:
    """What the photo's border, or the mesh, cannot hold."""
    found = []
    if (seen.zones.head & ~seen.inside).sum() > 0.02 * max(seen.zones.head.sum(), 1):
        found.append("The photo's border cuts the head off; what lies beyond is guessed.")
    loose = (seen.head > 0.5) & ~seen.covered
    share = loose.sum() / max((seen.head > 0.5).sum(), 1)
    if share > LOOSE_HAIR:
        found.append(f"{100 * share:.0f} % of the head matte lies outside the fitted head, as with long hair: the avatar lacks it.")
    return found
