# SPDX-License-Identifier: Apache-2.0
"""A browser without a window, steered through the DevTools protocol, to measure what the player draws.

The protocol is JSON over a WebSocket, so nothing has to be installed but the browser. Only Chromium and its relatives speak it.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import MissingAssetError, MVP4DError
from ..io.websocket import WebSocket

PROGRAMS = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)  # fmt: skip
START_SECONDS = 60.0


def find_browser() -> str | None:
    """The program of an installed Chromium, Chrome or Edge."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@contextmanager
def open_page(url: str, size: tuple[int, int], *, flags: Sequence[str] = (), dark: bool = False, seconds: float = 60) -> Iterator["Page"]:
    """A page in a browser of its own, which ends with the block.

    Args:
        size: width and height of the window in pixels.
        flags: further options of the browser; graphics run on the CPU by default.
        dark: whether the person prefers dark colours.
        seconds: the longest that any answer of the page may take.

    Raises:
        MissingAssetError: no browser is installed, or it does not start.
    """
    program = find_browser()
    if program is None:
        raise MissingAssetError("This needs Chromium, Chrome or Edge, and none is installed. Install one and run it again.")
    with tempfile.TemporaryDirectory(prefix="mvp4d-browser-", ignore_cleanup_errors=True) as folder:
        options = [
            "--headless=new", f"--user-data-dir={folder}", "--remote-debugging-port=0", "--no-first-run", "--disable-background-networking",
            "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars", f"--window-size={size[0]},{size[1]}", *flags,
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            options.append("--no-sandbox")  # root has none to give
        process = subprocess.Popen([program, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        page = None
        try:
            page = Page(*_endpoint(process, program, Path(folder)), seconds=seconds)
            page.open(url, size, dark=dark)
            yield page
        finally:
            if page is not None:
                page.close()
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Page:
    """A page under way. `problems` collects what it logs as an error or throws."""

    def __init__(self, port: int, path: str, *, seconds: float) -> None:
        self.problems: list[str] = []
        self._seconds = seconds
        self._socket = _Socket(port, path, seconds)
        self._sent = 0
        self._events: list[str] = []
        target = self._ask("Target.createTarget", {"url": "about:blank"}, session=None)["targetId"]
        self._session: str | None = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True}, session=None)["sessionId"]

    def open(self, url: str, size: tuple[int, int], *, dark: bool) -> None:
        """Loads `url` to its end."""
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
        self.ask("Emulation.setDeviceMetricsOverride", metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._events.clear()
        self.ask("Page.navigate", {"url": url})
        deadline = time.monotonic() + self._seconds
        while "Page.loadEventFired" not in self._events:
            if time.monotonic() > deadline:
                raise MVP4DError(f"The page {url} did not load within {self._seconds:g} s.")
            self._take(self._socket.receive())

    def ask(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer to one command of the protocol."""
        return self._ask(method, parameters or {}, session=self._session)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited.

        Raises:
            MVP4DError: it threw; the message has what.
        """
        answer = self.ask("Runtime.evaluate", {"expression": script, "awaitPromise": True, "returnByValue": True})
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise MVP4DError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait_for(self, script: str) -> None:
        """Returns once a JavaScript expression is true; MVP4DError if that takes too long."""
        deadline = time.monotonic() + self._seconds
        while not self.evaluate(script):
            if time.monotonic() > deadline:
                raise MVP4DError(f"`{script}` did not come true within {self._seconds:g} s.")
            time.sleep(0.02)

    def screenshot(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", {"format": "png"})["data"])

    def close(self) -> None:
        self._socket.close()

    def _ask(self, method: str, parameters: dict[str, Any], *, session: str | None) -> dict[str, Any]:
        self._sent += 1
        message: dict[str, Any] = {"id": self._sent, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            answer = self._socket.receive()
            if answer.get("id") == self._sent:
                if "error" in answer:
                    raise MVP4DError(f"The browser refuses {method}: {answer['error'].get('message')}.")
                return answer["result"]
            self._take(answer)

    def _take(self, event: dict[str, Any]) -> None:
        method, parameters = event.get("method", ""), event.get("params", {})
        self._events.append(method)
        if method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.problems.append(" ".join(str(value.get("value", value.get("description"))) for value in parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.problems.append(parameters["entry"]["text"])


class _Socket:
    """A WebSocket that carries JSON, and speaks of its failures as the browser's."""

    def __init__(self, port: int, path: str, seconds: float) -> None:
        self._seconds = seconds
        try:
            self._socket = WebSocket("127.0.0.1", port, path, seconds=seconds, most_bytes=1 << 31)
        except ConnectionRefusedError:
            raise MVP4DError("The browser refuses to be steered.") from None

    def send(self, text: str) -> None:
        self._socket.send(text)

    def receive(self) -> dict[str, Any]:
        try:
            message = self._socket.receive(self._seconds)
        except ConnectionError:
            raise MVP4DError("The browser ended unexpectedly.") from None
        if message is None:
            raise MVP4DError("The browser does not answer; the machine may be too busy.")
        return json.loads(message)

    def close(self) -> None:
        self._socket.close()


def _endpoint(process: subprocess.Popen, program: str, folder: Path) -> tuple[int, str]:
    """The port and the path that the browser writes down once it listens."""
    note = folder / "DevToolsActivePort"
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        lines = note.read_text(encoding="utf-8").split() if note.exists() else []
        if len(lines) == 2:
            return int(lines[0]), lines[1]
        time.sleep(0.05)
    raise MissingAssetError(f"The browser {program} does not start here without a window.")
