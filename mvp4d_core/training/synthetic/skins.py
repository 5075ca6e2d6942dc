# SPDX-License-Identifier: Apache-2.0
"""Procedural skins on the texels of the atlas: linear albedo and gloss."""

import numpy as np

from ...generate.interiors import CAVITY, GUM, TONGUE, paint_eye, paint_teeth
from .identity import Identity
from .noise import cloud, named_rng, noise, smoothstep
from .stage import CHEEKS, CHIN, EYE_CORNERS, INNER_MOUTH, MOUTH_LOW, NOSE_TIP, SUBNASAL, Stage
from .worn import BEARD, FRAME, LOCKS, SHELL

# gloss of surfaces, 0 matt to 1 wet
GLOSS_SKIN, GLOSS_LIPS, GLOSS_EYE, GLOSS_WET, GLOSS_CLOTH = 0.30, 0.42, 0.85, 0.55, 0.08


def linear(display: np.ndarray) -> np.ndarray:
    """sRGB display-referred to linear."""
    display = np.clip(display, 0, 1)
    return np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)


def paint_skin(person: Identity, stage: Stage) -> np.ndarray:
    """The atlas (size, size, 4) float32 of a person: linear albedo and gloss."""
    rng = named_rng("skin", person.key)
    outer = np.flatnonzero(stage.outer)
    points = stage.texels.canonical[outer]
    masks = {name: mask[outer] for name, mask in stage.masks.items()}
    fields = {name: {side: line[outer] for side, line in getattr(stage, name).items()} for name in ("brows", "upper_lids", "lower_lids")}
    colors = np.tile(person.skin, (len(outer), 1))
    gloss = np.full(len(outer), GLOSS_SKIN * (0.55 + 0.6 * person.oiliness))
    colors = _tone(person, stage, points, masks, colors, rng)
    colors = _spots(person, points, masks, colors, rng)
    gloss *= 1 + 0.35 * noise(points, 0.0015, rng.integers(2**31)) * person.roughness
    colors, gloss = _lips(person, stage, points, masks, colors, gloss, rng)
    colors = _lids(person, fields, colors, rng)
    colors = _stubble(person, stage, points, masks, colors, rng)
    colors = _scalp(person, points, masks, colors, rng)
    colors = _brows(person, points, fields["brows"], colors, rng)
    colors, gloss = _collar(person, points, colors, gloss, rng)

    everything = np.zeros((len(stage.texels.canonical), 4), np.float32)
    everything[outer, :3], everything[outer, 3] = linear(colors), gloss
    _interiors(person, stage, everything, rng)
    return stage.atlas(everything)


def _mixed(colors: np.ndarray, other: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return colors + (other - colors) * np.clip(amount, 0, 1)[:, None]


def _ball(points: np.ndarray, centre: np.ndarray, radius: float | tuple[float, float, float]) -> np.ndarray:
    """A soft blob: 1 in the middle, near 0 from about twice the radius."""
    return np.exp(-0.5 * (((points - centre) / np.asarray(radius)) ** 2).sum(axis=1))


def _tone(person: Identity, stage: Stage, points: np.ndarray, masks: dict, colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blotches, redness of cheeks, nose and ears, darker hollows of the eyes, wrinkles, pores."""
    seeds = rng.integers(2**31, size=8)
    colors = colors * (1 + 0.05 * cloud(points, 0.03, seeds[0])[:, None])
    colors = colors * (1 + 0.035 * person.roughness * cloud(points, 0.004, seeds[1], 2)[:, None])
    redness = 0.35 * cloud(points, 0.02, seeds[2])
    for cheek in CHEEKS:
        redness = redness + person.blush * _ball(points, stage.landmarks[cheek], 0.017)
    redness = redness + (0.3 + 0.6 * person.blush) * _ball(points, stage.landmarks[NOSE_TIP], 0.011)
    redness = redness + 0.8 * (masks["left_ear"] + masks["right_ear"])
    colors = colors * np.exp(np.clip(redness, -0.5, 1.6)[:, None] * np.array([0.02, -0.13, -0.11]))
    hollow = np.zeros(len(points))
    for corners in EYE_CORNERS:
        eye = stage.landmarks[list(corners)].mean(axis=0)
        hollow = hollow + _ball(points, eye - [0, 0.012, 0], (0.014, 0.006, 0.02))
        hollow = hollow + 0.5 * _ball(points, eye + [0, 0.010, 0], (0.015, 0.007, 0.02))
    colors = colors * np.exp(-hollow[:, None] * rng.uniform(0.05, 0.28) * np.array([0.7, 1.0, 0.85]))
    forehead = smoothstep(points[:, 1], 0.045, 0.06) * smoothstep(points[:, 2], 0.05, 0.08)
    lines = noise(points + 0.004 * noise(points, 0.02, seeds[3])[:, None], (0.05, 0.0055, 0.05), seeds[4])
    folds = forehead * smoothstep(lines, 0.35, 0.8)
    crow = noise(points, (0.02, 0.003, 0.02), seeds[5])
    for side in (0.052, -0.052):
        folds = folds + 0.8 * _ball(points, np.array([side, 0.018, 0.068]), 0.007) * smoothstep(crow, 0.1, 0.7)
    colors = colors * np.exp(-0.35 * person.wrinkles * folds[:, None] * np.array([0.8, 1, 1]))
    pores = noise(points, 0.0011, seeds[6])
    return colors * (1 + 0.045 * person.roughness * pores[:, None])


def _spots(person: Identity, points: np.ndarray, masks: dict, colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Freckles, moles, and the odd pimple."""
    if person.freckles:
        where = _ball(points, np.array([0, 0.005, 0.1]), (0.05, 0.025, 0.05)) + 0.25
        grain = noise(points, 0.0032, rng.integers(2**31)) + 0.5 * noise(points, 0.0018, rng.integers(2**31))
        amount = smoothstep(grain, 0.75 - 0.3 * person.freckles, 1.05) * where * person.freckles
        colors = _mixed(colors, person.skin * [0.72, 0.56, 0.45], 0.8 * amount)
    face = np.flatnonzero(masks["face"] > 0.5)
    for _ in range(person.moles if len(face) else 0):
        centre, radius = points[rng.choice(face)], rng.uniform(0.0006, 0.0018)
        dark = person.skin * rng.choice([0.35, 0.55]) if rng.random() < 0.75 else person.skin * [1.0, 0.6, 0.55]
        colors = _mixed(colors, dark, smoothstep(-np.linalg.norm(points - centre, axis=1), -1.3 * radius, -0.7 * radius))
    return colors


def _lips(
    person: Identity, stage: Stage, points: np.ndarray, masks: dict, colors: np.ndarray, gloss: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Lips with their fine vertical folds, darker along the line where they meet."""
    edge = 0.25 if person.lipstick else 0.45
    amount = smoothstep(masks["lips"] + 0.1 * noise(points, 0.002, rng.integers(2**31)), 0.3, 0.3 + edge)
    folds = noise(points, (0.0011, 0.006, 0.006), rng.integers(2**31))
    inner = np.abs(points[:, 1] - stage.landmarks[list(INNER_MOUTH), 1].mean())
    shade = 1 + 0.07 * folds - 0.25 * np.exp(-((inner / 0.0016) ** 2))
    painted = person.lips * shade[:, None]
    amount = amount * (0.75 + 0.25 * person.lipstick)
    return _mixed(colors, painted, amount), gloss + (GLOSS_LIPS * rng.uniform(0.7, 1.25) - gloss) * amount


def _lids(person: Identity, fields: dict, colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lash lines, the pink inner rim, eyeliner and shadow."""
    shadow_color = rng.uniform(0.1, 0.6, 3)
    shadowed = (rng.random() < 0.5) * person.eyeliner
    dark = np.minimum(person.brows, 0.16)
    lash = rng.uniform(0.55, 0.95)
    for side in ("left", "right"):
        place, upper = fields["upper_lids"][side].T
        _, lower = fields["lower_lids"][side].T
        colors = _mixed(colors, person.skin * [0.80, 0.62, 0.58], 0.5 * (1 - smoothstep(np.abs(lower), 0.0006, 0.002)))
        if shadowed:
            colors = _mixed(colors, shadow_color, 0.6 * shadowed * (upper > 0) * (1 - smoothstep(upper, 0.003, 0.009)))
        reach = 0.0013 + 0.0012 * person.eyeliner
        outward = 0.55 + 0.45 * smoothstep(place, 0.1, 0.6)
        colors = _mixed(colors, dark, lash * outward * (1 - smoothstep(np.abs(upper), 0.4 * reach, reach)))
        colors = _mixed(colors, dark, (0.25 + 0.5 * person.eyeliner) * outward * (1 - smoothstep(np.abs(lower), 0.0003, 0.0011)))
    return colors


def _stubble(person: Identity, stage: Stage, points: np.ndarray, masks: dict, colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A beard as colour: shadow under the skin, stubble, or the dense ground of a full beard."""
    if not person.beard_density:
        return colors
    zone = beard_zone(person, stage.landmarks, points, masks)
    edge = zone + 0.18 * cloud(points, 0.012, rng.integers(2**31)) * (zone > 0.02)
    hairs = noise(points, (0.0012, 0.0035, 0.0012), rng.integers(2**31))
    density = person.beard_density
    cover = smoothstep(edge, 0.3, 0.7)
    if density < 0.55:
        shadow = person.skin * 0.6 + 0.4 * person.beard * [0.9, 1.0, 1.05]
        colors = _mixed(colors, shadow, cover * density)
        return _mixed(colors, person.beard, cover * density * smoothstep(hairs, 0.1, 0.6))
    colors = _mixed(colors, person.beard * 0.8, cover * (0.55 + 0.45 * density))
    return np.clip(colors * (1 + 0.35 * (cover * hairs)[:, None]), 0, 1)


def beard_zone(person: Identity, landmarks: np.ndarray, points: np.ndarray, masks: dict) -> np.ndarray:
    """How much a beard grows at points (M,): moustache, chin, cheeks and the neck's top, by the person's weights."""
    mouth, chin, nose = (landmarks[k] for k in (MOUTH_LOW, CHIN, SUBNASAL))
    x, y, z = points.T
    moustache = _ball(points, np.array([0, (nose[1] + landmarks[0][1]) / 2, nose[2]]), (0.019, 0.005, 0.03))
    beside = sum(_ball(points, np.array([s * 0.030, mouth[1] + 0.006, 0.085]), (0.006, 0.014, 0.02)) for s in (1, -1))
    goatee = _ball(points, (mouth + chin) / 2 + [0, -0.008, 0], (0.020, 0.014, 0.03)) + 0.8 * beside
    line = chin[1] + 0.028 + 0.032 * smoothstep(np.abs(x), 0.03, 0.066)  # rises towards the ears
    cheeks = smoothstep(-y, -line - 0.004, -line + 0.008) * smoothstep(y, chin[1] - 0.012, chin[1] - 0.002)
    cheeks = cheeks * smoothstep(z, -0.002, 0.012) * smoothstep(np.abs(x), 0.024, 0.038)
    under = smoothstep(-y, -chin[1] + 0.002, -chin[1] + 0.012) * smoothstep(y, chin[1] - 0.045, chin[1] - 0.02) * smoothstep(z, 0.01, 0.03)
    parts = np.stack([moustache, goatee, cheeks, under], axis=1) * person.beard_zone
    bare = 1 - smoothstep(masks["lips"], 0.1, 0.5)
    ears = 1 - np.clip(masks["left_ear"] + masks["right_ear"], 0, 1)
    return np.clip(parts.max(axis=1) * 1.25, 0, 1) * bare * ears


def _scalp(person: Identity, points: np.ndarray, masks: dict, colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hair roots on the scalp, a soft ragged hairline; only a shadow on a shaven head."""
    strength = {"bald": rng.choice([0.0, 0.18]), "buzz": 0.85, "receding": 0.75}.get(person.style, 0.93)
    edge = masks["scalp"] + 0.22 * cloud(points, 0.012, rng.integers(2**31)) - 0.1 * smoothstep(points[:, 2], 0.055, 0.085)
    if person.style == "receding":
        edge = edge - smoothstep(points[:, 1] + 0.35 * points[:, 2], 0.085, 0.115)
    hairs = noise(points, (0.0016, 0.0016, 0.0016), rng.integers(2**31))
    amount = strength * smoothstep(edge, 0.4, 0.85)
    ground = person.hair * (0.7 if person.style not in ("bald", "buzz") else 1.0)
    return _mixed(colors, np.clip(ground * (1 + 0.25 * hairs[:, None]), 0, 1), amount * (1 - 0.15 * smoothstep(hairs, 0.0, 0.8)))


def _brows(person: Identity, points: np.ndarray, brows: dict, colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brows of hairs that lean outwards, thick at the nose's side, thin at the end."""
    density, arch, seed = rng.uniform(0.55, 1.0), rng.normal(0, 0.0012), rng.integers(2**31)
    for side, sign in (("left", 1), ("right", -1)):
        place, across = brows[side].T
        across = across - person.brow_shift - arch * np.sin(np.pi * place)
        half = person.brow_thickness * (0.55 + 0.6 * np.sin(np.pi * np.clip(place * 0.75 + 0.22, 0, 1)) - 0.45 * place**2)
        leaning = points + np.stack([-sign * 0.7 * across, np.zeros_like(across), np.zeros_like(across)], axis=1)
        hairs = noise(leaning, (0.0009, 0.006, 0.006), seed)
        inside = 1 - smoothstep(np.abs(across) + 0.0012 * hairs, 0.45 * half, 1.25 * half)
        ends = smoothstep(place, 0.0, 0.08) * (1 - smoothstep(place, 0.9, 1.0))
        colors = _mixed(colors, person.brows, density * inside * ends * (0.72 + 0.28 * hairs))
    return colors


def _collar(
    person: Identity, points: np.ndarray, colors: np.ndarray, gloss: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Clothes below the collar, with a seam and a weave."""
    if person.collar is None:
        return colors, gloss
    line = person.collar - rng.uniform(0, 0.5) * np.clip(points[:, 2] + 0.03, 0, None)
    amount = smoothstep(line - points[:, 1], -0.0006, 0.0006)
    weave = 1 + 0.10 * noise(points, 0.0016, rng.integers(2**31)) + 0.12 * cloud(points, 0.03, rng.integers(2**31))
    seam = 1 - 0.35 * np.exp(-(((line - points[:, 1] - 0.004) / 0.0012) ** 2))
    cloth = person.clothes * (weave * seam)[:, None]
    return _mixed(colors, cloth, amount), gloss + (GLOSS_CLOTH - gloss) * amount


def _interiors(person: Identity, stage: Stage, everything: np.ndarray, rng: np.random.Generator) -> None:
    """Eyes, teeth, gums, tongue and the mouth's inside, written into `everything` (M, 4)."""
    model, texels = stage.model, stage.texels
    joints = model.J_regressor @ model.v_template
    sclera = np.array([0.90, 0.88, 0.86]) * rng.uniform(0.82, 1.0) * np.exp(rng.normal(0, 0.02, 3))
    enamel = rng.uniform(0.75, 1.05) * np.exp(rng.normal(0, 0.03) * np.array([-0.3, 0, 1]))
    for eye in ("left_eye", "right_eye"):
        ball = np.flatnonzero(texels.within(model.region_mask(f"{eye}ball")))
        centre = joints[model.joint_names.index(eye)]
        painted = paint_eye(texels.canonical[ball] - centre, person.iris, sclera, person.key % 2**31)
        everything[ball, :3], everything[ball, 3] = linear(painted), GLOSS_EYE
    for teeth, root in (("upper_teeth", 1.0), ("lower_teeth", -1.0)):
        chosen = np.flatnonzero(texels.within(model.region_mask(teeth)))
        painted = paint_teeth(texels.canonical[chosen], stage.normals[chosen], root) * enamel
        everything[chosen, :3], everything[chosen, 3] = linear(painted), GLOSS_WET
    for region, front, back in (("gums", GUM, GUM * 0.4), ("tongue", TONGUE, TONGUE * 0.25), ("mouth_cavity", CAVITY, CAVITY * 0.15)):
        chosen = np.flatnonzero(texels.within(model.region_mask(region)))
        z = texels.canonical[chosen, 2]
        depth = np.clip((z.max() - z) / 0.04, 0, 1)[:, None] if len(chosen) else np.zeros((0, 1))
        everything[chosen, :3], everything[chosen, 3] = linear(front + (back - front) * depth), 0.4


def worn_texture(person: Identity, rng: np.random.Generator) -> np.ndarray:
    """(256, 256, 4) float32, linear albedo and gloss, of what is worn, in the bands of `worn.py`: strands that run down."""
    side = 256
    row, column = np.mgrid[:side, :side]
    v = 1 - (row + 0.5) / side
    seeds = rng.integers(2**31, size=3)
    points = np.stack([column, row, np.zeros_like(row)], axis=-1).reshape(-1, 3)
    fine = noise(points, (1.7, 30, 1), seeds[0]) + 0.8 * noise(points, (5, 60, 1), seeds[1]) + 0.9 * noise(points, (14, 200, 1), seeds[2])
    strands = np.exp(0.26 * fine.reshape(side, side))
    roots, tips = (rng.uniform(0.4, 0.8) if rng.random() < 0.25 else 0.85), rng.uniform(0.95, 1.3)
    sheen = 0.35 if person.style in ("afro", "curly") else rng.uniform(0.4, 1.0)
    bright = 0.3 + float(np.sqrt(person.hair.mean()))
    result = np.zeros((side, side, 4), np.float32)
    for (low, high), color, under, gloss in (
        (LOCKS, person.hair, 1.0, 0.22 * sheen * bright),
        (SHELL, person.hair, 0.62, 0.11 * sheen * bright),
        (BEARD, person.beard, 1.0, 0.08),
    ):
        chosen = (v > low - 0.01) & (v < high + 0.01)
        part = np.clip((high - v) / (high - low), 0, 1)
        shade = strands * (roots + (tips - roots) * part) * under
        result[..., :3] = np.where(chosen[..., None], linear(color * shade[..., None]), result[..., :3])
        result[..., 3] = np.where(chosen, gloss * np.clip(strands, 0.5, 1.5), result[..., 3])
    frame = v < FRAME[1] + 0.01
    result[frame] = [*linear(person.glasses if person.glasses is not None else person.hair), 0.5]
    return result
