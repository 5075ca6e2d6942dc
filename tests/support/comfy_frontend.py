# SPDX-License-Identifier: Apache-2.0
"""ComfyUI's real page without ComfyUI: the published frontend package, served with what its page asks a server for.

Nodes are described by the pack's own schemas and by `core_nodes.json`, which holds what a real ComfyUI says of the core nodes that the
workflows use. A prompt of the pack's nodes is really run, by the stand-in of `comfy_host.py`. What the page asks for and is not here is
noted in `missing`.
"""

import base64
import hashlib
import json
import mimetypes
import struct
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support import comfy_host
from tests.support.comfy_schema import ComfyNode

ROOT = Path(__file__).parents[2]
PACK = "ComfyUI-MVP4D"
CORE_NODES = Path(__file__).parent / "core_nodes.json"
FILE_LISTS = {  # inputs of core nodes that list files of the input folder
    "LoadImage": ("image", (".jpg", ".png", ".webp")),
    "LoadVideo": ("file", (".mp4", ".webm")),
}  # fmt: skip
READY = "!!(window.comfyAPI?.app?.app?.isGraphReady && window.comfyAPI.app.app.extensionManager?.workflow?.activeWorkflow)"
SETTINGS = {  # no tour, and as little painting as there can be without a graphics card
    "Comfy.TutorialCompleted": True, "Comfy.InstalledVersion": "1.49.6", "Comfy.Locale": "en", "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False, "LiteGraph.Canvas.MaximumFps": 10, "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}  # fmt: skip
PAGE_WIDGETS = ("video-preview",)  # what the page posts of widgets that are in no schema
ANSWERS: dict[str, Any] = {  # what an idle server without models and users says
    "/users": {"storage": "server", "migrated": True},
    "/userdata": [],
    "/v2/userdata": [],
    "/system_stats": {
        "system": {
            "os": "linux", "ram_total": 8 << 30, "ram_free": 4 << 30, "comfyui_version": "0.33.0", "required_frontend_version": "1.49.6",
            "python_version": "3.11", "pytorch_version": "2.13.0", "embedded_python": False, "argv": ["main.py"],
        },
        "devices": [{"name": "cpu", "type": "cpu", "index": 0, "vram_total": 8 << 30, "vram_free": 4 << 30}],
    },
    "/features": {"supports_preview_metadata": True, "max_upload_size": 104857600},
    "/queue": {"queue_running": [], "queue_pending": []},
    "/prompt": {"exec_info": {"queue_remaining": 0}},
    "/history": {},
    "/jobs": {"jobs": [], "pagination": {"offset": 0, "limit": 200, "total": 0, "has_more": False}},
    "/embeddings": [],
    "/models": [],
    "/experiment/models": [],
    "/global_subgraphs": {},
    "/node_replacements": {},
    "/templates/index.json": [],
}  # fmt: skip


@dataclass
class Frontend:
    """The page's server. `host` is the stand-in's; `missing` what was asked for in vain; `posted` the prompts that were run."""

    host: comfy_host.Host
    nodes: dict[str, type[ComfyNode]]
    address: str = ""
    settings: dict[str, Any] = field(default_factory=lambda: dict(SETTINGS))
    missing: list[str] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)
    problems: list[BaseException] = field(default_factory=list)  # of prompts that failed
    send: Callable[[str, dict[str, Any]], None] = lambda _kind, _data: None  # over the page's socket, once it has one

    def object_info(self) -> dict[str, Any]:
        """As /object_info: the pack's nodes, and the core's with the files that are in the input folder."""
        core = json.loads(CORE_NODES.read_text(encoding="utf-8"))
        for name, (entry, endings) in FILE_LISTS.items():
            files = sorted(path.name for path in (self.host.folder / "input").iterdir() if path.suffix in endings)
            kind, options = core[name]["input"]["required"][entry]
            core[name]["input"]["required"][entry] = [files, options] if isinstance(kind, list) else [kind, options | {"options": files}]
        return core | {node_id: described(node) for node_id, node in self.nodes.items()}

    def answer(self, path: str, query: dict[str, str]) -> Any:
        """JSON, a file, or None for what is not here."""
        if path.startswith("/api/"):
            path = path.removeprefix("/api")
        if path in ANSWERS:
            return ANSWERS[path]
        if path == "/object_info":
            return self.object_info()
        if path == "/extensions":
            scripts = sorted((ROOT / "comfy_nodes" / "web").rglob("*.js"))
            return [f"/extensions/{PACK}/{script.relative_to(ROOT / 'comfy_nodes' / 'web').as_posix()}" for script in scripts]
        if path == "/settings":
            return self.settings
        if path.startswith("/settings/"):
            return self.settings.get(path.removeprefix("/settings/"))
        if path == "/i18n":
            return translations()
        if path == "/workflow_templates":
            return {PACK: sorted(workflow.stem for workflow in (ROOT / "workflows").glob("*.json"))}
        if path == "/view":
            return self.host.folder / query["type"] / query.get("subfolder", "") / query["filename"]
        return self._static(path)

    def _static(self, path: str) -> Path | None:
        places = {
            f"/extensions/{PACK}/": ROOT / "comfy_nodes" / "web",
            f"/workflow_templates/{PACK}/": ROOT / "workflows",
            **{f"{prefix}/": folder for prefix, folder in self.host.static_routes.items()},
            "/": page_folder(),
        }
        prefix = next(prefix for prefix in places if path.startswith(prefix))
        file = places[prefix] / (path.removeprefix(prefix) or "index.html")
        return file if file.is_file() else None

    def run(self, prompt: dict[str, Any], prompt_id: str) -> None:
        """Runs a prompt and tells the page as ComfyUI does."""
        self.posted.append(prompt)
        self.send("execution_start", {"prompt_id": prompt_id, "timestamp": 0})
        try:
            for key, result in comfy_host.run_workflow(self.nodes, prompt, {}).items():
                if result.ui:
                    self.send("executed", {"node": key, "display_node": key, "output": result.ui, "prompt_id": prompt_id})
        except Exception as problem:  # a test reads them
            self.problems.append(problem)
            self.send("execution_error", {"prompt_id": prompt_id, "exception_message": str(problem), "traceback": []})
        else:
            self.send("execution_success", {"prompt_id": prompt_id, "timestamp": 0})
        self.send("executing", {"node": None, "prompt_id": prompt_id})


def posted(prompt: dict[str, Any]) -> dict[str, Any]:
    """A prompt of the page without what its own previews add once they have loaded."""
    return {
        key: entry | {"inputs": {name: value for name, value in entry["inputs"].items() if name not in PAGE_WIDGETS}}
        for key, entry in prompt.items()
    }


def page_folder() -> Path:
    import comfyui_frontend_package

    return Path(comfyui_frontend_package.__file__).parent / "static"


def described(node: type[ComfyNode]) -> dict[str, Any]:
    """What /object_info says of a node of the pack."""
    info = comfy_host.object_info(node)
    order = {kind: list(entries) for kind, entries in info["input"].items()}
    return info | {"input_order": order, "python_module": f"custom_nodes.{PACK}", "output_is_list": [False] * len(info["output"])}


def translations() -> dict[str, Any]:
    """What /i18n gathers of the pack's locales."""
    return {
        folder.name: {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}
        for folder in sorted((ROOT / "locales").iterdir())
    }


@contextmanager
def served(folder: Path) -> Iterator[Frontend]:
    """The page of a stand-in whose folders lie under `folder`, at `address`."""
    with comfy_host.installed(folder) as host:
        frontend = Frontend(host, comfy_host.nodes_of(comfy_host.load_pack(ROOT)))
        handler = type("Handler", (_Handler,), {"frontend": frontend})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            server.daemon_threads = True
            frontend.address = f"http://127.0.0.1:{server.server_port}/"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                yield frontend
            finally:
                server.shutdown()


def _length(size: int) -> bytes:
    """How a WebSocket frame says its length: in as few bytes as it can."""
    if size < 126:
        return bytes([size])
    return b"\x7e" + struct.pack(">H", size) if size <= 0xFFFF else b"\x7f" + struct.pack(">Q", size)


class _Handler(BaseHTTPRequestHandler):
    frontend: Frontend
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        path, query = urllib.parse.unquote(url.path), dict(urllib.parse.parse_qsl(url.query))
        if path in ("/ws", "/api/ws"):
            self._converse()
            return
        found = self.frontend.answer(path, query)
        if found is None or (isinstance(found, Path) and not found.is_file()):
            self.frontend.missing.append(path)
            self._send(404, b"", "text/plain")
        elif isinstance(found, Path):
            self._send(200, found.read_bytes(), mimetypes.guess_type(found.name)[0] or "application/octet-stream")
        else:
            self._send_json(found)

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"null")
        path = self.path.removeprefix("/api")
        if path == "/prompt":
            prompt_id = f"prompt-{len(self.frontend.posted)}"
            threading.Thread(target=self.frontend.run, args=(given["prompt"], prompt_id), daemon=True).start()
            self._send_json({"prompt_id": prompt_id, "number": 0, "node_errors": {}})
        elif path == "/settings":
            self.frontend.settings.update(given)
            self._send_json({})
        elif path.startswith(("/settings/", "/userdata/")):
            self._send_json({})
        else:
            self.frontend.missing.append(f"POST {self.path}")
            self._send(404, b"", "text/plain")

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _converse(self) -> None:
        """The page's WebSocket (RFC 6455): it is told things, and what it says is read and forgotten."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        lock = threading.Lock()

        def send(kind: str, data: dict[str, Any]) -> None:
            payload = json.dumps({"type": kind, "data": data}).encode()
            with lock:
                self.wfile.write(b"\x81" + _length(len(payload)) + payload)

        self.frontend.send = send
        send("status", {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "page"})
        self.close_connection = True
        try:
            while len(head := self.rfile.read(2)) == 2 and head[0] & 15 != 8:
                length = head[1] & 127
                if length > 125:
                    length = int.from_bytes(self.rfile.read(2 if length == 126 else 8), "big")
                self.rfile.read(4 + length)  # the mask, and what it hides
        except OSError:
            return  # the page went away
