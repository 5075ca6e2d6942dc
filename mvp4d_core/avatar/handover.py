# SPDX-License-Identifier: Apache-2.0
"""An avatar laid ready for another program that watches a folder, as ComfyUI does for Blender.

`NAME.mvp4d`, where there is one `NAME.performance.safetensors`, and written last, so that the others are whole once it tells of them,
`NAME.json`: the names of both, their SHA-256 and how long the performance is. Handing over again under the same name replaces all three.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import FormatError, InputError
from ..io.atomic import atomic_json
from ..io.folders import make_folder
from ..io.limits import MIB, Limits
from ..io.reading import file_sha256, open_input
from ..rig import HeadModel, Performance, save_performance
from .gaussian_avatar import GaussianAvatar
from .mvp4d_file import save_avatar

SCHEMA = "mvp4d-handover/1"
_NAME = re.compile(r"\w[\w .-]{0,79}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LIMITS = Limits(file_bytes=MIB)


@dataclass(frozen=True)
class Handover:
    """What a manifest tells of.

    Attributes:
        avatar: the `.mvp4d` file beside the manifest.
        performance: the performance beside it, if any.
        avatar_sha256, performance_sha256: of the files; a changed one means a changed file. Empty without a performance.
    """

    name: str
    avatar: Path
    performance: Path | None
    avatar_sha256: str
    performance_sha256: str


def check_name(name: str) -> None:
    """Raises InputError for a name that is no plain file name."""
    if not _NAME.fullmatch(name) or name != name.rstrip(" ."):
        raise InputError(f"The name of an avatar to hand over must be letters, digits, spaces and . _ -, got `{name[:80]}`. Use head_1.")


def write_handover(
    folder: Path,
    name: str,
    avatar: GaussianAvatar,
    performance: Performance | None = None,
    *,
    head_model: HeadModel | None = None,
    shape: np.ndarray | None = None,
) -> Path:
    """Writes the files into `folder`, which is made where it is missing, each atomically; gives the manifest's path.

    Args:
        head_model, shape: as for `save_avatar`.

    Raises:
        InputError: a name that is no plain file name, or as `save_avatar`.
        StorageError: a file cannot be written.
    """
    check_name(name)
    make_folder(folder)
    avatar_path, acted_path = folder / f"{name}.mvp4d", folder / f"{name}.performance.safetensors"
    save_avatar(avatar_path, avatar, head_model=head_model, shape=shape)
    manifest = {"schema": SCHEMA, "name": name, "avatar": avatar_path.name, "avatar_sha256": file_sha256(avatar_path)}
    if performance is not None:
        save_performance(performance, acted_path)
        manifest |= {"performance": acted_path.name, "performance_sha256": file_sha256(acted_path)}
        manifest |= {"fps": float(performance.fps), "frames": len(performance)}
    atomic_json(folder / f"{name}.json", manifest)
    if performance is None:
        acted_path.unlink(missing_ok=True)
    return folder / f"{name}.json"


def read_handover(path: Path) -> Handover:
    """Reads a manifest; the files it names lie beside it, whatever it says.

    Raises:
        FormatError: no manifest of this version, or one whose files are elsewhere.
        StorageError: it cannot be read.
    """
    with open_input(path, _LIMITS) as (stream, _):
        data = stream.read()
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise FormatError(f"{path.name} is no handover of this version: its schema must be `{SCHEMA}`. Export for Blender again.")
    name, acted = str(manifest.get("name")), manifest.get("performance")
    digests = [manifest.get("avatar_sha256"), manifest.get("performance_sha256", "")]
    beside = manifest.get("avatar") == f"{name}.mvp4d" and acted in (None, f"{name}.performance.safetensors")
    if not (_NAME.fullmatch(name) and beside) or not all(isinstance(d, str) and (_DIGEST.fullmatch(d) or not d) for d in digests):
        raise FormatError(f"{path.name} is a damaged handover: it must name files beside it and their SHA-256. Export for Blender again.")
    performance = path.with_name(acted) if acted else None
    return Handover(name, path.with_name(f"{name}.mvp4d"), performance, *digests)
