# SPDX-License-Identifier: GPL-3.0-or-later
"""Between numpy arrays and Blender's data: the only file that hands arrays to Blender or takes them from it.

Arrays are in Blender's space (`blender_from_head` makes them so) unless a name says otherwise.
"""

import bpy
import numpy as np
from mathutils import Matrix, Vector

from mvp4d_core.cameras import BLENDER_FROM_HEAD

LINEAR_INTERPOLATION = 1  # the number of `LINEAR` in Blender's enum of key-frame interpolations

_SETTERS = {
    "INT": ("value", np.int32),
    "FLOAT": ("value", np.float32),
    "FLOAT_VECTOR": ("vector", np.float32),
    "QUATERNION": ("value", np.float32),
    "FLOAT_COLOR": ("color", np.float32),
}
_WIDTHS = {"INT": 1, "FLOAT": 1, "FLOAT_VECTOR": 3, "QUATERNION": 4, "FLOAT_COLOR": 4}


def blender_from_head(points: np.ndarray) -> np.ndarray:
    """Points or directions (..., 3) from head space to Blender's, exactly: (x, y, z) becomes (x, -z, y)."""
    return points @ BLENDER_FROM_HEAD.T.astype(points.dtype)


def head_from_blender(points: np.ndarray) -> np.ndarray:
    """The inverse of `blender_from_head`."""
    return points @ BLENDER_FROM_HEAD.astype(points.dtype)


def to_vector(array: np.ndarray) -> Vector:
    return Vector(array.tolist())


def to_matrix(array: np.ndarray) -> Matrix:
    return Matrix(array.tolist())


def new_triangle_mesh(name: str, vertices: np.ndarray, faces: np.ndarray) -> bpy.types.Mesh:
    """A mesh of `vertices` (V, 3) metres and triangles `faces` (F, 3) in the order given."""
    return _new_mesh(name, vertices, faces)


def new_quad_mesh(name: str, count: int) -> bpy.types.Mesh:
    """A mesh of `count` separate quads, all at the origin; quad i has the vertices 4i to 4i+3."""
    return _new_mesh(name, np.zeros((4 * count, 3), np.float32), np.arange(4 * count, dtype=np.int32).reshape(count, 4))


def _new_mesh(name: str, vertices: np.ndarray, faces: np.ndarray) -> bpy.types.Mesh:
    mesh = bpy.data.meshes.new(name)
    count, sides = faces.shape
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", np.ascontiguousarray(vertices, dtype=np.float32).ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", np.ascontiguousarray(faces, dtype=np.int32).ravel())
    mesh.polygons.add(count)
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, sides, dtype=np.int32))
    mesh.update(calc_edges=True)
    return mesh


def add_attribute(mesh: bpy.types.Mesh, name: str, kind: str, domain: str, values: np.ndarray) -> None:
    """Adds an attribute of kind INT, FLOAT, FLOAT_VECTOR or QUATERNION (wxyz) with one row of `values` an element."""
    field, dtype = _SETTERS[kind]
    attribute = mesh.attributes.new(name, kind, domain)
    attribute.data.foreach_set(field, np.ascontiguousarray(values, dtype=dtype).ravel())


def read_attribute(geometry: bpy.types.Mesh | bpy.types.PointCloud, name: str) -> np.ndarray:
    """The values (n,) or (n, width) of an attribute of a mesh or a point cloud, evaluated or not."""
    attribute = geometry.attributes[name]
    field, dtype = _SETTERS[attribute.data_type]
    width = _WIDTHS[attribute.data_type]
    values = np.zeros(len(attribute.data) * width, dtype)
    attribute.data.foreach_get(field, values)
    return values if width == 1 else values.reshape(-1, width)


def evaluated_geometry(blender_object: bpy.types.Object) -> bpy.types.GeometrySet:
    """What an object's modifiers make of it, in its own space. Its mesh and its points last only as long as this does."""
    return blender_object.evaluated_get(bpy.context.evaluated_depsgraph_get()).evaluated_geometry()


def evaluated_vertices(blender_object: bpy.types.Object) -> np.ndarray:
    """(V, 3) float32 vertices of an object after shape keys and modifiers, in the object's own space."""
    mesh = blender_object.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    vertices = np.zeros(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", vertices)
    return vertices.reshape(-1, 3)


def add_shape_key(mesh_object: bpy.types.Object, name: str, vertices: np.ndarray) -> bpy.types.ShapeKey:
    """A relative shape key that takes the mesh to `vertices` (V, 3) at value 1."""
    key = mesh_object.shape_key_add(name=name, from_mix=False)
    key.data.foreach_set("co", np.ascontiguousarray(vertices, dtype=np.float32).ravel())
    return key


def add_vertex_group(mesh_object: bpy.types.Object, name: str, weights: np.ndarray) -> None:
    """A vertex group of `weights` (V,); vertices of weight zero stay out."""
    group = mesh_object.vertex_groups.new(name=name)
    for weight in np.unique(weights[weights > 0]):  # one call a weight: most vertices hang on one joint alone
        group.add(np.nonzero(weights == weight)[0].tolist(), float(weight), "REPLACE")


def write_curve(curve: bpy.types.FCurve, frames: np.ndarray, values: np.ndarray) -> None:
    """Replaces the keys of an F-curve by `values` (T,) at `frames` (T,), linear in between."""
    curve.keyframe_points.clear()
    curve.keyframe_points.add(len(frames))
    curve.keyframe_points.foreach_set("co", np.stack([frames, values], axis=1).astype(np.float32).ravel())
    curve.keyframe_points.foreach_set("interpolation", np.full(len(frames), LINEAR_INTERPOLATION, np.int32))
    curve.update()
