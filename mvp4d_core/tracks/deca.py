# SPDX-License-Identifier: Apache-2.0
"""DECA's codes on FLAME 2020: `shape` (T, 100), `exp` (T, 50), `pose` (T, 6), which are the root's and the jaw's axis-angle, and `cam`
(T, 3). In a .mat, .npz or torch file, or one such file a frame. Light, texture and detail codes are not looked at.
"""

from pathlib import Path

import numpy as np

from .imported_track import ImportedTrack, flame_performance
from .tables import Arrays, rows, same_frames
from .weak_perspective import crop_cameras

KIND = "DECA"
REQUIRED = ("shape", "exp", "pose")
WANTED = (*REQUIRED, "cam")


def deca_track(path: Path, tables: list[Arrays], fps: float) -> ImportedTrack:
    """The track of arrays that were read from `path`; FormatError where they are not of this layout."""
    return codes_track(path, tables, fps, KIND, {name: name for name in WANTED})


def codes_track(path: Path, tables: list[Arrays], fps: float, kind: str, names: dict[str, str]) -> ImportedTrack:
    """The same for codes under other names: `names` says how `shape`, `exp`, `pose` and `cam` are called in the file."""
    arrays = {names["exp"]: rows(tables, names["exp"], (50,), path), names["pose"]: rows(tables, names["pose"], (6,), path)}
    shape = rows(tables, names["shape"], (100,), path)
    cameras = ()
    if names["cam"] in tables[0]:
        arrays[names["cam"]] = rows(tables, names["cam"], (3,), path)
        cameras = crop_cameras(arrays[names["cam"]])
    same_frames(path, arrays)
    pose = arrays[names["pose"]]
    performance = flame_performance(arrays[names["exp"]], {"root": pose[:, :3], "jaw": pose[:, 3:]}, None, fps)
    return ImportedTrack(kind, performance, shape.mean(axis=0), cameras, cameras_move=True, notes=identity_note(shape))


def identity_note(shape: np.ndarray) -> tuple[str, ...]:
    """Says so where a tracker gives every frame an identity of its own (T, S), of which the mean is taken."""
    return ("Each frame has an identity of its own; their mean is taken.",) if len(shape) > 1 else ()
