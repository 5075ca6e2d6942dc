# SPDX-License-Identifier: Apache-2.0
"""Finished blocks on disk, and the keys they are known by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mvp4d_core.diffusion.blocks import BlockStore, digest_of, files_digest, remove_blocks
from mvp4d_core.errors import StorageError
from tests.support.asserts import assert_arrays_close

FRAMES = np.arange(2 * 3 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 4, 3)


def test_a_block_comes_back(tmp_path):
    store = BlockStore(tmp_path / "blocks", "key")
    assert store.load(0, FRAMES.shape) is None
    store.save(0, FRAMES)
    assert_arrays_close(BlockStore(tmp_path / "blocks", "key").load(0, FRAMES.shape), FRAMES)
    assert store.load(1, FRAMES.shape) is None


def test_a_block_of_another_run_or_shape_counts_as_not_made(tmp_path):
    BlockStore(tmp_path, "key").save(0, FRAMES)
    assert BlockStore(tmp_path, "other").load(0, FRAMES.shape) is None
    assert BlockStore(tmp_path, "key").load(0, FRAMES[:, :2].shape) is None


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"\xff" * len(raw)])
def test_a_damaged_block_counts_as_not_made_and_is_made_anew(tmp_path, damage):
    store = BlockStore(tmp_path, "key")
    store.save(0, FRAMES)
    path = next(tmp_path.glob("block_*"))
    path.write_bytes(damage(path.read_bytes()))
    assert store.load(0, FRAMES.shape) is None
    store.save(0, FRAMES)
    assert_arrays_close(store.load(0, FRAMES.shape), FRAMES)


def test_removal_leaves_what_is_not_a_block(tmp_path):
    folder = tmp_path / "blocks"
    store = BlockStore(folder, "key")
    store.save(0, FRAMES)
    (folder / "notes.txt").write_text("mine")
    remove_blocks(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    (folder / "notes.txt").unlink()
    remove_blocks(folder)
    assert not folder.exists()
    remove_blocks(folder)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StorageError, match="taken"):
        BlockStore(tmp_path / "taken", "key")


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8)


def written(value: object) -> str:
    """A text that is the same for equal values of equal types alone."""
    if isinstance(value, dict):
        return f"dict({sorted((key, written(item)) for key, item in value.items())})"
    return f"list({[written(item) for item in value]})" if isinstance(value, list) else f"{type(value)}{value!r}"


@given(values, values)
def test_digests_are_equal_exactly_where_values_are(first, second):
    assert (digest_of(first) == digest_of(second)) == (written(first) == written(second))


def test_digests_tell_arrays_apart():
    array = np.arange(6, dtype=np.float32)
    distinct = [array, array.reshape(2, 3), array.astype(np.float64), array[::-1], array.tolist(), array.tobytes()]
    assert len({digest_of([value]) for value in distinct}) == len(distinct)
    assert digest_of(array[::2]) == digest_of(array[::2].copy())
    with pytest.raises(TypeError):
        digest_of({"what": object()})


def test_a_folders_digest_follows_names_and_contents(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.bin").write_bytes(b"one")
    first = files_digest(tmp_path)
    assert files_digest(tmp_path) == first
    (tmp_path / "sub" / "a.bin").rename(tmp_path / "sub" / "b.bin")
    renamed = files_digest(tmp_path)
    (tmp_path / "sub" / "b.bin").write_bytes(b"two")
    assert len({first, renamed, files_digest(tmp_path)}) == 3
