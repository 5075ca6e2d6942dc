# SPDX-License-Identifier: Apache-2.0
"""Bars on a terminal, lines in a log."""

import io
import os
import sys

import pytest

from mvp4d_core.cli import terminal


def stages(bars: terminal.Bars, monkeypatch) -> None:
    """A stage of ten seconds, one of a tenth, and one that is left in the middle, by a clock of our own."""
    clock = iter([0.0, 5.0, 10.0, 10.0, 10.1, 10.1, 50.0, 100.0])
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock, 100.0))
    for stage, done, total in (("long", 0, 2), ("long", 1, 2), ("long", 2, 2), ("short", 0, 1), ("short", 1, 1)):
        bars(stage, done, total)
    for done in (0, 1):
        bars("left", done, 9)
    bars.close()


def test_a_log_gets_a_line_a_stage_and_one_each_half_minute(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    stages(terminal.Bars(), monkeypatch)
    assert log.getvalue() == "long: 2/2 in 10.0 s\nleft: 1/9 in 39.9 s\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
@pytest.mark.parametrize(("kind", "bars"), [("xterm", True), ("dumb", False)])
def test_a_terminal_gets_bars_unless_it_is_dumb(monkeypatch, kind, bars):
    reading, writing = os.openpty()
    monkeypatch.setenv("TERM", kind)
    with os.fdopen(writing, "w", encoding="utf-8") as tty:
        monkeypatch.setattr(sys, "stderr", tty)
        shown = terminal.Bars()
        for done in (0, 1, 2):
            shown("paint", done, 2)
        monkeypatch.setattr(terminal, "SHOW_AFTER", 0.0)
        shown.close()
        tty.write("end")
        tty.flush()
        text = os.read(reading, 65536).decode()
    os.close(reading)
    assert ("paint" in text and "\r" in text) == bars and text.endswith("end")


def test_closed_streams_are_written_nowhere(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    terminal.say("lost")
    terminal.Bars()("stage", 0, 1)
