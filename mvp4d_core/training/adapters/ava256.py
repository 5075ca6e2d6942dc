# SPDX-License-Identifier: Apache-2.0
"""Ava-256 (Martinez et al. 2024): the dome captures, 80 calibrated cameras.

Certain, from the authors' datasheet and code:

    <folder>/<capture>/decoder/camera_calibration.json     KRT: a list of cameraId, K and T, both transposed (T's last row is the
                                                           translation), camera from world, OpenCV axes, for pictures of 2668 x 4096 px
    <folder>/<capture>/decoder/frame_list.csv              seg_id,frame_id
    <folder>/<capture>/decoder/image/cam<id>.zip           <frame, 6 digits>.avif, 2 or 4 times smaller
    <folder>/<capture>/decoder/segmentation_parts/cam<id>.zip     <frame>.png: 0 background, 1 hair, 2 body, 3 chair, 4 apparel, ...

Less certain: that the pictures are undistorted (the authors say so in their issue 11, though the file has distortion), that K counts from
pixel centres, that the world is in millimetres, and whether files lie in a folder within their zip (both are read). The mattes are all
parts but chair and background. Tracks (ours), in metres, a file a segment: <tracks>/<capture>_<segment>.safetensors, numbered by frame_id.
"""

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ...cameras import Camera
from ...errors import FormatError
from ...rig import HeadModel
from ..store import ClipSource
from .captures import Frames, View, pieces

NAME = "ava256"
WIDTH = 2668  # pixels of the pictures that K is for
METRES = 1e-3
NOT_PERSON = (0, 3)  # classes: background, chair
_MOST_BYTES = 1 << 27


def read_ava256(folder: Path, tracks: Path, head_model: HeadModel) -> Iterator[ClipSource]:
    """The clips of all captures' segments."""
    for decoder in sorted(folder.glob("*/decoder")):
        capture = decoder.parent.name
        wanted = ("camera_calibration.json", "frame_list.csv", "image", "segmentation_parts")
        holes = [f"{decoder / name} is missing." for name in wanted if not (decoder / name).exists()]
        images = sorted((decoder / "image").glob("cam*.zip"))
        unsegmented = [path.name for path in images if not (decoder / "segmentation_parts" / path.name).is_file()]
        if unsegmented and not holes:
            holes.append(f"{len(unsegmented)} of {len(images)} cameras lack segmentation_parts, such as {unsegmented[0]}.")
        for segment in _segments(decoder / "frame_list.csv") or [""]:
            name = f"{capture}_{segment}".rstrip("_")
            views = partial(_views, decoder, images)
            yield from pieces(name, capture, NAME, tracks / f"{name}.safetensors", holes, views, head_model, len(images))


def _segments(path: Path) -> list[str]:
    """The segments of a capture, in order."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(dict.fromkeys(row.get("seg_id") or "" for row in csv.DictReader(file)))


def _views(decoder: Path, images: Sequence[Path]) -> list[View]:
    path = decoder / "camera_calibration.json"
    try:
        cameras = {str(entry["cameraId"]): entry for entry in json.loads(path.read_text(encoding="utf-8"))["KRT"]}
        views = []
        for pictures in images:
            entry = cameras[pictures.stem.removeprefix("cam")]
            masks = decoder / "segmentation_parts" / pictures.name
            first = next(_frames(pictures, masks, None))[0]
            height, width = first.shape[:2]
            K, matrix = np.array(entry["K"], dtype=np.float64).T, np.eye(4)
            K[:2, 2] += 0.5
            matrix[:3] = np.array(entry["T"], dtype=np.float64)[:4, :3].T
            matrix[:3, 3] *= METRES
            camera = Camera(np.diag([width / WIDTH, width / WIDTH, 1]) @ K, matrix, width, height)
            views.append(View(camera, np.zeros(5), partial(_frames, pictures, masks)))
        return views
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise FormatError(f"{path} holds no calibration of these cameras ({str(error)[:100]}). Take a fresh copy of it.") from None


def _frames(pictures: Path, masks: Path, wanted: Sequence[int] | None) -> Frames:
    """Pictures and mattes of a camera; the first one alone where `wanted` is None."""
    try:
        with zipfile.ZipFile(pictures) as colors, zipfile.ZipFile(masks) as parts:
            names, part_names = ({PurePosixPath(n).name: n for n in archive.namelist()} for archive in (colors, parts))
            for frame in [f"{number:06d}" for number in wanted] if wanted is not None else [min(names).partition(".")[0]]:
                if f"{frame}.avif" not in names or f"{frame}.png" not in part_names:
                    raise FormatError(f"{pictures} or its segmentation lacks frame {frame}, as some do. Track the frames it has.")
                picture = _decode(colors, names[f"{frame}.avif"], "RGB")
                part = _decode(parts, part_names[f"{frame}.png"], "L")
                if part.shape != picture.shape[:2]:
                    part = np.array(Image.fromarray(part).resize((picture.shape[1], picture.shape[0]), Image.Resampling.NEAREST))
                yield picture, np.where(np.isin(part, NOT_PERSON), 0, 255).astype(np.uint8)
    except (OSError, zipfile.BadZipFile) as error:
        raise FormatError(f"{pictures} or its segmentation is no sound zip ({str(error)[:100]}). Take a fresh copy of it.") from None


def _decode(archive: zipfile.ZipFile, name: str, mode: str) -> np.ndarray:
    if archive.getinfo(name).file_size > _MOST_BYTES:
        raise FormatError(f"{name} in {archive.filename} is larger than is accepted.")
    try:
        image = Image.open(io.BytesIO(archive.read(name)), formats=("AVIF", "PNG", "JPEG"))
        return np.array(image if image.mode == mode or (mode == "L" and image.mode == "P") else image.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(f"{name} in {archive.filename} cannot be decoded ({error}). Take a fresh copy of it.") from None
