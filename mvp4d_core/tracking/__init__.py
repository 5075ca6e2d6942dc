# SPDX-License-Identifier: Apache-2.0
"""From a portrait photo to what is known of its person: `track_portrait` gives a `Reference`.

`Reference` and its file need numpy alone; the functions that track and draw bring their packages in when they are called.
"""

from typing import TYPE_CHECKING, Any

from .reference import Reference, load_reference, save_reference

if TYPE_CHECKING:
    from .overlay import draw_overlay
    from .track import track_portrait
    from .video import track_video

__all__ = ["Reference", "draw_overlay", "load_reference", "save_reference", "track_portrait", "track_video"]


def __getattr__(name: str) -> Any:
    if name == "track_portrait":
        from .track import track_portrait

        return track_portrait
    if name == "track_video":
        from .video import track_video

        return track_video
    if name == "draw_overlay":
        from .overlay import draw_overlay

        return draw_overlay
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
