# SPDX-License-Identifier: Apache-2.0
"""Small corrections of the template: lips that meet, teeth and tongue that stay behind them."""

import numpy as np

from .geometry import MIRROR, Layout
from .mesh_fields import smoothstep
from .regions import FaceRings
from .teeth import crown_offsets

SEAL_SHARES = (1.0, 1.0, 1.0, 1.0, 0.7, 0.4, 0.15)  # how much of the sealing each ring of the lips makes
CONTACT_RINGS = 5  # rings from the inner edge where the lips may touch
OVERLAP = 0.0005  # metres by which the sealed lips press into each other
TEETH_NARROWER = {"upper_teeth": 0.91, "lower_teeth": 0.87}  # factor across
TEETH_BACK = {"upper_teeth": 0.0022, "lower_teeth": 0.0050}  # metres
TEETH_DOWN = {"upper_teeth": 0.0012, "lower_teeth": 0.0022}  # metres
TONGUE_FLATTER = 0.45  # share of its height
TONGUE_DOWN, TONGUE_BACK = 0.0040, 0.0045  # metres


def seal_lips(layout: Layout, rings: FaceRings, jaw: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Closes the slit between the lips: both halves of each ring move towards each other by half of what is open at their x."""
    across = np.linspace(0, np.abs(template[rings.lip_rings[0], 0]).max(), 32)
    top, bottom = np.full(len(across), np.inf), np.full(len(across), -np.inf)
    for ring in rings.lip_rings[:CONTACT_RINGS]:
        left = ring[template[ring, 0] >= 0]
        for chosen, limit, bound in ((left[jaw[left] < 0.5], np.minimum, top), (left[jaw[left] >= 0.5], np.maximum, bottom)):
            order = chosen[np.argsort(template[chosen, 0])]
            limit(bound, np.interp(across, template[order, 0], template[order, 1]), out=bound)
    gap = np.maximum(top - bottom, 0.0) + OVERLAP
    gap = np.convolve(np.pad(gap, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    out = template.copy()
    for ring, share in zip(rings.lip_rings, SEAL_SHARES, strict=False):
        half = 0.5 * share * np.interp(np.abs(template[ring, 0]), across, gap)
        out[ring, 1] += np.where(jaw[ring] < 0.5, -half, half)
    return (out + out[layout.mirror] * MIRROR) / 2


def shape_teeth(layout: Layout, template: np.ndarray) -> np.ndarray:
    """Moves both rows of teeth behind lips and cheeks, the lower behind the upper, and gives them their crowns."""
    out = template.copy()
    for part, arch in layout.arches.items():
        ids = layout.parts[part]
        out[ids] = out[ids] * [TEETH_NARROWER[part], 1.0, 1.0] - [0.0, TEETH_DOWN[part], TEETH_BACK[part]]
        out[ids] += crown_offsets(out[ids], arch.groove, part == "upper_teeth")
    return (out + out[layout.mirror] * MIRROR) / 2


def lower_tongue(layout: Layout, template: np.ndarray) -> np.ndarray:
    """Lays the tongue flatter, on the floor of the mouth."""
    out = template.copy()
    ids = layout.parts["tongue"]
    floor = out[ids, 1].min()
    front = smoothstep(out[ids, 2], 0.02, 0.05)
    out[ids, 1] -= front * TONGUE_FLATTER * (out[ids, 1] - floor) + TONGUE_DOWN
    out[ids, 2] -= TONGUE_BACK
    return out
