# SPDX-License-Identifier: Apache-2.0
"""Named regions of a FLAME head: from its mask file, its joints, and the open head laid on it."""

from pathlib import Path

import numpy as np

from ..errors import FormatError
from .correspondence import carried_regions
from .flame_pickle import read_pickled_tables
from .head_model import HeadModel, load_head_model

MASKS = ("face", "neck", "scalp", "boundary", "forehead", "nose", "lips", "left_ear", "right_ear", "left_eyeball", "right_eyeball",
         "eye_region", "left_eye_region", "right_eye_region")  # fmt: skip
_CARRIED = ("face", "neck", "scalp", "lips", "left_ear", "right_ear", "left_lids", "right_lids")
_IRIS, _PUPIL = np.cos(np.radians(29)), np.cos(np.radians(12))  # of an eyeball, from its middle, looking ahead


def read_masks(path: Path, head: HeadModel) -> dict[str, np.ndarray]:
    """The regions of FLAME_masks.pkl. `left` is the subject's in the result, whichever way the file has it."""
    found: dict[str, np.ndarray] = {}
    for name, ids in read_pickled_tables(path, MASKS).items():
        if ids.dtype.kind not in "iu" or ids.ndim != 1 or (ids.size and (ids.min() < 0 or ids.max() >= len(head.v_template))):
            raise FormatError(f"Mask `{name}` of {path.name} must hold ids below {len(head.v_template)}. It is another model's file.")
        found[name] = np.unique(ids).astype(np.int32)
    if not found:
        raise FormatError(f"{path.name} holds no mask of FLAME's: it must name {', '.join(MASKS[:4])} and so on.")
    for left in [name for name in found if name.startswith("left_") and len(found[name])]:
        right = left.replace("left_", "right_")
        if right in found and head.v_template[found[left], 0].mean() < 0:
            found[left], found[right] = found[right], found[left]
    return found


def complete_regions(head: HeadModel) -> dict[str, np.ndarray]:
    """The head's regions and those it lacks: eyes by their joints' weights, the rest by its landmarks from the open head."""
    regions = eye_regions(head) | head.regions
    eyes = np.concatenate([regions["left_eyeball"], regions["right_eyeball"]])
    carried = carried_regions(load_head_model(), head, _CARRIED)
    return {name: np.setdiff1d(ids, eyes).astype(np.int32) for name, ids in carried.items()} | regions


def eye_regions(head: HeadModel) -> dict[str, np.ndarray]:
    """Eyeballs, irises and pupils (subject's left and right)."""
    regions = {}
    for side in ("left", "right"):
        joint = head.joint_names.index(f"{side}_eye")
        ball = np.flatnonzero(head.lbs_weights[:, joint] > 0.5)
        off = head.v_template[ball] - head.J_regressor[joint] @ head.v_template
        ahead = off[:, 2] / np.maximum(np.linalg.norm(off, axis=1), 1e-9)
        for name, least in (("eyeball", -1.1), ("iris", _IRIS), ("pupil", _PUPIL)):
            regions[f"{side}_{name}"] = ball[ahead > least].astype(np.int32)
    return regions
