# SPDX-License-Identifier: Apache-2.0
"""Datagrams as face-capture apps send them."""

import struct

import numpy as np


def live_link_datagram(weights: np.ndarray, turn: np.ndarray, eyes: np.ndarray | None = None) -> bytes:
    """Live Link Face: 52 weights, then yaw, pitch and roll of head (3,) and eyes (6,), radians."""
    values = np.concatenate([weights, turn, np.zeros(6) if eyes is None else eyes])
    texts = b"".join(struct.pack(">i", len(text)) + text for text in (b"A0B1C2D3-0000-0000-0000-00000000C0DE", b"iPhone"))
    return b"\x06" + texts + struct.pack(">ifii", 1234, 0.5, 60, 1) + bytes([len(values)]) + struct.pack(f">{len(values)}f", *values)


def osc_message(address: str, *values: float | str) -> bytes:
    """OSC 1.0; whole numbers go as int32, others as float32."""
    tags, data = ",", b""
    for value in values:
        if isinstance(value, str):
            tags, data = tags + "s", data + _padded(value)
        elif isinstance(value, int):
            tags, data = tags + "i", data + struct.pack(">i", value)
        else:
            tags, data = tags + "f", data + struct.pack(">f", value)
    return _padded(address) + _padded(tags) + data


def osc_bundle(*parts: bytes) -> bytes:
    return b"#bundle\0" + bytes(8) + b"".join(struct.pack(">i", len(part)) + part for part in parts)


def _padded(text: str) -> bytes:
    data = text.encode() + b"\0"
    return data + bytes(-len(data) % 4)
