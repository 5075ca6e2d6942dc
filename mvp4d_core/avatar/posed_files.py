# SPDX-License-Identifier: Apache-2.0
"""One pose, or a performance pose by pose, as splat files of the kind their ending names."""

from pathlib import Path

from ..errors import InputError
from ..io.folders import make_folder
from ..progress import Progress, silent, steps
from ..rig import Parameters, Performance
from .file_space import stored_pose
from .gaussian_avatar import GaussianAvatar
from .ply import read_ply, write_ply
from .splat_file import read_splat, write_splat
from .spz import read_spz, write_spz
from .stored_splats import StoredSplats

SPLAT_ENDINGS = (".ply", ".splat", ".spz")


def write_splats(path: str | Path, splats: StoredSplats) -> None:
    """Writes splats, in file axes, as 3DGS PLY, `.splat` or SPZ, atomically; InputError for another ending."""
    match _ending(path):
        case ".ply":
            write_ply(path, *splats)
        case ".splat":
            write_splat(path, splats)
        case ".spz":
            write_spz(path, splats)


def read_splats(path: str | Path) -> StoredSplats:
    """Reads 3DGS PLY, `.splat` or SPZ into file axes; InputError for another ending."""
    return {".ply": read_ply, ".splat": read_splat, ".spz": read_spz}[_ending(path)](path)


def write_posed(path: str | Path, avatar: GaussianAvatar, parameters: Parameters) -> None:
    """One pose as a splat file of the kind its ending names, atomically."""
    _ending(path)
    write_splats(path, stored_pose(avatar, parameters))


def write_sequence(folder: Path, avatar: GaussianAvatar, performance: Performance, ending: str, progress: Progress = silent) -> list[Path]:
    """`frame_0000` and so on with the given ending, one a frame, each written as a whole; the folder is made where it is missing."""
    make_folder(folder)
    paths = [folder / f"frame_{frame:04d}{ending}" for frame in range(len(performance))]
    for frame, path in steps(enumerate(paths), "export", len(paths), progress):
        write_posed(path, avatar, performance[frame])
    return paths


def _ending(path: str | Path) -> str:
    ending = Path(path).suffix.lower()
    if ending not in SPLAT_ENDINGS:
        raise InputError(f"Splat files end in {', '.join(SPLAT_ENDINGS)}, got {Path(path).name!r}.")
    return ending
