# SPDX-License-Identifier: Apache-2.0
import io
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from mvp4d_core.errors import FormatError, InputError, MissingAssetError
from mvp4d_core.io.images import read_image, write_image
from mvp4d_core.io.limits import Limits
from tests.support.asserts import assert_arrays_close
from tests.support.mutation import assert_refuses_cleanly


def gradient(height=24, width=40):
    """(H, W, 3) uint8, smooth and without symmetry."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) * 255 // (width + 2 * height)], axis=-1).astype(np.uint8)


def saved(tmp_path, image, kind="PNG", **options):
    path = tmp_path / f"picture.{kind.lower()}"
    image.save(path, kind, **options)
    return path


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [("PNG", {}, 0), ("BMP", {}, 0), ("TIFF", {}, 0), ("WEBP", {"lossless": True}, 0), ("JPEG", {"quality": 95, "subsampling": 0}, 6)],
)
def test_formats(tmp_path, kind, options, tolerance):
    rgb, alpha = read_image(saved(tmp_path, Image.fromarray(gradient()), kind, **options))
    assert rgb.dtype == np.float32
    assert alpha is None
    assert_arrays_close(rgb * 255, gradient(), atol=tolerance + 1e-3)


@pytest.mark.parametrize("channels", [3, 4])
def test_write_and_read_back(tmp_path, channels):
    image = np.random.default_rng(0).uniform(-0.2, 1.2, (13, 7, channels)).astype(np.float32)
    write_image(tmp_path / "a.png", image)
    rgb, alpha = read_image(tmp_path / "a.png")
    read = rgb if alpha is None else np.dstack([rgb, alpha])
    assert_arrays_close(read, np.clip(image, 0, 1), atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_convention_exif_orientation_is_applied(tmp_path, orientation):
    image = Image.fromarray(gradient())
    exif = image.getexif()
    exif[0x0112] = orientation
    for kind in ("PNG", "TIFF"):
        path = saved(tmp_path, image, kind, exif=exif)
        with Image.open(path) as stored:
            upright = np.asarray(ImageOps.exif_transpose(stored))
        assert_arrays_close(read_image(path)[0] * 255, upright, atol=1e-3)


def test_alpha_of_every_kind(tmp_path):
    mask = (gradient()[..., 0] // 2).astype(np.uint8)
    colour = Image.fromarray(gradient())
    with_alpha = colour.copy()
    with_alpha.putalpha(Image.fromarray(mask))
    for image in (with_alpha, with_alpha.convert("LA")):
        rgb, alpha = read_image(saved(tmp_path, image))
        assert_arrays_close(alpha * 255, mask, atol=1e-3)
        assert_arrays_close(rgb * 255, np.asarray(image.convert("RGB")), atol=1e-3)
    palette = colour.quantize(8)
    _, alpha = read_image(saved(tmp_path, palette, transparency=3))
    assert_arrays_close(alpha, np.asarray(palette) != 3)
    _, alpha = read_image(saved(tmp_path, colour, transparency=(0, 0, 0)))
    assert_arrays_close(alpha, gradient().any(axis=-1))


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette_become_colour(tmp_path, mode):
    image = Image.fromarray(gradient()).convert(mode)
    rgb, alpha = read_image(saved(tmp_path, image))
    assert alpha is None
    assert_arrays_close(rgb * 255, np.asarray(image.convert("RGB")), atol=1e-3)


def test_sixteen_bits_keep_their_precision(tmp_path):
    grey = (np.arange(24 * 40).reshape(24, 40) * 68).astype(np.uint16)
    rgb, alpha = read_image(saved(tmp_path, Image.fromarray(grey)))
    assert alpha is None
    assert_arrays_close(rgb, np.repeat(grey[..., None], 3, axis=2) / 65535, atol=1e-6)


def test_cmyk(tmp_path):
    for kind in ("JPEG", "TIFF"):
        image = Image.fromarray(gradient()).convert("CMYK")
        rgb, _ = read_image(saved(tmp_path, image, kind, **({"quality": 97} if kind == "JPEG" else {})))
        assert_arrays_close(rgb * 255, gradient(), atol=20 if kind == "JPEG" else 2)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (200, 100)]
    rgb, _ = read_image(saved(tmp_path, frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert_arrays_close(rgb * 255, np.full((8, 8, 3), 200), atol=1)


def test_a_colour_profile_is_converted(tmp_path):
    swapped = swapped_profile()
    rgb, _ = read_image(saved(tmp_path, Image.fromarray(gradient()), icc_profile=swapped))
    with Image.open(tmp_path / "picture.png") as stored:
        expected = ImageCms.profileToProfile(stored, io.BytesIO(swapped), ImageCms.createProfile("sRGB"))
    assert_arrays_close(rgb * 255, np.asarray(expected), atol=1e-3)
    plain, _ = read_image(saved(tmp_path, Image.fromarray(gradient())))
    assert np.abs(rgb - plain).max() > 0.3
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same, _ = read_image(saved(tmp_path, Image.fromarray(gradient()), icc_profile=srgb))
    assert_arrays_close(same, plain, atol=1.01 / 255)
    for useless in (b"nonsense", srgb[:200]):
        ignored, _ = read_image(saved(tmp_path, Image.fromarray(gradient()), icc_profile=useless))
        assert_arrays_close(ignored, plain)


def swapped_profile():
    """An sRGB profile whose red and green primaries are exchanged, so that applying it cannot be overlooked."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = int.from_bytes(profile[128:132], "big")
    entries = {bytes(profile[at : at + 4]): at for at in range(132, 132 + 12 * tags, 12)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    profile[red + 4 : red + 12], profile[green + 4 : green + 12] = profile[green + 4 : green + 12], profile[red + 4 : red + 12]
    return bytes(profile)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a picture of a known kind"),
        (b"just text", "Save the photo as JPEG or PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC or AVIF picture: save it as JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture of a known kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture of a known kind"),
    ],
)
def test_other_files(tmp_path, content, says):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(FormatError, match=says):
        read_image(tmp_path / "a.jpg")


def test_floating_point_pictures_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    with pytest.raises(InputError, match="floating-point"):
        read_image(path)


def png_chunk(name, data):
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


@pytest.mark.parametrize("side", [11_000, 30_000, 2**31 - 1])
def test_decompression_bombs(tmp_path, side):
    header = side.to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    data = zlib.compress(bytes(10_000_000), 9)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(bomb)
    with pytest.raises(InputError, match="pixels"):
        read_image(tmp_path / "a.png")


def test_limits(tmp_path):
    path = saved(tmp_path, Image.fromarray(gradient()))
    read_image(path, Limits(pixels=960))
    with pytest.raises(InputError, match="960 pixels, more than the 959"):
        read_image(path, Limits(pixels=959))
    with pytest.raises(InputError, match="bytes"):
        read_image(path, Limits(file_bytes=100))


SAMPLES = {
    "PNG": {}, "JPEG": {}, "WEBP": {}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}, "GIF": {},
}  # fmt: skip


@pytest.mark.parametrize("kind", SAMPLES)
def test_truncated_pictures_are_refused(tmp_path, kind):
    path = saved(tmp_path, Image.fromarray(gradient()), kind, **SAMPLES[kind])
    data = path.read_bytes()
    for keep in (0.1, 0.5, 0.8):
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(FormatError):
            read_image(path)


@pytest.mark.parametrize("kind", SAMPLES)
def test_damaged_pictures_are_refused_cleanly_and_in_time(tmp_path, kind):
    image = Image.fromarray(gradient())
    exif = image.getexif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = SAMPLES[kind] | ({"exif": exif, "icc_profile": profile} if kind not in ("BMP", "GIF") else {})
    path = saved(tmp_path, image, kind, **options)
    small = Limits(pixels=1_000_000)
    assert_refuses_cleanly(lambda damaged: read_image(damaged, small), path.read_bytes(), path, 250, seed=len(kind))


MEMORY_PROBE = """
import resource, sys
from pathlib import Path
from mvp4d_core.errors import MVP4DError
from mvp4d_core.io.images import read_image
from mvp4d_core.io.limits import Limits
from PIL import Image
Image.init()
path = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_image(path, Limits())
except MVP4DError:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in kilobytes")
def test_a_bomb_within_the_limits_costs_no_memory(tmp_path):
    header = (10_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(bomb)
    result = subprocess.run([sys.executable, "-c", MEMORY_PROBE, str(tmp_path / "a.png")], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 50_000


@pytest.mark.parametrize(
    ("name", "image", "says"),
    [
        ("a.jpg", np.zeros((2, 2, 3)), "end in .png"),
        ("a.png", np.zeros((2, 2)), "must be"),
        ("a.png", np.zeros((2, 2, 5)), "must be"),
        ("a.png", np.zeros((0, 2, 3)), "must be"),
        ("a.png", np.full((2, 2, 3), np.nan), "finite"),
    ],
)
def test_write_refuses(tmp_path, name, image, says):
    with pytest.raises(InputError, match=says):
        write_image(tmp_path / name, image)
    assert list(tmp_path.iterdir()) == []


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingAssetError, match="pip install Pillow"):
        read_image(tmp_path / "a.png")
