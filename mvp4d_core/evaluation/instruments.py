# SPDX-License-Identifier: Apache-2.0
"""The instruments of an evaluation that need more than numpy and torch. One that is not here is absent, with the reason, and nothing else
ever stands in for it under its name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import MissingAssetError
from .faces import FIGURES as FACE_FIGURES
from .faces import FaceTracker
from .identity import FaceEmbedder
from .jod import VideoJod
from .lpips import Lpips, load_lpips
from .reprojection import DiskLightGlue


@dataclass(frozen=True)
class Instruments:
    """What measures, or None where it is absent.

    Attributes:
        absent: figure to the reason why it can't be measured.
        names: figure to what measures it: package, version, and the files by name and digest.
    """

    lpips: Lpips | None
    jod: VideoJod | None
    faces: FaceTracker | None
    matcher: DiskLightGlue | None
    absent: dict[str, str]
    names: dict[str, str]


def open_instruments(
    *,
    lpips: Sequence[str | Path] = (),
    csim: str | Path | None = None,
    re_lg: Sequence[str | Path] = (),
    track: bool = True,
    device: torch.device | str = "cpu",
) -> Instruments:
    """Opens what is here.

    Args:
        lpips, csim, re_lg: files of weights, see `load_lpips`, `FaceEmbedder`, `DiskLightGlue`.
        track: whether faces are looked for at all, which takes most of the time.

    Raises:
        MissingAssetError: weights are given whose package is not installed.
        FormatError, InputError, StorageError: the weights can't be used.
    """
    absent: dict[str, str] = {}
    network = load_lpips(lpips).to(device) if lpips else None
    embedder = FaceEmbedder(csim) if csim else None
    matcher = DiskLightGlue(re_lg, device) if re_lg else None
    jod = _present(lambda: VideoJod(device), absent, ("jod",))
    faces = _present(lambda: FaceTracker(embedder), absent, FACE_FIGURES) if track else None
    if not track:
        absent |= dict.fromkeys(FACE_FIGURES, "tracking was switched off")
    if network is None:
        absent["lpips"] = "no weights were given: --lpips with the files of AlexNet or VGG-16 and of LPIPS' linear heads"
    if embedder is None:
        absent["csim"] = "no weights were given: --csim with an ArcFace network (.onnx)"
    if matcher is None:
        absent["re_lg"] = "no weights were given: --re-lg with the files of DISK (depth) and LightGlue (disk)"
    used = {"lpips": network, "jod": jod, "akd_px": faces, "csim": embedder if faces else None, "re_lg": matcher}
    return Instruments(network, jod, faces, matcher, absent, {key: value.name for key, value in used.items() if value is not None})


def _present(open_it: Callable[[], Any], absent: dict[str, str], figures: Sequence[str]) -> Any:
    """What `open_it` gives; or None, with the reason in `absent` for the `figures` that are without it."""
    try:
        return open_it()
    except MissingAssetError as error:
        absent |= dict.fromkeys(figures, str(error))
        return None
