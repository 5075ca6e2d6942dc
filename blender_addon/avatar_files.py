# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of avatars and of splats, and the heads that they need: which head is for the file to say, where it is for the preferences."""

from dataclasses import dataclass
from pathlib import Path

from mvp4d_core.avatar import load_avatar, ply_tables
from mvp4d_core.avatar.gaussian_avatars import BINDING
from mvp4d_core.avatar.import_avatar import import_avatar
from mvp4d_core.avatar.imported import ImportedAvatar
from mvp4d_core.avatar.posed_files import SPLAT_ENDINGS
from mvp4d_core.errors import MissingAssetError
from mvp4d_core.rig import HeadModel, load_head_model

ENDINGS = (".mvp4d", *SPLAT_ENDINGS)
GAUSSIAN_AVATARS_PLY = "point_cloud.ply"  # always of this name, in a folder named by the person


@dataclass(frozen=True)
class ImportOptions:
    """How a file is read.

    Attributes:
        flame: the user's converted FLAME head, a .safetensors file; None where the preferences name none.
        fit: move and scale splats that stand still onto the built-in head.
        upright: whether y points up in the file; None is each format's habit.
        fps: of a motion whose file does not say.
        motion: key the motion that the file holds.
        identity: also sliders that change whose head it is.
    """

    flame: Path | None = None
    fit: bool = True
    upright: bool | None = None
    fps: float = 25.0
    motion: bool = True
    identity: bool = False


def read_avatar(path: Path, options: ImportOptions) -> ImportedAvatar:
    """The avatar of a file, on the head that it needs.

    Raises:
        MissingAssetError: it needs FLAME, and the preferences name none.
        InputError, FormatError, StorageError: as `mvp4d_core.avatar.import_avatar`.
    """
    if path.suffix.lower() == ".mvp4d":
        try:
            return ImportedAvatar(load_avatar(path))
        except MissingAssetError:
            head = flame_head(options.flame, path.name)
            return ImportedAvatar(load_avatar(path, head_model=head), None, head)
    head = _head_for(path, options) if path.suffix.lower() in SPLAT_ENDINGS else None
    return import_avatar(path, head, fit=options.fit, upright=options.upright, fps=options.fps)


def flame_head(flame: Path | None, wanted_by: str) -> HeadModel:
    """The user's FLAME head.

    Raises:
        MissingAssetError: the preferences name none, or a file that is not there.
        FormatError: it is not a head.
    """
    if flame is None:
        raise MissingAssetError(
            f"{wanted_by} rides on FLAME, which has a licence of its own and may not travel along.\n"
            "Name your head in the add-on's preferences: the .safetensors that `mvp4d import-flame` makes of FLAME's own file."
        )
    return load_head_model(flame)


def _head_for(path: Path, options: ImportOptions) -> HeadModel | None:
    elements = ply_tables.contents(path) if path.suffix.lower() == ".ply" else {}
    if "base_vertex" in elements:
        return None
    if BINDING in elements.get("vertex", ()):
        return flame_head(options.flame, path.name)
    return load_head_model()
