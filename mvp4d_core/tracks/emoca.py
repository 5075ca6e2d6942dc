# SPDX-License-Identifier: Apache-2.0
"""EMOCA's codes: DECA's, under the names `shapecode`, `expcode`, `posecode` and `cam`; or a folder a frame with `shape.npy`, `exp.npy` and
`pose.npy`, whose names are DECA's and whose numbers mean the same.
"""

from pathlib import Path

from .deca import codes_track
from .imported_track import ImportedTrack
from .tables import Arrays

KIND = "EMOCA"
REQUIRED = ("shapecode", "expcode", "posecode")
WANTED = (*REQUIRED, "cam")


def emoca_track(path: Path, tables: list[Arrays], fps: float) -> ImportedTrack:
    """The track of arrays that were read from `path`; FormatError where they are not of this layout."""
    return codes_track(path, tables, fps, KIND, {"shape": "shapecode", "exp": "expcode", "pose": "posecode", "cam": "cam"})
