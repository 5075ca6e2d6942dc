# SPDX-License-Identifier: Apache-2.0
import os
import tempfile
from pathlib import Path

import pytest

from mvp4d_core.avatar.ply import read_ply
from mvp4d_core.errors import InputError, StorageError
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.io.images import read_image
from mvp4d_core.io.limits import Limits
from mvp4d_core.io.reading import open_input
from mvp4d_core.io.video import read_video
from tests.support import faults

READERS = {"safetensors": safetensors_numpy.read, "ply": read_ply, "image": read_image, "video": read_video}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("name", "says"),
    [("missing", "no such file"), ("no/such", "no such file"), ("folder", "a folder"), ("file/x", "not a folder"), ("a\0b", "null")],
)
def test_paths_that_are_no_file(tmp_path, read, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=says):
        read(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_pipe_or_device_is_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(StorageError, match="device or a pipe"):
            read(path)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_file_that_may_not_be_read():
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        path = Path(name) / "a"
        path.write_text("secret")
        path.chmod(0)
        with faults.unprivileged(), pytest.raises(StorageError, match="may not read"), open_input(path):
            pass


def test_size_limit_and_failing_disk(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    with open_input(path, Limits(file_bytes=5)) as (stream, size):
        assert (stream.read(), size) == (b"12345", 5)
    with pytest.raises(InputError, match="5 bytes, more than the 4"), open_input(path, Limits(file_bytes=4)):
        pass
    with pytest.raises(StorageError, match="read error"), open_input(path):
        faults.failing(5)("read")
