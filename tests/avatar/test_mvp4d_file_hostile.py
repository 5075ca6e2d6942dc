# SPDX-License-Identifier: Apache-2.0
"""Avatars that are damaged or made to do harm: each is refused with an error of ours, soon, and without large allocations."""

import json

import numpy as np
import pytest

from mvp4d_core.avatar import load_avatar, save_avatar
from mvp4d_core.avatar.gaussian_avatar import GAUSSIAN_ARRAYS
from mvp4d_core.errors import FormatError, InputError, MVP4DError, StorageError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.rig import head_model_to_tensors, rest_parameters
from tests.support.mutation import assert_refuses_cleanly, peak_memory
from tests.support.toy_avatar import toy_avatar
from tests.support.toy_head import toy_head_model

OTHER_DTYPES = (np.float64, np.float16, np.int64, np.uint8, np.bool_, np.complex64)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "a.mvp4d"
    save_avatar(path, toy_avatar(40))
    return path.read_bytes()


def pose(path):
    """Loads an avatar and uses it: what is accepted must also work."""
    avatar = load_avatar(path)
    posed = avatar.pose(rest_parameters(avatar.rig))
    assert np.isfinite(posed.means).all()


def refused(path, tensors, metadata):
    """Whether the avatar is refused. An error that is not of ours fails the test."""
    safetensors_numpy.write(path, tensors, metadata)
    try:
        pose(path)
    except MVP4DError as error:
        assert isinstance(error, FormatError | InputError)
        return True
    return False


def test_the_sound_file_loads(tmp_path, sound):
    (tmp_path / "a.mvp4d").write_bytes(sound)
    pose(tmp_path / "a.mvp4d")


def test_mutated_bytes(tmp_path, sound):
    assert assert_refuses_cleanly(load_avatar, sound, tmp_path / "a.mvp4d", 400) > 150


def test_every_truncation(tmp_path, sound):
    header = 8 + int.from_bytes(sound[:8], "little")
    for end in [*range(0, header, 53), *range(header, len(sound), len(sound) // 40)]:
        (tmp_path / "a.mvp4d").write_bytes(sound[:end])
        with pytest.raises(FormatError):
            load_avatar(tmp_path / "a.mvp4d")


TENSORS = [
    *(f"gaussians.{name}" for name in (*GAUSSIAN_ARRAYS, "binding")),
    *(f"rig.{name}" for name in head_model_to_tensors(toy_head_model())[0] if not name.startswith("region.")),
    "rig.region.face",
]


@pytest.mark.parametrize("name", TENSORS)
def test_every_tensor_that_is_missing_or_of_another_kind(tmp_path, sound, name):
    path = tmp_path / "a.mvp4d"
    tensors, metadata = safetensors_numpy.read(sound)
    array = tensors[name]
    rest = {key: value for key, value in tensors.items() if key != name}
    assert refused(path, rest, metadata) == (name not in ("rig.static_offsets", "rig.region.face"))  # the two that may be absent
    for dtype in OTHER_DTYPES:
        assert refused(path, {**rest, name: np.real(array).astype(dtype)}, metadata), dtype
    shapes = [array[None], array[..., None], array.reshape(-1)[:0], np.zeros((), array.dtype), array[:-1]]
    for changed in shapes:
        if name == "rig.region.face" and changed.ndim == 1:
            continue
        assert refused(path, {**rest, name: changed}, metadata), changed.shape
    if array.dtype.kind == "f" and array.size:
        for bad in (np.nan, np.inf, -np.inf):
            changed = array.copy()
            changed.flat[array.size // 2] = bad
            assert refused(path, {**rest, name: changed}, metadata), bad
    if array.dtype.kind == "i":
        for bad in (-2, 2**31 - 1, -(2**31)):
            changed = array.copy()
            changed.flat[-1] = bad
            assert refused(path, {**rest, name: changed}, metadata), bad


def test_every_text_that_is_missing_or_nonsense(tmp_path, sound):
    path = tmp_path / "a.mvp4d"
    tensors, metadata = safetensors_numpy.read(sound)
    texts = [key for key in metadata if key == "schema" or key.startswith("rig.")]
    assert len(texts) == 7
    nonsense = (
        "",
        "{",
        "null",
        "1e400",
        "NaN",
        "[" * 5000,
        "[1, 2]",
        '["a", "a"]',
        '{"a": 1}',
        '"\\ud800"',
        "9" * 5000,
        json.dumps("x" * 10**6),
    )
    for key in texts:
        assert refused(path, tensors, {k: v for k, v in metadata.items() if k != key})
        for text in nonsense:
            refused(path, tensors, {**metadata, key: text})
        assert refused(path, tensors, {**metadata, key: "{"})


@pytest.mark.parametrize("schema", ["mvp4d-avatar/2", "mvp4d-head/1", "x" * 100_000])
def test_another_schema_is_named(tmp_path, sound, schema):
    tensors, metadata = safetensors_numpy.read(sound)
    safetensors_numpy.write(tmp_path / "a.mvp4d", tensors, {**metadata, "schema": schema})
    with pytest.raises(FormatError) as caught:
        load_avatar(tmp_path / "a.mvp4d")
    assert schema[:40] in str(caught.value) and len(str(caught.value)) < 400


def test_other_files(tmp_path, sound):
    with pytest.raises(StorageError, match="no such file"):
        load_avatar(tmp_path / "missing.mvp4d")
    with pytest.raises(StorageError, match="folder"):
        load_avatar(tmp_path)
    for content in (b"", b"ply\n", b"PK\x03\x04" + bytes(100), b"\x80\x04\x95" + bytes(100), bytes(10_000)):
        (tmp_path / "a.mvp4d").write_bytes(content)
        with pytest.raises(FormatError):
            load_avatar(tmp_path / "a.mvp4d")


def test_memory_of_a_lying_header(tmp_path, sound):
    length = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + length])
    header["gaussians.means"]["shape"] = [2**40, 3]
    text = json.dumps(header).encode()
    (tmp_path / "a.mvp4d").write_bytes(len(text).to_bytes(8, "little") + text + sound[8 + length :])
    assert peak_memory(lambda: load_avatar(tmp_path / "a.mvp4d")) < 1_000_000
    (tmp_path / "a.mvp4d").write_bytes(sound)
    assert peak_memory(lambda: load_avatar(tmp_path / "a.mvp4d")) < 3 * len(sound) + 1_000_000
