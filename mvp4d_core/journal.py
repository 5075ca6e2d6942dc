# SPDX-License-Identifier: Apache-2.0
"""A folder of finished stages: what lets a killed run continue.

`stages.json` holds, for each stage, a key of everything that decided its result, and the seconds it took. A stage is done when its key is
there unchanged and its files exist; then it is not run again.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .io.atomic import atomic_text

FILE = "stages.json"


def digest(*parts: object) -> str:
    """A short key of JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


class Journal:
    """The stages of one output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            stored = json.loads((folder / FILE).read_text(encoding="utf-8"))
            self._stages = {k: v for k, v in stored.items() if isinstance(v, dict) and isinstance(v.get("seconds"), int | float)}
        except (OSError, ValueError, AttributeError):
            self._stages = {}  # nothing finished yet, or a damaged journal: every stage runs again

    def run(self, stage: str, key: str, files: Sequence[str], work: Callable[[], None]) -> bool:
        """Runs `work` unless the stage is done; returns whether it ran. `files` are the results it leaves in the folder."""
        entry = self._stages.get(stage, {})
        if entry.get("key") == key and all((self.folder / name).exists() for name in files):
            return False
        # time spent on this same stage before it was interrupted counts
        earlier = entry["seconds"] if entry.get("unfinished") == key else 0.0
        # said before the work begins: a killed stage may have changed some of its files, so it is not what an older key called done
        self._note(stage, {"unfinished": key, "seconds": earlier})
        started = time.perf_counter()
        try:
            work()
        except BaseException:
            self._note(stage, {"unfinished": key, "seconds": earlier + time.perf_counter() - started})
            raise
        self._note(stage, {"key": key, "seconds": earlier + time.perf_counter() - started})
        return True

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, in the order they first ran."""
        return {stage: round(entry["seconds"], 2) for stage, entry in self._stages.items()}

    def _note(self, stage: str, entry: dict[str, object]) -> None:
        self._stages[stage] = entry
        atomic_text(self.folder / FILE, json.dumps(self._stages, indent=2))
