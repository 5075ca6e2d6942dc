# SPDX-License-Identifier: Apache-2.0
"""What every command shares: bars on the terminal, one-line errors, JSON on the last line."""

import argparse
import json
import sys
import time
from typing import Any

from ..errors import MissingAssetError

SHOW_AFTER = 0.5  # seconds a stage must last before it gets a bar


class Bars:
    """A progress that draws one bar a stage on standard error; quiet stages under half a second draw nothing."""

    def __init__(self) -> None:
        try:
            from tqdm import tqdm
        except ImportError:
            raise MissingAssetError("Progress bars need tqdm. Install it with: pip install 'mvp4d[torch]'") from None
        self._tqdm, self._bar, self._stage, self._started = tqdm, None, "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._started = stage, time.monotonic()
        if self._bar is None and done < total and time.monotonic() - self._started > SHOW_AFTER:
            self._bar = self._tqdm(total=total, desc=f"{stage:<12.12}", file=sys.stderr, leave=True, mininterval=0.3)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Ends the bar of the current stage."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""


def say(text: str) -> None:
    """One line for the person at the terminal, on standard error so that standard output stays for results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def answer(result: dict[str, Any], arguments: argparse.Namespace) -> None:
    """The result on standard output: one JSON object on one line with --json, a readable list without."""
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for key, value in result.items():
            shown = json.dumps(value) if isinstance(value, dict | list) else (f"{value:.4g}" if isinstance(value, float) else value)
            sys.stdout.write(f"{key}: {shown}\n")
    sys.stdout.flush()
