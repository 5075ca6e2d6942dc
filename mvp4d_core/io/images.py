# SPDX-License-Identifier: Apache-2.0
"""Pictures from and to files. Needs Pillow, so it is no part of the ground floor; Pillow is imported when a picture is read or written."""

import importlib
import io
import os
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import FormatError, InputError, MissingAssetError
from .atomic import atomic_write
from .fill import fill_holes
from .limits import DEFAULT, Limits, check_limit
from .reading import open_input

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")

_EXIF_ORIENTATION = 0x0112
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif")


def read_image(path: str | os.PathLike[str], limits: Limits = DEFAULT) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads the first frame of a JPEG, PNG, WebP, BMP, TIFF or GIF file, upright.

    Grey, palette, CMYK and 16-bit pictures become RGB; an embedded colour profile is converted to sRGB (one that cannot be used is
    ignored, as browsers do); the EXIF orientation is applied.

    Returns:
        The colours (H, W, 3) and the alpha (H, W), or None where the picture has none; float32 in 0..1, sRGB, not premultiplied.

    Raises:
        FormatError: not a picture of these formats, or a corrupt or truncated one.
        InputError: more pixels than `limits.pixels` or more bytes than `limits.file_bytes`.
        StorageError: the file is missing or cannot be read.
        MissingAssetError: Pillow is not installed.
    """
    pillow = _pillow("Image")
    with open_input(path, limits) as (stream, _), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow's, about metadata and sizes; what matters is checked below
        image = _open(pillow, stream, path, limits)
        try:
            image.load()
            return _arrays(_upright(pillow, image))
        except Exception as error:  # Pillow's decoders raise nearly every built-in exception on damaged data
            raise _damaged(path, error) from error


def write_image(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Writes an (H, W, 3) or (H, W, 4) float image in 0..1, sRGB, as 8-bit PNG, atomically. Values outside are clipped.

    Raises:
        InputError: another shape, a value that is not finite, or a name that does not end in `.png`.
        StorageError: the file cannot be written.
        MissingAssetError: Pillow is not installed.
    """
    if not os.fspath(path).lower().endswith(".png"):
        raise InputError(f"Pictures are written as PNG, got the name {os.fspath(path)!r}. Let it end in .png.")
    if image.ndim != 3 or image.shape[2] not in (3, 4) or 0 in image.shape:
        raise InputError(f"`image` must be (H, W, 3) or (H, W, 4), got {image.shape}. Pass a picture with colour or colour and alpha.")
    pillow = _pillow("Image")
    encoded = io.BytesIO()
    pillow.fromarray(to_bytes(image, "`image`")).save(encoded, "PNG")
    with atomic_write(path) as file:
        file.write(encoded.getbuffer())


def straight_alpha(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What was rendered on black, colour (H, W, 3) and alpha (H, W), as files hold it: (H, W, 4) with colours not multiplied by alpha.

    Where nothing is, the nearest colours go on, so that scaling and coding the picture puts no dark rim around things.
    """
    return np.concatenate([fill_holes(image, alpha, 1e-4), alpha[..., None]], axis=-1).clip(0, 1)


def to_bytes(image: np.ndarray, name: str) -> np.ndarray:
    """A float image in 0..1 as uint8, rounded and clipped; `InputError` that begins with `name` when a value is not finite."""
    if not np.isfinite(image).all():
        raise InputError(f"{name} must be finite, it has NaN or infinite values. Check the step that made it.")
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _pillow(module: str) -> ModuleType:
    try:
        return importlib.import_module(f"PIL.{module}")
    except ImportError as error:
        raise MissingAssetError("Pictures need the package Pillow, which is not installed. Run: pip install Pillow") from error


def _open(pillow: ModuleType, stream: BinaryIO, path: object, limits: Limits) -> "Image":
    """The picture with its header read, small enough to decode."""
    cure = "Scale the picture down first."
    try:
        image = pillow.open(stream, formats=FORMATS)
    except pillow.DecompressionBombError as error:
        raise InputError(f"{path} has far more than the {limits.pixels:,} pixels that are accepted. {cure}") from error
    except pillow.UnidentifiedImageError as error:
        stream.seek(0)
        raise FormatError(f"{path} is not a picture of a known kind ({', '.join(FORMATS)}). {_hint(stream.read(12))}") from error
    except Exception as error:  # as in `read_image`
        raise _damaged(path, error) from error
    check_limit(path, "pixels", image.width * image.height, limits.pixels, cure)
    if image.mode == "F":
        raise InputError(f"{path} holds floating-point values of unknown range. Save it with 8 or 16 bits a channel.")
    return image


def _hint(start: bytes) -> str:
    if start[4:8] == b"ftyp" and start[8:12] in _HEIC_BRANDS:
        return "It is a HEIC or AVIF picture: save it as JPEG first."
    return "Save the photo as JPEG or PNG."


def _damaged(path: object, error: Exception) -> FormatError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return FormatError(f"{path} is a damaged picture ({reason}). Take a fresh copy of it.")


def _upright(pillow: ModuleType, image: "Image") -> "Image":
    turns = {
        2: pillow.Transpose.FLIP_LEFT_RIGHT,
        3: pillow.Transpose.ROTATE_180,
        4: pillow.Transpose.FLIP_TOP_BOTTOM,
        5: pillow.Transpose.TRANSPOSE,
        6: pillow.Transpose.ROTATE_270,
        7: pillow.Transpose.TRANSVERSE,
        8: pillow.Transpose.ROTATE_90,
    }
    orientation = image.getexif().get(_EXIF_ORIENTATION)
    if orientation not in turns:
        return image
    turned = image.transpose(turns[orientation])
    turned.info = image.info
    return turned


def _arrays(image: "Image") -> tuple[np.ndarray, np.ndarray | None]:
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.float32) / 65535, 0, 1)
        return np.repeat(grey[..., None], 3, axis=2), None
    alpha = None
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = _unit(image.getchannel("A"))
    return _unit(_to_srgb(image)), alpha


def _unit(image: "Image") -> np.ndarray:
    return np.asarray(image, np.uint8).astype(np.float32) / 255


def _to_srgb(image: "Image") -> "Image":
    """The colours as RGB, by the embedded profile where there is one that fits."""
    profile = image.info.get("icc_profile")
    plain = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")
    if profile:
        cms = _pillow("ImageCms")
        try:
            return cms.profileToProfile(plain, io.BytesIO(profile), cms.createProfile("sRGB"), outputMode="RGB")
        except (cms.PyCMSError, OSError, TypeError, ValueError):
            return plain.convert("RGB")
    return plain.convert("RGB")
