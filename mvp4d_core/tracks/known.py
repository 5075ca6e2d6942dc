# SPDX-License-Identifier: Apache-2.0
"""Whose track a table of arrays is, by the names in it."""

from pathlib import Path
from typing import NoReturn

from ..errors import FormatError, InputError
from ..io.limits import DEFAULT, Limits
from ..io.npz import read_npz
from ..rig import HeadModel
from . import deca, emoca, flame_params, flowface, pixel3dmm, smirk
from .imported_track import FPS, ImportedTrack
from .tables import Arrays

TRACKERS = "FlowFace or CAP4D, VHAP, GaussianAvatars, Pixel3DMM, DECA, EMOCA, SMIRK"
WANTED = frozenset((*flowface.REQUIRED, "extr", *flame_params.WANTED, *deca.WANTED, *emoca.WANTED, *smirk.WANTED, *pixel3dmm.WANTED))


def track_of(
    path: Path,
    tables: list[Arrays],
    head_model: HeadModel | None = None,
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    limits: Limits = DEFAULT,
) -> ImportedTrack | None:
    """The track in `tables`, which were read from `path`; None where they are of no tracker that is known.

    Args:
        head_model: the FLAME head, for tracks that turn heads about the origin (FlowFace, Pixel3DMM).
        fps: frames a second, instead of what the file says, or 25 where it does not.
        size: width and height of the pictures, for files that give their camera in shares of them.

    Raises:
        InputError: a head that is missing or does not fit, or more than the limits.
        FormatError: a damaged file, or one that is not of its tracker's layout.
    """
    found, rate = set(tables[0]), fps or FPS
    if found.issuperset(flowface.REQUIRED):
        if len(tables) > 1:
            raise FormatError(f"{path} holds {len(tables)} FlowFace tracks; give one of its files.")
        return flowface.read_fit(path, needed(head_model, path, "FlowFace"), fps=fps, limits=limits)
    if found.issuperset(flame_params.REQUIRED):
        return flame_params.flame_track(path, tables, rate, size)
    if found.issuperset(pixel3dmm.REQUIRED):
        return pixel3dmm.pixel3dmm_track(path, tables, needed(head_model, path, "Pixel3DMM"), rate)
    for tracker, read in ((smirk, smirk.smirk_track), (emoca, emoca.emoca_track), (deca, deca.deca_track)):
        if found.issuperset(tracker.REQUIRED):
            return read(path, tables, rate)
    return None


def read_npz_track(path: Path, head_model: HeadModel | None = None, *, fps: float | None = None, limits: Limits = DEFAULT) -> ImportedTrack:
    """The track in a `.npz` file; see `track_of`.

    Raises:
        FormatError: it is of no tracker that is known.
        StorageError: the file is missing or cannot be read.
    """
    arrays = read_npz(path, WANTED, limits)
    track = track_of(path, [arrays], head_model, fps=fps, limits=limits)
    if track is None:
        refuse(path, arrays, TRACKERS)
    return track


def needed(head_model: HeadModel | None, path: Path, kind: str) -> HeadModel:
    """The head; InputError where there is none."""
    if head_model is None:
        raise InputError(
            f"{path.name} needs the head it was made on, because {kind} does not say where its joints are.\n"
            "Name that head: by --rig, in the add-on's preferences, or at `head_model` in ComfyUI."
        )
    return head_model


def refuse(path: Path, arrays: Arrays, known: str) -> NoReturn:
    """Says what the file is not, and what it holds."""
    if "extr" in arrays:
        raise InputError(f"{path.name} holds the path of a camera and no face. Give the fit.npz that belongs to it.")
    held = ", ".join(sorted(arrays)[:6]) or "none of their arrays"
    raise FormatError(f"{path} is no track of {known}: it holds {held}.\nExport the track again, or its vertices as .npz.")
