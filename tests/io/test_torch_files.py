# SPDX-License-Identifier: Apache-2.0
"""What torch saved, with numpy's arrays in it, and files that would like to run something."""

import io
import os
import zipfile

import numpy as np
import pytest

from mvp4d_core.errors import FormatError, InputError
from mvp4d_core.io.limits import Limits
from mvp4d_core.io.torch_files import torch_arrays
from tests.support.mutation import assert_refuses_cleanly, peak_memory

torch = pytest.importorskip("torch")


class Payload:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def save(path, value):
    torch.save(value, path)
    return path


def test_tensors_and_numpys_arrays_come_out_as_they_went_in(tmp_path):
    rng = np.random.default_rng(0)
    held = {
        "a": torch.arange(6).reshape(2, 3),
        "half": torch.ones(2, dtype=torch.float16),
        "in": {
            "f4": rng.normal(size=(2, 3)).astype("f4"),
            "by columns": np.asfortranarray(rng.normal(size=(3, 2))),
            "big": np.arange(3, dtype=">i4"),
        },
        "scalar": np.float32(0.25),
        "number": 7,
        "list": [1, 2.5],
        "text": "left out",
        "view": torch.arange(12).reshape(3, 4)[:, 1],
    }
    read = torch_arrays(save(tmp_path / "a.pt", held))
    assert set(read) == {"a", "half", "in/f4", "in/by columns", "in/big", "scalar", "number", "list", "view"}
    for name in ("f4", "by columns", "big"):
        np.testing.assert_array_equal(read[f"in/{name}"], held["in"][name])
        assert read[f"in/{name}"].dtype == held["in"][name].dtype
    assert read["scalar"] == 0.25 and read["number"] == 7
    np.testing.assert_array_equal(read["view"], [1, 5, 9])
    np.testing.assert_array_equal(read["a"], held["a"].numpy())


@pytest.mark.parametrize("value", [Payload(), {"a": Payload()}, {"a": [np.array([Payload()], object)]}])
def test_nothing_runs(tmp_path, value, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FormatError, match="holds no tensors that can be read"):
        torch_arrays(save(tmp_path / "a.pt", value))
    assert not (tmp_path / "ran").exists()


def test_arrays_of_objects_and_texts_are_refused(tmp_path):
    for array in (np.array([{}], object), np.array(["a"]), np.zeros(2, [("x", "f4")])):
        with pytest.raises(FormatError):
            torch_arrays(save(tmp_path / "a.pt", {"a": array}))


def test_sizes_are_known_before_anything_is_made(tmp_path):
    wide = torch.zeros(1).expand(10**9)
    path = save(tmp_path / "a.pt", {"a": wide})
    assert peak_memory(lambda: torch_arrays(path, Limits(array_bytes=10**6))) < 10**6
    with pytest.raises(InputError, match="bytes in its arrays"):
        torch_arrays(path, Limits(array_bytes=10**6))
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    path.write_bytes(packed.getvalue())
    with pytest.raises(FormatError, match="packed"):
        torch_arrays(path)
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(FormatError):
        torch_arrays(path)
    nested = {}
    for _ in range(40):
        nested = {"a": nested, "b": nested}
    assert torch_arrays(save(path, nested)) == {}


def test_mutants_are_refused_cleanly(tmp_path):
    path = save(tmp_path / "a.pt", {"flame": {"exp": np.ones((1, 100), "f4"), "t": torch.ones(1, 3)}})
    assert assert_refuses_cleanly(torch_arrays, path.read_bytes(), path, 400) > 100
