# SPDX-License-Identifier: Apache-2.0
"""The inside of a mouth for heads that end at the lips, as FLAME's does: a palate that stays with the skull, a floor on the jaw.

CAP4D (Taubner et al. 2025) gives FLAME half spheres for this. Shape, place and the floor's motion here are this project's own.
"""

from dataclasses import replace

import numpy as np

from .head_model import HeadModel

REGION, JAW = "mouth_cavity", "jaw"
# MediaPipe's points on the seam of the lips from the right corner to the left, and on the chin, which moves as the jaw's bone does
_UPPER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_LOWER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
_CHIN = (152, 148, 377, 176, 400, 175, 199, 200)
BEHIND = 0.002  # metres from the seam, which is on the skin, to a sheet's rim
ROWS = 12  # of vertices between the lips and the throat
LENGTH = 0.6  # from the lips to the throat, of the way from the lips to the jaw's joint
SOFT = 0.5  # the share of that length over which lips turn into bone
STRIP = 0.15  # the share of the atlas that the mouth takes, at its bottom


def with_mouth(model: HeadModel) -> HeadModel:
    """The head with a region `mouth_cavity`: two sheets of `ROWS` x 11 vertices, the last of the head.

    Each hangs on one lip and moves with it there, so that no gap can open; the upper one rises to a palate and falls behind the throat, the
    lower one sinks to a floor. The atlas shrinks upward by `STRIP` to make room for them. A head that has the region, or no jaw, stays as
    it is.
    """
    if REGION in model.regions or JAW not in model.joint_names:
        return model
    jaw = model.joint_names.index(JAW)
    pivot = model.J_regressor[jaw] @ model.v_template
    softness = np.repeat(np.clip(1 - np.linspace(0, 1, ROWS) / SOFT, 0, 1) ** 2, len(_UPPER))
    bones = np.eye(len(model.joint_names))[[model.parents[jaw], jaw]]
    template, uvs = model.v_template, [model.uvs * [1, 1 - STRIP] + [0, STRIP]]
    arrays: dict[str, list[np.ndarray]] = {name: [getattr(model, name)] for name in _PER_VERTEX}
    faces, uv_faces = [model.faces], [model.uv_faces]
    for half, (lip, bone) in enumerate(zip((_UPPER, _LOWER), bones, strict=True)):
        sheet = _sheet(model.landmarks(template)[list(lip)], pivot, upper=half == 0)
        moved = _bone_directions(model, pivot, sheet)
        rigid = {
            "exprdirs": moved if half else 0 * moved,
            "posedirs": np.zeros((len(sheet), 3, 1)),
            "lbs_weights": np.tile(bone, (len(sheet), 1)),
        }
        for name, parts in arrays.items():
            soft = np.tile(_at_landmarks(model, getattr(model, name), lip), (ROWS, *[1] * (parts[0].ndim - 1)))
            share = softness.reshape(-1, *[1] * (parts[0].ndim - 1)) if name in rigid else 1.0
            parts.append(sheet if name == "v_template" else share * soft + ((1 - share) * rigid[name] if name in rigid else 0.0))
        grid, places = _grid(len(lip), upper=half == 0)
        faces.append(grid + len(template) + half * len(sheet))
        uv_faces.append(grid + len(model.uvs) + half * len(sheet))
        uvs.append(places * [0.46, 0.9 * STRIP] + [0.02 + 0.5 * half, 0.03 * STRIP])
    added = 2 * ROWS * len(_UPPER)
    return replace(
        model,
        **{name: np.concatenate(parts).astype(np.float32) for name, parts in arrays.items()},
        faces=np.concatenate(faces).astype(np.int32),
        uvs=np.concatenate(uvs).astype(np.float32),
        uv_faces=np.concatenate(uv_faces).astype(np.int32),
        J_regressor=np.pad(model.J_regressor, ((0, 0), (0, added))),
        regions=model.regions | {REGION: np.arange(len(template), len(template) + added, dtype=np.int32)},
    )


_PER_VERTEX = ("v_template", "shapedirs", "exprdirs", "posedirs", "static_offsets", "lbs_weights")


def _sheet(lip: np.ndarray, pivot: np.ndarray, *, upper: bool) -> np.ndarray:
    """(ROWS n, 3) from a lip's seam (n, 3), rows first."""
    middle = lip[len(lip) // 2] * [0, 1, 1]
    inward = (pivot - middle) * [0, 1, 1]
    length = LENGTH * np.linalg.norm(inward)
    inward /= np.linalg.norm(inward)
    up = np.cross(inward, [1.0, 0.0, 0.0])
    half = np.abs(lip[:, 0]).max()
    x, t = lip[:, 0], np.linspace(0, 1, ROWS)[:, None]  # across and along
    teeth = 1 - 0.35 * (x / half) ** 2  # they stand in an arch
    if upper:  # up to the palate and, in the last quarter, down behind the floor
        deep = 1.3 * np.minimum(t, 1 / 1.3) * length * teeth
        rise = 0.55 * half * np.sin(np.pi * np.minimum(t / 0.75, 1)) - 8 * half * np.maximum(t - 0.75, 0)
    else:
        deep = 0.95 * t * length * teeth
        rise = -0.6 * half * np.sin(np.pi * t)
    across = x * (1 + 0.25 * np.sin(np.pi * t))
    bend = (lip - middle) @ np.stack([inward, up], axis=1) * (1 - t[..., None])  # the seam's own, which fades toward the throat
    sheet = (
        middle
        + across[..., None] * [1.0, 0, 0]
        + (BEHIND + deep + bend[..., 0])[..., None] * inward
        + (rise + bend[..., 1])[..., None] * up
    )
    return sheet.reshape(-1, 3)


def _grid(columns: int, *, upper: bool) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (F, 3) of a sheet's vertices, seen from inside the mouth, and their places (ROWS columns, 2) in 0..1."""
    number = np.arange(ROWS * columns).reshape(ROWS, columns)
    a, b, c, d = (block.ravel() for block in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    triangles = np.concatenate([np.stack([a, b, c], axis=-1), np.stack([b, d, c], axis=-1)])
    u, v = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, 1, ROWS))
    return triangles[:, ::-1] if upper else triangles, np.stack([u.ravel(), v.ravel()], axis=-1)


def _at_landmarks(model: HeadModel, array: np.ndarray, landmarks: tuple[int, ...]) -> np.ndarray:
    """(n, ...) a per-vertex array (V, ...) at some landmarks."""
    corners = model.faces[model.landmark_faces[list(landmarks)]]
    return np.einsum("lk,lk...->l...", model.landmark_barycentrics[list(landmarks)], array[corners])


def _bone_directions(model: HeadModel, pivot: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n, 3, E) how far each expression at full weight carries `points` (n, 3) if they go with the chin as with a bone.

    The bone turns about the jaw's joint as the chin does at best (Kabsch 1976), and shifts by what is then left of the chin's motion.
    """
    chin = _at_landmarks(model, model.v_template, _CHIN) - pivot
    moved = chin[..., None] + _at_landmarks(model, model.exprdirs, _CHIN)
    left, _, right = np.linalg.svd(np.einsum("lde,lf->edf", moved, chin))
    flip = np.ones((moved.shape[2], 3))
    flip[:, 2] = np.sign(np.linalg.det(left @ right))
    turns = (left * flip[:, None]) @ right
    shifts = (moved - np.einsum("edf,lf->lde", turns, chin)).mean(axis=0)
    return np.einsum("edf,nf->nde", turns - np.eye(3), points - pivot) + shifts
