# SPDX-License-Identifier: Apache-2.0
"""A ComfyUI server of one's own: started on the CPU with a clone of this repository as its only custom node, spoken to over HTTP."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MissingAssetError, MVP4DError

FOLDER_NAME = "ComfyUI-MVP4D"
START_SECONDS, RUN_SECONDS = 300, 3600
_ANSWER_SECONDS, _PAUSE = 60, 0.2
_SHOWN = 1500  # characters of a log or an answer in a message


@dataclass(frozen=True)
class Server:
    """`folder` holds its input, output and the rest; `log` what it printed; `start_seconds` is how long it took to answer."""

    address: str
    folder: Path
    log: Path
    start_seconds: float = 0.0

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.address + path, timeout=_ANSWER_SECONDS) as answer:
            return answer.read()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post(self, path: str, value: Any) -> tuple[int, Any]:
        """Status and answer, also of a refusal."""
        request = urllib.request.Request(self.address + path, json.dumps(value).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                status, text = refusal.code, refusal.read()
        return status, json.loads(text) if text else None

    def queue(self, workflow: dict[str, Any]) -> str:
        """The id of a prompt that was accepted; MVP4DError with the reasons where it was not."""
        status, answer = self.post("/prompt", {"prompt": workflow})
        if status != 200:
            raise MVP4DError(f"ComfyUI refuses the workflow: {json.dumps(answer)[:_SHOWN]}")
        return answer["prompt_id"]

    def wait(self, prompt_id: str) -> dict[str, Any]:
        """The history of a prompt once it has ended, well or not."""
        until = time.monotonic() + RUN_SECONDS
        while time.monotonic() < until:
            history = self.get_json(f"/history/{prompt_id}")
            if prompt_id in history and history[prompt_id]["status"]["status_str"] in ("success", "error"):
                return history[prompt_id]
            time.sleep(_PAUSE)
        raise MVP4DError(f"ComfyUI did not end a prompt within {RUN_SECONDS} s.")

    def run(self, workflow: dict[str, Any]) -> dict[str, Any]:
        """The history of a workflow that ran to its end; MVP4DError with the node's own message where it did not."""
        history = self.wait(self.queue(workflow))
        if history["status"]["status_str"] != "success":
            errors = messages(history, "execution_error")
            told = errors[0]["exception_message"].strip() if errors else "it was interrupted"
            raise MVP4DError(f"ComfyUI did not finish the workflow: {told[:_SHOWN]}")
        return history

    def view(self, saved: dict[str, str]) -> bytes:
        return self.get("/view?" + urllib.parse.urlencode(saved))

    def import_seconds(self) -> float:
        """What the server's log says the import of the pack took; it has one digit after the point."""
        found = re.search(rf"(\d+\.\d+) seconds(.*): .*{FOLDER_NAME}\s*$", self.log.read_text(errors="replace"), re.MULTILINE)
        if found is None or found[2]:
            raise MVP4DError(f"ComfyUI did not import the nodes: {self.log.read_text(errors='replace')[-_SHOWN:]}")
        return float(found[1])


def messages(history: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The events of one kind in a prompt's history."""
    return [message for name, message in history["status"]["messages"] if name == kind]


def seconds_of(history: dict[str, Any]) -> float:
    """How long a prompt took from its start to its success, by the server's clock."""
    (start,), (end,) = (messages(history, f"execution_{kind}") for kind in ("start", "success"))
    return (end["timestamp"] - start["timestamp"]) / 1000


@contextmanager
def running(comfyui: Path, repository: Path, folder: Path) -> Iterator[Server]:
    """Starts the ComfyUI in `comfyui` with everything it writes under `folder`; COMFYUI_PYTHON names its interpreter.

    Raises:
        MissingAssetError: there is no ComfyUI, or it does not start.
    """
    if not (comfyui / "main.py").is_file():
        raise MissingAssetError(f"{comfyui} holds no ComfyUI (main.py is missing). Set COMFYUI_PATH to the folder of one.")
    for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
        (folder / name).mkdir(parents=True)
    (folder / "custom_nodes" / FOLDER_NAME).symlink_to(repository, target_is_directory=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--cpu", "--port", str(port), "--base-directory", str(folder), "--disable-api-nodes", "--disable-auto-launch"]
    command = [os.environ.get("COMFYUI_PYTHON", sys.executable), "main.py", *options, "--database-url", "sqlite:///:memory:"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["NUMBA_CACHE_DIR"] = str(folder / "numba")  # kept out of the repository, for the pack has a new name in each run
    log = folder / "comfyui.log"
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=comfyui, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            address = f"http://127.0.0.1:{port}"
            _await_start(address, log, process)
            yield Server(address, folder, log, time.monotonic() - started)
        finally:
            process.terminate()
            process.wait(30)


def _await_start(address: str, log: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/system_stats", timeout=_ANSWER_SECONDS):
                return
        except OSError:
            time.sleep(_PAUSE)
    raise MissingAssetError(f"ComfyUI did not start: {log.read_text(errors='replace')[-_SHOWN:]}")
