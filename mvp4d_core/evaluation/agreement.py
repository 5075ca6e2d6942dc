# SPDX-License-Identifier: Apache-2.0
"""How far another renderer's picture of an avatar is from ours."""

import numpy as np
import torch

from .metrics import psnr


def foreground_psnr(picture: np.ndarray, expected: np.ndarray, alpha: np.ndarray) -> float:
    """PSNR in dB of (H, W, 3) pictures in 0..1 where `alpha` (H, W) of the expected one is over a half."""
    inside = torch.as_tensor(alpha > 0.5)
    return float(psnr(torch.as_tensor(picture, dtype=torch.float32), torch.as_tensor(expected, dtype=torch.float32), inside))
