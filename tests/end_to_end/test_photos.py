# SPDX-License-Identifier: Apache-2.0
"""Photos as they come, through the command line: each is tracked, or refused in a line that says why."""

import json
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from mvp4d_core.cli.main import main
from mvp4d_core.io.images import read_image
from mvp4d_core.tracking import load_reference
from mvp4d_core.tracking.reference import Reference

ASTRONAUT = Image.fromarray(data.astronaut())


@pytest.fixture
def track(tmp_path, capsys):
    """Tracks a photo: exit code, result (empty after a failure), and what was said besides progress."""

    def run(photo: Path, *options: str) -> tuple[int, dict, list[str]]:
        code = main(["track", str(photo), "-o", str(tmp_path / "out"), "--json", *options])
        out, err = capsys.readouterr()
        said = [line for line in err.splitlines() if not line.startswith("track: ")]
        assert "Traceback" not in err and "\x1b" not in err and len(said) <= 2
        assert code == 0 or (said and said[0].startswith("mvp4d: ") and not list((tmp_path / "out").glob("*")))
        return code, json.loads(out.splitlines()[-1]) if code == 0 else {}, said

    return run


def saved(image: Image.Image, path: Path, **options) -> Path:
    image.save(path, **options)
    return path


def reference_of(result: dict) -> Reference:
    return load_reference(result["reference"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Reference:
    folder = tmp_path_factory.mktemp("plain")
    ASTRONAUT.save(folder / "a.png")
    assert main(["track", str(folder / "a.png"), "-o", str(folder)]) == 0
    return load_reference(folder / "reference.safetensors")


def test_a_turned_jpeg_is_tracked_like_the_upright_one(track, tmp_path, plain):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(ASTRONAUT.transpose(Image.Transpose.ROTATE_90), tmp_path / "t.jpg", quality=100, subsampling=0, exif=exif)
    code, result, said = track(turned)
    assert code == 0 and not result["notices"] and not said
    reference = reference_of(result)
    assert np.abs(reference.image - plain.image).mean() < 0.005
    assert np.abs(reference.landmarks - plain.landmarks).max() < 1.0
    assert np.abs(reference.shape - plain.shape).max() < 0.2


def test_grey_and_16_bit_pictures_are_tracked(track, tmp_path, plain):
    grey = ASTRONAUT.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    found = []
    for image, name in ((grey, "grey.png"), (deep, "deep.png")):
        code, result, _ = track(saved(image, tmp_path / name))
        assert code == 0
        found.append(reference_of(result))
        assert np.abs(found[-1].landmarks - plain.landmarks).mean() < 1.5
    assert np.abs(found[0].landmarks - found[1].landmarks).max() < 1e-3


def test_an_alpha_is_taken_for_the_matte(track, tmp_path, plain):
    y, x = np.mgrid[:512, :512]
    alpha = ((x - 230) ** 2 / 150**2 + (y - 150) ** 2 / 170**2 < 1) | (y > 250)
    cut_out = np.dstack([data.astronaut(), alpha.astype(np.uint8) * 255])
    code, result, _ = track(saved(Image.fromarray(cut_out), tmp_path / "cut.png"))
    assert code == 0
    reference = reference_of(result)
    assert np.array_equal(reference.matte > 0.5, alpha)
    assert np.abs(reference.landmarks - plain.landmarks).mean() < 1.5


def test_of_several_faces_the_largest_is_taken_unless_one_is_named(track, tmp_path):
    both = Image.new("RGB", (832, 512), "grey")
    both.paste(ASTRONAUT.resize((320, 320)), (0, 192))
    both.paste(ASTRONAUT, (320, 0))
    photo = saved(both, tmp_path / "both.png")
    code, result, said = track(photo)
    assert code == 0 and result["faces_found"] == 2 and result["face"] == 1
    assert "2 faces found; took the largest" in said[0] and said[0] == f"mvp4d: {result['notices'][0]}"
    assert reference_of(result).landmarks[:, 0].min() > 320
    code, result, said = track(photo, "--face", "2")
    assert code == 0 and result["face"] == 2 and not result["notices"]
    assert reference_of(result).landmarks[:, 0].max() < 320


def test_a_face_that_is_not_there_is_refused(track, tmp_path):
    code, _, said = track(saved(ASTRONAUT, tmp_path / "a.png"), "--face", "9")
    assert code == 5 and "from 1 to 1" in said[0] and "9" in said[0]


def test_no_face_and_a_small_face_are_refused(track, tmp_path):
    code, _, said = track(saved(Image.fromarray(data.coffee()), tmp_path / "coffee.png"))
    assert code == 5 and "No face found" in said[0]
    small = Image.new("RGB", (512, 512), "grey")
    small.paste(ASTRONAUT.resize((150, 150), Image.Resampling.LANCZOS), (180, 180))
    code, _, said = track(saved(small, tmp_path / "small.png"))
    assert code == 5 and "too small" in said[0]


def test_a_hidden_face_is_doubted(track, tmp_path):
    hidden = ASTRONAUT.copy()
    hidden.paste((20, 60, 200), (150, 140, 300, 230))
    code, result, said = track(saved(hidden, tmp_path / "hidden.png"))
    assert code == 0 and result["warnings"] and "overlay" in said[0]
    assert read_image(result["overlay"])[0].std() > 0.1


def declared(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels and holds none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_is_opened(track, tmp_path):
    for side in (60000, 12000):
        photo = tmp_path / "bomb.png"
        photo.write_bytes(declared(side, side))
        started = time.perf_counter()
        code, _, said = track(photo)
        assert code == 2 and "pixels" in said[0]
        assert time.perf_counter() - started < 2


def test_damaged_and_foreign_files_are_refused(track, tmp_path):
    whole = saved(ASTRONAUT, tmp_path / "whole.jpg").read_bytes()
    damaged = tmp_path / "damaged.jpg"
    for content in (whole[: len(whole) // 2], whole[:300], b"", b"no picture", bytes(range(256)) * 40, declared(400, 400)):
        damaged.write_bytes(content)
        code, _, said = track(damaged)
        assert code == 3 and "damaged.jpg" in said[0]


def test_paths_that_are_no_photo_are_refused(track, tmp_path):
    for path in (tmp_path / "absent.png", tmp_path, Path("/dev/zero"), tmp_path / ("x" * 300)):
        assert track(path)[0] == 6


def test_an_unknown_or_damaged_rig_is_refused(track, tmp_path):
    photo = saved(ASTRONAUT, tmp_path / "a.png")
    assert track(photo, "--rig", "nobody")[0] == 4
    assert track(photo, "--rig", str(photo))[0] == 3
