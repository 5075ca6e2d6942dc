# SPDX-License-Identifier: Apache-2.0
"""GLB: what is in the file, read by trimesh, by a reader of a few lines and by Blender, against the rig itself."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mvp4d_core.avatar.baked_texture import bake_texture
from mvp4d_core.avatar.glb import write_glb
from mvp4d_core.avatar.harmonics import SH_C0, sh_colors
from mvp4d_core.errors import Cancelled
from mvp4d_core.rig import load_head_model, rest_parameters, showcase_performance, skin
from mvp4d_core.rotations import quaternion_to_matrix
from tests.support.asserts import assert_arrays_close
from tests.support.toy_avatar import toy_avatar

AVATAR = replace(toy_avatar(1500, sh_degree=2))
AVATAR = replace(AVATAR, rig=replace(AVATAR.rig, posedirs=np.zeros_like(AVATAR.rig.posedirs)))  # which glTF has no word for
PERFORMANCE = showcase_performance(AVATAR.rig).select([0, 20, 50, 80, 100])
COMPONENTS = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": (), "VEC2": (2,), "VEC3": (3,), "VEC4": (4,), "MAT4": (4, 4)}


class Reader:
    """The JSON and the arrays of a GLB file."""

    def __init__(self, path):
        data = path.read_bytes()
        magic, version, length = struct.unpack("<4sII", data[:12])
        assert (magic, version, length) == (b"glTF", 2, len(data)) and length % 4 == 0
        size, kind = struct.unpack("<I4s", data[12:20])
        assert kind == b"JSON"
        self.document = json.loads(data[20 : 20 + size])
        size, kind = struct.unpack("<I4s", data[20 + size : 28 + size])
        assert kind == b"BIN\0"
        self.data = data[-size:]

    def bytes_of(self, index):
        view = self.document["bufferViews"][index]
        return self.data[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]

    def array(self, index):
        accessor = self.document["accessors"][index]
        assert self.document["bufferViews"][accessor["bufferView"]]["byteOffset"] % 4 == 0
        array = np.frombuffer(self.bytes_of(accessor["bufferView"]), COMPONENTS[accessor["componentType"]])
        array = array.reshape(accessor["count"], *WIDTHS[accessor["type"]])
        if "min" in accessor:
            np.testing.assert_array_equal(np.atleast_1d(array.min(axis=0)), np.array(accessor["min"], array.dtype))
            np.testing.assert_array_equal(np.atleast_1d(array.max(axis=0)), np.array(accessor["max"], array.dtype))
        return np.swapaxes(array, 1, 2) if array.ndim == 3 else array

    def named(self, kind, name):
        return next(entry for entry in self.document[kind] if entry.get("name") == name)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("glb") / "a.glb"
    write_glb(path, AVATAR, PERFORMANCE, content="both", texture_size=128)
    return path


def corners():
    """The rig's vertices, once for each place in the atlas, as the file has them."""
    return np.unique(np.stack([AVATAR.rig.faces.ravel(), AVATAR.rig.uv_faces.ravel()], axis=1), axis=0)


def posed(frame):
    return skin(AVATAR.rig, None, *(getattr(PERFORMANCE, name)[frame] for name in ("expression", "rotations", "translation")))


def test_trimesh_sees_the_textured_head(file):
    trimesh = pytest.importorskip("trimesh")
    scene = trimesh.load(file)
    head = scene.geometry["head"]
    rig = AVATAR.rig
    expected = (rig.v_template + rig.static_offsets)[rig.faces]
    assert_arrays_close(head.vertices[head.faces], expected, atol=1e-6)
    assert_arrays_close(head.visual.uv[head.faces], rig.uvs[rig.uv_faces], atol=1e-6)
    texture = np.asarray(head.visual.material.baseColorTexture.convert("RGB"))
    np.testing.assert_array_equal(texture, bake_texture(AVATAR, 128))
    assert (np.einsum("vk,vk->v", head.vertex_normals, Reader(file).array(2)) > 0.5).mean() > 0.99
    assert len(scene.geometry["splats"].vertices) == len(AVATAR)


def forward(reader, frame):
    """Vertices by glTF's own rules for morph targets, animation and skins, written out."""
    document = reader.document
    nodes = [dict(node) for node in document["nodes"]]
    weights = None
    animation = document["animations"][0]
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        times, values = reader.array(sampler["input"]), reader.array(sampler["output"])
        assert_arrays_close(times, np.arange(5) / 24.0, atol=1e-6)
        target = channel["target"]
        if target["path"] == "weights":
            weights = values.reshape(5, -1)[frame]
        else:
            nodes[target["node"]][target["path"]] = values[frame]
    parents = {child: index for index, node in enumerate(nodes) for child in node.get("children", [])}

    def world(index):
        node, local = nodes[index], np.eye(4)
        x, y, z, w = node.get("rotation", (0, 0, 0, 1))
        local[:3, :3], local[:3, 3] = quaternion_to_matrix(np.array([w, x, y, z], np.float64)), node.get("translation", (0, 0, 0))
        return world(parents[index]) @ local if index in parents else local

    skin_entry, primitive = document["skins"][0], reader.named("meshes", "head")["primitives"][0]
    inverse = reader.array(skin_entry["inverseBindMatrices"])
    matrices = np.stack([world(joint) @ inverse[position] for position, joint in enumerate(skin_entry["joints"])])
    attributes = primitive["attributes"]
    points = reader.array(attributes["POSITION"]).astype(np.float64)
    for weight, target in zip(weights, primitive["targets"], strict=True):
        points = points + weight * reader.array(target["POSITION"])
    joints, shares = reader.array(attributes["JOINTS_0"]), reader.array(attributes["WEIGHTS_0"])
    assert_arrays_close(shares.sum(axis=1), np.ones(len(shares)), atol=1e-6)
    blended = np.einsum("vk,vkab->vab", shares, matrices[joints])
    return np.einsum("vab,vb->va", blended[:, :3, :3], points) + blended[:, :3, 3]


@pytest.mark.parametrize("frame", range(5))
def test_convention_skin_morphs_and_animation_are_the_rigs(file, frame):
    assert_arrays_close(forward(Reader(file), frame), posed(frame)[corners()[:, 0]], atol=2e-6)


def test_names_are_the_rigs(file):
    reader = Reader(file)
    assert reader.named("meshes", "head")["extras"]["targetNames"] == list(AVATAR.rig.expression_names)
    assert [reader.document["nodes"][joint]["name"] for joint in reader.document["skins"][0]["joints"]] == list(AVATAR.rig.joint_names)
    assert reader.document["asset"]["extras"] == AVATAR.metadata
    assert set(reader.document["extensionsUsed"]) == {"KHR_materials_unlit", "KHR_gaussian_splatting"}


def test_splats_are_those_of_the_rest_pose(file):
    reader = Reader(file)
    primitive = reader.named("meshes", "splats")["primitives"][0]
    assert primitive["mode"] == 0
    assert primitive["extensions"]["KHR_gaussian_splatting"]["colorSpace"] == "srgb_rec709_display"
    arrays = {name.removeprefix("KHR_gaussian_splatting:"): reader.array(index) for name, index in primitive["attributes"].items()}
    rest = AVATAR.pose(rest_parameters(AVATAR.rig))
    for name, expected in {
        "POSITION": rest.means, "SCALE": rest.scales, "OPACITY": rest.opacities, "ROTATION": rest.quats[:, [1, 2, 3, 0]],
        "SH_DEGREE_0_COEF_0": rest.sh[:, 0], "SH_DEGREE_1_COEF_2": rest.sh[:, 3], "SH_DEGREE_2_COEF_4": rest.sh[:, 8],
    }.items():  # fmt: skip
        np.testing.assert_array_equal(arrays[name], expected.astype(np.float32), err_msg=name)
    assert_arrays_close(np.linalg.norm(arrays["ROTATION"], axis=1), np.ones(len(AVATAR)), atol=1e-5)
    assert sum(name.startswith("SH_") for name in arrays) == 9
    display = np.clip(0.5 + SH_C0 * rest.sh[:, 0], 0, 1)
    shown = arrays["COLOR_0"][:, :3] / 255
    assert_arrays_close(np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * shown ** (1 / 2.4) - 0.055), display, atol=0.03)


def test_contents_and_stopping(tmp_path):
    write_glb(tmp_path / "m.glb", AVATAR, texture_size=64)
    write_glb(tmp_path / "s.glb", AVATAR, content="splats")
    mesh, splats = Reader(tmp_path / "m.glb").document, Reader(tmp_path / "s.glb").document
    assert [entry["name"] for entry in mesh["meshes"]] == ["head"] and "animations" not in mesh
    assert [entry["name"] for entry in splats["meshes"]] == ["splats"] and "skins" not in splats

    def cancel(_stage, done, _total):
        if done == 2:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        write_glb(tmp_path / "x.glb", AVATAR, progress=cancel, texture_size=64)
    assert not list(tmp_path.glob("x*"))


def test_a_head_without_expressions_has_no_morph_targets(tmp_path):
    rig = replace(AVATAR.rig, exprdirs=AVATAR.rig.exprdirs[:, :, :0], expression_names=())
    write_glb(tmp_path / "a.glb", replace(AVATAR, rig=rig), texture_size=64)
    assert "targets" not in Reader(tmp_path / "a.glb").document["meshes"][0]["primitives"][0]


def test_texture_has_the_splats_colours_where_they_are(tmp_path):
    """The red cheek of the toy head is on the subject's left, and in the atlas where that cheek is."""
    picture = bake_texture(AVATAR, 256).astype(np.float64) / 255
    Image.fromarray((picture * 255).astype(np.uint8)).save(tmp_path / "atlas.png")
    rig = AVATAR.rig
    vertices = rig.v_template + rig.static_offsets
    centres, uvs = vertices[rig.faces].mean(axis=1), rig.uvs[rig.uv_faces].mean(axis=1)
    cheek = ((centres[:, 0] - 0.045) ** 2 + (centres[:, 1] + 0.02) ** 2 < 0.007**2) & (centres[:, 2] > 0)
    other = ((centres[:, 0] + 0.045) ** 2 + (centres[:, 1] + 0.02) ** 2 < 0.007**2) & (centres[:, 2] > 0)
    assert cheek.any() and other.any()

    def at(chosen):
        return picture[((1 - uvs[chosen, 1]) * 256).astype(int), (uvs[chosen, 0] * 256).astype(int)].mean(axis=0)

    redness = [colour[0] - colour[1] for colour in (at(cheek), at(other))]
    assert redness[0] > redness[1] + 0.15


def test_harmonics_are_an_orthonormal_basis():
    """So the constants are right; their signs and order are those of the rasterisers, which other tests compare."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(40_000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    basis = np.stack([sh_colors(np.eye(16)[k][None, :, None].repeat(len(directions), axis=0), directions)[:, 0] - 0.5 for k in range(16)])
    assert_arrays_close(4 * np.pi * basis @ basis.T / len(directions), np.eye(16), atol=0.05)


@pytest.mark.blender
def test_blender_plays_the_open_head(tmp_path):
    bpy = pytest.importorskip("bpy")
    model = load_head_model()
    rig = replace(model, posedirs=np.zeros_like(model.posedirs))
    avatar = replace(AVATAR, rig=rig, binding=AVATAR.binding % len(rig.faces))
    performance = showcase_performance(rig).select([0, 40, 80])
    write_glb(tmp_path / "a.glb", avatar, performance, texture_size=64)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 24
    bpy.ops.import_scene.gltf(filepath=str(tmp_path / "a.glb"))
    head = next(thing for thing in bpy.data.objects if thing.type == "MESH" and thing.data.shape_keys)
    assert [key.name for key in head.data.shape_keys.key_blocks][1:] == list(rig.expression_names)
    ids = np.unique(np.stack([rig.faces.ravel(), rig.uv_faces.ravel()], axis=1), axis=0)[:, 0]
    for frame in range(3):
        bpy.context.scene.frame_set(frame)
        evaluated = head.evaluated_get(bpy.context.evaluated_depsgraph_get())
        mesh = evaluated.to_mesh()
        seen = np.zeros(3 * len(mesh.vertices), np.float32)
        mesh.vertices.foreach_get("co", seen)
        place = np.array(evaluated.matrix_world)
        x, y, z = (seen.reshape(-1, 3) @ place[:3, :3].T + place[:3, 3]).T
        expected = skin(rig, None, *(getattr(performance, name)[frame] for name in ("expression", "rotations", "translation")))
        assert_arrays_close(np.stack([x, z, -y], axis=1), expected[ids], atol=2e-5)
