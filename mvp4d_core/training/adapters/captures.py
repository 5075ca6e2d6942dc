# SPDX-License-Identifier: Apache-2.0
"""What the readers share: a recording's views, and the clip that is cut out of them around a tracked head."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ...cameras import Camera
from ...conditioning import frame_camera
from ...errors import FormatError, InputError
from ...io.video import video_frames
from ...rig import HeadModel, head_model_digest, personalize, retarget, skin
from ..clip import Clip
from ..store import ClipSource
from .tracks import Track, face_the_front, load_track

PIECE = 49  # frames of the clips that a recording is cut into
SHORTEST = 5

Frames = Iterator[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class View:
    """One camera of a recording.

    Attributes:
        camera: at the size of its pictures, in the recording's world.
        distortion: (5,) k1, k2, p1, p2, k3 of OpenCV's model; zeros where the pictures are straight.
        frames: gives, for rising frame numbers, pictures (H, W, 3) and mattes (H, W), both uint8.
    """

    camera: Camera
    distortion: np.ndarray
    frames: Callable[[Sequence[int]], Frames]


def pieces(
    name: str,
    identity: str,
    source: str,
    track_file: Path,
    holes: Sequence[str],
    views: Callable[[], Sequence[View]],
    head_model: HeadModel,
    cameras: int,
) -> Iterator[ClipSource]:
    """The clips of one recording by so many `cameras`; where something is missing, one source with the holes."""
    found = [*holes, *([] if track_file.is_file() else [f"its track {track_file} is missing."])]
    track = None
    if not found:
        try:
            track = load_track(track_file)
        except (FormatError, InputError) as error:
            found.append(str(error))
    if track is None:
        yield ClipSource(name, f"{source} {identity}", partial(_nothing, name), tuple(found))
        return
    made_of = hashlib.sha256(track_file.read_bytes()).hexdigest()
    for number, start in enumerate(range(0, max(1, len(track.frames) - SHORTEST + 1), PIECE)):
        piece = track.piece(start, start + PIECE)
        title = f"{identity} {name} {number}"
        yield ClipSource(
            f"{name}-{number:03d}", f"{source} {identity}", partial(cut_clip, title, source, views, piece, head_model),
            views=cameras, frames=len(piece.frames), made_of=made_of,
        )  # fmt: skip


def cut_clip(name: str, source: str, views: Callable[[], Sequence[View]], track: Track, head_model: HeadModel, size: int) -> Clip:
    """The clip: one square crop of `size` px a view around all the head does, the person on white."""
    recorded = views()
    track = replace(track, performance=retarget(track.performance, head_model))
    performance, cameras = face_the_front(track, tuple(view.camera for view in recorded), head_model)
    rig = personalize(head_model, track.shape, np.zeros_like(head_model.v_template))
    posed = np.stack([skin(rig, None, p.expression, p.rotations, p.translation) for p in (performance[f] for f in range(len(performance)))])
    crops = tuple(frame_camera(camera, posed, size) for camera in cameras)
    shape = (len(recorded), len(performance), size, size)
    pictures, alphas, inside = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8), np.zeros((len(recorded), size, size), bool)
    for index, (view, crop) in enumerate(zip(recorded, crops, strict=True)):
        cutter = Cutter(view, crop)
        inside[index] = cutter.inside
        count = 0
        for picture, matte in view.frames(track.frames.tolist()):
            pictures[index, count], alphas[index, count] = cutter.cut(picture, matte)
            count += 1
        if count != len(performance):
            raise FormatError(f"View {index} of {name} ends after {count} of {len(performance)} tracked frames. Take a fresh copy of it.")
    return Clip(
        frames=pictures, alphas=alphas, cameras=crops, inside=inside, performance=performance, shape=track.shape.astype(np.float32),
        offsets=np.zeros_like(head_model.v_template), head_digest=head_model_digest(head_model), name=name, source=source,
    )  # fmt: skip


class Cutter:
    """Resamples pictures of one view into its crop: bilinear, at least one sample a source pixel, averaged; white outside."""

    def __init__(self, view: View, crop: Camera) -> None:
        camera, self._size = view.camera, (crop.height, crop.width)
        self._samples = max(1, int(np.ceil(camera.K[0, 0] / crop.K[0, 0])))
        x, y = ((np.arange(side * self._samples) + 0.5) / self._samples for side in (crop.width, crop.height))
        rays = np.stack([*np.meshgrid(x, y), np.ones((len(y), len(x)))], axis=-1) @ np.linalg.inv(crop.K).T
        pixels = distorted(rays[..., :2] / rays[..., 2:], view.distortion) @ camera.K[:2, :2].T + camera.K[:2, 2]
        grid = pixels / [camera.width, camera.height] * 2 - 1
        self._grid = torch.as_tensor(grid, dtype=torch.float32)[None]
        within = torch.as_tensor((np.abs(grid) < 1).all(axis=-1), dtype=torch.float32)[None, None]
        self.inside = torch.nn.functional.avg_pool2d(within, self._samples)[0, 0].numpy() > 0.5
        self._wanted = (camera.height, camera.width)

    def cut(self, picture: np.ndarray, matte: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The crop (S, S, 3) on white and its coverage (S, S), uint8."""
        if picture.shape != (*self._wanted, 3) or matte.shape != self._wanted:
            height, width = self._wanted
            raise FormatError(f"Pictures and mattes of this view must be {width} x {height} px, got {picture.shape} and {matte.shape}.")
        alpha = torch.as_tensor(np.ascontiguousarray(matte), dtype=torch.float32)[None] / 255
        colors = torch.as_tensor(np.ascontiguousarray(picture), dtype=torch.float32).permute(2, 0, 1) / 255 * alpha
        layers = torch.nn.functional.grid_sample(torch.cat([colors, alpha])[None], self._grid, padding_mode="zeros", align_corners=False)
        layers = torch.nn.functional.avg_pool2d(layers, self._samples)[0]
        on_white = layers[:3] + 1 - layers[3:]
        quantised = [(t.clamp(0, 1) * 255).round().to(torch.uint8) for t in (on_white.permute(1, 2, 0), layers[3])]
        return quantised[0].numpy(), quantised[1].numpy()


def distorted(points: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Where straight points (..., 2) on the plane at depth 1 appear, by OpenCV's radial and tangential terms k1, k2, p1, p2, k3."""
    k1, k2, p1, p2, k3 = distortion
    x, y = points[..., 0], points[..., 1]
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3))
    return np.stack(
        [x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x), y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y], axis=-1
    )


def with_mattes(video: Path, mattes: Path, wanted: Sequence[int]) -> Frames:
    """Frames of a video beside those of the grey video of its mattes."""
    with closing(video_frames(video, wanted)) as pictures, closing(video_frames(mattes, wanted)) as alphas:
        for picture, alpha in zip(pictures, alphas, strict=False):
            yield picture, alpha[..., 0]


def video_size(path: Path) -> tuple[int, int]:
    """(height, width) of a video's first frame."""
    with closing(video_frames(path, [0])) as frames:
        for frame in frames:
            return frame.shape[0], frame.shape[1]
    raise FormatError(f"{path} has no frame that can be decoded. Take a fresh copy of it.")


def _nothing(name: str, size: int) -> Clip:
    raise InputError(f"The recording {name} is incomplete and cannot be read.")
