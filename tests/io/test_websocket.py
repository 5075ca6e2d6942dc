# SPDX-License-Identifier: Apache-2.0
"""The WebSocket against a server that is written out byte by byte."""

import base64
import hashlib
import socket
import threading
from collections.abc import Callable

import pytest

from mvp4d_core.io.websocket import WebSocket

ACCEPT = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def connected(serve: Callable[[socket.socket], None], **settings: int) -> WebSocket:
    """A WebSocket to a server that shakes hands and then does what `serve` does."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener:
            other, _ = listener.accept()
        with other:
            head = b""
            while b"\r\n\r\n" not in head:
                head += other.recv(4096)
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
            assert fields["Upgrade"] == "websocket" and fields["Sec-WebSocket-Version"] == "13"
            key = base64.b64encode(hashlib.sha1((fields["Sec-WebSocket-Key"] + ACCEPT).encode()).digest()).decode()
            other.sendall(f"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {key}\r\n\r\n".encode())
            serve(other)

    threading.Thread(target=run, daemon=True).start()
    return WebSocket("127.0.0.1", listener.getsockname()[1], "/ws", seconds=5, **settings)


def test_texts_bytes_parts_and_pings():
    answered = threading.Event()
    got = []

    def serve(other: socket.socket) -> None:
        other.sendall(b"\x81\x02hi" + b"\x82\x7e\x01\x00" + b"x" * 256)
        other.sendall(b"\x01\x02ab" + b"\x89\x01p" + b"\x80\x02cd")  # a text in two parts with a ping between
        got.append(other.recv(7))
        answered.set()
        other.recv(1)

    link = connected(serve)
    assert [link.receive(5) for _ in range(3)] == ["hi", b"x" * 256, "abcd"]
    assert answered.wait(5) and got == [b"\x8a\x81\x00\x00\x00\x00p"]  # masked, by a mask of zeros
    link.close()


def test_what_comes_late_is_not_lost():
    go = threading.Event()

    def serve(other: socket.socket) -> None:
        other.sendall(b"\x81\x05he")
        go.wait(5)
        other.sendall(b"llo")
        other.recv(1)

    link = connected(serve)
    assert link.receive(0.05) is None
    go.set()
    assert link.receive(5) == "hello"
    link.close()


@pytest.mark.parametrize("size", [5, 300, 70_000])
def test_what_is_sent_arrives_whole(size):
    got = []
    done = threading.Event()

    def serve(other: socket.socket) -> None:
        head = {5: 6, 300: 8, 70_000: 14}[size]
        data = b""
        while len(data) < head + size:
            data += other.recv(65536)
        got.append(data[head:])
        done.set()

    link = connected(serve)
    link.send("y" * size)
    assert done.wait(5) and got == [b"y" * size]
    link.close()


@pytest.mark.parametrize("last", [b"", b"\x88\x00", b"\x81\x7f" + (1 << 40).to_bytes(8, "big")])
def test_an_end_is_a_connection_error(last):
    link = connected(lambda other: other.sendall(last), most_bytes=1000)
    with pytest.raises(ConnectionError):
        link.receive(5)
    link.close()


def test_a_server_that_speaks_no_websocket_is_refused():
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener:
            other, _ = listener.accept()
        with other:
            other.recv(4096)
            other.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")

    threading.Thread(target=run, daemon=True).start()
    with pytest.raises(ConnectionRefusedError, match="does not speak WebSocket"):
        WebSocket("127.0.0.1", listener.getsockname()[1], "/ws", seconds=5)
