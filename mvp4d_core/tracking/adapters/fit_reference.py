# SPDX-License-Identifier: Apache-2.0
"""The pictures of a FlowFace folder as references: `fit.npz`, `reference_images.json`, `images/` and perhaps `bg/`.

`reference_images.json` is a list of pairs, the name or number of a camera and the number of a frame. The frames of a camera are the
pictures in `images/<camera>/`, in the order of their numbers, or `images/<camera>.mp4`; `bg/<camera>/` holds mattes in the same order.
Without mattes the pictures must be on white.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...cameras import Camera, crop_camera, project
from ...errors import FormatError, InputError
from ...io.images import read_image
from ...io.limits import MIB, Limits
from ...io.reading import file_sha256, open_input
from ...io.video import video_frames
from ...rig import HeadModel, Parameters, head_model_digest, personalize, retarget, skin
from ...tracks.flowface import KIND, read_fit
from ...tracks.imported_track import ImportedTrack, matrices, rest_joints
from ...tracks.tables import fitted
from ..landmark_sets import LANDMARKS
from ..matte import head_matte
from ..reference import Reference, quantised
from ..zones import find_zones
from .containers import natural

_LIST = "reference_images.json"
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_WHITE = 0.985


def fit_references(folder: Path, head_model: HeadModel) -> list[Reference]:
    """The references of a FlowFace folder, in the order of its list.

    Args:
        head_model: the FLAME head, with its 478 face points.

    Raises:
        FormatError: a damaged file, or one that is not of this layout.
        InputError: a head without the face points, or a picture whose size has other sides than the camera's.
        StorageError: a file is missing or cannot be read.
    """
    if len(head_model.landmark_faces) != LANDMARKS:
        raise InputError(f"References need a head with {LANDMARKS} face points, `{head_model.name}` has {len(head_model.landmark_faces)}.")
    track = read_fit(folder / "fit.npz", head_model)
    return [_reference(folder, track, head_model, view, frame) for view, frame in _listed(folder, track)]


def _listed(folder: Path, track: ImportedTrack) -> list[tuple[int, int]]:
    """Pairs of a camera's and a frame's number; every pair is in the track."""
    path = folder / _LIST
    with open_input(path, Limits(file_bytes=MIB)) as (stream, _):
        try:
            pairs = json.loads(stream.read())
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{path} is not JSON ({str(error)[:80]}). Export the track again.") from None
    result = []
    for pair in pairs if isinstance(pairs, list) else []:
        view, frame = pair if isinstance(pair, list) and len(pair) == 2 else (None, None)
        number = track.views.index(view) if isinstance(view, str) and view in track.views else view
        if (
            type(number) is not int
            or type(frame) is not int
            or not (0 <= number < len(track.cameras) and 0 <= frame < len(track.performance))
        ):
            raise FormatError(f"{path} names {str(pair)[:60]}, which is no camera and frame of its fit.npz. Export the track again.")
        result.append((number, frame))
    if not result:
        raise FormatError(f"{path} must be a list of pairs of a camera and a frame, and have one. Export the track again.")
    return result


def _reference(folder: Path, track: ImportedTrack, head_model: HeadModel, view: int, frame: int) -> Reference:
    image, matte, source = _picture(folder, track.views[view], frame)
    camera = _sized(track.cameras[view], image.shape[1], image.shape[0], source)
    shape = fitted(track.shape, len(head_model.shape_names))
    offsets = np.zeros_like(head_model.v_template) if track.offsets is None else track.offsets.astype(np.float32)
    still, moved = _without_motion(track, head_model, shape, frame)
    camera = replace(camera, camera_from_world=camera.camera_from_world @ moved)
    rig = personalize(head_model, shape, offsets)
    vertices = skin(rig, None, still.expression, still.rotations, still.translation)
    image, matte = quantised(image), quantised(matte)
    zones = find_zones(rig, vertices, camera)
    if not zones.face.any():
        raise InputError(f"The head of {folder / 'fit.npz'} does not lie in {source}. Export the track of these pictures again.")
    return Reference(
        image=image, matte=matte, head_matte=quantised(head_matte(image, matte, zones)), camera=camera,
        shape=shape, offsets=offsets, parameters=still,
        landmarks=project(rig.landmarks(vertices), camera)[0].astype(np.float32), landmark_error_percent=0.0, faces_found=1, face=1,
        notices=(f"Tracked by {KIND}; the face points are those of its head.",), warnings=(),
        head_name=head_model.name, head_digest=head_model_digest(head_model), source_sha256=file_sha256(source),
    )  # fmt: skip


def _without_motion(track: ImportedTrack, head_model: HeadModel, shape: np.ndarray, frame: int) -> tuple[Parameters, np.ndarray]:
    """The frame with its root at rest, and the (4, 4) transform that its root made."""
    performance = retarget(track.performance.select([frame]), head_model)
    root, joint = matrices(performance.rotations[:, 0])[0], rest_joints(head_model, shape, performance)[0, 0]
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = root, joint + performance.translation[0] - root @ joint
    rotations = performance.rotations[0].copy()
    rotations[0] = 0
    return Parameters(performance.expression[0], rotations, np.zeros(3, np.float32)), moved


def _picture(folder: Path, view: str, frame: int) -> tuple[np.ndarray, np.ndarray, Path]:
    """Colours (H, W, 3), the person's matte (H, W), and the file."""
    film = folder / "images" / f"{view}.mp4"
    if film.is_file():
        picture = next(iter(video_frames(film, [frame])), None)
        if picture is None:
            raise FormatError(f"{film} ends before frame {frame}, which its fit.npz has. Take a fresh copy of it.")
        image, alpha, source, number = picture.astype(np.float32) / 255, None, film, frame
    else:
        source, number = _numbered(folder / "images" / view, frame), frame
        image, alpha = read_image(source)
    mattes = folder / "bg" / view
    if mattes.is_dir():
        colours, within = read_image(_numbered(mattes, number))
        alpha = within if within is not None else colours.mean(axis=2)
    if alpha is None:
        alpha = ndimage.binary_fill_holes(image.min(axis=2) < _WHITE).astype(np.float32)  # pyright: ignore[reportOptionalMemberAccess]
        if alpha.mean() > 0.99:
            raise InputError(f"{source} has no matte and is not on white. Give mattes in {folder / 'bg'}.")
    if alpha.shape != image.shape[:2]:
        raise FormatError(f"The matte of {source} is {alpha.shape[1]} x {alpha.shape[0]} px, not of the picture's size. Export it again.")
    return image, alpha.astype(np.float32), source


def _numbered(folder: Path, frame: int) -> Path:
    files = [file for file in folder.iterdir() if file.suffix.lower() in _PICTURES] if folder.is_dir() else []
    if frame >= len(files):
        raise FormatError(f"{folder} has {len(files)} pictures and fit.npz speaks of number {frame}. Take a fresh copy of the folder.")
    return sorted(files, key=lambda file: natural(file.name))[frame]


def _sized(camera: Camera, width: int, height: int, source: Path) -> Camera:
    """The camera at the size of the picture, which may be a smaller copy."""
    if abs(width * camera.height - height * camera.width) > max(camera.width, camera.height):
        raise InputError(f"{source} is {width} x {height} px and its camera {camera.width} x {camera.height}. Give the picture uncut.")
    return crop_camera(camera, np.array([0, 0, camera.width, camera.height]), width, height)
