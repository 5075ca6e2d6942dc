# SPDX-License-Identifier: Apache-2.0
"""An avatar as GLB, for Blender, game engines and three.js: the rig as a mesh with a skin and named morph targets, and the splats.

glTF's axes are head space's (y up, z out of the face, metres), so numbers go over as they are. The mesh wears the splats' colours as an
unlit texture, because light is in them already. Two things that glTF has no word for are left out: pose correctives, and the movement of
joints with an expression. Splats follow the release candidate of KHR_gaussian_splatting and stand still at rest: programs that do not know
the extension show them as coloured points, and none moves them with a skin.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from .. import __version__
from ..io.png import png_bytes
from ..progress import Progress, silent
from ..rig import HeadModel, Performance, rest_parameters, vertex_normals
from ..rotations import axis_angle_to_quaternion
from .baked_texture import bake_texture
from .gaussian_avatar import GaussianAvatar, PosedSplats
from .gltf_container import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, Container
from .harmonics import SH_C0

Content = Literal["mesh", "splats", "both"]
CONTENTS: tuple[Content, ...] = ("mesh", "splats", "both")
_SPLATTING = "KHR_gaussian_splatting"
_UNLIT = "KHR_materials_unlit"
_INFLUENCES = 4  # joints a vertex


def write_glb(
    path: str | Path,
    avatar: GaussianAvatar,
    performance: Performance | None = None,
    *,
    content: Content = "mesh",
    texture_size: int = 1024,
    progress: Progress = silent,
) -> None:
    """Writes the file, atomically.

    Args:
        performance: becomes an animation of joints and morph targets; of the avatar's rig.
        content: the rigged mesh, the splats at rest, or both.
        texture_size: side of the texture, a power of two.
        progress: told `("export", done, 3)`.

    Raises:
        StorageError: the file cannot be written.
    """
    container = Container(f"mvp4d {__version__}")
    roots = []
    progress("export", 0, 3)
    if content != "splats":
        texture = png_bytes(bake_texture(avatar, texture_size))
        progress("export", 1, 3)
        roots += _add_head(container, avatar.rig, texture, performance)
    if content != "mesh":
        roots.append(_add_splats(container, avatar.pose(rest_parameters(avatar.rig))))
    progress("export", 2, 3)
    container.add("scenes", {"nodes": roots})
    container.document["scene"] = 0
    container.document["asset"]["extras"] = dict(avatar.metadata)
    container.write(path)
    progress("export", 3, 3)


def _add_head(container: Container, rig: HeadModel, texture: bytes, performance: Performance | None) -> list[int]:
    """The mesh, its skin and joints, its animation; gives the nodes that stand in the scene."""
    joints = rig.J_regressor @ rig.v_template
    nodes = [_joint_node(container, rig, joints, joint) for joint in range(len(joints))]
    inverse = np.tile(np.eye(4, dtype=np.float32), (len(joints), 1, 1))
    inverse[:, :3, 3] = -joints
    skin = container.add(
        "skins", {"name": rig.name, "joints": nodes, "skeleton": nodes[0], "inverseBindMatrices": container.accessor(inverse)}
    )
    mesh = _add_mesh(container, rig, _add_material(container, texture))
    head = container.add("nodes", {"name": "head", "mesh": mesh, "skin": skin})
    children = np.asarray(rig.parents)
    for joint, node in enumerate(nodes):
        if below := [nodes[child] for child in np.flatnonzero(children == joint)]:
            container.document["nodes"][node]["children"] = below
    if performance is not None:
        _add_animation(container, performance, nodes, head, joints)
    return [nodes[0], head]


def _joint_node(container: Container, rig: HeadModel, joints: np.ndarray, joint: int) -> int:
    parent = int(rig.parents[joint])
    offset = joints[joint] - (joints[parent] if parent >= 0 else 0)
    return container.add("nodes", {"name": rig.joint_names[joint], "translation": offset.tolist()})


def _add_material(container: Container, texture: bytes) -> int:
    image = container.add("images", {"name": "colour", "mimeType": "image/png", "bufferView": container.bytes_view(texture)})
    sampler = container.add("samplers", {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071})
    base = {"baseColorTexture": {"index": container.add("textures", {"source": image, "sampler": sampler})}}
    material = {
        "name": "skin",
        "pbrMetallicRoughness": {**base, "metallicFactor": 0.0, "roughnessFactor": 0.9},
        "doubleSided": True,
        "extensions": {_UNLIT: {}},
    }
    container.document.setdefault("extensionsUsed", []).append(_UNLIT)
    return container.add("materials", material)


def _add_mesh(container: Container, rig: HeadModel, material: int) -> int:
    """The rest pose; a vertex with several places in the atlas becomes several vertices."""
    corners, triangles = np.unique(np.stack([rig.faces.ravel(), rig.uv_faces.ravel()], axis=1), axis=0, return_inverse=True)
    ids = corners[:, 0]
    vertices = rig.v_template + rig.static_offsets
    uvs = rig.uvs[corners[:, 1]] * [1, -1] + [0, 1]  # v goes down
    weights, influences = _skin_weights(rig.lbs_weights)

    def vertex_data(array: np.ndarray, kind: type = np.float32, bounds: bool = False) -> int:
        return container.accessor(np.asarray(array, kind), target=ARRAY_BUFFER, bounds=bounds)

    attributes = {
        "POSITION": vertex_data(vertices[ids], bounds=True),
        "NORMAL": vertex_data(_normals(vertices, rig.faces)[ids]),
        "TEXCOORD_0": vertex_data(uvs),
        "JOINTS_0": vertex_data(influences[ids], np.uint16),
        "WEIGHTS_0": vertex_data(weights[ids]),
    }
    names = list(rig.expression_names)
    primitive = {
        "attributes": attributes,
        "indices": container.accessor(triangles.reshape(-1).astype(np.uint32), target=ELEMENT_ARRAY_BUFFER),
        "material": material,
    }
    if not names:
        return container.add("meshes", {"name": "head", "primitives": [primitive]})
    primitive["targets"] = [{"POSITION": vertex_data(rig.exprdirs[ids, :, index], bounds=True)} for index in range(len(names))]
    return container.add(
        "meshes", {"name": "head", "primitives": [primitive], "weights": [0.0] * len(names), "extras": {"targetNames": names}}
    )


def _skin_weights(lbs_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V, 4) weights that sum to 1 and joints, the four strongest; joints of no weight are 0, as glTF wants."""
    order = np.argsort(-lbs_weights, axis=1, kind="stable")[:, :_INFLUENCES]
    weights = np.zeros((len(lbs_weights), _INFLUENCES), np.float64)
    joints = np.zeros((len(lbs_weights), _INFLUENCES), np.uint16)
    weights[:, : order.shape[1]] = np.maximum(np.take_along_axis(lbs_weights, order, axis=1), 0)
    joints[:, : order.shape[1]] = order
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    joints[weights == 0] = 0
    return weights.astype(np.float32), joints


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals; up for vertices of no triangle, because glTF's have a length."""
    normals = vertex_normals(vertices.astype(np.float64), faces)
    return np.where(np.any(normals != 0, axis=1, keepdims=True), normals, [0, 1, 0])


def _add_animation(container: Container, performance: Performance, nodes: list[int], head: int, joints: np.ndarray) -> None:
    """Joint rotations, the root's translation, and the weights of the morph targets, frame by frame."""
    times = container.accessor((np.arange(len(performance)) / performance.fps).astype(np.float32), bounds=True)
    animation: dict[str, list] = {"samplers": [], "channels": []}

    def channel(node: int, path: str, values: np.ndarray) -> None:
        animation["samplers"].append({"input": times, "output": container.accessor(values.astype(np.float32)), "interpolation": "LINEAR"})
        animation["channels"].append({"sampler": len(animation["samplers"]) - 1, "target": {"node": node, "path": path}})

    for joint, node in enumerate(nodes):
        quats = axis_angle_to_quaternion(performance.rotations[:, joint].astype(np.float64))
        flips = np.cumprod(np.where((quats[1:] * quats[:-1]).sum(axis=1) < 0, -1, 1))  # neighbours on one side, or the head would spin
        quats[1:] *= flips[:, None]
        channel(node, "rotation", quats[:, [1, 2, 3, 0]])
    channel(nodes[0], "translation", joints[0] + performance.translation)
    if performance.expression.shape[1]:
        channel(head, "weights", performance.expression.reshape(-1))
    container.add("animations", {"name": "performance", **animation})


def _add_splats(container: Container, splats: PosedSplats) -> int:
    """The splats as a primitive of points; gives their node."""
    display = np.clip(0.5 + SH_C0 * splats.sh[:, 0].astype(np.float64), 0, 1)
    linear = np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)  # COLOR_0 is linear
    rgba = np.concatenate([linear, splats.opacities[:, None]], axis=1)
    named = {
        "ROTATION": splats.quats[:, [1, 2, 3, 0]],
        "SCALE": splats.scales,
        "OPACITY": splats.opacities,
    }
    degrees = round(splats.sh.shape[1] ** 0.5)
    for degree in range(degrees):
        for order in range(2 * degree + 1):
            named[f"SH_DEGREE_{degree}_COEF_{order}"] = splats.sh[:, degree * degree + order]
    attributes = {
        "POSITION": container.accessor(splats.means.astype(np.float32), target=ARRAY_BUFFER, bounds=True),
        "COLOR_0": container.accessor(np.rint(rgba * 255).astype(np.uint8), target=ARRAY_BUFFER, normalized=True),
    }
    for name, array in named.items():
        attributes[f"{_SPLATTING}:{name}"] = container.accessor(array.astype(np.float32), target=ARRAY_BUFFER)
    extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display", "sortingMethod": "cameraDistance", "projection": "perspective"}
    mesh = container.add(
        "meshes", {"name": "splats", "primitives": [{"attributes": attributes, "mode": 0, "extensions": {_SPLATTING: extension}}]}
    )
    container.document.setdefault("extensionsUsed", []).append(_SPLATTING)
    return container.add("nodes", {"name": "splats", "mesh": mesh})
