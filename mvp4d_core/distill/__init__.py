# SPDX-License-Identifier: Apache-2.0
"""Stage two: multi-view video to a rigged Gaussian avatar."""

from .config import DistillConfig
from .fit import distill_avatar, heldout_split

__all__ = ["DistillConfig", "distill_avatar", "heldout_split"]
