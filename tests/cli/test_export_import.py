# SPDX-License-Identifier: Apache-2.0
"""`mvp4d export` and `mvp4d import`: what each ending gives, and what does not go together."""

import json
import re
from pathlib import Path

import av
import numpy as np
import plyfile
import pytest
import trimesh

from mvp4d_core.avatar import load_avatar, save_avatar
from mvp4d_core.avatar.file_space import stored_pose
from mvp4d_core.avatar.posed_files import read_splats
from mvp4d_core.cli.main import main
from mvp4d_core.evaluation.flame_shaped_head import flame_head
from mvp4d_core.io.images import read_image
from mvp4d_core.io.video import read_video
from mvp4d_core.rig import load_performance, rest_parameters, save_head_model, save_performance, showcase_performance
from tests.support.asserts import assert_arrays_close
from tests.support.toy_avatar import toy_avatar

AVATAR = toy_avatar(count=500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    save_avatar(folder / "a.mvp4d", AVATAR)
    save_performance(showcase_performance(AVATAR.rig).select([0, 20, 40, 60, 80, 100]), folder / "p.safetensors")
    save_head_model(AVATAR.rig, folder / "head.safetensors")
    save_head_model(flame_head(shapes=12, expressions=8), folder / "flame.safetensors")
    return folder


@pytest.fixture
def mvp4d(folder, tmp_path, capsys, monkeypatch):
    """Runs a command line, in which A is the avatar and P the performance, in a folder of its own; gives its answer."""
    monkeypatch.chdir(tmp_path)

    def run(line, code=0):
        words = {"A": str(folder / "a.mvp4d"), "P": str(folder / "p.safetensors"), "HEAD": str(folder / "head.safetensors"),
                 "FLAME": str(folder / "flame.safetensors")}  # fmt: skip
        assert main([words.get(word, word) for word in line.split()] + ["--json"]) == code
        captured = capsys.readouterr()
        if code:
            lines = captured.err.strip().splitlines()
            assert 1 <= len(lines) <= 2 and lines[0].startswith("mvp4d: "), lines
            return " ".join(lines)
        return json.loads(captured.out.splitlines()[-1])

    return run


@pytest.mark.parametrize("ending", ["ply", "splat", "spz"])
def test_one_pose(mvp4d, ending):
    assert mvp4d(f"export A -o x.{ending} --expression jawOpen=1 --joint neck=0,20,0") == {"file": f"x.{ending}", "splats": 500}
    parameters = rest_parameters(AVATAR.rig)
    parameters.expression[AVATAR.rig.expression_names.index("jawOpen")] = 1
    parameters.rotations[1] = [0, np.deg2rad(20), 0]
    expected, read = stored_pose(AVATAR, parameters).means, read_splats(Path(f"x.{ending}")).means
    assert_arrays_close(read[np.lexsort(np.round(read.T, 4))], expected[np.lexsort(np.round(expected.T, 4))], atol=1e-4)
    assert mvp4d(f"info x.{ending}")["splats"] == 500


@pytest.mark.parametrize(("kind", "ending"), [("", "ply"), ("splat", "splat"), ("spz", "spz"), ("png", "png")])
def test_sequences(mvp4d, kind, ending):
    result = mvp4d(f"export A -o s --performance P --frames 1:6:2 --size 48 --sequence {kind}")
    assert result == {"folder": "s", "frames": 3, "fps": 12.0, "splats": 500}
    assert sorted(path.name for path in Path("s").iterdir()) == [f"frame_000{index}.{ending}" for index in range(3)]
    if ending == "png":
        image, alpha = read_image("s/frame_0002.png")
        assert image.shape == (48, 48, 3) and alpha is not None and alpha.min() == 0 and alpha.max() > 0.9


def test_videos(mvp4d):
    for ending, formats in (("mp4", ("yuv420p",)), ("mov", ("yuva444p12le", "yuva444p10le")), ("webm", ("yuv420p",))):
        assert mvp4d(f"export A -o x.{ending} --performance P --frames :3 --size 48")["frames"] == 3
        frames, fps = read_video(f"x.{ending}")
        assert frames.shape == (3, 48, 48, 3) and fps == pytest.approx(24)
        with av.open(f"x.{ending}") as file:
            assert file.streams.video[0].codec_context.pix_fmt in formats
    assert mvp4d("animate A -o y.mov --performance P --size 48")["frames"] == 6


def test_glb(mvp4d):
    assert mvp4d("export A -o x.glb") == {"file": "x.glb", "splats": 500}
    assert list(trimesh.load("x.glb").geometry) == ["head"]
    assert mvp4d("export A -o x.glb --content both --performance P --frames 2:4")["frames"] == 2
    assert set(trimesh.load("x.glb").geometry) == {"head", "splats"}
    assert b'"animations"' in Path("x.glb").read_bytes()


def test_cap4d_there_and_back(mvp4d):
    assert mvp4d("export A -o x.ply --layout cap4d --performance P")["frames"] == 6
    full = Path("x.ply").stat().st_size
    assert "delta_vertex_00005" in plyfile.PlyData.read("x.ply", mmap=False)
    mvp4d("export A -o small.ply --layout cap4d --performance P --small")
    assert Path("small.ply").stat().st_size < full
    result = mvp4d("import x.ply -o y.mvp4d --performance y.safetensors --fps 24")
    assert result == {"file": "y.mvp4d", "splats": 500, "head": "cap4d-animation", "performance": "y.safetensors", "frames": 6}
    avatar, performance = load_avatar("y.mvp4d"), load_performance("y.safetensors")
    wanted = showcase_performance(AVATAR.rig).select([0, 20, 40, 60, 80, 100])
    for frame in (0, 3, 5):
        assert_arrays_close(avatar.pose(performance[frame]).means, AVATAR.pose(wanted[frame]).means, atol=5e-4)
    assert mvp4d("export y.mvp4d -o z.mp4 --performance y.safetensors --frames :2 --size 48")["frames"] == 2


def test_stills_bind_to_a_head(mvp4d):
    mvp4d("export A -o x.spz")
    assert "--rig open-head" in mvp4d("import x.spz -o y.mvp4d", code=2)
    assert not Path("y.mvp4d").exists()
    assert mvp4d("import x.spz -o y.mvp4d --rig HEAD")["head"] == AVATAR.rig.name
    assert mvp4d("import x.spz -o y.mvp4d --rig HEAD --fit --axes down")["splats"] == 500
    assert "no motion" in mvp4d("import x.spz -o z.mvp4d --rig HEAD --performance p.safetensors", code=2)
    assert not Path("z.mvp4d").exists()


def test_gaussian_avatars_want_flame(mvp4d):
    assert "--rig" in mvp4d("export A -o x.ply --layout gaussian-avatars", code=2)
    assert "5023 vertices" in mvp4d("export A -o x.ply --layout gaussian-avatars --rig HEAD", code=2)
    assert "other triangles" in mvp4d("export A -o x.ply --layout gaussian-avatars --rig FLAME", code=2)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("export A -o x.obj", r"\.ply, \.splat, \.spz, \.glb, \.mp4, \.mov, \.webm, \.html, or be a folder with --sequence"),
        ("export A -o x.ply --performance P", "--performance does not go with .ply"),
        ("export A -o x.spz --layout cap4d", "--layout does not go with .spz"),
        ("export A -o x.ply --small", "--small does not go with .ply"),
        ("export A -o x.glb --joint neck=0,1,0", "--joint does not go with .glb"),
        ("export A -o x.mp4 --expression jawOpen=1", "--expression does not go with .mp4"),
        ("export A -o s --sequence --content mesh", "--content does not go with --sequence"),
        ("export A -o x.html --sequence", "--sequence does not go with .html"),
        ("export A -o x.glb --frames 1:2", "--frames chooses from a --performance"),
        ("export A -o x.mp4 --size 5", "--size must be"),
        ("export A -o x.mp4 --size 64 --frames a:b", "--frames must be A:B"),
        ("export A -o x.mp4 --size 64 --frames 4:4", "none of the performance's frames 0 to 143"),
        ("export A -o x.mp4 --size 64 --frames ::0", "--frames must be"),
        ("export A -o x.mp4 --size 64 --frames=-1", "--frames must be"),
        ("import x.ply -o x.ply", "--output must end in .mvp4d"),
        ("import x.ply -o x.mvp4d --fps 0", "--fps must be"),
        ("import A -o x.mvp4d --performance y.safetensors", "no motion"),
    ],
)
def test_what_does_not_go_together(mvp4d, line, says):
    text = mvp4d(line, code=2)
    assert re.search(says, text), text
    assert list(Path().iterdir()) == []
