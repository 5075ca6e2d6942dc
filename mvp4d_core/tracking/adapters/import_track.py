# SPDX-License-Identifier: Apache-2.0
"""The file or folder of another program's track, by what is in it."""

from pathlib import Path

from ...io.limits import DEFAULT, Limits
from ...progress import Progress, silent
from ...rig import HeadModel
from ...tracks.imported_track import FPS, ImportedTrack
from ...tracks.known import TRACKERS, WANTED, needed, refuse, track_of
from . import meshes
from .containers import read_arrays

_FILES = ("fit.npz", "flame_param.npz")  # what the folder of a track is known by
_FOLDERS = ("checkpoint", "flame_param")
_WANTED = WANTED | set(meshes.WANTED)


def import_track(
    path: Path,
    head_model: HeadModel | None = None,
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    limits: Limits = DEFAULT,
    progress: Progress = silent,
) -> ImportedTrack:
    """Reads a track.

    Args:
        path: a file, a folder of one file a frame, or a tracker's output folder.
        head_model: the FLAME head, for tracks that turn heads about the origin (FlowFace, Pixel3DMM), and any head for vertices.
        fps: frames a second, instead of what the file says, or 25 where it does not.
        size: width and height of the pictures, for files that give their camera in shares of them.

    Raises:
        InputError: no track of a known tracker, a head that is missing or does not fit, or more than the limits.
        FormatError: a damaged file, or one that is not of its tracker's layout.
        StorageError: something is missing or cannot be read.
    """
    path = _inside(path)
    tables = meshes.read_meshes(path, limits) if path.is_dir() else []
    tables = tables or read_arrays(path, _WANTED, limits)
    if (track := track_of(path, tables, head_model, fps=fps, size=size, limits=limits)) is not None:
        return track
    if set(tables[0]) & set(meshes.WANTED):
        return meshes.mesh_track(path, tables, needed(head_model, path, "A tracker of vertices"), fps or FPS, progress)
    refuse(path, tables[0], f"{TRACKERS}, or vertices of a head")


def _inside(path: Path) -> Path:
    """The file or folder that holds the track, where `path` is a tracker's output folder."""
    if path.is_dir():
        for name in (*_FILES, *_FOLDERS):
            if (path / name).exists():
                return path / name
    return path
