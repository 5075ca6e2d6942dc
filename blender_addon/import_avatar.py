# SPDX-License-Identifier: GPL-3.0-or-later
"""From an avatar's file to a collection with the armature, the head mesh and the splats of one avatar."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import bpy

from mvp4d_core.avatar import GaussianAvatar
from mvp4d_core.progress import Progress, silent
from mvp4d_core.rig import HeadModel, load_head_model

from . import animation, compat, nodes, rig
from .avatar_files import GAUSSIAN_AVATARS_PLY, ImportOptions, read_avatar
from .material import splat_material
from .splats import new_splat_mesh

INFO = "mvp4d"  # the custom property of the armature that marks and describes an avatar
SOURCE = "mvp4d_source"  # the file it came from, for exports that need more than a scene holds
PART = "mvp4d_part"  # the custom property of its children that says which they are
HEAD, SPLATS = "head", "splats"


@dataclass(frozen=True)
class ImportedAvatar:
    """What one import made. `notes` are sentences for the user."""

    collection: bpy.types.Collection
    armature: bpy.types.Object
    head: bpy.types.Object
    splats: bpy.types.Object
    notes: tuple[str, ...] = ()


def import_file(path: str | Path, options: ImportOptions | None = None, progress: Progress = silent) -> ImportedAvatar:
    """Loads an avatar and builds it in the current scene, named by its file. A motion in the file is keyed from frame 1 on.

    Raises the core's errors; then nothing is left behind.
    """
    options = options or ImportOptions()
    path = Path(path)
    found = read_avatar(path, options)
    name = path.parent.name if path.name == GAUSSIAN_AVATARS_PLY else path.stem
    with _all_or_nothing():
        identity = (found.head_model or load_head_model()) if options.identity else None
        imported = import_avatar(found.avatar, name or path.stem, progress, identity=identity)
        imported.armature[SOURCE] = str(path.resolve())
        if found.performance is not None and options.motion:
            animation.key_performance(imported.armature, found.performance, name)
    return replace(imported, notes=(*found.notes, *imported.notes))


def import_avatar(avatar: GaussianAvatar, name: str, progress: Progress = silent, *, identity: HeadModel | None = None) -> ImportedAvatar:
    """Builds `avatar` in the current scene, which must be in object mode. Data is taken back if any step fails.

    Args:
        identity: also sliders that change whose head it is, by the directions of this head, which the avatar's was made from.
    """
    with _all_or_nothing():
        collection = bpy.data.collections.new(name)
        bpy.context.scene.collection.children.link(collection)
        progress("import", 0, 2)
        built = rig.build_rig(avatar.rig, name, collection, identity=identity)
        progress("import", 1, 2)
        splats = _build_splats(avatar, f"{name} splats", built.armature, built.head, collection)
        built.armature[INFO] = _describe(avatar, name, built)
        built.head[PART], splats[PART] = HEAD, SPLATS
        progress("import", 2, 2)
    notes = ()
    if identity is not None and not built.identity:
        notes = (f"The head `{avatar.rig.name}` has no sliders of identity: it was cut into other triangles, or carries none.",)
    return ImportedAvatar(collection, built.armature, built.head, splats, notes)


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


def _describe(avatar: GaussianAvatar, name: str, built: rig.Rig) -> str:
    """JSON of what the panel shows; plain text, so that files stay readable without the add-on."""
    return json.dumps(
        {
            "name": name,
            "gaussians": len(avatar),
            "sh_degree": avatar.sh_degree,
            "head": avatar.rig.name,
            "licence": avatar.rig.licence,
            "joints": list(avatar.rig.joint_names),
            "expressions": list(built.expressions),
            "arkit": list(built.arkit),
            "identity": list(built.identity),
            "metadata": avatar.metadata,
        }
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
