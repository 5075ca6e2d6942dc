# SPDX-License-Identifier: Apache-2.0
"""The file or folder of another program's track, by what is in it."""

from pathlib import Path

from ...errors import FormatError, InputError
from ...io.limits import DEFAULT, Limits
from ...progress import Progress, silent
from ...rig import HeadModel
from . import deca, emoca, flame_params, flowface, meshes, pixel3dmm, smirk
from .containers import Arrays, read_arrays
from .imported_track import FPS, ImportedTrack

_FILES = ("fit.npz", "flame_param.npz")  # what the folder of a track is known by
_FOLDERS = ("checkpoint", "flame_param")
_KNOWN = "FlowFace or CAP4D, VHAP, GaussianAvatars, Pixel3DMM, DECA, EMOCA, SMIRK, or vertices of a head"
_WANTED = frozenset(
    (*flowface.REQUIRED, "extr", *flame_params.WANTED, *deca.WANTED, *emoca.WANTED, *smirk.WANTED, *pixel3dmm.WANTED, *meshes.WANTED)
)


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
    found, rate = set(tables[0]), fps or FPS
    if found.issuperset(flowface.REQUIRED):
        if len(tables) > 1:
            raise FormatError(f"{path} holds {len(tables)} FlowFace tracks; give one of its files.")
        return flowface.read_fit(path, _needed(head_model, path, "FlowFace"), fps=fps, limits=limits)
    if found.issuperset(flame_params.REQUIRED):
        return flame_params.flame_track(path, tables, rate, size)
    if found.issuperset(pixel3dmm.REQUIRED):
        return pixel3dmm.pixel3dmm_track(path, tables, _needed(head_model, path, "Pixel3DMM"), rate)
    for tracker, read in ((smirk, smirk.smirk_track), (emoca, emoca.emoca_track), (deca, deca.deca_track)):
        if found.issuperset(tracker.REQUIRED):
            return read(path, tables, rate)
    if found & set(meshes.WANTED):
        return meshes.mesh_track(path, tables, _needed(head_model, path, "A tracker of vertices"), rate, progress)
    return _refuse(path, tables)


def _inside(path: Path) -> Path:
    """The file or folder that holds the track, where `path` is a tracker's output folder."""
    if path.is_dir():
        for name in (*_FILES, *_FOLDERS):
            if (path / name).exists():
                return path / name
    return path


def _needed(head_model: HeadModel | None, path: Path, kind: str) -> HeadModel:
    if head_model is None:
        raise InputError(
            f"{path.name} needs the head it was made on, because {kind} does not say where its joints are.\nGive it with --rig."
        )
    return head_model


def _refuse(path: Path, tables: list[Arrays]) -> ImportedTrack:
    if "extr" in tables[0]:
        raise InputError(f"{path.name} holds the path of a camera and no face. Give the fit.npz that belongs to it.")
    held = ", ".join(sorted(tables[0])[:6]) or "none of their arrays"
    raise FormatError(f"{path} is no track of {_KNOWN}: it holds {held}.\nExport the track again, or its vertices as .npz.")
