# SPDX-License-Identifier: Apache-2.0
"""The client's side of a WebSocket (RFC 6455): what of it is needed to speak to a browser and to ComfyUI."""

import base64
import os
import socket
import struct
import time

_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_CHUNK = 1 << 16


class WebSocket:
    """A connection that is open. Its failures are the system's: OSError, with ConnectionError where the other side has gone."""

    def __init__(self, host: str, port: int, path: str, *, seconds: float, most_bytes: int = 1 << 28) -> None:
        """Connects and shakes hands within `seconds`; a message of more than `most_bytes` ends the connection."""
        self._most = most_bytes
        self._buffer = bytearray()
        self._parts: list[bytes] = []
        self._kind = _TEXT
        self._socket = socket.create_connection((host, port), timeout=seconds)
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            name = f"[{host}]" if ":" in host else host
            request = f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            self._socket.sendall(f"{request}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
            until = time.monotonic() + seconds
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                self._fill(until)
            if b" 101 " not in bytes(self._buffer[:end]).split(b"\r\n")[0]:
                raise ConnectionRefusedError(f"{host}:{port} does not speak WebSocket at {path}")
            del self._buffer[: end + 4]
        except BaseException:
            self._socket.close()
            raise

    def send(self, text: str) -> None:
        """Sends a text."""
        self._send(_TEXT, text.encode())

    def receive(self, seconds: float) -> str | bytes | None:
        """The next message, a text or bytes; None if there was no whole one within `seconds`, and then nothing of it is lost."""
        until = time.monotonic() + seconds
        try:
            while True:
                while (frame := self._frame()) is None:
                    self._fill(until)
                last, kind, payload = frame
                if kind == _CLOSE:
                    raise ConnectionResetError("the other side has ended the conversation")
                if kind == _PING:
                    self._send(_PONG, payload)
                if kind in (_TEXT, _BINARY):
                    self._kind = kind
                if kind in (_TEXT, _BINARY, _CONTINUED):
                    self._parts.append(payload)
                    if last:
                        message, self._parts = b"".join(self._parts), []
                        return message.decode("utf-8", "replace") if self._kind == _TEXT else message
        except TimeoutError:
            return None

    def close(self) -> None:
        self._socket.close()

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """Takes a whole frame out of the buffer: whether it is a message's last, its kind, its content."""
        data = self._buffer
        if len(data) < 2:
            return None
        length, start = data[1] & 127, 2
        if length > 125:
            start += 2 if length == 126 else 8
            length = int.from_bytes(data[2:start], "big")
        if length + sum(map(len, self._parts)) > self._most:
            raise ConnectionAbortedError(f"a message of over {self._most} bytes came")
        if len(data) < start + length:
            return None
        frame = bool(data[0] & 0x80), data[0] & 15, bytes(data[start : start + length])
        del data[: start + length]
        return frame

    def _fill(self, until: float) -> None:
        """Waits for more bytes; TimeoutError when it is `until`."""
        self._socket.settimeout(max(until - time.monotonic(), 1e-3))
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("the other side has closed the connection")
        self._buffer += data

    def _send(self, kind: int, data: bytes) -> None:
        if len(data) < 126:
            length = bytes([0x80 | len(data)])
        else:
            length = b"\xfe" + struct.pack(">H", len(data)) if len(data) <= 0xFFFF else b"\xff" + struct.pack(">Q", len(data))
        # clients must mask what they send; a mask of zeros leaves it as it is
        self._socket.sendall(bytes([0x80 | kind]) + length + bytes(4) + data)
