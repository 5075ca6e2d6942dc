# SPDX-License-Identifier: Apache-2.0
"""Archives of numpy's, ours and hostile ones."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvp4d_core.errors import FormatError, InputError, StorageError
from mvp4d_core.io.limits import Limits
from mvp4d_core.io.npz import read_npy, read_npz, write_npz
from tests.support.mutation import assert_refuses_cleanly, peak_memory

moderate = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
arrays = st.sampled_from(["f4", ">f8", "i2", "u1", "?"]).flatmap(
    lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
)


@moderate
@given(first=arrays, second=arrays, columns=st.booleans(), packed=st.booleans())
def test_reads_what_numpy_writes_and_numpy_reads_what_is_written(tmp_path, first, second, columns, packed):
    given_arrays = {"a": np.asfortranarray(first) if columns and first.ndim else first, "b": second}
    (np.savez_compressed if packed else np.savez)(tmp_path / "a.npz", **given_arrays)
    read = read_npz(tmp_path / "a.npz", ("a", "b", "c"))
    write_npz(tmp_path / "b.npz", given_arrays)
    with np.load(tmp_path / "b.npz", allow_pickle=False) as written:
        for name, array in given_arrays.items():
            for other in (read[name], written[name]):
                assert other.shape == array.shape and other.dtype == array.dtype
                np.testing.assert_array_equal(other, array)
    assert list(read) == ["a", "b"] and read["a"].flags.writeable


def test_what_is_not_wanted_is_not_looked_at(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3), b=np.array([{}], object))
    assert list(read_npz(tmp_path / "a.npz", ("a",))) == ["a"]
    with pytest.raises(FormatError, match=r"b\.npy' holds object, not numbers"):
        read_npz(tmp_path / "a.npz", ("b",))


def archive(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return stream.getvalue()


def npy(shape, descr="<f4", data=b""):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (npy("(1000000000000,)"), "promises"),
        (npy("(-1,)"), "promises|shape"),
        (npy("(4,)", data=bytes(15)), "promises"),
        (npy("(2,)", "|O", bytes(16)), "not numbers"),
        (npy("(2,)", "<U4", bytes(32)), "not numbers"),
        (npy("(2,)", [("a", "<f4")], bytes(8)), "not numbers"),
        (npy("__import__('os')"), "sound .npz"),
        (npy("(" * 400), "sound .npz"),
        (b"\x93NUMPY\x09\x00", "version"),
        (b"", "sound .npz"),
    ],
)
def test_members_that_lie(tmp_path, data, says):
    (tmp_path / "a.npz").write_bytes(archive(a=data))
    with pytest.raises(FormatError, match=says):
        read_npz(tmp_path / "a.npz", ("a",))


def test_bombs_limits_and_damage(tmp_path):
    bomb = archive(a=npy("(100000000,)", "|u1", bytes(100_000_000)))
    (tmp_path / "a.npz").write_bytes(bomb)
    assert peak_memory(lambda: read_npz(tmp_path / "a.npz", ("a",), Limits(array_bytes=99_000_000))) < 1_000_000
    with pytest.raises(InputError, match="bytes in its arrays, more than the 99,000,000"):
        read_npz(tmp_path / "a.npz", ("a",), Limits(array_bytes=99_000_000))
    lying = bomb.replace((100_000_128).to_bytes(4, "little"), (1128).to_bytes(4, "little"))
    assert lying != bomb
    (tmp_path / "a.npz").write_bytes(lying)
    assert peak_memory(lambda: read_npz(tmp_path / "a.npz", ("a",))) < 1_000_000
    with pytest.raises(FormatError):
        read_npz(tmp_path / "a.npz", ("a",))
    np.savez(tmp_path / "b.npz", a=np.arange(50.0), b=np.ones((3, 4), np.float32))
    assert assert_refuses_cleanly(lambda path: read_npz(path, ("a", "b")), (tmp_path / "b.npz").read_bytes(), tmp_path / "b.npz", 400) > 150
    with pytest.raises(StorageError, match="no such file"):
        read_npz(tmp_path / "c.npz", ("a",))


def test_texts_are_read_where_they_are_asked_for(tmp_path):
    np.savez(tmp_path / "a.npz", names=np.array(["cam0", "Käm\U0001f600"]), a=np.arange(2))
    read = read_npz(tmp_path / "a.npz", ("a",), texts=("names",))
    assert read["names"].tolist() == ["cam0", "Käm\U0001f600"]
    for descr, data, says in (
        ("<U2", b"\xff" * 8, "no characters"),
        (">U2", b"\x01\0\0\0" * 2, "no characters"),
        ("|O", bytes(8), "not numbers"),
    ):
        (tmp_path / "b.npz").write_bytes(archive(names=npy("(1,)", descr, data)))
        with pytest.raises(FormatError, match=says):
            read_npz(tmp_path / "b.npz", (), texts=("names",))


def test_single_arrays(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(read_npy(path), np.arange(6.0).reshape(2, 3))
    assert assert_refuses_cleanly(read_npy, path.read_bytes(), path, 300) > 100
    with pytest.raises(InputError):
        read_npy(path, Limits(array_bytes=10))
    np.save(path, np.array([{}], object), allow_pickle=True)
    with pytest.raises(FormatError, match="not numbers"):
        read_npy(path)
