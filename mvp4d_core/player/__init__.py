# SPDX-License-Identifier: Apache-2.0
"""A player of avatars for web pages: the module in JavaScript beside this file, and what turns an avatar into its bytes and its page."""

from .pack import pack_avatar
from .page import player_page, write_page

__all__ = ["pack_avatar", "player_page", "write_page"]
