# SPDX-License-Identifier: Apache-2.0
"""An avatar as the bytes that the web player reads: a safetensors file, compressed by gzip.

Splats and directions are half floats, which a GPU reads as they are; directions are sparse. Names and notes travel as JSON inside, and the
player shows them as text alone. `avatar.js` has the list of tensors from the reader's side.
"""

import gzip
import hashlib
import json

import numpy as np

from ..avatar import GaussianAvatar
from ..avatar.gaussian_avatar import GAUSSIAN_ARRAYS
from ..avatar.mvp4d_file import FREE_LICENCES
from ..cameras import Camera, orbit_camera
from ..errors import InputError
from ..io import safetensors_numpy
from ..rig import ARKIT_NAMES, HeadModel, Performance, head_box, rest_parameters, retarget, single_frame

SCHEMA = "mvp4d-player/1"
MOST_SPLATS = 1_000_000  # far above what a browser draws at a pleasant rate
MOST_ENTRIES = 2048 * 4096  # of one table: the texture that any GPU of the last ten years has
LEAST_OFFSET = 2e-6  # metres; what a direction moves less than that is left out: a hundredth of a pixel
MOST_LOGIT = 30.0  # an opacity is 0 or 1 in half floats long before
FREE_RANGE = (-3.0, 3.0)  # of sliders whose names are not ARKit's: standard deviations
MOST_NOTE = 400  # characters
PORTRAIT_DISTANCE = 1.2  # metres


def pack_avatar(
    avatar: GaussianAvatar, performance: Performance | None = None, *, title: str = "Avatar", stays_here: bool = False
) -> bytes:
    """The bytes for `readAvatar` of player.js.

    Args:
        performance: what the timeline plays, for any rig; the rest pose without.
        title: shown above the picture.
        stays_here: the bytes go no farther than this machine's own browser, so a head that may not be passed on may be in them.

    Raises:
        InputError: no splats or too many, numbers beyond half floats, or a head whose licence keeps it from travelling.
    """
    rig = avatar.rig
    if not stays_here and rig.licence not in FREE_LICENCES:
        raise InputError(
            f"The head `{rig.name}` ({rig.licence}) may not travel, and a web page needs it inside.\nExport a posed PLY or a video instead."
        )
    _check_sizes(avatar)
    if performance is None:
        performance = single_frame(rest_parameters(rig), rig)
    performance = retarget(performance, rig)
    order = np.argsort(avatar.binding, kind="stable")  # neighbours on the head become neighbours in memory
    logits = np.clip(avatar.opacity_logits, -MOST_LOGIT, MOST_LOGIT)
    places, offsets = _sparse(np.concatenate([rig.exprdirs, rig.posedirs], axis=2))
    tensors = {
        "means": _half("means", avatar.means[order]),
        "quats": _half("quats", avatar.quats[order] / np.maximum(np.linalg.norm(avatar.quats[order], axis=1, keepdims=True), 1e-12)),
        "log_scales": _half("log_scales", avatar.log_scales[order]),
        "opacities": _half("opacities", 1 / (1 + np.exp(-logits[order]))),
        "sh": _half("sh", np.concatenate([avatar.sh0[:, None], avatar.shN], axis=1)[order]),
        "binding_steps": _steps(avatar.binding[order]),
        "faces": rig.faces.astype(np.uint32),
        "vertices": rig.v_template + rig.static_offsets,
        "lbs_weights": rig.lbs_weights,
        "joints": rig.J_regressor @ rig.v_template,
        "joint_directions": np.einsum("jv,vde->jde", rig.J_regressor, rig.exprdirs, optimize=True).astype(np.float32),
        "parents": rig.parents,
        "direction_steps": _steps(places),
        "direction_offsets": _half("exprdirs", offsets),
        "expression": performance.expression,
        "rotations": performance.rotations,
        "translation": performance.translation,
    }
    target, radius = rest_view(rig)
    texts = {
        "title": title,
        "notes": _notes(avatar),
        "expression_names": rig.expression_names,
        "joint_names": rig.joint_names,
        "expression_range": (0.0, 1.0) if set(rig.expression_names) <= set(ARKIT_NAMES) else FREE_RANGE,
        "fps": performance.fps,
        "view": {"target": target.tolist(), "radius": radius},
    }
    return gzip.compress(safetensors_numpy.to_bytes(tensors, {"schema": SCHEMA, "player": json.dumps(texts)}), 9, mtime=0)


def _check_sizes(avatar: GaussianAvatar) -> None:
    rig = avatar.rig
    if not 1 <= len(avatar) <= MOST_SPLATS:
        raise InputError(f"The web player takes 1 to {MOST_SPLATS:,} splats, this avatar has {len(avatar):,}. Distil it with fewer.")
    entries = max(len(avatar) * (1 + avatar.shN.shape[1]), len(rig.v_template) * (rig.exprdirs.shape[2] + rig.posedirs.shape[2]))
    if entries > MOST_ENTRIES:
        raise InputError(f"The web player takes tables of {MOST_ENTRIES:,} entries, this avatar needs {entries:,}. Take fewer splats.")


def _half(name: str, array: np.ndarray) -> np.ndarray:
    most = float(np.abs(array).max(initial=0))
    if most > np.finfo(np.float16).max:
        raise InputError(f"`{name}` of an avatar must stay below 65504 for the web player's half floats, got {most:g}. Distil it anew.")
    return array.astype(np.float16)


def _sparse(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3, D) to the places d V + v (M,), rising, that move at all, and how (M, 3)."""
    by_direction = directions.transpose(2, 0, 1).reshape(-1, 3)
    places = np.flatnonzero(np.abs(by_direction).max(axis=1) > LEAST_OFFSET)
    return places, by_direction[places]


def _steps(rising: np.ndarray) -> np.ndarray:
    """Rising whole numbers as the steps between them, from 0 on: these compress to next to nothing."""
    return np.diff(rising, prepend=rising.dtype.type(0)).astype(np.uint32)


def rest_view(rig: HeadModel) -> tuple[np.ndarray, float]:
    """What the player's camera looks at: the middle of the head without the shoulders (3,), and how far around it the picture reaches, in
    metres."""
    low, high = head_box(rig)
    return (low + high) / 2, 0.78 * float((high - low)[:2].max())


def rest_camera(rig: HeadModel, size: int) -> Camera:
    """The player's camera before anybody moves it, for a square picture of `size` pixels; see orbit.js."""
    target, radius = rest_view(rig)
    fov_y = 2 * np.arctan(radius / PORTRAIT_DISTANCE)
    return orbit_camera(0.0, 0.0, target=target, distance=PORTRAIT_DISTANCE, fov_y=fov_y, width=size, height=size)


def pack_digest(avatar: GaussianAvatar, performance: Performance | None, title: str) -> str:
    """A short key of all that decides what `pack_avatar` gives, much faster than that."""
    rig, digest = avatar.rig, hashlib.sha256()
    texts = [SCHEMA, title, avatar.metadata, rig.name, rig.licence, rig.expression_names, rig.joint_names]
    arrays = [getattr(avatar, name) for name in (*GAUSSIAN_ARRAYS, "binding")]
    arrays += [rig.v_template, rig.static_offsets, rig.faces, rig.lbs_weights, rig.J_regressor, rig.exprdirs, rig.posedirs, rig.parents]
    if performance is not None:
        texts += [performance.fps, performance.expression_names, performance.joint_names]
        arrays += [performance.expression, performance.rotations, performance.translation]
    digest.update(json.dumps(texts, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:24]


def _notes(avatar: GaussianAvatar) -> list[str]:
    """What a viewer should know: consent first, then where the avatar and its head come from."""
    metadata = avatar.metadata
    notes = [metadata["consent"]] if "consent" in metadata else []
    if "generator" in metadata:
        notes.append(f"Made by mvp4d{' ' + metadata['version'] if 'version' in metadata else ''}, generator {metadata['generator']}.")
    notes.append(f"{len(avatar):,} splats on the head {avatar.rig.name} ({avatar.rig.licence}).")
    return [note[:MOST_NOTE] for note in notes]
