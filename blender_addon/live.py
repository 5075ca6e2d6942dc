# SPDX-License-Identifier: GPL-3.0-or-later
"""Live capture: datagrams of a face move an avatar's sliders and neck, and can be recorded. No thread: the socket is asked now and then."""

import socket
import time

import bpy
import numpy as np
from mathutils import Quaternion

from mvp4d_core.errors import FormatError, StorageError
from mvp4d_core.rig import ARKIT_NAMES, Performance
from mvp4d_core.rig.live_link import calibrated
from mvp4d_core.rig.live_stream import LARGEST_DATAGRAM, LiveFace, parse_datagram, recorded_performance
from mvp4d_core.rotations import axis_angle_to_quaternion

from . import sliders

NECK = "neck"
_MOST_AT_ONCE = 256  # datagrams a turn: a flood does not stop the interface
_MOST_RECORDED = 60 * 60 * 60  # faces: an hour at 60 a second


class LiveSession:
    """A socket that is open, the face as far as it is known, and what was recorded of it.

    Attributes:
        received, refused: how many datagrams were faces, and how many were not.
        face: all that came so far, calibrated.
    """

    def __init__(self, host: str, port: int) -> None:
        """Opens the socket; raises StorageError where that fails."""
        self.received = self.refused = 0
        self.face = LiveFace()
        self._raw = LiveFace()
        self._neutral = np.zeros(len(ARKIT_NAMES))
        self._recorded: list[tuple[float, LiveFace]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise StorageError(
                f"Live capture cannot listen on {host}:{port}: {error.strerror or error}. Choose another port in the preferences."
            ) from None

    @property
    def port(self) -> int:
        return self._socket.getsockname()[1]

    @property
    def recorded(self) -> int:
        """How many faces are recorded."""
        return len(self._recorded)

    def close(self) -> None:
        self._socket.close()

    def receive(self) -> bool:
        """Takes in what has arrived; says whether any of it was a face."""
        before = self.received
        for _ in range(_MOST_AT_ONCE):
            try:
                data = self._socket.recv(LARGEST_DATAGRAM)
            except OSError:  # nothing more has arrived
                break
            try:
                self._raw = self._raw.then(parse_datagram(data))
                self.received += 1
            except FormatError:
                self.refused += 1
        if self.received > before:
            self.face = self._calibrated(self._raw)
        return self.received > before

    def calibrate(self) -> None:
        """Takes the face as it is now for the face at rest."""
        self._neutral = np.array([self._raw.weights.get(name, 0.0) for name in ARKIT_NAMES])
        self.face = self._calibrated(self._raw)

    def record(self) -> None:
        """Keeps the face as it is now."""
        if len(self._recorded) < _MOST_RECORDED:
            self._recorded.append((time.monotonic(), self.face))

    def take(self, fps: float) -> Performance | None:
        """What was recorded, `fps` frames a second, and begins anew; None where nothing was."""
        recorded, self._recorded = self._recorded, []
        return recorded_performance([moment for moment, _ in recorded], [face for _, face in recorded], fps) if recorded else None

    def _calibrated(self, face: LiveFace) -> LiveFace:
        weights = np.array([[face.weights.get(name, 0.0) for name in ARKIT_NAMES]])
        moved = calibrated(weights, self._neutral)[0].tolist()
        return LiveFace({name: moved[k] for k, name in enumerate(ARKIT_NAMES) if name in face.weights}, face.turn)


def show_face(armature: bpy.types.Object, face: LiveFace, *, turn: bool) -> None:
    """Puts the avatar's sliders, and with `turn` its neck, where a face has them."""
    known = sliders.slider_names(armature, face.weights)
    sliders.set_sliders(armature, {name: face.weights[name] for name in known})
    if turn and face.turn is not None and NECK in armature.pose.bones:
        bone = armature.pose.bones[NECK]
        bone.rotation_mode = "QUATERNION"
        bone.rotation_quaternion = Quaternion(axis_angle_to_quaternion(face.turn).tolist())
