# SPDX-License-Identifier: Apache-2.0
"""Who a synthetic person is: numbers drawn from a seed."""

import hashlib
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ...rig import HeadModel
from .noise import named_rng

SPLITS = ("train", "heldout")
# display-referred skin from very light to very dark, and eight irises
SKIN_TONES = np.array([
    (0.97, 0.85, 0.79), (0.94, 0.78, 0.69), (0.90, 0.71, 0.59), (0.82, 0.62, 0.49), (0.73, 0.53, 0.40), (0.62, 0.43, 0.31),
    (0.49, 0.32, 0.22), (0.36, 0.23, 0.165), (0.27, 0.175, 0.13),
])  # fmt: skip
IRISES = np.array([
    (0.24, 0.14, 0.08), (0.33, 0.20, 0.11), (0.43, 0.28, 0.15), (0.46, 0.40, 0.22), (0.36, 0.43, 0.30), (0.36, 0.47, 0.54),
    (0.28, 0.42, 0.60), (0.45, 0.49, 0.51),
])  # fmt: skip
HAIR_COLORS = np.array([
    (0.06, 0.05, 0.05), (0.11, 0.08, 0.07), (0.20, 0.13, 0.09), (0.31, 0.20, 0.13), (0.44, 0.29, 0.17), (0.62, 0.46, 0.27),
    (0.78, 0.64, 0.42), (0.50, 0.24, 0.12), (0.60, 0.58, 0.56), (0.84, 0.82, 0.80),
])  # fmt: skip
HAIR_STYLES = ("bald", "buzz", "crop", "swept", "bowl", "bob", "long", "parted", "bun", "ponytail", "afro", "curly", "receding")
_HAIR_SHARES = np.array([0.05, 0.08, 0.14, 0.12, 0.06, 0.09, 0.09, 0.11, 0.07, 0.06, 0.05, 0.05, 0.03])
# weights of moustache, chin, cheeks and neck: full, full without neck, goatee, moustache, chin strap
BEARDS = ((1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 0.0), (1.0, 1.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 1.0, 0.4))
_BEARD_SHARES = (0.4, 0.25, 0.15, 0.1, 0.1)


@dataclass(frozen=True)
class Identity:
    """One person.

    Attributes:
        key: 63 bits that no one of the other split shares; its lowest bit is the split.
        shape: (S,) float32 standard deviations.
        skin, lips, iris, brows, hair, beard, clothes: (3,) display-referred colours.
        style: one of HAIR_STYLES.
        hair_length: 0..1 within the style's own range; `hair_wave` 0 straight to 1 curled.
        beard_density: 0 shaven to 1 full; `beard_zone` (4,) weights of moustache, chin, cheeks and neck.
        freckles, moles, wrinkles, blush, eyeliner, lipstick, oiliness, roughness: 0..1.
        brow_thickness: metres, half the brow's height.
        collar: metres, height below which clothes begin; None for a bare neck.
        brow_shift: metres the brows sit above the head model's.
        glasses: (3,) colour of the frame, or None.
    """

    key: int
    shape: np.ndarray
    skin: np.ndarray
    lips: np.ndarray
    iris: np.ndarray
    brows: np.ndarray
    hair: np.ndarray
    beard: np.ndarray
    clothes: np.ndarray
    style: str
    hair_length: float
    hair_wave: float
    beard_density: float
    beard_zone: np.ndarray
    freckles: float
    moles: int
    wrinkles: float
    blush: float
    eyeliner: float
    lipstick: float
    oiliness: float
    roughness: float
    brow_thickness: float
    brow_shift: float
    collar: float | None
    glasses: np.ndarray | None


def identity_of(seed: int, split: str = "train") -> int:
    """The key of the person a seed stands for: even in `train`, odd in `heldout`, so that no person is in both.

    Raises:
        InputError: another split.
    """
    if split not in SPLITS:
        raise InputError(f"`split` must be {' or '.join(SPLITS)}, got {split!r}.")
    digest = hashlib.sha256(f"mvp4d synthetic head/{split}/{int(seed)}".encode()).digest()
    return (int.from_bytes(digest[:8], "little") >> 2 << 1) | SPLITS.index(split)


def draw_identity(key: int, model: HeadModel) -> Identity:
    """The person with that key, on that head model."""
    rng = named_rng("identity", key)
    tone = rng.uniform(0, len(SKIN_TONES) - 1)
    below = int(tone)
    skin = SKIN_TONES[below] + (SKIN_TONES[min(below + 1, len(SKIN_TONES) - 1)] - SKIN_TONES[below]) * (tone - below)
    skin = np.clip(skin * np.exp(rng.normal(0, [0.03, 0.04, 0.07]) + rng.normal(0, 0.04)), 0.08, 0.98)  # undertone
    darkness = tone / (len(SKIN_TONES) - 1)
    natural = _hair_color(rng, darkness)
    hair = natural
    if rng.random() < 0.08:  # dyed
        hue = rng.uniform(0, 2 * np.pi)
        hair = np.clip(0.42 + 0.32 * np.cos(hue + np.array([0, -2.1, 2.1])), 0.04, 0.9) * rng.uniform(0.6, 1.15)
    lips = np.clip(skin * np.array([0.92, 0.64, 0.64]) * np.exp(rng.normal(0, 0.06, 3)), 0.05, 0.95)
    lipstick = float(rng.random() < 0.22) * rng.uniform(0.5, 1)
    if lipstick:
        paint = np.array([rng.uniform(0.35, 0.85), rng.uniform(0.05, 0.4), rng.uniform(0.1, 0.45)])
        lips = lips + (paint - lips) * lipstick
    bearded = rng.random() < 0.38
    style = str(rng.choice(HAIR_STYLES, p=_HAIR_SHARES))
    zone = np.array(BEARDS[rng.choice(len(BEARDS), p=_BEARD_SHARES)])
    glasses = rng.random() < 0.12
    return Identity(
        key=key,
        shape=np.clip(rng.normal(0, rng.uniform(0.7, 1.15), model.shapedirs.shape[2]), -2.5, 2.5).astype(np.float32),
        skin=skin,
        lips=lips,
        iris=np.clip(_iris(rng, darkness) * np.exp(rng.normal(0, 0.1, 3)), 0.03, 0.8),
        brows=np.clip(natural * rng.uniform(0.55, 1.0) * [1, 0.97, 0.95], 0.02, 0.8) * min(1.0, 0.55 / natural.mean()) ** 0.7,
        hair=hair,
        beard=np.clip(natural * np.exp(rng.normal(0, 0.15)) * [1.05, 0.97, 0.92], 0.02, 0.9),
        clothes=rng.uniform(0.04, 0.9, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0.05, 0.9)),
        style=style,
        hair_length=float(rng.random()),
        hair_wave=float(rng.beta(0.7, 1.2)) if style not in ("curly", "afro") else 1.0,
        beard_density=float(rng.choice([rng.uniform(0.15, 0.5), rng.uniform(0.6, 1.0)])) if bearded else 0.0,
        beard_zone=zone,
        freckles=float(rng.random() < 0.25) * rng.uniform(0.2, 1) * (1 - darkness),
        moles=int(rng.poisson(2)),
        wrinkles=float(rng.beta(0.8, 1.6)),
        blush=float(rng.uniform(0.1, 1.0)),
        eyeliner=float(rng.random() < 0.3) * rng.uniform(0.3, 1),
        lipstick=lipstick,
        oiliness=float(rng.uniform(0.05, 1)),
        roughness=float(rng.uniform(0.2, 1)),
        brow_thickness=float(rng.uniform(0.0022, 0.0052)),
        brow_shift=float(rng.normal(0, 0.0012)),
        collar=float(rng.uniform(-0.145, -0.085)) if rng.random() < 0.45 else None,
        glasses=rng.choice([0.03, rng.uniform(0.1, 0.7)]) * rng.uniform(0.5, 1.2, 3) if glasses else None,
    )


def _hair_color(rng: np.random.Generator, darkness: float) -> np.ndarray:
    """Natural for the skin, grey with some."""
    if rng.random() < 0.14:
        return HAIR_COLORS[rng.integers(8, 10)] * rng.uniform(0.75, 1.05)
    top = 3.0 if darkness > 0.55 else 7.99
    pick = rng.uniform(0, top)
    low = min(int(pick), 6)
    color = HAIR_COLORS[low] + (HAIR_COLORS[low + 1] - HAIR_COLORS[low]) * (pick - low)
    return np.clip(color * np.exp(rng.normal(0, 0.1, 3)), 0.03, 0.95)


def _iris(rng: np.random.Generator, darkness: float) -> np.ndarray:
    return IRISES[rng.integers(0, 3 if darkness > 0.55 else len(IRISES))]
