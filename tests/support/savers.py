# SPDX-License-Identifier: Apache-2.0
"""One saver for every kind of file that is written, for the fault injection of `faults`.

A saver writes a file that stands for a small integer, its version, and reads the version back, failing when the file is not whole.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mvp4d_core.avatar import GaussianAvatar, load_avatar, ply, save_avatar
from mvp4d_core.io import atomic, images, safetensors_numpy, video

from .toy_avatar import toy_avatar


class Saver(NamedTuple):
    suffix: str
    save: Callable[[Path, int], None]
    load: Callable[[Path], int]
    prepare: Callable[[], object] = lambda: None  # what is worth doing once, before processes are forked


def _one_value(array: np.ndarray) -> int:
    value = array.flat[0]
    assert (array == value).all(), "the file mixes two versions"
    return round(float(value))


def _save_json(path: Path, version: int) -> None:
    atomic.atomic_json(path, [version] * 20_000)


def _load_json(path: Path) -> int:
    return _one_value(np.array(json.loads(path.read_text(encoding="utf-8"))))


def _save_safetensors(path: Path, version: int) -> None:
    tensors = {"a": np.full(30_000, version, np.float32), "b": np.full(9, version, np.int64)}
    safetensors_numpy.write(path, tensors, {"version": str(version)})


def _load_safetensors(path: Path) -> int:
    tensors, metadata = safetensors_numpy.read(path)
    version = _one_value(tensors["a"])
    assert _one_value(tensors["b"]) == version == int(metadata["version"])
    return version


def _save_ply(path: Path, version: int) -> None:
    shapes = [(500, 3), (500, 4), (500, 3), (500,), (500, 3), (500, 15, 3)]
    ply.write_ply(path, *(np.full(shape, version + 1, np.float32) for shape in shapes))


def _load_ply(path: Path) -> int:
    return _one_value(np.concatenate([array.ravel() for array in ply.read_ply(path)])) - 1


def _pattern(version: int) -> np.ndarray:
    """(96, 128, 3) that survives video compression: a grey level that stands for the version, 0..20."""
    return np.full((96, 128, 3), (version % 20) / 20, np.float32)


def _save_png(path: Path, version: int) -> None:
    images.write_image(path, _pattern(version))


def _load_png(path: Path) -> int:
    return round(_one_value(images.read_image(path)[0] * 255) / 255 * 20)


def _save_mp4(path: Path, version: int) -> None:
    video.write_video(path, [_pattern(version)] * 6, 25)


def _load_mp4(path: Path) -> int:
    frames, _ = video.read_video(path)
    assert len(frames) == 6
    return _one_value(np.round(frames * 20))


@cache
def _avatar() -> GaussianAvatar:
    return toy_avatar(300)


def _save_avatar(path: Path, version: int) -> None:
    save_avatar(path, replace(_avatar(), sh0=np.full((300, 3), version, np.float32), metadata={"version": str(version)}))


def _load_avatar(path: Path) -> int:
    avatar = load_avatar(path)
    version = _one_value(avatar.sh0)
    assert avatar.metadata["version"] == str(version)
    np.testing.assert_array_equal(avatar.means, _avatar().means)
    return version


SAVERS = {
    "json": Saver(".json", _save_json, _load_json),
    "safetensors": Saver(".safetensors", _save_safetensors, _load_safetensors),
    "ply": Saver(".ply", _save_ply, _load_ply),
    "png": Saver(".png", _save_png, _load_png),
    "avatar": Saver(".mvp4d", _save_avatar, _load_avatar, _avatar),
    "mp4": Saver(".mp4", _save_mp4, _load_mp4),
}
