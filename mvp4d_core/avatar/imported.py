# SPDX-License-Identifier: Apache-2.0
"""What a file of another program becomes: an avatar, and what is needed to save and play it."""

from dataclasses import dataclass
from pathlib import Path

from ..io.reading import file_sha256
from ..rig import HeadModel, Performance
from .gaussian_avatar import GaussianAvatar
from .identity import recover_shape
from .mvp4d_file import may_travel, save_avatar


@dataclass(frozen=True)
class ImportedAvatar:
    """An avatar from elsewhere.

    Attributes:
        performance: the motion its file holds, if any.
        head_model: the head before it was made the person's, where there is one.
        notes: what the file holds and the avatar lacks, a line each.
    """

    avatar: GaussianAvatar
    performance: Performance | None = None
    head_model: HeadModel | None = None
    notes: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Writes the `.mvp4d` file; raises as `save_avatar`."""
        if self.head_model is None or may_travel(self.avatar.rig):
            save_avatar(path, self.avatar)
        else:
            save_avatar(path, self.avatar, head_model=self.head_model, shape=recover_shape(self.head_model, self.avatar.rig))


def provenance(path: Path, kind: str) -> dict[str, str]:
    """An avatar's metadata on the file it came from."""
    return {"generator": f"import of {kind}", "source": path.name, "source_sha256": file_sha256(path)}
