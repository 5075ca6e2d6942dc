# SPDX-License-Identifier: Apache-2.0
"""Makes the README's pictures and the workflow's thumbnail from what `make demo` and the README's commands left.

    python tools/make_pictures.py demo out/demo
    python tools/make_pictures.py nano out/evaluation out/nano

The first is the hero; the second shows `nano` on held-out people, and an avatar made from its videos of a photo.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mvp4d_core.avatar import GaussianAvatar, load_avatar
from mvp4d_core.conditioning import frame_camera, resample_photo
from mvp4d_core.render.avatar import render_avatar
from mvp4d_core.rig import rest_parameters, skin
from mvp4d_core.showreel import named_parameters, orbit_around
from mvp4d_core.tracking import Reference, load_reference

ROOT = Path(__file__).parents[1]
CELL, MARGIN = 320, 1.25
PEOPLE = 5  # rows of the evaluation's sheet that are shown
SHEET_ROW, SHEET_HEADER, SHEET_COLUMNS = 128, 22, 10  # pixels of a picture and of the titles; pictures across: photo, truth, nano, proxy
SMILE = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.4, "cheekSquintRight": 0.4, "jawOpen": 0.12}
SHOWN = (
    (SMILE, 0),
    ({"jawOpen": 0.8, "browInnerUp": 0.8, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8}, -25),
    ({"eyeBlinkLeft": 1, "mouthSmileLeft": 0.6, "mouthSmileRight": 0.4}, 20),
    ({"mouthPucker": 0.9, "eyeWideLeft": 0.5, "eyeWideRight": 0.5}, 40),
    ({}, 150),
)


def nano(evaluation: Path, created: Path) -> None:
    """Writes docs/nano.jpg."""
    sheet = Image.open(evaluation / "contact_sheet.png").convert("RGB")
    sheet = sheet.crop((0, 0, SHEET_COLUMNS * SHEET_ROW + 20, SHEET_HEADER + PEOPLE * SHEET_ROW))
    avatar, reference = load_avatar(created / "avatar.mvp4d"), load_reference(created / "reference.safetensors")
    row = np.concatenate(faces(avatar, reference), axis=1)
    picture = Image.fromarray(np.clip(row * 255 + 0.5, 0, 255).astype(np.uint8))
    picture = picture.resize((sheet.width, round(picture.height * sheet.width / picture.width)), Image.Resampling.LANCZOS)
    both = Image.new("RGB", (sheet.width, sheet.height + picture.height), "white")
    both.paste(sheet, (0, 0))
    both.paste(picture, (0, sheet.height))
    both.save(ROOT / "docs" / "nano.jpg", quality=88)


def demo(folder: Path) -> None:
    """Writes docs/hero.jpg and workflows/quick_start.jpg."""
    cells = faces(load_avatar(folder / "avatar.mvp4d"), load_reference(folder / "reference.safetensors"))
    blender = Image.open(folder / "blender.png").convert("RGB").crop((70, 10, 450, 390))
    blender = np.asarray(blender.resize((CELL, CELL), Image.Resampling.LANCZOS)) / 255
    save(ROOT / "docs" / "hero.jpg", [*cells, blender])
    save(ROOT / "workflows" / "quick_start.jpg", cells[:3])


def faces(avatar: GaussianAvatar, reference: Reference) -> list[np.ndarray]:
    """The photo and the avatar in the faces of `SHOWN`, each (CELL, CELL, 3)."""
    rest = rest_parameters(avatar.rig)
    head = ~avatar.rig.region_mask("neck")
    vertices = skin(avatar.rig, None, rest.expression, rest.rotations, rest.translation)[head]
    p = reference.parameters
    posed = skin(avatar.rig, None, p.expression, p.rotations, p.translation)[head]
    cells = [resample_photo(reference, frame_camera(reference.camera, posed, CELL, MARGIN))[0]]
    for weights, degrees in SHOWN:
        camera = frame_camera(orbit_around(avatar, np.deg2rad(degrees), np.deg2rad(3), CELL), vertices, CELL, MARGIN)
        cells.append(render_avatar(avatar, named_parameters(avatar, weights), camera)[0])
    return cells


def save(path: Path, cells: list[np.ndarray]) -> None:
    """One row of pictures as JPEG."""
    row = np.clip(np.concatenate(cells, axis=1) * 255 + 0.5, 0, 255).astype(np.uint8)
    Image.fromarray(row).save(path, quality=88)


if __name__ == "__main__":
    {"demo": demo, "nano": nano}[sys.argv[1]](*map(Path, sys.argv[2:]))
