# SPDX-License-Identifier: Apache-2.0
"""RenderMe-360 (Pan et al. 2023): 60 calibrated cameras around the head, .smc files (HDF5). Needs the package h5py.

Certain, from the authors' reader and benchmark code:

    <folder>/**/<actor>_<part>*.smc      attributes actor_id, performance_part
    Camera/<00..59>/color/<frame>        an encoded picture (2448 x 2048 px), Camera/<id>/mask/<frame> an encoded matte
    Calibration/<id>/{K, D, RT}          K 3 x 3; D of OpenCV's distortion, 5 numbers; RT 4 x 4 camera to world, OpenCV axes, metres

Less certain: the release has pictures in files named `..._raw.smc` and the rest in `..._anno.smc`; a file that lacks groups is looked
up in its twin. Their FLAME fits are not read. Tracks (ours): <tracks>/<actor>_<part>.safetensors.
"""

import importlib
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from ...cameras import Camera
from ...errors import FormatError, MissingAssetError
from ...rig import HeadModel
from ..store import ClipSource
from .captures import Frames, View, pieces

NAME = "renderme360"
_MOST_BYTES = 1 << 27  # of an encoded picture


def read_renderme360(folder: Path, tracks: Path, head_model: HeadModel) -> Iterator[ClipSource]:
    """The clips of all actors' parts."""
    recordings: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.smc")):
        recordings.setdefault(path.stem.removesuffix("_raw").removesuffix("_anno"), []).append(path)
    for name, files in recordings.items():
        try:
            holes, cameras = [], len(_cameras(name, files))
        except FormatError as error:
            holes, cameras = [str(error)], 0
        track, views = tracks / f"{name}.safetensors", partial(_views, name, files)
        yield from pieces(name, name.split("_")[0], NAME, track, holes, views, head_model, cameras)


def _cameras(name: str, files: Sequence[Path]) -> list[str]:
    """The cameras that have pictures and mattes."""
    h5py, found = _h5py(), {"color": set[str](), "mask": set[str]()}
    calibrated = False
    for path in files:
        with _open(h5py, path) as file:
            calibrated |= "Calibration" in file
            for camera in file.get("Camera", ()):
                for kind in found.keys() & file["Camera"][camera].keys():
                    found[kind].add(camera)
    if not calibrated or not found["color"]:
        raise FormatError(f"{name} has no group Calibration, or no pictures in Camera. Download both its _anno.smc and its _raw.smc.")
    if bare := sorted(found["color"] - found["mask"]):
        raise FormatError(f"{name} lacks the mattes of {len(bare)} cameras, such as {bare[0]}. Download its _anno.smc and its _raw.smc.")
    return sorted(found["color"])


def _views(name: str, files: Sequence[Path]) -> list[View]:
    cameras, h5py = _cameras(name, files), _h5py()
    opened = [_open(h5py, path) for path in files]
    try:
        calibration = next(file["Calibration"] for file in opened if "Calibration" in file)
        views = []
        for camera in cameras:
            K, D, pose = (np.asarray(calibration[camera][key][()], dtype=np.float64) for key in ("K", "D", "RT"))
            first = next(iter(_pictures(h5py, files, camera, None)))[0]
            views.append(View(
                Camera(K, np.linalg.inv(pose), first.shape[1], first.shape[0]),
                np.pad(D.ravel(), (0, 5))[:5], partial(_pictures, h5py, files, camera),
            ))  # fmt: skip
        return views
    except (KeyError, ValueError, np.linalg.LinAlgError) as error:
        raise FormatError(f"{name} is no sound RenderMe-360 recording ({str(error)[:100]}). Take a fresh copy of it.") from None
    finally:
        for file in opened:
            file.close()


def _pictures(h5py: ModuleType, files: Sequence[Path], camera: str, wanted: Sequence[int] | None) -> Frames:
    """Pictures and mattes of a camera; the first one alone where `wanted` is None."""
    opened = [_open(h5py, path) for path in files]
    try:
        groups = [file["Camera"][camera] for file in opened if "Camera" in file and camera in file["Camera"]]
        colors = next((group["color"] for group in groups if "color" in group), None)
        mattes = next((group["mask"] for group in groups if "mask" in group), None)
        if colors is None or mattes is None:
            raise FormatError(f"The camera {camera} of {files[0].name} lacks pictures or mattes. Download its _anno.smc and its _raw.smc.")
        for frame in [min(int(key) for key in colors)] if wanted is None else wanted:
            if str(frame) not in colors or str(frame) not in mattes:
                raise FormatError(f"The camera {camera} of {files[0].name} lacks frame {frame}. Track the frames it has.")
            yield _decode(colors[str(frame)][()], "RGB"), _decode(mattes[str(frame)][()], "RGB").max(axis=-1)
    finally:
        for file in opened:
            file.close()


def _decode(encoded: np.ndarray, mode: str) -> np.ndarray:
    data = np.asarray(encoded, dtype=np.uint8).tobytes()
    if len(data) > _MOST_BYTES:
        raise FormatError(f"A picture of {len(data):,} bytes is larger than is accepted.")
    try:
        return np.array(Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "BMP", "WEBP")).convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(f"A picture cannot be decoded ({error}). Take a fresh copy of the recording.") from None


def _open(h5py: ModuleType, path: Path) -> Any:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise FormatError(f"{path} is no sound .smc file ({str(error)[:100]}). Take a fresh copy of it.") from None


def _h5py() -> ModuleType:
    try:
        return importlib.import_module("h5py")
    except ImportError:
        raise MissingAssetError("RenderMe-360 needs the package h5py. Install it with: pip install h5py") from None
