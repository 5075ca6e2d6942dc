# SPDX-License-Identifier: Apache-2.0
import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from mvp4d_core.errors import InputError, StorageError
from mvp4d_core.io.atomic import atomic_json, atomic_path, atomic_text, atomic_write, is_temporary
from tests.support import faults
from tests.support.savers import SAVERS

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions, signals and special files")


def test_text_and_json_arrive(tmp_path):
    atomic_text(tmp_path / "a.txt", "ä\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == "ä\r\nb\n".encode()
    atomic_json(tmp_path / "a.json", {"k": [1, "é"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"k": [1, "é"]}
    with pytest.raises(ValueError, match="JSON"):
        atomic_json(tmp_path / "a.json", float("nan"))
    assert faults.file_names(tmp_path) == ["a.json", "a.txt"]


@pytest.mark.parametrize("error", [InputError("no"), KeyboardInterrupt(), SystemExit()])
def test_any_exception_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_write(path) as file:
        file.write(b"half")
        raise error
    assert path.read_text() == "old"
    assert faults.file_names(tmp_path) == ["a"]


def test_an_error_of_another_file_keeps_its_kind(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        (tmp_path / "elsewhere" / "b").read_bytes()
    assert faults.file_names(tmp_path) == []


def test_path_for_writers_by_name(tmp_path):
    with atomic_path(tmp_path / "clip.mp4") as temporary:
        assert temporary.suffix == ".mp4"
        assert temporary.parent == tmp_path
        assert not temporary.exists()
        assert is_temporary(temporary)
        temporary.write_bytes(b"new")
    assert (tmp_path / "clip.mp4").read_bytes() == b"new"
    with pytest.raises(StorageError), atomic_path(tmp_path / "clip.mp4"):
        pass
    assert (tmp_path / "clip.mp4").read_bytes() == b"new"
    assert not is_temporary(tmp_path / "clip.mp4")


def test_stale_file_of_a_killed_process_is_no_obstacle(tmp_path):
    with atomic_path(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"x")
    temporary.write_bytes(b"left over")
    atomic_text(tmp_path / "a.png", "new")
    assert [name for name in faults.file_names(tmp_path) if not is_temporary(name)] == ["a.png"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("missing/a", "does not exist"), ("folder", "is a folder"), ("file/a", "does not exist"), ("a\0b", "null"), ("n" * 300, "too long")],
)
def test_impossible_targets(tmp_path, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match=says), atomic_write(tmp_path / name):
        pass
    assert faults.file_names(tmp_path) == ["file", "folder"]


@posix
def test_special_files_are_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    for path, says in ((Path("/dev/null"), "device"), (tmp_path / "pipe", "pipe"), (tmp_path / "circle", "circle")):
        with pytest.raises(StorageError, match=says):
            atomic_text(path, "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@posix
def test_links_and_permissions_are_kept(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    atomic_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    umask = os.umask(0o027)
    try:
        atomic_text(tmp_path / "fresh", "x")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o640


@posix
def test_read_only_folder():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "a").write_text("old")
        folder.chmod(0o555)
        try:
            with faults.unprivileged(), pytest.raises(StorageError, match="may not write"):
                atomic_text(folder / "a", "new")
        finally:
            folder.chmod(0o755)
        assert faults.file_names(folder) == ["a"]
        assert (folder / "a").read_text() == "old"


@pytest.mark.parametrize("kind", SAVERS)
def test_every_disk_error_at_every_step_leaves_a_whole_file(tmp_path, kind):
    saver = SAVERS[kind]
    path = tmp_path / f"file{saver.suffix}"
    steps = faults.assert_survives_faults(lambda version: saver.save(path, version), lambda: saver.load(path), tmp_path)
    assert steps >= 4


@posix
@pytest.mark.parametrize("kind", SAVERS)
def test_a_kill_at_every_step_leaves_a_whole_file(tmp_path, kind):
    operations = faults.kill_at_every_operation(kind, tmp_path / f"file{SAVERS[kind].suffix}")
    assert operations[-3:] == ["fsync", "replace", "fsync"]


@posix
@pytest.mark.parametrize("kind", SAVERS)
def test_kills_at_random_moments_leave_a_whole_file(tmp_path, kind):
    assert faults.kill_at_random(kind, tmp_path / f"file{SAVERS[kind].suffix}", 15) <= 15


@posix
@pytest.mark.parametrize("kind", SAVERS)
def test_a_disk_that_fills_up_is_noticed(tmp_path, kind):
    saver = SAVERS[kind]
    saver.save(tmp_path / f"probe{saver.suffix}", 2)
    size = (tmp_path / f"probe{saver.suffix}").stat().st_size
    (tmp_path / f"probe{saver.suffix}").unlink()
    messages = faults.fill_the_disk(kind, tmp_path / f"file{saver.suffix}", [0, 1, size // 3, size - 1])
    assert all("Choose another folder" in message for message in messages)
