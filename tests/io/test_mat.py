# SPDX-License-Identifier: Apache-2.0
"""MAT-files as scipy writes them, and hostile ones."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.io import savemat

from mvp4d_core.errors import FormatError, InputError, StorageError
from mvp4d_core.io.limits import Limits
from mvp4d_core.io.mat import read_mat
from tests.support.mutation import assert_refuses_cleanly, peak_memory

moderate = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
arrays = st.sampled_from(["f4", "f8", "i2", "u1", "i8"]).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=2, max_side=5)))


@moderate
@given(first=arrays, second=arrays, packed=st.booleans())
def test_reads_what_scipy_writes(tmp_path, first, second, packed):
    savemat(tmp_path / "a.mat", {"first": first, "no": "text", "cell": np.array([[{}]], object), "second": second}, do_compression=packed)
    read = read_mat(tmp_path / "a.mat", ("first", "second", "no", "cell", "other"))
    assert list(read) == ["first", "second"]
    for name, array in (("first", first), ("second", second)):
        assert read[name].shape == array.shape and read[name].dtype.kind == array.dtype.kind
        np.testing.assert_array_equal(read[name], array)


def matrix(sides, data, name=b"a"):
    def element(kind, body):
        return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)

    flags, dims = struct.pack("<II", 7, 0), struct.pack(f"<{len(sides)}i", *sides)
    return element(14, element(6, flags) + element(5, dims) + element(1, name) + element(7, data))


def file(*elements):
    return bytes(124) + b"\x00\x01IM" + b"".join(elements)


def test_lies_bombs_and_damage(tmp_path):
    path = tmp_path / "a.mat"
    for data in (b"", bytes(200), file(matrix((1, 10**9), b"")), file(matrix((-1, 4), bytes(16))), file(matrix((2, 2), bytes(12)))):
        path.write_bytes(data)
        with pytest.raises(FormatError, match="MAT-file"):
            read_mat(path, ("a",))
    packed = zlib.compress(matrix((1, 20_000_000), bytes(80_000_000)))
    path.write_bytes(file(struct.pack("<II", 15, len(packed)) + packed))
    assert peak_memory(lambda: read_mat(path, ("a",), Limits(array_bytes=1_000_000))) < 1_000_000
    assert peak_memory(lambda: read_mat(path, ("b",))) < 1_000_000
    with pytest.raises(FormatError, match="more than it can hold"):
        read_mat(path, ("a",), Limits(array_bytes=1_000_000))
    lying = zlib.compress(matrix((1, 4), bytes(16)) + bytes(80_000_000))
    path.write_bytes(file(struct.pack("<II", 15, len(lying)) + lying))
    assert peak_memory(lambda: read_mat(path, ("a",))) < 1_000_000
    with pytest.raises(InputError, match="bytes"):
        read_mat(path, ("a",), Limits(array_bytes=100))
    with pytest.raises(StorageError):
        read_mat(tmp_path / "no.mat", ("a",))


@pytest.mark.parametrize("packed", [False, True])
def test_mutants_are_refused_cleanly(tmp_path, packed):
    path = tmp_path / "a.mat"
    savemat(path, {"a": np.arange(60.0).reshape(3, 20), "b": np.ones((4, 4), np.float32)}, do_compression=packed)
    assert assert_refuses_cleanly(lambda p: read_mat(p, ("a", "b")), path.read_bytes(), path, 600) > 60
