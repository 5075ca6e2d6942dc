# SPDX-License-Identifier: GPL-3.0-or-later
"""Work that takes a while, in pieces: the interface stays alive between two, the pointer counts, and Esc ends it."""

from collections.abc import Iterator
from typing import Any

import bpy

from mvp4d_core.errors import Cancelled, MVP4DError

_PAUSE = 0.02  # seconds between two pieces, in which Blender does what else there is


def has_interface(context: bpy.types.Context) -> bool:
    """Whether somebody could press Esc."""
    return not bpy.app.background and context.window is not None


class StepwiseOperator:
    """What operators share whose `work` is a generator; without an interface they run to the end at once."""

    stops_on_escape = True

    def work(self, context: bpy.types.Context) -> Iterator[tuple[int, int]]:
        """Yields (done, total) after each piece. What it cleans up, it cleans up in `finally`: Esc closes it."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        self._pieces = self.work(context)
        self._timer: Any = None
        if has_interface(context):
            context.window_manager.progress_begin(0, 1)
            self._timer = context.window_manager.event_timer_add(_PAUSE, window=context.window)
            context.window_manager.modal_handler_add(self)
            return {"RUNNING_MODAL"}
        while (ended := self._advance(context)) is None:
            pass
        return ended

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if event.type == "ESC" and self.stops_on_escape:
            return self._end(context, Cancelled("Stopped. What was finished before is kept."))
        if event.type != "TIMER":
            return {"PASS_THROUGH"}
        return self._advance(context) or {"PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender closes a file or itself."""
        self._end(context, None)

    def _advance(self, context: bpy.types.Context) -> set[str] | None:
        """One piece; the operator's answer once there is no other."""
        try:
            done, total = next(self._pieces)
        except StopIteration:
            self._end(context, None)
            return {"FINISHED"}
        except MVP4DError as error:
            return self._end(context, error)
        except BaseException:
            self._end(context, None)
            raise
        context.window_manager.progress_update(done / max(total, 1))
        return None

    def _end(self, context: bpy.types.Context, error: MVP4DError | None) -> set[str]:
        self._pieces.close()
        if self._timer is not None:
            context.window_manager.event_timer_remove(self._timer)
            context.window_manager.progress_end()
            self._timer = None
        if error is not None:
            self.report({"WARNING" if isinstance(error, Cancelled) else "ERROR"}, str(error))
        return {"CANCELLED"}
