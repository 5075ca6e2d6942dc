# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a running ComfyUI to make an avatar of a photo. Nothing here knows Blender, so it may run in a thread of its own."""

import hashlib
import http.client
import json
import secrets
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mvp4d_core.errors import FormatError, InputError, MissingAssetError, MVP4DError
from mvp4d_core.io.atomic import atomic_write
from mvp4d_core.io.reading import open_input
from mvp4d_core.io.websocket import WebSocket
from mvp4d_core.progress import Progress, silent

PHOTO, RESULT = "LoadImage", "MVP4D_SaveAvatar"  # the nodes that take the photo and give the avatar
UPLOAD, WORK, DOWNLOAD = "sending the photo", "waiting for ComfyUI", "receiving the avatar"

_ANSWER_SECONDS = 30.0
_LISTEN_SECONDS = 0.2  # between two looks whether the user has had enough
_CHUNK = 1 << 18
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a ComfyUI at hand is not behind the proxy to the internet
_MOST_JSON, _MOST_AVATAR = 1 << 26, 1 << 32  # bytes


@dataclass(frozen=True)
class Address:
    """Where a ComfyUI listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def read_address(text: str) -> Address:
    """An address such as `http://127.0.0.1:8188`; InputError for anything else."""
    try:
        parts = urllib.parse.urlsplit(text.strip() if "://" in text else f"http://{text.strip()}")
        port = parts.port or 8188
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise InputError(f"ComfyUI's address must be like http://127.0.0.1:8188, got `{text}`. Correct it in the add-on's preferences.")
    return Address(parts.hostname, port)


def shipped_workflows() -> dict[str, Path]:
    """The workflows that come along and make an avatar of a photo, by name: beside the add-on, or in a clone's folder of workflows."""
    here = Path(__file__).resolve().parent
    folder = here / "workflows" if (here / "workflows").is_dir() else here.parent / "workflows" / "api"
    return {path.stem: path for path in sorted(folder.glob("*.json")) if makes_avatars(path.read_bytes())}


def makes_avatars(workflow: bytes) -> bool:
    """Whether a workflow file takes a photo and saves an avatar."""
    return all(f'"{node}"'.encode() in workflow for node in (PHOTO, RESULT))


def make_avatar(address: Address, workflow: Path, photo: Path, target: Path, progress: Progress = silent) -> None:
    """Sends `photo` through `workflow` and writes the avatar to `target`, atomically.

    Args:
        progress: is called several times a second; what it raises stops the work in ComfyUI too, and is raised here.

    Raises:
        MissingAssetError: nobody answers at `address`, or that ComfyUI lacks a node.
        InputError: ComfyUI refuses the workflow or the photo, or its nodes do.
        FormatError: no workflow, or no avatar came out of it.
        StorageError: a file cannot be read or written.
    """
    prompt = _with_photo(read_workflow(workflow), "")
    client = secrets.token_hex(16)
    progress(UPLOAD, 0, 1)
    try:
        listener = WebSocket(address.host, address.port, f"/ws?clientId={client}", seconds=_ANSWER_SECONDS)
    except OSError as error:
        raise _away(address, error) from None
    try:
        prompt = _with_photo(prompt, _upload(address, photo))
        progress(UPLOAD, 1, 1)
        prompt_id = _queue(address, prompt, client)
        try:
            _follow(address, listener, prompt, prompt_id, progress)
        except BaseException:
            _stop(address, prompt_id)
            raise
    finally:
        listener.close()
    _download(address, _result(address, prompt_id), target, progress)


def read_workflow(path: Path) -> dict[str, Any]:
    """A workflow in ComfyUI's API form; FormatError for anything else."""
    with open_input(path) as (stream, _):
        data = stream.read()
    try:
        workflow = json.loads(data)
    except (ValueError, RecursionError):
        workflow = None
    nodes = list(workflow.values()) if isinstance(workflow, dict) else []
    if not nodes or not all(isinstance(node, dict) and {"class_type", "inputs"} <= node.keys() for node in nodes):
        raise FormatError(f"{path.name} is no workflow in ComfyUI's API form. Export it there with `Export (API)`.")
    return workflow


def _with_photo(workflow: dict[str, Any], name: str) -> dict[str, Any]:
    """The workflow with the photo in its first node that loads one."""
    found = [key for key, node in workflow.items() if node["class_type"] == PHOTO]
    if not found or not any(node["class_type"] == RESULT for node in workflow.values()):
        raise FormatError(f"The workflow needs a node {PHOTO} for the photo and {RESULT} for the avatar. Choose another one.")
    first = workflow[found[0]]
    return workflow | {found[0]: first | {"inputs": first["inputs"] | {"image": name}}}


def _upload(address: Address, photo: Path) -> str:
    """Puts the photo among ComfyUI's inputs, named by its content; gives the name."""
    with open_input(photo) as (stream, _):
        content = stream.read()
    name = f"mvp4d-{hashlib.sha256(content).hexdigest()[:16]}{photo.suffix.lower()}"
    edge = secrets.token_hex(16)
    head = f'--{edge}\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n--{edge}\r\n'
    head += f'Content-Disposition: form-data; name="image"; filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    body = head.encode() + content + f"\r\n--{edge}--\r\n".encode()
    answer = _ask(address, "/upload/image", body, f"multipart/form-data; boundary={edge}")
    return "/".join(part for part in (answer.get("subfolder"), answer.get("name")) if part)


def _queue(address: Address, prompt: dict[str, Any], client: str) -> str:
    answer = _ask(address, "/prompt", json.dumps({"prompt": prompt, "client_id": client}).encode())
    if problems := answer.get("node_errors"):
        raise InputError(_refusal(prompt, problems))
    return str(answer["prompt_id"])


def _follow(address: Address, listener: WebSocket, prompt: dict[str, Any], prompt_id: str, progress: Progress) -> None:
    """Returns once the workflow has run to its end."""
    stage, done, total = WORK, 0, 1
    while True:
        progress(stage, done, total)
        try:
            message = listener.receive(_LISTEN_SECONDS)
        except OSError as error:
            raise _away(address, error) from None
        kind, data = _event(message)
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "execution_success":
            return
        if kind == "execution_interrupted":
            raise InputError("Somebody stopped the workflow in ComfyUI.")
        if kind == "execution_error":
            raise InputError(f"{_title(prompt, data.get('node_id'))}: {str(data.get('exception_message')).strip()[:500]}")
        if kind == "executing" and data.get("node"):
            stage, done, total = _title(prompt, data["node"]), 0, 1
        if kind == "progress":
            stage, done, total = _title(prompt, data.get("node")), int(data.get("value", 0)), max(int(data.get("max", 1)), 1)


def _event(message: str | bytes | None) -> tuple[str, dict[str, Any]]:
    """Kind and content of what ComfyUI tells; previews and what is not understood have none."""
    if not isinstance(message, str):
        return "", {}
    try:
        event = json.loads(message)
        return str(event["type"]), dict(event["data"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", {}


def _title(prompt: dict[str, Any], node_id: object) -> str:
    node = prompt.get(str(node_id), {})
    return str(node.get("_meta", {}).get("title") or node.get("class_type") or WORK)


def _refusal(prompt: dict[str, Any], problems: dict[str, Any]) -> str:
    """The first of ComfyUI's complaints about a workflow."""
    for node_id, problem in problems.items():
        for error in problem.get("errors", []):
            return f"ComfyUI refuses the workflow: {_title(prompt, node_id)}: {error.get('message')} ({error.get('details')})."[:600]
    return "ComfyUI refuses the workflow and does not say why."


def _stop(address: Address, prompt_id: str) -> None:
    """Takes a workflow out of the queue, or interrupts it. It is no matter if nobody listens any more."""
    for path, value in (("/queue", {"delete": [prompt_id]}), ("/interrupt", {"prompt_id": prompt_id})):
        try:
            _ask(address, path, json.dumps(value).encode())
        except MVP4DError:
            return


def _result(address: Address, prompt_id: str) -> dict[str, str]:
    """What ComfyUI calls the avatar that a workflow saved."""
    until = time.monotonic() + _ANSWER_SECONDS
    while not (history := _ask(address, f"/history/{prompt_id}").get(prompt_id)) and time.monotonic() < until:
        time.sleep(_LISTEN_SECONDS)
    for output in (history or {}).get("outputs", {}).values():
        for saved in output.get("mvp4d", []):
            if str(saved.get("filename", "")).endswith(".mvp4d"):
                return {key: str(saved.get(key, "")) for key in ("filename", "subfolder", "type")}
    raise FormatError("The workflow has run, but no avatar came out of it. Choose one that ends in MVP4D Save Avatar.")


def _download(address: Address, saved: dict[str, str], target: Path, progress: Progress) -> None:
    try:
        with _OPENER.open(f"{address}/view?{urllib.parse.urlencode(saved)}", timeout=_ANSWER_SECONDS) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            if total > _MOST_AVATAR:
                raise FormatError(f"ComfyUI's avatar has {total} bytes, more than the {_MOST_AVATAR} that are taken.")
            with atomic_write(target) as file:
                done = 0
                while data := _read(address, answer):
                    done += len(data)
                    if done > _MOST_AVATAR:
                        raise FormatError(f"ComfyUI's avatar has over {_MOST_AVATAR} bytes.")
                    file.write(data)
                    progress(DOWNLOAD, done, max(total, done))
                if done < total:
                    raise _away(address, ConnectionResetError("it broke off"))
    except urllib.error.HTTPError as error:
        with error:
            raise FormatError(f"ComfyUI does not give {saved['filename']} ({error.code}).") from None
    except urllib.error.URLError as error:
        raise _away(address, error.reason) from None


def _read(address: Address, answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _away(address, error) from None


def _ask(address: Address, path: str, body: bytes | None = None, kind: str = "application/json") -> dict[str, Any]:
    """The JSON that ComfyUI answers; an empty one for no answer."""
    request = urllib.request.Request(f"{address}{path}", body, {"Content-Type": kind} if body is not None else {})
    try:
        with _OPENER.open(request, timeout=_ANSWER_SECONDS) as answer:
            text = answer.read(_MOST_JSON)
    except urllib.error.HTTPError as error:
        with error:
            raise _rejection(address, path, error.code, error.read(_MOST_JSON), body) from None
    except (OSError, http.client.HTTPException) as error:
        raise _away(address, getattr(error, "reason", error)) from None
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise MissingAssetError(f"What answers at {address} is no ComfyUI. Correct the address in the add-on's preferences.")
    return value


def _rejection(address: Address, path: str, code: int, text: bytes, body: bytes | None) -> MVP4DError:
    """What a refused request means."""
    try:
        answer = json.loads(text)
        error = answer["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return MissingAssetError(f"{address}{path} answers {code}; is that a ComfyUI? Correct the address in the add-on's preferences.")
    if isinstance(error, dict) and error.get("type") == "missing_node_type":
        return MissingAssetError(
            f"That ComfyUI lacks a node: {error.get('message')}\nInstall this project's pack into its custom_nodes folder."
        )
    if answer.get("node_errors") and body is not None:
        return InputError(_refusal(json.loads(body).get("prompt", {}), answer["node_errors"]))
    return InputError(f"ComfyUI refuses: {error.get('message') if isinstance(error, dict) else error}."[:600])


def _away(address: Address, error: object) -> MVP4DError:
    """The error that nobody answers, or no longer."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return MissingAssetError(f"No ComfyUI answers at {address} ({reason}).\nStart it, or correct the address in the add-on's preferences.")
