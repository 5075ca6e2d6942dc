# SPDX-License-Identifier: Apache-2.0
"""Renders the pictures of the Blender manual: `python tools/make_blender_pictures.py AVATAR.mvp4d` writes docs/blender/faces.jpg.

Needs the package bpy; each face is one of the library's poses, rendered by EEVEE as the add-on sets it up.
"""

import argparse
import tempfile
from pathlib import Path

import bpy
from PIL import Image

from blender_addon import poses, scene, sliders
from blender_addon.import_avatar import import_file
from mvp4d_core.avatar import load_avatar
from mvp4d_core.rig import rest_parameters, skin

FACES = ("Neutral", "Joy", "Sadness", "Anger", "Surprise", "Wink", "Kiss", "Viseme oh")
CELL, COLUMNS = 240, 4  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description="Renders the pictures of the Blender manual.")
    parser.add_argument("avatar", type=Path, help="a .mvp4d file on the open head")
    avatar_file = parser.parse_args().avatar
    bpy.ops.wm.read_factory_settings(use_empty=True)
    imported = import_file(avatar_file)
    rig = load_avatar(avatar_file).rig
    rest = rest_parameters(rig)
    vertices = skin(rig, None, rest.expression, rest.rotations, rest.translation)
    scene.add_camera(scene.portrait_camera(vertices, CELL), "Camera", imported.collection)
    scene.match_training(bpy.context.scene)
    library = poses.library_poses()
    sheet = Image.new("RGB", (CELL * COLUMNS, CELL * (len(FACES) // COLUMNS)), "white")
    with tempfile.TemporaryDirectory() as folder:
        for index, face in enumerate(FACES):
            sliders.set_sliders(imported.armature, dict.fromkeys(rig.expression_names, 0.0) | library[face])
            still = Path(folder, f"{index}.png")
            scene.render_still(still, 1)
            with Image.open(still) as picture:
                sheet.paste(picture.convert("RGB"), (CELL * (index % COLUMNS), CELL * (index // COLUMNS)))
    target = Path(__file__).resolve().parent.parent / "docs" / "blender" / "faces.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target, quality=88)


if __name__ == "__main__":
    main()
