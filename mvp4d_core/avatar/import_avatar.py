# SPDX-License-Identifier: Apache-2.0
"""A file of another program as an avatar, by what the file is."""

from pathlib import Path

from ..errors import InputError
from ..rig import HeadModel
from . import ply_tables
from .bind_splats import bind_splats
from .cap4d_ply import import_cap4d
from .gaussian_avatars import BINDING, read_gaussian_avatars
from .imported import ImportedAvatar, provenance
from .mvp4d_file import load_avatar
from .posed_files import SPLAT_ENDINGS, read_splats

_GAUSSIAN_AVATARS_PLY = "point_cloud.ply"


def import_avatar(
    path: Path, head_model: HeadModel | None = None, *, fit: bool = False, upright: bool | None = None, fps: float = 25.0
) -> ImportedAvatar:
    """Reads an avatar or splats.

    Args:
        path: a `.mvp4d` file; GaussianAvatars' PLY with its `flame_param.npz`, or the folder of both; CAP4D's animation PLY; or splats that
            stand still, as 3DGS PLY, `.splat` or SPZ, which are bound to `head_model` at rest.
        head_model: the head that the file needs: FLAME for GaussianAvatars, that of a licensed `.mvp4d`, any for splats that stand still.
        fit: move and scale splats that stand still onto the head; see `bind_splats`.
        upright: whether y points up in splats that stand still (None: it points down) or in CAP4D's PLY (None: it points up).
        fps: of a motion whose file does not say.

    Raises:
        InputError: an ending that is not known, or a head that is missing or does not fit.
        FormatError, StorageError: as the readers.
    """
    if path.is_dir():
        path = path / _GAUSSIAN_AVATARS_PLY
    if path.suffix.lower() == ".mvp4d":
        return ImportedAvatar(load_avatar(path, head_model=head_model), None, head_model)
    if path.suffix.lower() not in SPLAT_ENDINGS:
        known = ", ".join((".mvp4d", *SPLAT_ENDINGS))
        raise InputError(f"`{path.name}` is of no kind that can be imported: {known}, or the folder of a GaussianAvatars avatar.")
    elements = ply_tables.contents(path) if path.suffix.lower() == ".ply" else {}
    if "base_vertex" in elements:
        return import_cap4d(path, upright=upright is not False, fps=fps)
    if BINDING in elements.get("vertex", ()):
        if head_model is None:
            raise InputError(f"{path.name} rides on FLAME, which has a licence of its own. Name your converted FLAME head (--rig).")
        return read_gaussian_avatars(path, head_model, fps=fps)
    return _bound(path, head_model, fit, upright is True)


def _bound(path: Path, head_model: HeadModel | None, fit: bool, upright: bool) -> ImportedAvatar:
    splats = read_splats(path)
    if head_model is None:
        raise InputError(
            f"{path.name} holds {len(splats.means):,} splats that stand still, and no head to move them.\n"
            "Name a head: --rig open-head binds them to the built-in one."
        )
    avatar = bind_splats(splats, head_model, provenance(path, f"{path.suffix[1:].upper()} splats"), fit=fit, upright=upright)
    return ImportedAvatar(avatar, None, head_model)
