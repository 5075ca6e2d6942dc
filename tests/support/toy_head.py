# SPDX-License-Identifier: Apache-2.0
"""A small egg-shaped head, every array of a HeadModel valid: one skin with a nose and a neck, two eyeballs, 52 expressions, 5 joints."""

import numpy as np

from mvp4d_core.rig import ARKIT_NAMES, HeadModel, mirror_name
from mvp4d_core.tracking import landmark_sets as sets

_COLUMNS, _ROWS = 28, 17
_EYE = np.array([0.031, 0.018, 0.075])
_EYE_RADIUS = 0.0125
_SHAPES = ("width", "height", "depth", "nose", "jaw", "random")

# where on the face an expression acts (metres), by the word its name begins with
_PLACES = {
    "eye": (0.031, 0.024), "brow": (0.03, 0.045), "jaw": (0.0, -0.085), "mouth": (0.02, -0.048), "cheek": (0.042, -0.015),
    "nose": (0.012, -0.01), "tongue": (0.0, -0.05),
}  # fmt: skip


def toy_head_model(seed: int = 0) -> HeadModel:
    """About 600 vertices; `seed` chooses the directions of the expressions and of the last identity direction."""
    generator = np.random.default_rng(seed)
    skin, skin_faces, skin_uvs, skin_uv_faces = _skin()
    parts = [(skin, skin_faces, skin_uvs, skin_uv_faces)]
    for side, corner in ((1, (0.0, 0.0)), (-1, (0.5, 0.0))):
        parts.append(_eyeball(_EYE * [side, 1, 1], corner))
    vertices = np.concatenate([p[0] for p in parts])
    faces = _stack([p[1] for p in parts], [len(p[0]) for p in parts])
    uv_faces = _stack([p[3] for p in parts], [len(p[2]) for p in parts])
    ids = np.split(np.arange(len(vertices), dtype=np.int32), np.cumsum([len(p[0]) for p in parts])[:-1])
    weights, regressor = _weights(vertices, ids), _joint_regressor(vertices, ids)
    landmark_faces, barycentrics = _landmarks(vertices, faces, ids)
    skin_ids = ids[0]
    posedirs = np.zeros((len(vertices), 3, 36))
    posedirs[skin_ids] = 1e-3 * generator.normal(size=(1, 3, 36)) * weights[skin_ids, 2][:, None, None]
    return HeadModel(
        v_template=vertices.astype(np.float32),
        faces=faces.astype(np.int32),
        uvs=np.concatenate([p[2] for p in parts]).astype(np.float32),
        uv_faces=uv_faces.astype(np.int32),
        shapedirs=_identity(vertices, ids, generator).astype(np.float32),
        exprdirs=_expressions(vertices, skin_ids, generator).astype(np.float32),
        posedirs=posedirs.astype(np.float32),
        J_regressor=regressor.astype(np.float32),
        parents=np.array([-1, 0, 1, 1, 1], np.int32),
        lbs_weights=weights.astype(np.float32),
        landmark_faces=landmark_faces.astype(np.int32),
        landmark_barycentrics=barycentrics.astype(np.float32),
        static_offsets=np.zeros((len(vertices), 3), np.float32),
        joint_names=("root", "neck", "jaw", "left_eye", "right_eye"),
        expression_names=ARKIT_NAMES,
        shape_names=_SHAPES,
        name="toy-head",
        licence="CC0-1.0",
        regions=_regions(vertices, ids),
        provenance={"source": "tests"},
    )


def _skin() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """An egg over a neck that is open at the bottom: vertices, faces, uvs in the upper three quarters of the atlas, uv_faces."""
    height = np.concatenate([0.12 * np.cos(np.linspace(0.15, 2.2, _ROWS - 4)), [-0.09, -0.11, -0.13, -0.16]])
    round_part = np.sqrt(np.clip(1 - (height / 0.125) ** 2, 0, 1))
    radius = np.where(height > -0.075, np.maximum(round_part, 0.62), 0.62)
    radius[:4] = round_part[:4]
    angle = np.arange(_COLUMNS) * 2 * np.pi / _COLUMNS + np.pi  # the seam is at the back
    x = 0.078 * radius[:, None] * np.sin(angle)
    z = 0.09 * radius[:, None] * np.cos(angle)
    y = np.broadcast_to(height[:, None], x.shape)
    front = np.clip(np.cos(angle), 0, 1) ** 2
    z = z + 0.022 * front * np.exp(-(((y + 0.09) / 0.022) ** 2))  # chin
    z = z + 0.02 * np.exp(-((x / 0.014) ** 2) - ((y + 0.012) / 0.02) ** 2) * (np.cos(angle) > 0)  # nose
    grid = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    vertices = np.concatenate([[[0, 0.125, 0]], grid])
    row, column = np.meshgrid(np.arange(_ROWS - 1), np.arange(_COLUMNS), indexing="ij")
    row, column = row.ravel(), column.ravel()
    after = (column + 1) % _COLUMNS
    a, b = 1 + row * _COLUMNS + column, 1 + row * _COLUMNS + after
    c, d = a + _COLUMNS, b + _COLUMNS
    first = np.arange(_COLUMNS)
    cap = np.stack([np.zeros(_COLUMNS, int), 1 + first, 1 + (first + 1) % _COLUMNS], axis=1)
    faces = np.concatenate([cap, np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1)])
    u = np.arange(_COLUMNS + 1) / _COLUMNS
    v = 0.26 + 0.7 * (height - height[-1]) / (0.125 - height[-1])
    rows = np.stack(np.broadcast_arrays(u, v[:, None]), axis=-1).reshape(-1, 2)
    uvs = np.concatenate([rows, [[(k + 0.5) / _COLUMNS, 0.99] for k in first]])
    wide = _COLUMNS + 1
    a, b = row * wide + column, row * wide + column + 1
    c, d = a + wide, b + wide
    cap = np.stack([_ROWS * wide + first, first, first + 1], axis=1)
    return vertices, faces, uvs, np.concatenate([cap, np.stack([a, c, b], axis=1), np.stack([b, c, d], axis=1)])


def _eyeball(centre: np.ndarray, corner: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A ball whose pole looks ahead, with its own square of the atlas."""
    columns, rows = 10, 6
    polar = np.linspace(0, np.pi, rows + 1)[1:-1]
    angle = np.arange(columns) * 2 * np.pi / columns
    sine, cosine = np.sin(polar)[:, None], np.cos(polar)[:, None]
    ring = np.stack(np.broadcast_arrays(sine * np.cos(angle), sine * np.sin(angle), cosine), axis=-1)
    unit = np.concatenate([[[0, 0, 1.0]], ring.reshape(-1, 3), [[0, 0, -1.0]]])
    row, column = (g.ravel() for g in np.meshgrid(np.arange(rows - 2), np.arange(columns), indexing="ij"))
    after = (column + 1) % columns
    a, b = 1 + row * columns + column, 1 + row * columns + after
    c, d = a + columns, b + columns
    first = np.arange(columns)
    following, last = (first + 1) % columns, 1 + (rows - 2) * columns
    faces = np.concatenate(
        [
            np.stack([np.zeros(columns, int), 1 + first, 1 + following], axis=1),
            np.stack([a, c, b], axis=1),
            np.stack([b, c, d], axis=1),
            np.stack([np.full(columns, len(unit) - 1), last + following, last + first], axis=1),
        ]
    )
    # rings of growing radius around the pole of the atlas square; the far pole is opened into a ring of its own
    polar = np.concatenate([np.zeros(1), np.repeat(polar, columns), np.full(columns, np.pi)])
    angle = np.concatenate([np.zeros(1), np.tile(angle, rows)])
    around = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    uvs = np.array(corner) + [0.25, 0.125] + 0.11 * (polar / np.pi)[:, None] * around
    uv_faces = faces.copy()
    far = np.nonzero(faces[:, 0] == len(unit) - 1)[0]
    uv_faces[far, 0] = len(unit) - 1 + first
    return centre + _EYE_RADIUS * unit, faces, uvs, uv_faces


def _stack(indices: list[np.ndarray], sizes: list[int]) -> np.ndarray:
    starts = np.cumsum([0, *sizes[:-1]])
    return np.concatenate([array + start for array, start in zip(indices, starts, strict=True)])


def _bump(vertices: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """(V,) a bell on the front of the head around (x, y)."""
    distance = ((vertices[:, 0] - x) ** 2 + (vertices[:, 1] - y) ** 2) / radius**2
    return np.exp(-distance) * np.clip(vertices[:, 2] / 0.05, 0, 1)


def _jaw_mask(vertices: np.ndarray) -> np.ndarray:
    ahead = np.clip((vertices[:, 2] - 0.02) / 0.05, 0, 1)
    return ahead * np.clip((-0.045 - vertices[:, 1]) / 0.02, 0, 1) * np.clip((vertices[:, 1] + 0.125) / 0.02, 0, 1)


def _identity(vertices: np.ndarray, ids: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    directions = np.zeros((len(vertices), 3, len(_SHAPES)))
    x, y, z = vertices.T
    directions[:, 0, 0], directions[:, 1, 1], directions[:, 2, 2] = 0.05 * x, 0.05 * y, 0.05 * z
    directions[:, 2, 3] = 0.004 * _bump(vertices, 0, -0.012, 0.02)
    directions[:, 0, 4] = 0.08 * x * _jaw_mask(vertices)
    waves = np.sin(vertices[:, :, None] * generator.uniform(20, 60, size=(3, 3)) + generator.uniform(0, 6, size=(3, 3)))
    directions[:, :, 5] = 0.0012 * waves.sum(axis=1)
    for eye in ids[1:]:  # eyeballs keep their form: they move as the mean of theirs
        directions[eye] = directions[eye].mean(axis=0)
    return directions


def _expressions(vertices: np.ndarray, skin: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    directions = np.zeros((len(vertices), 3, len(ARKIT_NAMES)))
    on_skin = np.isin(np.arange(len(vertices)), skin)
    for index, name in enumerate(ARKIT_NAMES):
        mirrored = mirror_name(name)
        x, y = next(place for word, place in _PLACES.items() if name.startswith(word))
        move = generator.normal(size=3) * 0.006
        if mirrored == name:
            move[0] = 0
            directions[:, :, index] = _bump(vertices, 0, y, 0.03)[:, None] * move
        elif name.endswith("Left"):
            directions[:, :, index] = _bump(vertices, x, y + 0.006 * generator.normal(), 0.016)[:, None] * move
    for index, name in enumerate(ARKIT_NAMES):
        if mirror_name(name) != name and name.endswith("Right"):
            left = directions[:, :, ARKIT_NAMES.index(mirror_name(name))]
            nearest = np.argmin(((vertices[:, None] * [-1, 1, 1] - vertices[None]) ** 2).sum(axis=-1), axis=1)
            directions[:, :, index] = left[nearest] * [-1, 1, 1]
    directions[:, :, ARKIT_NAMES.index("jawOpen")] = _jaw_mask(vertices)[:, None] * [0, -0.02, -0.006]
    for side, name in ((1, "eyeBlinkLeft"), (-1, "eyeBlinkRight")):
        directions[:, :, ARKIT_NAMES.index(name)] = _bump(vertices, side * 0.031, 0.027, 0.009)[:, None] * [0, -0.009, 0.004]
    directions[~on_skin] = 0
    return directions


def _weights(vertices: np.ndarray, ids: list[np.ndarray]) -> np.ndarray:
    weights = np.zeros((len(vertices), 5))
    above = np.clip((vertices[:, 1] + 0.15) / 0.06, 0, 1)
    jaw = _jaw_mask(vertices)
    weights[:, 2] = above * jaw
    weights[:, 1] = above * (1 - jaw)
    weights[:, 0] = 1 - above
    for joint, eye in ((3, ids[1]), (4, ids[2])):
        weights[eye] = np.eye(5)[joint]
    return weights


def _joint_regressor(vertices: np.ndarray, ids: list[np.ndarray]) -> np.ndarray:
    regressor = np.zeros((5, len(vertices)))
    skin = vertices[ids[0]]
    y, z = skin[:, 1], skin[:, 2]
    for joint, chosen in enumerate((y < -0.15, np.abs(y + 0.11) < 0.012, (np.abs(y + 0.02) < 0.02) & (z < 0.06))):
        regressor[joint, ids[0][chosen]] = 1
    regressor[3, ids[1]], regressor[4, ids[2]] = 1, 1
    return regressor / regressor.sum(axis=1, keepdims=True)


def _regions(vertices: np.ndarray, ids: list[np.ndarray]) -> dict[str, np.ndarray]:
    x, y, z = vertices[ids[0]].T
    oval = (x / 0.066) ** 2 + ((y + 0.02) / 0.095) ** 2 < 1.05
    face = (z > 0.02) & oval
    neck = ~face & (y < -0.085)
    none = np.zeros(0, np.int32)
    return {
        "face": ids[0][face],
        "neck": ids[0][neck],
        "scalp": ids[0][~face & ~neck],
        "ears": ids[0][(np.abs(x) > 0.068) & (np.abs(z) < 0.02) & (np.abs(y) < 0.03)],
        "lips": ids[0][(z > 0) & (np.abs(x) < 0.026) & (np.abs(y + 0.05) < 0.014)],
        "lids": ids[0][(z > 0) & (np.abs(np.abs(x) - 0.031) < 0.018) & (np.abs(y - 0.018) < 0.014)],
        "eyeballs": np.concatenate(ids[1:]),
        "teeth": none,
        "tongue": none,
        "mouth_cavity": none,
    }


def _landmark_plan() -> np.ndarray:
    """(478, 2) x and y of the landmarks on the face: rings where they belong, the rest spread inside the oval."""
    plan = np.full((sets.LANDMARKS, 2), np.nan)

    def ring(members: tuple[int, ...], centre: tuple[float, float], radii: tuple[float, float], start: float, turn: float = 1.0) -> None:
        angle = start + turn * 2 * np.pi * np.arange(len(members)) / len(members)
        plan[list(members)] = np.array(centre) + np.stack([np.cos(angle), np.sin(angle)], axis=1) * radii

    ring(sets.FACE_OVAL, (0, -0.018), (0.062, 0.088), np.pi / 2, -1)
    ring(sets.LEFT_EYE, (0.031, 0.018), (0.014, 0.006), 0.0, -1)
    ring(sets.RIGHT_EYE, (-0.031, 0.018), (0.014, 0.006), np.pi, 1)
    ring(sets.LEFT_IRIS[1:], (0.031, 0.018), (0.0055, 0.0055), 0.0)
    ring(sets.RIGHT_IRIS[1:], (-0.031, 0.018), (0.0055, 0.0055), 0.0)
    ring(sets.OUTER_LIPS, (0, -0.05), (0.024, 0.01), np.pi, -1)
    ring(sets.INNER_LIPS, (0, -0.05), (0.02, 0.004), np.pi, -1)
    plan[[sets.LEFT_IRIS[0], sets.RIGHT_IRIS[0]]] = [[0.031, 0.018], [-0.031, 0.018]]
    for side, brow in ((1, sets.LEFT_BROW), (-1, sets.RIGHT_BROW)):
        along = np.tile(np.linspace(0.046, 0.014, 5), 2)
        plan[list(brow)] = np.stack([side * along, np.repeat([0.038, 0.042], 5)], axis=1)
    plan[list(sets.NOSE_BRIDGE)] = np.stack([np.zeros(7), np.linspace(0.02, -0.015, 7)], axis=1)
    rest = np.nonzero(np.isnan(plan[:, 0]))[0]
    radius = np.sqrt((np.arange(len(rest)) + 0.5) / len(rest))
    angle = np.arange(len(rest)) * np.pi * (3 - np.sqrt(5))
    plan[rest] = np.stack([0.056 * radius * np.cos(angle), -0.018 + 0.08 * radius * np.sin(angle)], axis=1)
    return plan


def _landmarks(vertices: np.ndarray, faces: np.ndarray, ids: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Drops the plan on the front of the surface; irises land on the eyeballs, all else on the skin."""
    plan = _landmark_plan()
    irises = np.isin(np.arange(sets.LANDMARKS), sets.LEFT_IRIS + sets.RIGHT_IRIS)
    on_eye = faces[:, 0] >= len(ids[0])
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    wb = ((plan[:, None, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (plan[:, None, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])) / area
    wc = ((b[:, 0] - a[:, 0]) * (plan[:, None, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (plan[:, None, 0] - a[:, 0])) / area
    weights = np.stack([1 - wb - wc, wb, wc], axis=-1)
    depth = (weights * np.stack([a[:, 2], b[:, 2], c[:, 2]], axis=-1)).sum(axis=-1)
    usable = (area > 0) & (weights.min(axis=-1) > -1e-6) & (irises[:, None] == on_eye)
    chosen = np.argmax(np.where(usable, depth, -np.inf), axis=1)
    if not usable[np.arange(sets.LANDMARKS), chosen].all():
        raise AssertionError("a landmark of the toy head misses its surface")
    barycentrics = np.clip(weights[np.arange(sets.LANDMARKS), chosen], 0, 1)
    return chosen, barycentrics / barycentrics.sum(axis=1, keepdims=True)
