# SPDX-License-Identifier: GPL-3.0-or-later
"""From a `.mvp4d` file to a collection with the armature, the head mesh and the splats of one avatar."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bpy

from mvp4d_core.avatar import GaussianAvatar, load_avatar
from mvp4d_core.progress import Progress, silent

from . import compat, nodes, rig
from .material import splat_material
from .splats import new_splat_mesh

INFO = "mvp4d"  # the custom property of the armature that marks and describes an avatar
HEAD, SPLATS = "mvp4d_head", "mvp4d_splats"  # custom properties of the armature that point at its two companions

_VISIBLE_DRIFT = 1e-6  # metres


@dataclass(frozen=True)
class ImportedAvatar:
    """What one import made. `notes` are sentences for the user."""

    collection: bpy.types.Collection
    armature: bpy.types.Object
    head: bpy.types.Object
    splats: bpy.types.Object
    notes: tuple[str, ...]


def import_file(path: str | Path, progress: Progress = silent) -> ImportedAvatar:
    """Loads an avatar and builds it in the current scene, named by its file. Raises the core's errors; then nothing is left behind."""
    return import_avatar(load_avatar(path), Path(path).stem, progress)


def import_avatar(avatar: GaussianAvatar, name: str, progress: Progress = silent) -> ImportedAvatar:
    """Builds `avatar` in the current scene, which must be in object mode. Data is taken back if any step fails."""
    with _all_or_nothing():
        collection = bpy.data.collections.new(name)
        bpy.context.scene.collection.children.link(collection)
        progress("import", 0, 3)
        armature = rig.build_armature(avatar.rig, f"{name} rig", collection)
        progress("import", 1, 3)
        head = rig.build_head(avatar.rig, f"{name} head", armature, collection)
        progress("import", 2, 3)
        splats = _build_splats(avatar, f"{name} splats", armature, head, collection)
        armature[INFO] = _describe(avatar, name)
        armature[HEAD], armature[SPLATS] = head, splats
        progress("import", 3, 3)
    return ImportedAvatar(collection, armature, head, splats, _notes(avatar))


def _build_splats(
    avatar: GaussianAvatar, name: str, armature: bpy.types.Object, head: bpy.types.Object, collection: bpy.types.Collection
) -> bpy.types.Object:
    splats = bpy.data.objects.new(name, new_splat_mesh(name, avatar))
    collection.objects.link(splats)
    splats.parent = armature
    splats.hide_select = True  # a click goes to the head and the bones
    splats.visible_shadow = False
    splats.data.materials.append(splat_material())
    modifier = splats.modifiers.new("Follow the head", "NODES")
    modifier.node_group = nodes.splat_tree(avatar.sh_degree)
    compat.set_modifier_input(modifier, "Head", head)
    return splats


def _describe(avatar: GaussianAvatar, name: str) -> str:
    """JSON of what the panel shows; plain text, so that files stay readable without the add-on."""
    return json.dumps(
        {
            "name": name,
            "gaussians": len(avatar),
            "sh_degree": avatar.sh_degree,
            "head": avatar.rig.name,
            "licence": avatar.rig.licence,
            "expressions": list(avatar.rig.expression_names),
            "metadata": avatar.metadata,
        }
    )


def _notes(avatar: GaussianAvatar) -> tuple[str, ...]:
    drift = rig.joint_drift(avatar.rig)
    if drift <= _VISIBLE_DRIFT:
        return ()
    return (
        f"Joints of the head `{avatar.rig.name}` move up to {1000 * drift:.2f} mm with an expression; bones stay at the neutral face's.",
    )


@contextmanager
def _all_or_nothing() -> Iterator[None]:
    """Removes every data-block made inside the block if it raises."""
    stores = [store for name in dir(bpy.data) if isinstance(store := getattr(bpy.data, name), bpy.types.bpy_prop_collection)]
    before = {block for store in stores for block in store}
    try:
        yield
    except BaseException:
        bpy.data.batch_remove([block for store in stores for block in store if block not in before])
        raise
