# SPDX-License-Identifier: Apache-2.0
"""Hair styles in numbers."""

from dataclasses import dataclass

import numpy as np

from .identity import Identity


@dataclass(frozen=True)
class Cut:
    """A hair style.

    Attributes:
        thickness: metres of hair above the scalp; `lift` as much again for single locks.
        pole: radians the point where strands start leans back from the top of the head: the crown, or the tie of a bun or tail.
        hang: metres that strands hang below the widest place, at its (front, side, back).
        face_gap: radians of azimuth either side of the nose without hanging hair.
        fringe: radians the front hair reaches beyond the hairline, negative stays above.
        sweep: radians of azimuth that strands turn away from the parting; `parting` is its azimuth.
        tail: metres of a tail at the pole, or 0; `bun` metres of its radius, or 0.
        locks: how many; `width` metres each; `curl` metres of their waves; `puff` metres of an afro's bumps.
        quiff: metres that the front stands up.
    """

    thickness: float
    lift: float
    pole: float = 0.3
    hang: tuple[float, float, float] = (0.0, 0.0, 0.0)
    face_gap: float = 1.15
    fringe: float = 0.0
    sweep: float = 0.0
    parting: float = 0.0
    tail: float = 0.0
    bun: float = 0.0
    locks: int = 420
    width: float = 0.007
    curl: float = 0.0
    puff: float = 0.0
    quiff: float = 0.0


def cut_of(person: Identity, rng: np.random.Generator) -> Cut | None:
    """The person's cut, None where there is no hair but its roots."""
    length, curl = person.hair_length, 0.006 * person.hair_wave**2
    side = rng.choice([0.0, rng.uniform(-0.8, 0.8)])
    low = rng.uniform(0.0, 1.0)
    match person.style:
        case "crop":
            return Cut(0.003 + 0.009 * length, 0.005, fringe=rng.uniform(-0.12, 0.12), curl=curl / 3, quiff=0.012 * low)
        case "swept":  # combed back or to a side
            return Cut(0.006 + 0.010 * length, 0.006, pole=rng.uniform(0.9, 1.5), curl=curl / 2, width=0.008, quiff=0.018 * low)
        case "bowl":
            return Cut(0.011 + 0.008 * length, 0.005, 0.2, (0, 0.02, 0.02 + 0.03 * length), 0.95, rng.uniform(0.2, 0.42), curl=curl)
        case "bob":
            drop, fringe = 0.05 + 0.05 * length, rng.choice([0.0, 0.33])
            back = drop * rng.uniform(0.8, 1.1)
            return Cut(0.013, 0.006, 0.1, (drop, drop, back), rng.uniform(0.8, 1.1), fringe, 0.0 if fringe else 0.6, side, curl=curl)
        case "long":
            drop, fringe = 0.12 + 0.09 * length, rng.choice([0.0, 0.3])
            sweep = 0.0 if fringe else 0.6
            return Cut(0.013, 0.007, 0.1, (drop, drop, drop), rng.uniform(0.85, 1.4), fringe, sweep, side, width=0.009, curl=1.4 * curl)
        case "parted":
            drop = 0.03 + 0.15 * length
            return Cut(0.011, 0.006, 0.0, (drop, drop, drop), rng.uniform(0.8, 1.2), 0.0, 0.95, side, width=0.009, curl=curl)
        case "bun":
            return Cut(0.004, 0.003, rng.uniform(0.1, 1.7), bun=rng.uniform(0.018, 0.034), width=0.008, curl=curl / 4)
        case "ponytail":
            return Cut(0.005, 0.003, rng.uniform(0.9, 1.6), tail=0.10 + 0.10 * length, width=0.008, curl=curl / 3)
        case "afro":
            return Cut(0.016 + 0.045 * length, 0.008, fringe=-0.05, locks=900, width=0.012, curl=0.006, puff=0.007)
        case "curly":
            drop = 0.10 * length * (low < 0.6)
            thickness, fringe = 0.016 + 0.010 * length, rng.uniform(0, 0.2)
            return Cut(thickness, 0.012, 0.2, (drop, drop, drop), 1.1, fringe, locks=620, width=0.008, curl=0.010, puff=0.004)
        case _:
            return None
