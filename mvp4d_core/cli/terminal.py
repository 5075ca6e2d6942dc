# SPDX-License-Identifier: Apache-2.0
"""What every command shares: bars on the terminal, one-line errors, JSON on the last line."""

import argparse
import json
import os
import sys
import time
from typing import Any, TextIO

from ..errors import MissingAssetError

SHOW_AFTER = 0.5  # seconds a stage must last before it is worth a line
LOG_EVERY = 30.0  # seconds between the lines of a long stage in a log


class Bars:
    """A progress on standard error: one bar a stage on a terminal; in a file, a pipe or a dumb terminal a line when a stage ends, and
    one every half minute of a long stage. Stages under half a second leave nothing.
    """

    def __init__(self) -> None:
        try:
            from tqdm import tqdm
        except ImportError:
            raise MissingAssetError("Progress bars need tqdm. Install it with: pip install 'mvp4d[torch]'") from None
        self._tqdm = tqdm if sys.stderr and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else None
        self._bar, self._stage, self._started, self._logged = None, "", 0.0, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage:
            self.close()
            self._stage, self._started, self._logged = stage, now, now
            if self._tqdm is not None:
                # some terminals, as in containers, have no size, and then tqdm would draw nothing
                width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
                self._bar = self._tqdm(total=total, desc=f"{stage:<12.12}", file=sys.stderr, mininterval=0.3, ncols=width, nrows=2)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif self._tqdm is None and (now - self._logged > LOG_EVERY or (done == total and now - self._started > SHOW_AFTER)):
            self._logged = now
            say(f"{stage}: {done}/{total} in {now - self._started:.1f} s")

    def close(self) -> None:
        """Ends the bar of the current stage."""
        if self._bar is not None:
            self._bar.leave = time.monotonic() - self._started > SHOW_AFTER
            self._bar.close()
        self._bar, self._stage = None, ""


def say(text: str) -> None:
    """One line for the person at the terminal, on standard error so that standard output stays for results."""
    _write(sys.stderr, text)


def answer(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    """The result on standard output: one JSON object on one line with --json, a readable list without."""
    if arguments.json:
        _write(sys.stdout, json.dumps(result))
    else:
        for key, value in result.items():
            shown = json.dumps(value) if isinstance(value, dict | list) else (f"{value:.4g}" if isinstance(value, float) else value)
            _write(sys.stdout, f"{key}: {shown}")


def _write(stream: TextIO | None, line: str) -> None:
    """A line in what the stream's encoding has, and backslashes for the rest; nowhere where the stream is closed."""
    if stream is not None:
        encoding = stream.encoding or "utf-8"
        stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()
