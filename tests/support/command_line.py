# SPDX-License-Identifier: Apache-2.0
"""The `mvp4d` command in processes of its own, to be interrupted, killed, starved of disk and deprived of rights.

The processes are forked from a server that has imported the suite, which saves each of them the seconds that take.
"""

import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from mvp4d_core.cli.main import main

NOBODY = 65534
_PROGRESS = re.compile(r"^[\w ]+: \d+/\d+ in [\d.]+ s$")
_PRELOADED = ["mvp4d_core.create", "mvp4d_core.tracking.face_networks", "tqdm", "av", __name__]


@dataclass(frozen=True)
class Ended:
    """How a command ended: `code` (minus the signal's number where one killed it), and its lines without those of progress."""

    code: int
    out: list[str]
    said: list[str]

    def expect(self, code: int, pattern: str = "") -> None:
        """Asserts the exit code and, where it is a failure, that one message says so, in at most two lines, one of which has `pattern`."""
        assert self.code == code, (self.code, self.said)
        assert not any("Traceback" in line for line in self.said), self.said
        assert code < 0 or len([line for line in self.said if line.startswith("mvp4d: ")]) >= 1, self.said
        assert code <= 0 or len(self.said) <= 2, self.said
        assert re.search(pattern, "\n".join(self.said)), self.said


class Running:
    """A command under way: `mvp4d ARGUMENTS`, its output going to files in `folder`.

    Args:
        file_size: bytes beyond which no file can grow, as on a full disk.
        humble: without root's power to write anywhere.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, *, file_size: int | None = None, humble: bool = False) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self._out, self._err = folder / "stdout.txt", folder / "stderr.txt"
        self._process: BaseProcess = context.Process(target=_run, args=(list(arguments), self._out, self._err, file_size, humble))
        self._process.start()

    def wait_for_stage(self, folder: Path, stage: str, seconds: float = 60) -> None:
        """Returns once the journal of `folder` says that `stage` is under way."""
        for _ in range(round(seconds / 0.005)):
            stages = (folder / "stages.json").read_text(encoding="utf-8") if (folder / "stages.json").exists() else "{}"
            if "unfinished" in json.loads(stages).get(stage, {}):
                return
            assert self._process.is_alive(), self.end()
            time.sleep(0.005)
        raise AssertionError(f"{stage} did not begin within {seconds} s")

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def end(self, seconds: float = 120) -> Ended:
        """Waits for the end."""
        self._process.join(seconds)
        code = self._process.exitcode
        assert code is not None, f"still running after {seconds} s"
        said = [line for line in self._err.read_text(encoding="utf-8").splitlines() if line.strip() and not _PROGRESS.match(line)]
        return Ended(code, self._out.read_text(encoding="utf-8").splitlines(), said)


def command(*arguments: str, folder: Path, file_size: int | None = None, humble: bool = False) -> Ended:
    """Runs one command to its end."""
    return Running(arguments, folder, file_size=file_size, humble=humble).end()


def _run(arguments: list[str], out: Path, err: Path, file_size: int | None, humble: bool) -> None:
    for descriptor, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    if file_size is not None:
        import resource  # POSIX alone has it

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    if humble and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    sys.exit(main(arguments))
