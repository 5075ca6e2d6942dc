# SPDX-License-Identifier: Apache-2.0
"""The 52 ARKit expressions, composed from MakeHuman's expression units and from motions of our own.

Only left and middle shapes are made; a right shape is the mirror image of its left twin. All are displacements (V,3) in metres at
weight 1, on the sealed template. Units are the mean over MakeHuman's three ancestries.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from mvp4d_core.rig.arkit import ARKIT_NAMES, mirror_name

from .eyelids import eye_shapes
from .geometry import MIRROR, Layout
from .identity import ANCESTRIES
from .mesh_fields import interpolated, smoothed, smoothstep, vertex_normals
from .regions import LIP_RINGS, FaceRings
from .skinning import JAW_JOINT, jaw_rotation
from .sources import Targets

CHEEK_UP = "cheek/l-cheek-trans-up"
NOTHING = 1e-5  # metres; smaller displacements are dropped, so that they stay local
CLOSE_LOWER = np.array([0.5, 0.70, 0.92])  # of the way together, along x, y and z, that the lower lip makes in `mouthClose`
CLOSE_REACH = 0.034  # metres around the lips that `mouthClose` moves
WALL = (0.007, 0.020)  # metres behind the skin within which the wall of the mouth follows it fully, or not at all
TONGUE_PATH = (-0.0490, 0.094, 1.5)  # height between the teeth, depth where it bends down (metres), how sharply
MIDDLE = 0.015  # metres over which a left shape fades out across the middle of the mouth


@dataclass(frozen=True)
class Face:
    """What the shapes are made from: units by name, and fields over the vertices."""

    layout: Layout
    template: np.ndarray
    rings: FaceRings
    jaw: np.ndarray  # (V,) how much a vertex follows the jaw
    units: dict[str, np.ndarray]
    left: np.ndarray  # (V,1) 1 on the subject's left, fading over the middle
    lower: np.ndarray  # (V,1) 1 on what belongs to the lower lip and the chin

    def unit(self, name: str) -> np.ndarray:
        return self.units[name]

    def lip_ids(self, first: int, last: int) -> np.ndarray:
        return np.concatenate(self.rings.lip_rings[first:last])


def load_units(layout: Layout, targets: Targets) -> dict[str, np.ndarray]:
    """Expression units, metres, by their names without folder, each exactly symmetric with its twin; and the cheek target we use."""
    folder = "expression/units"
    names = [name.split("/")[-1] for name in targets.names if name.startswith(f"{folder}/{ANCESTRIES[0]}/")]
    units = {}
    for name in names:
        units[name] = layout.assemble(sum(targets[f"{folder}/{a}/{name}"] for a in ANCESTRIES)) * 0.1 / len(ANCESTRIES)
    twins = {n: n.replace("-left-", "-?-").replace("-right-", "-left-").replace("-?-", "-right-") for n in names}
    units = {name: (units[name] + units[twin][layout.mirror] * MIRROR) / 2 for name, twin in twins.items()}
    return units | {CHEEK_UP: layout.assemble(targets[CHEEK_UP]) * 0.1}


def arkit_expressions(face: Face, eye_centre: np.ndarray, eye_radius: float) -> np.ndarray:
    """(V,3,52) in Apple's order."""
    shapes = eye_shapes(face.layout, face.template, face.rings, eye_centre, eye_radius)
    shapes |= _jaw_shapes(face) | _mouth_shapes(face) | _lip_shapes(face) | _brow_and_cheek_shapes(face)
    shapes["eyeSquintLeft"] = shapes["eyeSquintLeft"] + 0.35 * shapes["cheekSquintLeft"]
    shapes["tongueOut"] = _tongue_out(face)
    reach = _reach(face.template)[:, None]
    soft = np.ones(len(face.template), bool)
    for side in ("left", "right"):
        soft[face.layout.parts[f"{side}_eyeball"]] = False
    for name, shape in shapes.items():
        kept = np.where(soft[:, None], shape * reach, shape)
        kept[np.linalg.norm(kept, axis=1) < NOTHING] = 0.0
        if mirror_name(name) == name:
            kept = (kept + kept[face.layout.mirror] * MIRROR) / 2
        shapes[name] = kept
    for name in list(shapes):
        shapes[mirror_name(name)] = shapes[name][face.layout.mirror] * MIRROR if mirror_name(name) != name else shapes[name]
    return np.stack([shapes[name] for name in ARKIT_NAMES], -1)


def _reach(points: np.ndarray) -> np.ndarray:
    """(V,) 1 on the face, 0 at the ears, the back of the head and the base of the neck, which no expression moves."""
    return smoothstep(points[:, 2], -0.004, 0.030) * smoothstep(points[:, 1] + 0.25 * points[:, 2], -0.118, -0.085)


def _jaw_shapes(face: Face) -> dict[str, np.ndarray]:
    jaw, template = face.jaw[:, None], face.template
    opened = jaw * jaw_rotation(template)
    lift = _around_lips(face, 0.016) * (1 - face.lower[:, 0])
    opened[:, 1] += 0.0016 * lift * (1 - smoothstep(np.abs(template[:, 0]), 0.01, 0.026))
    side = jaw * [0.0075, 0.0, 0.0] + jaw * _yaw_about_jaw(template, np.radians(2.0))
    return {"jawOpen": opened, "jawForward": jaw * [0.0, -0.0008, 0.0065], "jawLeft": side, "jawRight": side[face.layout.mirror] * MIRROR}


def _yaw_about_jaw(points: np.ndarray, angle: float) -> np.ndarray:
    off = points - JAW_JOINT
    return np.stack([np.sin(angle) * off[:, 2], np.zeros(len(points)), -np.sin(angle) * off[:, 0]], 1)


def _around_lips(face: Face, width: float) -> np.ndarray:
    """(V,) 1 on the lips, fading over `width` metres of distance; skin and cavity only."""
    lips = face.template[face.lip_ids(0, LIP_RINGS)]
    skin = face.layout.parts["skin"]
    out = np.zeros(len(face.template))
    distance = np.min(np.linalg.norm(face.template[skin][:, None] - lips[None], axis=2), axis=1)
    out[skin] = smoothstep(distance, width, 0.0)
    return out


def _mouth_shapes(face: Face) -> dict[str, np.ndarray]:
    unit, left, lower = face.unit, face.left, face.lower
    near = _around_lips(face, 0.034)[:, None]
    across = np.abs(face.template[:, :1])
    shift = near * [0.0115, 0.0, 0.0] + near * [0.0, 0.0, -1.0] * (0.12 * np.sign(face.template[:, :1]) * across)
    pucker = unit("mouth-pursing")
    return {
        "mouthFunnel": 0.92 * unit("mouth-protusion"),
        "mouthPucker": 1.05 * pucker,
        "mouthLeft": shift + left * 0.25 * unit("mouth-corner-puller"),
        "mouthSmileLeft": left * (1.12 * unit("mouth-corner-puller") + 0.18 * unit("mouth-upward-retraction") * (1 - lower)),
        "mouthFrownLeft": left * 1.1 * unit("mouth-depression"),
        "mouthDimpleLeft": left * (0.8 * unit("mouth-compression") + 0.45 * unit("mouth-retraction")),
        "mouthStretchLeft": left * (1.1 * unit("mouth-retraction") + 0.55 * unit("neck-platysma")),
        "mouthLowerDownLeft": left * lower * (1.0 * unit("mouth-depression-retraction") + 0.15 * unit("mouth-part-later")),
        "mouthUpperUpLeft": left * (1 - lower) * (0.5 * unit("mouth-part-later") + 0.75 * unit("mouth-elevation")),
    } | {"mouthRight": (shift + left * 0.25 * unit("mouth-corner-puller"))[face.layout.mirror] * MIRROR}


def _lip_shapes(face: Face) -> dict[str, np.ndarray]:
    """Rolls, shrugs and presses of the lips, and `mouthClose`."""
    template, lower = face.template, face.lower[:, 0]
    seam = template[face.lip_ids(1, 4), 1].mean()
    lips = np.zeros(len(template))
    for k, ring in enumerate(face.rings.lip_rings[: LIP_RINGS + 3]):
        lips[ring] = smoothstep(np.array(float(k)), LIP_RINGS + 2.5, 2.0)
    lips[face.rings.cavity] = 0.8 * _around_lips(face, 0.012)[face.rings.cavity]
    lips = smoothed(lips, face.layout.faces, 2)
    corner = 1 - 0.75 * smoothstep(np.abs(template[:, 0]), 0.008, 0.026)
    roll = np.stack([np.zeros_like(lips), 0.80 * (seam - template[:, 1]) * lips, -0.0085 * lips], 1) * corner[:, None]
    around = _around_lips(face, 0.024)
    up = np.array([0.0, 1.0, 0.0])
    forward = np.array([0.0, 0.0, 1.0])
    chin = smoothstep(np.linalg.norm((template - [0, seam - 0.028, 0.098]) / [1.2, 1.0, 2.0], axis=1), 0.03, 0.004) * lower
    shrug_lower = np.outer(lower * around * corner * 0.0058 + chin * 0.0045, up)
    shrug_lower += np.outer(lower * lips * corner * 0.0028 + chin * 0.002, forward)
    shrug_upper = np.outer(around * corner * (0.0030 - 0.0012 * lower), up) + np.outer((1 - lower) * lips * corner * 0.0034, forward)
    press = np.stack([np.zeros_like(lips), 0.42 * (seam - template[:, 1]) * lips, -0.0022 * lips], 1)
    press += 0.35 * face.unit("mouth-compression")
    skin = np.zeros((len(template), 1))
    skin[face.layout.parts["skin"]] = 1.0
    return {
        "mouthRollLower": roll * lower[:, None] * skin,
        "mouthRollUpper": roll * (1 - lower)[:, None] * skin,
        "mouthShrugLower": (shrug_lower + 0.25 * face.unit("mouth-eversion") * lower[:, None]) * skin,
        "mouthShrugUpper": (shrug_upper + 0.35 * face.unit("mouth-eversion") * (1 - lower)[:, None]) * skin,
        "mouthPressLeft": press * face.left * skin,
        "mouthClose": _mouth_close(face),
    }


def _mouth_close(face: Face) -> np.ndarray:
    """What brings the lips together again when the jaw is fully open.

    On each ring of the lips, the opened upper and lower edge move to the line between them; around them the motion dies out smoothly. The
    front wall of the mouth follows the skin before it.
    """
    opened = face.template + _jaw_shapes(face)["jawOpen"]
    values = np.zeros_like(face.template)
    known = np.ones(len(face.template), bool)
    skin, cavity = face.layout.parts["skin"], face.rings.cavity
    known[skin] = _around_lips(face, CLOSE_REACH)[skin] <= 0
    known[cavity] = True
    for ring in face.rings.lip_rings[:LIP_RINGS]:
        upper, lower = (_ordered(face.template, ring, below, face.lower) for below in (False, True))
        for own, other, share in ((upper, lower, 1 - CLOSE_LOWER), (lower, upper, CLOSE_LOWER)):
            there = np.stack([np.interp(face.template[own, 0], face.template[other, 0], opened[other, d]) for d in range(3)], 1)
            rest = np.stack([np.interp(face.template[own, 0], face.template[other, 0], face.template[other, d]) for d in range(3)], 1)
            values[own] = share * ((there - rest) - (opened[own] - face.template[own]))
            known[own] = True
    values = interpolated(values, known, face.layout.faces, order=2)
    outside = np.setdiff1d(np.concatenate([skin[~known[skin]], face.lip_ids(0, LIP_RINGS)]), cavity)
    for below in (False, True):
        wall, cover = (ids[(face.lower[ids, 0] > 0.5) == below] for ids in (cavity, outside))
        distance, nearest = cKDTree(face.template[cover]).query(face.template[wall])
        values[wall] = values[cover[nearest]] * smoothstep(distance, WALL[1], WALL[0])[:, None]
    inside = np.zeros(len(values), bool)
    inside[cavity] = True
    return smoothed(values, face.layout.faces, 3, held=~inside)


def _ordered(template: np.ndarray, ring: np.ndarray, below: bool, lower: np.ndarray) -> np.ndarray:
    """The upper or lower half of a lip ring, from the subject's right to the left."""
    half = ring[(lower[ring, 0] > 0.5) == below]
    return half[np.argsort(template[half, 0])]


def _brow_and_cheek_shapes(face: Face) -> dict[str, np.ndarray]:
    unit, template = face.unit, face.template
    normals = vertex_normals(template, face.layout.faces)
    skin = np.zeros(len(template))
    skin[face.layout.parts["skin"]] = 1.0
    skin[face.rings.cavity] = 0.0
    puff = np.zeros_like(template)
    for side in (1.0, -1.0):
        centre = np.array([side * 0.042, -0.046, 0.070])
        bump = smoothstep(np.linalg.norm((template - centre) / [1.0, 1.05, 1.15], axis=1), 0.040, 0.004) * skin
        puff += 0.0105 * bump[:, None] * normals
    cheek = np.array([0.036, -0.008, 0.085])
    lift = smoothstep(np.linalg.norm((template - cheek) / [1.2, 0.8, 1.2], axis=1), 0.030, 0.003) * skin
    squint = 0.9 * unit(CHEEK_UP) + np.outer(lift, [0.0, 0.0072, 0.0030])
    sneer = 1.5 * unit("nose-left-elevation") + 0.6 * unit("nose-left-dilatation")
    sneer = sneer + 0.32 * face.left * (1 - face.lower) * unit("mouth-elevation")
    return {
        "browDownLeft": 1.1 * unit("eyebrows-left-down"),
        "browInnerUp": 1.35 * (unit("eyebrows-left-inner-up") + unit("eyebrows-right-inner-up")),
        "browOuterUpLeft": 0.95 * unit("eyebrows-left-extern-up") + 0.25 * unit("eyebrows-left-up"),
        "cheekPuff": puff,
        "cheekSquintLeft": squint,
        "noseSneerLeft": sneer,
    }


def _tongue_out(face: Face) -> np.ndarray:
    """The tongue slides out between the teeth, flattened, and bends down over the lip; jaw and lips part for it."""
    template = face.template
    ids = face.layout.parts["tongue"]
    x, y, z = template[ids].T
    along = smoothstep(z, z.min(), z.max())
    order = np.argsort(z)
    middle = np.interp(z, z[order], np.convolve(np.pad(y[order], 12, mode="edge"), np.ones(25) / 25, mode="valid"))
    moved_z = z + 0.046 * along**1.2
    out = smoothstep(along, 0.1, 0.55)
    path = TONGUE_PATH[0] - TONGUE_PATH[2] * np.maximum(moved_z - TONGUE_PATH[1], 0.0) ** 1.25
    lips = _around_lips(face, 0.022) * (1 - 0.8 * smoothstep(np.abs(template[:, 0]), 0.012, 0.027))
    motion = np.outer(lips * face.lower[:, 0], [0.0, -0.0065, 0.0012]) + np.outer(lips * (1 - face.lower[:, 0]), [0.0, 0.0022, 0.0])
    motion += 0.34 * face.jaw[:, None] * jaw_rotation(template)
    moved_y = (1 - out) * y + out * (path + 0.4 * (y - middle))
    motion[ids] = np.stack([-0.12 * out * x, moved_y - y, moved_z - z], 1)
    return motion


def make_face(layout: Layout, template: np.ndarray, rings: FaceRings, jaw: np.ndarray, units: dict[str, np.ndarray]) -> Face:
    left = smoothstep(template[:, 0], -MIDDLE, MIDDLE)[:, None]
    lower = smoothstep(jaw, 0.15, 0.85)
    lower = lower[:, None]
    return Face(layout, template, rings, jaw, units, left, lower)
