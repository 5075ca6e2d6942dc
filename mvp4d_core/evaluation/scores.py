# SPDX-License-Identifier: Apache-2.0
"""What a generator's pictures of a held-out person are worth against the truth.

`psnr` and `ssim` are means over whole pictures on white. `unseen_psnr` is the PSNR over all pixels that show a surface which the photo
doesn't, pooled over pictures. `view_consistency` compares the generated colours of the same surface point in two views of one moment:
their difference should be that of the truth, which shading and sampling make other than zero. It is the PSNR of (difference - true
difference), pooled over points and pairs of views, so larger is better: an error that all views share costs nothing, one that they
don't share does.
"""

import numpy as np
import torch

from .correspondence import sample_picture
from .heldout import HeldoutCase
from .metrics import psnr, ssim
from .report import BEST_DECIBELS, Sums


def score(case: HeldoutCase, frames: np.ndarray, seconds: float) -> Sums:
    """The sums of generated `frames` (V, F, H, W, 3) uint8 on white, which took `seconds`."""
    made, truth = (torch.from_numpy(pictures).flatten(0, 1).float() / 255 for pictures in (frames, case.truth))
    decibels = [min(BEST_DECIBELS, float(psnr(a, b))) for a, b in zip(made, truth, strict=True)]
    wrong = (frames[case.unseen].astype(np.float64) - case.truth[case.unseen]) / 255
    across, values = _across_views(case, frames)
    return Sums(
        pictures=len(made),
        psnr=sum(decibels),
        ssim=sum(float(ssim(a, b)) for a, b in zip(made, truth, strict=True)),
        unseen=float(np.square(wrong).sum()),
        unseen_values=wrong.size,
        across=across,
        across_values=values,
        seconds=seconds,
    )


def _across_views(case: HeldoutCase, frames: np.ndarray) -> tuple[float, int]:
    """Squared errors of the differences between views, summed, and how many there are.

    Both differences are linear in the pictures, so theirs is the difference of the error pictures.
    """
    total, values = 0.0, 0
    for frame, matches in enumerate(case.matches):
        errors = (frames[:, frame].astype(np.float32) - case.truth[:, frame]) / np.float32(255)
        for match in matches:
            here = errors[match.first].reshape(-1, 3)[match.pixels]
            there = sample_picture(errors[match.second], match.places)
            total += float(np.square(here - there).sum(dtype=np.float64))
            values += here.size
    return total, values
