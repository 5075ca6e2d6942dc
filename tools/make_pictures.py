# SPDX-License-Identifier: Apache-2.0
"""Makes the README's picture and the workflow's thumbnail from a finished demo: `python tools/make_pictures.py out/demo`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mvp4d_core.avatar import load_avatar
from mvp4d_core.conditioning import frame_camera, resample_photo
from mvp4d_core.render.avatar import render_avatar
from mvp4d_core.rig import rest_parameters, skin
from mvp4d_core.showreel import named_parameters, orbit_around
from mvp4d_core.tracking import load_reference

ROOT = Path(__file__).parents[1]
CELL, MARGIN = 320, 1.25
SMILE = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.4, "cheekSquintRight": 0.4, "jawOpen": 0.12}
SHOWN = (
    (SMILE, 0),
    ({"jawOpen": 0.8, "browInnerUp": 0.8, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8}, -25),
    ({"eyeBlinkLeft": 1, "mouthSmileLeft": 0.6, "mouthSmileRight": 0.4}, 20),
    ({"mouthPucker": 0.9, "eyeWideLeft": 0.5, "eyeWideRight": 0.5}, 40),
    ({}, 150),
)


def main(demo: Path) -> None:
    """Writes docs/hero.jpg and workflows/quick_start.jpg."""
    avatar, reference = load_avatar(demo / "avatar.mvp4d"), load_reference(demo / "reference.safetensors")
    rest = rest_parameters(avatar.rig)
    head = ~avatar.rig.region_mask("neck")
    vertices = skin(avatar.rig, None, rest.expression, rest.rotations, rest.translation)[head]
    p = reference.parameters
    posed = skin(avatar.rig, None, p.expression, p.rotations, p.translation)[head]
    cells = [resample_photo(reference, frame_camera(reference.camera, posed, CELL, MARGIN))[0]]
    for weights, degrees in SHOWN:
        camera = frame_camera(orbit_around(avatar, np.deg2rad(degrees), np.deg2rad(3), CELL), vertices, CELL, MARGIN)
        cells.append(render_avatar(avatar, named_parameters(avatar, weights), camera)[0])
    blender = Image.open(demo / "blender.png").convert("RGB").crop((70, 10, 450, 390))
    blender = np.asarray(blender.resize((CELL, CELL), Image.Resampling.LANCZOS)) / 255
    save(ROOT / "docs" / "hero.jpg", [*cells, blender])
    save(ROOT / "workflows" / "quick_start.jpg", cells[:3])


def save(path: Path, cells: list[np.ndarray]) -> None:
    """One row of pictures as JPEG."""
    row = np.clip(np.concatenate(cells, axis=1) * 255 + 0.5, 0, 255).astype(np.uint8)
    Image.fromarray(row).save(path, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
