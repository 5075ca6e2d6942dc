# SPDX-License-Identifier: Apache-2.0
"""Work in pieces where there is an interface, which Blender without a window has not: its window manager is played."""

from types import SimpleNamespace

import pytest

from blender_addon import stepwise
from mvp4d_core.errors import InputError


class WindowManager:
    """Counts what is begun and what is ended."""

    def __init__(self) -> None:
        self.timers, self.handlers, self.shown = [], [], []

    def event_timer_add(self, seconds, window):
        self.timers.append(seconds)
        return seconds

    def event_timer_remove(self, timer):
        self.timers.remove(timer)

    def modal_handler_add(self, operator):
        self.handlers.append(operator)

    def progress_begin(self, low, high):
        self.shown.append("begin")

    def progress_update(self, share):
        self.shown.append(share)

    def progress_end(self):
        self.shown.append("end")


class Counting(stepwise.StepwiseOperator):
    """Three pieces of work, of which one may fail."""

    def __init__(self, fails_at: int = 9) -> None:
        self.fails_at, self.reports, self.cleaned = fails_at, [], 0

    def report(self, kind, text):
        self.reports.append((*kind, text))

    def work(self, context):
        try:
            for done in range(1, 4):
                if done == self.fails_at:
                    raise InputError("It cannot be done.")
                yield done, 3
        finally:
            self.cleaned += 1


TIMER, ESC, MOUSE = (SimpleNamespace(type=kind) for kind in ("TIMER", "ESC", "MOUSEMOVE"))


@pytest.fixture
def context(monkeypatch):
    monkeypatch.setattr(stepwise, "has_interface", lambda context: context.window is not None)
    return SimpleNamespace(window="a window", window_manager=WindowManager())


def test_pieces_follow_the_timer_to_the_end(context):
    work, manager = Counting(), context.window_manager
    assert work.execute(context) == {"RUNNING_MODAL"} and manager.handlers == [work]
    assert work.modal(context, MOUSE) == {"PASS_THROUGH"} and manager.shown == ["begin"]
    assert [work.modal(context, TIMER) for _ in range(4)] == [{"PASS_THROUGH"}] * 3 + [{"FINISHED"}]
    assert manager.shown == ["begin", 1 / 3, 2 / 3, 1.0, "end"] and not manager.timers and work.cleaned == 1


def test_escape_ends_it_and_cleans_up(context):
    work = Counting()
    work.execute(context)
    work.modal(context, TIMER)
    assert work.modal(context, ESC) == {"CANCELLED"}
    assert work.cleaned == 1 and not context.window_manager.timers and work.reports[0][0] == "WARNING"
    patient = Counting()
    patient.stops_on_escape = False
    patient.execute(context)
    assert patient.modal(context, ESC) == {"PASS_THROUGH"} and not patient.cleaned
    patient.modal(context, TIMER)
    patient.cancel(context)
    assert patient.cleaned == 1 and not context.window_manager.timers


@pytest.mark.parametrize("window", ["a window", None])
def test_an_error_is_reported(context, window):
    context.window = window
    work = Counting(fails_at=2)
    answer = work.execute(context)
    while answer in ({"RUNNING_MODAL"}, {"PASS_THROUGH"}):
        answer = work.modal(context, TIMER)
    assert answer == {"CANCELLED"} and work.reports == [("ERROR", "It cannot be done.")]
    assert work.cleaned == 1 and not context.window_manager.timers


def test_without_an_interface_it_runs_to_the_end(context):
    context.window = None
    work = Counting()
    assert work.execute(context) == {"FINISHED"} and work.cleaned == 1 and context.window_manager.shown == [1 / 3, 2 / 3, 1.0]
