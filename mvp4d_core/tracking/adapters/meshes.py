# SPDX-License-Identifier: Apache-2.0
"""Tracks of any other tracker, by what it leaves in the end: the vertices of a head, or its 478 face points, frame by frame.

Either `vertices` (T, V, 3) or `landmarks` (T, 478, 3), metres, in one of the files that `containers` reads, or a folder of PLY meshes, one
a frame. The head that is given is fitted to them.
"""

from pathlib import Path

import numpy as np

from ...avatar import ply_tables
from ...errors import FormatError, InputError
from ...io.limits import DEFAULT, Limits, check_limit
from ...progress import Progress, silent
from ...rig import HeadModel
from ...tracks.imported_track import ImportedTrack
from ...tracks.tables import Arrays, rows
from ..fit_vertices import fit_landmarks, fit_vertices
from .containers import natural

KIND = "vertices"
WANTED = ("vertices", "landmarks")
_XYZ = ("x", "y", "z")
_FAR = 1e3  # metres


def mesh_track(path: Path, tables: list[Arrays], head_model: HeadModel, fps: float, progress: Progress = silent) -> ImportedTrack:
    """The track of arrays that were read from `path`, the head fitted to them.

    Raises:
        FormatError: not of this layout, or not finite.
        InputError: vertices or points that are not this head's.
    """
    name = "vertices" if "vertices" in tables[0] else "landmarks"
    points = rows(tables, name, (None, 3), path)
    if np.abs(points).max() > _FAR:
        raise FormatError(f"`{name}` of {path} lie up to {np.abs(points).max():g} m away; they must be in metres. Export the track again.")
    fit = (fit_vertices if name == "vertices" else fit_landmarks)(head_model, points, fps=fps, progress=progress)
    note = (
        f"`{head_model.name}` was fitted to the {name}: off by {1000 * fit.errors.mean():.3g} mm, at worst {1000 * fit.errors.max():.3g}."
    )
    return ImportedTrack(KIND, fit.performance, fit.shape, notes=(note,))


def read_meshes(folder: Path, limits: Limits = DEFAULT) -> list[Arrays]:
    """The vertices of a folder's PLY files, one a frame, in the order of their numbers; no table where it has none.

    Raises:
        FormatError: a damaged file, or meshes of different vertices.
        InputError, StorageError: as the readers.
    """
    tables: list[Arrays] = []
    total = 0
    for path in sorted((p for p in folder.iterdir() if p.suffix.lower() == ".ply"), key=lambda p: natural(p.name)):
        with ply_tables.opened(path, "mesh", limits) as file:
            index = file.index("vertex")
            vertex = file.elements[index]
            if not set(_XYZ) <= set(vertex.properties):
                raise ply_tables.Damage("its vertices have no x, y and z")
            ply_tables.check_promise(file, index)
            total += 12 * vertex.count
            check_limit(folder, "bytes in its vertices", total, limits.array_bytes, "Keep fewer frames.")
            tables.append({"vertices": ply_tables.columns(ply_tables.read_table(file, 0, index), _XYZ)})
        if len(tables[-1]["vertices"]) != len(tables[0]["vertices"]):
            raise InputError(f"{path} has {len(tables[-1]['vertices'])} vertices, the first mesh {len(tables[0]['vertices'])}.")
    return tables
