# SPDX-License-Identifier: Apache-2.0
"""Generators of multi-view video, and the video itself."""

from .multiview import MultiViewGenerator, MultiViewVideo, load_multiview, save_multiview
from .proxy import ProxyGenerator

__all__ = ["MultiViewGenerator", "MultiViewVideo", "ProxyGenerator", "load_multiview", "save_multiview"]
