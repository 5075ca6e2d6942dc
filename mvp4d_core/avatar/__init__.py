# SPDX-License-Identifier: Apache-2.0
"""The distilled avatar and its files."""

from .gaussian_avatar import GaussianAvatar, PosedSplats
from .mvp4d_file import load_avatar, save_avatar

__all__ = ["GaussianAvatar", "PosedSplats", "load_avatar", "save_avatar"]
