# SPDX-License-Identifier: Apache-2.0
"""A head with FLAME's counts, joints and kinds of directions, and nothing of FLAME's data: the open head, cut and recombined.

5,023 vertices, 9,976 triangles, 300 identity and 100 expression directions without names, 36 correctives; no mouth behind the lips. As in
FLAME the expressions leave the jaw to its joint, are ordered by variance, and their weights are standard deviations.
"""

from dataclasses import replace
from functools import cache

import numpy as np

from ..rig import HeadModel, load_head_model
from ..rig.surface import openings

VERTICES, FACES, SHAPES, EXPRESSIONS = 5023, 9976, 300, 100
_PER_VERTEX = ("v_template", "exprdirs", "posedirs", "lbs_weights", "static_offsets", "shapedirs")
_INSIDE = ("mouth_cavity", "upper_teeth", "lower_teeth", "gums", "tongue")


def bare_head() -> HeadModel:
    """The open head without what is behind its lips, as FLAME comes."""
    model = load_head_model()
    inside = model.region_mask(*_INSIDE) & ~model.region_mask("lips")
    kept = np.unique(model.faces[~inside[model.faces].any(axis=1)])
    bare = _drop(model, np.setdiff1d(np.arange(len(inside)), kept))
    return replace(bare, regions={name: region for name, region in bare.regions.items() if name not in _INSIDE})


@cache
def flame_head(seed: int = 0, shapes: int = SHAPES, expressions: int = EXPRESSIONS) -> HeadModel:
    """The same arrays on each call; `seed` chooses the small directions that fill the 300 and the 100. Do not write to them."""
    model = _cut(bare_head())
    rng = np.random.default_rng(seed)
    expression = _without_jaw(model).reshape(-1, model.exprdirs.shape[2])
    return replace(
        model,
        shapedirs=_directions(model, model.shapedirs.reshape(len(expression), -1), shapes, 4e-4, rng),
        exprdirs=_directions(model, expression * np.sqrt(1 / 12), expressions, 1e-4, rng),  # the deviation of weights uniform in 0..1
        shape_names=tuple(f"shape{k:03d}" for k in range(shapes)),
        expression_names=tuple(f"expr{k:03d}" for k in range(expressions)),
        name="flame-shaped",
        licence="LicenseRef-licensed",
        provenance={"source": "the open head, recombined"},
    )


def _cut(model: HeadModel) -> HeadModel:
    """Rows of the neck go, its opening and what is open behind the eyes close as far as the count of triangles asks."""
    while (surplus := len(model.v_template) - VERTICES) > 0:
        model = _drop(model, max(openings(model.faces), key=len)[:surplus])
    neck, *rest = sorted(openings(model.faces), key=len, reverse=True)
    eyes = [loop for loop in rest if model.v_template[loop, 1].mean() > 0]
    faces, uv_faces, uvs = [model.faces], [model.uv_faces], [model.uvs]
    missing = FACES - len(model.faces)
    spare = _spare_uv(model)
    for k, loop in enumerate((neck, *eyes)):
        cap = _zigzag(len(loop))[:missing]
        missing -= len(cap)
        angle = 2 * np.pi * np.arange(len(loop)) / len(loop)
        faces.append(loop[cap].astype(np.int32))
        uv_faces.append((cap + sum(map(len, uvs))).astype(np.int32))
        uvs.append((spare + [0.004 * k, 0] + 0.0015 * np.stack([np.cos(angle), np.sin(angle)], 1)).astype(np.float32))
    model = replace(model, faces=np.concatenate(faces), uv_faces=np.concatenate(uv_faces), uvs=np.concatenate(uvs))
    assert model.v_template.shape == (VERTICES, 3) and model.faces.shape == (FACES, 3)
    return model


def _drop(model: HeadModel, gone: np.ndarray) -> HeadModel:
    """The head without some vertices, none of which carries a landmark."""
    kept = np.setdiff1d(np.arange(len(model.v_template)), gone)
    number = np.full(len(model.v_template), -1, np.int32)
    number[kept] = np.arange(len(kept), dtype=np.int32)
    whole = (number[model.faces] >= 0).all(axis=1)
    assert whole[model.landmark_faces].all()
    regressor = model.J_regressor[:, kept]
    return replace(
        model,
        **{name: getattr(model, name)[kept] for name in _PER_VERTEX},
        faces=number[model.faces[whole]],
        uv_faces=model.uv_faces[whole],
        J_regressor=regressor / regressor.sum(axis=1, keepdims=True),
        landmark_faces=(np.cumsum(whole) - 1)[model.landmark_faces].astype(np.int32),
        regions={name: number[region][number[region] >= 0] for name, region in model.regions.items()},
    )


def _zigzag(corners: int) -> np.ndarray:
    """(corners - 2, 3) triangles of a convex polygon."""
    low, high, triangles = 0, corners - 1, []
    while high - low > 1:
        triangles.append((low, low + 1, high))
        low += 1
        if high - low > 1:
            triangles.append((low, high - 1, high))
            high -= 1
    return np.array(triangles)


def _spare_uv(model: HeadModel) -> np.ndarray:
    """A place of the atlas that no triangle owns any more: the middle of what the mouth had there."""
    unused = np.setdiff1d(np.arange(len(model.uvs)), model.uv_faces)
    return np.median(model.uvs[unused], axis=0)


def _without_jaw(model: HeadModel) -> np.ndarray:
    """(V, 3, E) the expressions less what turning the jaw's joint, to first order, does in them."""
    jaw = model.joint_names.index("jaw")
    arm = model.v_template - model.J_regressor[jaw] @ model.v_template
    turns = (np.cross(np.eye(3)[:, None], arm) * model.lbs_weights[:, jaw, None]).reshape(3, -1).T
    flat = model.exprdirs.reshape(-1, model.exprdirs.shape[2]).astype(np.float64)
    chin = (model.lbs_weights[:, jaw] > 0.5).repeat(3)
    return (flat - turns @ np.linalg.lstsq(turns[chin], flat[chin], rcond=None)[0]).reshape(model.exprdirs.shape)


def _directions(model: HeadModel, flat: np.ndarray, count: int, filler: float, rng: np.random.Generator) -> np.ndarray:
    """(V, 3, count) float32: orthogonal directions of `flat` (3 V, n) by size, then smooth waves of `filler` metres that fade out."""
    values, vectors = np.linalg.eigh(flat.T @ flat)
    own = (flat @ vectors)[:, ::-1][:, : min(count, int((values > 1e-9 * values[-1]).sum()))]
    waves = []
    for k in range(count - own.shape[1]):
        phase = model.v_template @ rng.normal(0, 25, (3, 3)) + rng.uniform(0, 2 * np.pi, 3)
        waves.append(filler * 0.99**k * np.sin(phase).ravel())
    return np.stack([*own.T, *waves], axis=1).reshape(len(model.v_template), 3, count).astype(np.float32)
