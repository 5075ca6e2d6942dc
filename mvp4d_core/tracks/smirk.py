# SPDX-License-Identifier: Apache-2.0
"""SMIRK's outputs: `pose_params` (T, 3) of the root, `jaw_params` (T, 3), `shape_params` (T, 300), `expression_params` (T, 50),
`eyelid_params` (T, 2), left before right, and `cam` (T, 3), on FLAME 2020.
"""

from pathlib import Path

import numpy as np

from .deca import identity_note
from .imported_track import ImportedTrack, flame_performance
from .tables import Arrays, rows, same_frames
from .weak_perspective import crop_cameras

KIND = "SMIRK"
REQUIRED = ("pose_params", "jaw_params", "shape_params", "expression_params")
WANTED = (*REQUIRED, "eyelid_params", "cam")


def smirk_track(path: Path, tables: list[Arrays], fps: float) -> ImportedTrack:
    """The track of arrays that were read from `path`; FormatError where they are not of this layout."""
    widths = {"pose_params": 3, "jaw_params": 3, "eyelid_params": 2, "cam": 3}
    arrays = {name: rows(tables, name, (width,), path) for name, width in widths.items() if name in REQUIRED or name in tables[0]}
    arrays["expression_params"] = rows(tables, "expression_params", (None,), path)
    shape = rows(tables, "shape_params", (None,), path)
    same_frames(path, arrays)
    lids = np.clip(arrays["eyelid_params"], 0, 1) if "eyelid_params" in arrays else None
    joints = {"root": arrays["pose_params"], "jaw": arrays["jaw_params"]}
    performance = flame_performance(arrays["expression_params"], joints, None, fps, lids)
    cameras = crop_cameras(arrays["cam"]) if "cam" in arrays else ()
    return ImportedTrack(KIND, performance, shape.mean(axis=0), cameras, cameras_move=True, notes=identity_note(shape))
