# SPDX-License-Identifier: Apache-2.0
"""Places that cannot be written, closed and full streams, and files made to harm, through the command line."""

import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from mvp4d_core.avatar import save_avatar
from mvp4d_core.avatar.file_space import write_posed_ply
from mvp4d_core.io import safetensors_numpy
from mvp4d_core.io.images import write_image
from mvp4d_core.rig import rest_parameters
from tests.support.command_line import command
from tests.support.toy_avatar import toy_avatar

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="permissions and streams of POSIX")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def avatar(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("avatar")
    toy = toy_avatar(count=300)
    save_avatar(folder / "a.mvp4d", toy)
    write_posed_ply(folder / "a.ply", toy, rest_parameters(toy.rig))
    write_image(folder / "photo.png", np.full((80, 80, 3), 0.5))
    return folder / "a.mvp4d"


def test_a_folder_that_may_not_be_written_is_refused(avatar, tmp_path):
    with tempfile.TemporaryDirectory() as name:  # the folders of pytest are closed to others
        locked = Path(name) / "locked"
        locked.mkdir()
        Path(name).chmod(0o755)
        source, photo = Path(name) / "a.mvp4d", Path(name) / "photo.png"
        source.write_bytes(avatar.read_bytes())
        photo.write_bytes((avatar.parent / "photo.png").read_bytes())
        (locked / "old.png").write_bytes(b"old")
        locked.chmod(0o555)
        log = Path(name) / "log"
        log.mkdir()
        log.chmod(0o777)
        for target in (locked, locked / "below"):
            command("create", str(photo), "-o", str(target), folder=log, humble=True).expect(6, "Give another one with -o")
            command("track", str(photo), "-o", str(target), folder=log, humble=True).expect(6, "Give another one with -o")
        command("export", str(source), "-o", str(locked / "a.ply"), folder=log, humble=True).expect(6, "may not write")
        command("render", str(source), "-o", str(locked / "old.png"), "--size", "32", folder=log, humble=True).expect(6, "may not write")
        assert [path.name for path in locked.iterdir()] == ["old.png"] and (locked / "old.png").read_bytes() == b"old"
        locked.chmod(0o755)


def test_a_file_where_a_folder_should_be_is_refused_and_kept(avatar, tmp_path):
    photo, file = str(avatar.parent / "photo.png"), tmp_path / "file"
    file.write_bytes(b"mine")
    for target in (file, file / "below"):
        command("create", photo, "-o", str(target), folder=tmp_path).expect(6, "-o")
        command("export", str(avatar), "-o", str(target), "--sequence", folder=tmp_path).expect(6, "-o")
    command("export", str(avatar), "-o", str(file / "a.ply"), folder=tmp_path).expect(6, "Cannot write")
    assert file.read_bytes() == b"mine"
    (tmp_path / "folder.png").mkdir()
    command("render", str(avatar), "-o", str(tmp_path / "folder.png"), "--size", "32", folder=tmp_path).expect(6, "it is a folder")


def test_a_full_disk_keeps_the_old_file(avatar, tmp_path):
    for arguments, name in (("render --size 256", "x.png"), ("export", "x.ply"), ("animate --size 64", "x.mp4")):
        verb, *options = arguments.split()
        target = tmp_path / name
        target.write_bytes(b"old")
        ended = command(verb, str(avatar), "-o", str(target), *options, folder=tmp_path, file_size=2000)
        ended.expect(6, "larger than this disk")
        assert target.read_bytes() == b"old"
        assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name]


def hostile(avatar: Path, folder: Path) -> list[Path]:
    """Avatars and PLYs that are cut, that claim more than they hold, and that hold what no avatar can."""
    whole, ply = avatar.read_bytes(), avatar.with_suffix(".ply").read_bytes()
    tensors, texts = safetensors_numpy.read(avatar)
    files = {
        "cut.mvp4d": whole[: len(whole) // 2],
        "empty.mvp4d": b"",
        "header.mvp4d": struct.pack("<Q", 2**62) + whole[8:],
        "nested.mvp4d": struct.pack("<Q", 200_000) + b"[" * 200_000,
        "cut.ply": ply[: len(ply) // 2],
        "empty.ply": b"",
        "many.ply": ply.replace(b"element vertex 300", b"element vertex 15000000"),
        "too_many.ply": ply.replace(b"element vertex 300", b"element vertex 900000000000"),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    wrong = {
        "nan.mvp4d": ("gaussians.means", np.full_like(tensors["gaussians.means"], np.nan)),
        "binding.mvp4d": ("gaussians.binding", np.full_like(tensors["gaussians.binding"], 10**6)),
        "faces.mvp4d": ("rig.faces", np.full_like(tensors["rig.faces"], -5)),
        "shape.mvp4d": ("gaussians.quats", tensors["gaussians.quats"][:7]),
        "type.mvp4d": ("gaussians.sh0", tensors["gaussians.sh0"].astype(np.int64)),
    }
    for name, (key, array) in wrong.items():
        safetensors_numpy.write(folder / name, tensors | {key: array}, texts)
    return [*(folder / name for name in files), *(folder / name for name in wrong)]


def test_hostile_files_are_refused_by_every_command(avatar, tmp_path):
    for path in hostile(avatar, tmp_path):
        command("info", str(path), folder=tmp_path).expect(3, path.name)
        if path.suffix == ".mvp4d":
            command("render", str(path), "-o", str(tmp_path / "x.png"), folder=tmp_path).expect(3, path.name)
            command("export", str(path), "-o", str(tmp_path / "x.ply"), folder=tmp_path).expect(3, path.name)
            command("animate", str(path), "-o", str(tmp_path / "x.mp4"), folder=tmp_path).expect(3, path.name)
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize(
    ("options", "code", "pattern"),
    [
        ("--size 0", 2, "--size"),
        ("--size 100000", 2, "--size"),
        ("--azimuth nan", 2, "--azimuth"),
        ("--elevation 90", 2, "--elevation"),
        ("--device tpu", 2, "device"),
        ("--device cuda:99", 4, "cuda:99"),
    ],
)
def test_views_that_cannot_be_are_refused(avatar, tmp_path, options, code, pattern):
    for verb, name in (("render", "x.png"), ("animate", "x.mp4")):
        command(verb, str(avatar), "-o", str(tmp_path / name), *options.split(), folder=tmp_path).expect(code, pattern)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("redirection", "code"), [("</dev/null", 0), ("<&-", 0), (">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), ("| head -c 1", 0)]
)
def test_closed_streams_do_no_harm(avatar, redirection, code):
    shell = f'set -o pipefail; "$0" -m mvp4d_core info "$1" {redirection}'
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = ["bash", "-c", shell, sys.executable, str(avatar)]
    result = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (code, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_into_a_full_disk_is_an_error(avatar):
    run = ["bash", "-c", '"$0" -m mvp4d_core info "$1" --json >/dev/full', sys.executable, str(avatar)]
    result = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 6 and result.stderr == "mvp4d: No space left on device.\n"
