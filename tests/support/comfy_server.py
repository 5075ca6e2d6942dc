# SPDX-License-Identifier: Apache-2.0
"""A real ComfyUI server, for the tests that have one: started on the CPU with this repository as a custom node, spoken to over HTTP."""

import json
import os
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

FOLDER_NAME = "ComfyUI-MVP4D"
START_SECONDS, RUN_SECONDS = 120, 600


@dataclass(frozen=True)
class Server:
    """`folder` holds its input, output and the rest; `log` what it printed."""

    address: str
    folder: Path
    log: Path

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.address + path, timeout=30) as answer:
            return answer.read()

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def post(self, path: str, value: Any) -> tuple[int, Any]:
        """Status and answer, also of a refusal."""
        request = urllib.request.Request(self.address + path, json.dumps(value).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                status, text = refusal.code, refusal.read()
        return status, json.loads(text) if text else None

    def queue(self, workflow: dict[str, Any]) -> str:
        status, answer = self.post("/prompt", {"prompt": workflow})
        assert status == 200, json.dumps(answer)[:2000]
        return answer["prompt_id"]

    def wait(self, prompt_id: str) -> dict[str, Any]:
        """The history of a prompt once it has ended, well or not."""
        until = time.monotonic() + RUN_SECONDS
        while time.monotonic() < until:
            history = self.get_json(f"/history/{prompt_id}")
            if prompt_id in history and history[prompt_id]["status"]["status_str"] in ("success", "error"):
                return history[prompt_id]
            time.sleep(0.2)
        raise TimeoutError(f"prompt {prompt_id} did not end; log: {self.log}")

    def view(self, saved: dict[str, str]) -> bytes:
        return self.get("/view?" + urllib.parse.urlencode(saved))


def messages(history: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The events of one kind in a prompt's history."""
    return [message for name, message in history["status"]["messages"] if name == kind]


@contextmanager
def running(comfyui: Path, repository: Path, folder: Path) -> Iterator[Server]:
    """Starts the ComfyUI in `comfyui` with everything it writes under `folder`; COMFYUI_PYTHON names its interpreter."""
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
        process = subprocess.Popen(command, cwd=comfyui, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            server = Server(f"http://127.0.0.1:{port}", folder, log)
            _await_start(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _await_start(server: Server, process: subprocess.Popen) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            server.get("/system_stats")
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"ComfyUI did not start: {server.log.read_text(errors='replace')[-3000:]}")
