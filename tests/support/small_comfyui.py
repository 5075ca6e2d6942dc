# SPDX-License-Identifier: Apache-2.0
"""A server that speaks as ComfyUI does to whoever asks for an avatar, and fails on demand. What it takes, it takes strictly."""

import base64
import email
import email.policy
import hashlib
import json
import struct
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


@dataclass
class SmallComfyUI:
    """What it does and what it was asked.

    Attributes:
        avatar: the file it makes.
        events: (type, data) that it tells after a workflow was queued; `prompt_id` is filled in. None goes away instead.
        refusal: status and answer to a workflow, instead of taking it.
        outputs: of the history.
        uploads: name to content; prompts: the workflows; stopped: requests to end one.
    """

    avatar: bytes = b""
    events: list[tuple[str, dict[str, Any]] | None] = field(default_factory=lambda: [("execution_success", {})])
    refusal: tuple[int, Any] | None = None
    outputs: dict[str, Any] = field(
        default_factory=lambda: {"10": {"mvp4d": [{"filename": "a.mvp4d", "subfolder": "mvp4d", "type": "output"}]}}
    )
    cut: int | None = None
    uploads: dict[str, bytes] = field(default_factory=dict)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    address: str = ""
    queued: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(comfyui: SmallComfyUI) -> Iterator[SmallComfyUI]:
    """Runs it on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"comfyui": comfyui}))
    server.daemon_threads = True
    comfyui.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield comfyui
    finally:
        comfyui.queued.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    comfyui: SmallComfyUI

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        path = urllib.parse.urlsplit(self.path)
        if path.path == "/ws":
            self._tell()
        elif path.path == "/history/p1":
            self._answer(200, {"p1": {"outputs": self.comfyui.outputs}})
        elif path.path == "/view" and urllib.parse.parse_qs(path.query) == {
            "filename": ["a.mvp4d"],
            "subfolder": ["mvp4d"],
            "type": ["output"],
        }:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.comfyui.avatar)))
            self.end_headers()
            self.wfile.write(self.comfyui.avatar[: self.comfyui.cut])
        else:
            self._answer(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/upload/image":
            self._answer(200, self._take(body))
            return
        value = json.loads(body)
        if self.path == "/prompt":
            self.comfyui.prompts.append(value["prompt"])
            status, answer = self.comfyui.refusal or (200, {"prompt_id": "p1", "number": 1, "node_errors": {}})
            self._answer(status, answer)
            self.comfyui.queued.set()
        elif self.path in ("/queue", "/interrupt"):
            self.comfyui.stopped.append((self.path, value))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._answer(404, {})

    def _take(self, body: bytes) -> dict[str, str]:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part
            for part in email.message_from_bytes(head + body, policy=email.policy.HTTP).iter_parts()
        }
        assert parts["overwrite"].get_content().strip() == "true"
        name = parts["image"].get_filename()
        self.comfyui.uploads[name] = parts["image"].get_payload(decode=True)
        return {"name": name, "subfolder": "", "type": "input"}

    def _tell(self) -> None:
        digest = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _WEBSOCKET).digest()
        self.send_response(101)
        for name, value in (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", base64.b64encode(digest).decode()),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.comfyui.queued.wait(20)
        self._frame(0x82, b"\x00\x00\x00\x01 a preview")
        for event in self.comfyui.events:
            if event is None:
                return
            kind, data = event
            self._frame(0x81, json.dumps({"type": kind, "data": {"prompt_id": "p1", **data}}).encode())
        with suppress(ConnectionError):
            self.rfile.read(1)  # until the other side goes

    def _frame(self, head: int, payload: bytes) -> None:
        size = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + struct.pack(">H", len(payload))
        self.wfile.write(bytes([head]) + size + payload)
        self.wfile.flush()

    def _answer(self, status: int, value: Any) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
