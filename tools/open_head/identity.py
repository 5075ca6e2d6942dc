# SPDX-License-Identifier: Apache-2.0
"""Identities: random adults from MakeHuman's macro and detail targets, and their principal directions.

A MakeHuman head is base + macro blend + sum of sliders. The macro blend is a convex combination, by products of weights, of
`macrodetails/<ancestry>-<sex>-<age>` plus `macrodetails/universal-<sex>-<age>-<muscle>-<weight>`; a slider in -1..1 scales its negative or
its positive target.
"""

import logging
from dataclasses import dataclass
from itertools import product

import numpy as np

from .geometry import EQUATOR_RINGS, MIRROR, Layout, eye_ring
from .sources import BaseMesh, Targets

log = logging.getLogger(__name__)

ANCESTRIES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
AGES = ("young", "old")
BUILDS = ("min", "average", "max")
DETAIL_FOLDERS = ("head", "forehead", "eyes", "nose", "mouth", "ears", "cheek", "chin", "neck", "eyebrows", "asym")
OPPOSITES = (
    ("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"), ("concave", "convex"), ("compress", "uncompress"),
)  # fmt: skip

# standard deviation of a slider: by default, and where the plain one would leave what is seen in people
SLIDER_SIGMA = 0.26
SIGMAS = {  # by the start of a slider's name, the first that fits
    "asym/": 0.16, "head/head-trans": 0.05, "head/head-angle": 0.12, "head/head-back": 0.2, "head/head-scale": 0.2, "head/head-age": 0.26,
    "head/head-fat": 0.26, "head/": 0.15, "neck/neck-trans": 0.1, "mouth/mouth-trans-in": 0.06, "forehead/forehead-nubian": 0.10,
    "forehead/": 0.18, "ears/ear-shape": 0.12, "ears/ear-flap": 0.15, "nose/nose-trans-in": 0.06, "nose/nose-compression": 0.15,
    "nose/": 0.21, "eyes/eye-scale": 0.18, "eyes/eye-push": 0.18, "eyes/eye-eyefold": 0.2, "eyes/eye-corner": 0.2, "eyes/eye-height": 0.16,
}  # fmt: skip
SIDE_SIGMA = 0.12  # how far the left and the right slider of a pair part, as a share of the pair's own deviation


@dataclass(frozen=True)
class Slider:
    """One control: its sigma and, for each target it drives, (index, which sign drives it, 'l', 'r' or '')."""

    sigma: float
    drives: tuple[tuple[int, int, str], ...]


def adult_mean(base: BaseMesh, targets: Targets) -> np.ndarray:
    """(N,3) dm, symmetric: the young adult average of both sexes and the three ancestries, in base topology."""
    mean = base.vertices.copy()
    for ancestry, sex in product(ANCESTRIES, SEXES):
        mean += targets[f"macrodetails/{ancestry}-{sex}-young"] / 6
    for sex in SEXES:
        mean += targets[f"macrodetails/universal-{sex}-young-averagemuscle-averageweight"] / 2
    return mean


def macro_names() -> list[str]:
    races = [f"macrodetails/{a}-{s}-{g}" for a, s, g in product(ANCESTRIES, SEXES, AGES)]
    builds = [f"macrodetails/universal-{s}-{g}-{m}muscle-{w}weight" for s, g, m, w in product(SEXES, AGES, BUILDS, BUILDS)]
    return races + builds


def macro_weights(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, macros): random adults. Each half, ancestry and build, sums to 1."""
    ancestry = rng.dirichlet([0.7] * 3, count)
    male = rng.beta(0.5, 0.5, count)
    old = rng.uniform(0.0, 0.8, count)
    sex, age = np.stack([1 - male, male], 1), np.stack([1 - old, old], 1)
    muscle, weight = (_build(np.clip(rng.normal(0.5, sigma, count), 0.05, 0.95)) for sigma in (0.15, 0.18))
    races = np.einsum("na,ns,ng->nasg", ancestry, sex, age).reshape(count, -1)
    builds = np.einsum("ns,ng,nm,nw->nsgmw", sex, age, muscle, weight).reshape(count, -1)
    return np.concatenate([races, builds], 1)


def _build(level: np.ndarray) -> np.ndarray:
    """(n,3) weights of min, average and max of a level in 0..1."""
    return np.stack([np.maximum(0, 1 - 2 * level), 1 - np.abs(2 * level - 1), np.maximum(0, 2 * level - 1)], 1)


def detail_sliders(names: list[str]) -> list[Slider]:
    """Pairs the detail targets into sliders: opposites share one, and so do the left and the right twin."""
    sliders: dict[str, list[tuple[int, int, str]]] = {}
    for index, name in enumerate(names):
        folder, leaf = name.split("/")
        side = ""
        if folder == "asym":
            leaf, _, end = leaf.rpartition("-")
            sliders.setdefault(f"{folder}/{leaf}", []).append((index, 1 if end == "l" else -1, ""))
            continue
        if leaf[:2] in ("l-", "r-"):
            side, leaf = leaf[0], leaf[2:]
        stem, _, end = leaf.rpartition("-")
        for low, high in OPPOSITES:
            if end in (low, high):
                sliders.setdefault(f"{folder}/{stem}-{low}", []).append((index, 1 if end == high else -1, side))
                break
        else:
            sliders.setdefault(f"{folder}/{leaf}", []).append((index, 1, side))
    return [Slider(next((s for k, s in SIGMAS.items() if key.startswith(k)), SLIDER_SIGMA), tuple(d)) for key, d in sorted(sliders.items())]


def detail_weights(rng: np.random.Generator, sliders: list[Slider], targets: int, count: int) -> np.ndarray:
    """(count, targets) weights in 0..1 of the detail targets of random people."""
    weights = np.zeros((count, targets))
    for slider in sliders:
        value = rng.normal(0, slider.sigma, count)
        part = {"l": rng.normal(0, SIDE_SIGMA * slider.sigma, count), "r": rng.normal(0, SIDE_SIGMA * slider.sigma, count), "": 0.0}
        for index, sign, side in slider.drives:
            weights[:, index] = np.clip(sign * (value + part[side]), 0, 1)
    return weights


def random_heads(layout: Layout, base: BaseMesh, targets: Targets, count: int, seed: int) -> np.ndarray:
    """(count, V, 3) metres, unaligned: random adults."""
    rng = np.random.default_rng(seed)
    details = [n for n in targets.names if n.split("/")[0] in DETAIL_FOLDERS and not n.startswith("asym/asymm")]
    names = macro_names() + details
    log.info("identity: %d targets, %d heads", len(names), count)
    directions = np.stack([layout.assemble(targets[name]) for name in names]).astype(np.float32)
    weights = np.concatenate([macro_weights(rng, count), detail_weights(rng, detail_sliders(details), len(details), count)], 1)
    heads = layout.assemble(base.vertices)[None] + np.einsum("nk,kvd->nvd", weights.astype(np.float32), directions, optimize=True)
    return heads * 0.1


def align(layout: Layout, heads: np.ndarray, weights: np.ndarray, scale_kept: float, rounds: int = 2) -> np.ndarray:
    """Takes rigid motion and part of the global size off heads (n,V,3), about the weighted vertices `weights` (V,).

    Of each head's log scale against the mean only the share `scale_kept` stays. Eyeballs are rebuilt unturned.
    """
    w = weights / weights.sum()
    heads = heads.astype(np.float64)
    reference = heads.mean(0)
    reference -= w @ reference
    for _ in range(rounds):
        heads -= np.einsum("v,nvd->nd", w, heads)[:, None]
        covariance = np.einsum("v,nvi,vj->nij", w, heads, reference, optimize=True)
        u, s, vt = np.linalg.svd(covariance)
        flip = np.stack([np.ones(len(u)), np.ones(len(u)), np.linalg.det(u @ vt)], 1)
        turn = (u * flip[:, None]) @ vt
        size = np.sum(s * flip, 1) / np.einsum("v,vd,vd->", w, reference, reference)
        heads = np.einsum("nvi,nij->nvj", heads, turn, optimize=True) * (size ** (scale_kept - 1))[:, None, None]
        scale_kept = 1.0  # the damping is done once
        reference = heads.mean(0)
        reference = (reference + reference[layout.mirror] * MIRROR) / 2
    for side, eye in layout.eyes.items():
        ball = layout.parts[f"{side}_eyeball"]
        centre, radius = ball_pose(heads[:, ball])
        heads[:, ball] = centre[:, None] + radius[:, None, None] * eye.sphere
    log.info("identity: head size varies by %.1f %% before damping", 100 * np.std(np.log(size)))
    return heads


def ball_pose(balls: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n,3) and radii (n,) of eyeballs (n, ball, 3)."""
    equator = np.concatenate([eye_ring(k) for k in EQUATOR_RINGS])
    centre = balls[:, equator].mean(1)
    return centre, np.linalg.norm(balls - centre[:, None], axis=2).mean(1)


def principal_directions(layout: Layout, heads: np.ndarray, weights: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symmetric mean (V,3), directions (V,3,count) per standard deviation, and the share of variance of each.

    Heads count together with their mirror images, so each direction is either symmetric or antisymmetric. `weights` (V,) say how much a
    vertex matters.
    """
    mean = heads.mean(0)
    mean = (mean + mean[layout.mirror] * MIRROR) / 2
    off = (heads - mean).astype(np.float32)
    twin = off[:, layout.mirror] * MIRROR.astype(np.float32)
    root = np.sqrt(weights / weights.sum()).astype(np.float32)[None, :, None]
    found = []
    for half in ((off + twin) / 2, (off - twin) / 2):
        flat = (half * root).reshape(len(half), -1)
        variances, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64) / len(half))
        for k in np.argsort(variances)[::-1][:count]:
            direction = np.tensordot(vectors[:, k], half.astype(np.float64), axes=1) / np.sqrt(len(half))
            peak = direction.reshape(-1)[np.argmax(np.abs(direction))]
            found.append((variances[k], direction * np.sign(peak)))
    found.sort(key=lambda item: -item[0])
    total = float(np.mean(np.sum(off**2 * root**2, axis=(1, 2))))
    shares = np.array([variance / total for variance, _ in found[:count]])
    return mean, np.stack([direction for _, direction in found[:count]], -1), shares
