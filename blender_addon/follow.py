# SPDX-License-Identifier: GPL-3.0-or-later
"""The geometry nodes that make Gaussians ride on triangles: `mvp4d_core.rig.binding` as a node group."""

from math import pi

import bpy

from . import splats
from .graph import Graph

_SMALLEST = 1e-12  # metres: a triangle smaller than this has no direction
_HEAD_AXES = (pi / 2, 0, 0)  # Euler angles of BLENDER_FROM_HEAD, the frame of a triangle without direction
_FRAME = (("face_rotation", "QUATERNION"), ("face_centre", "FLOAT_VECTOR"), ("face_size", "FLOAT"))
_OUTPUTS = (("Mean", "Vector"), ("Rotation", "Rotation"), ("Scale", "Vector"), ("Turn", "Rotation"))

Socket = bpy.types.NodeSocket


def build_follow(graph: Graph) -> None:
    """Fields on the faces of a splats' mesh: `Mean`, `Rotation` and `Scale` (metres, the splats' axes) and `Turn`, how far the triangle has
    turned since the head was at rest.
    """
    sockets = graph.tree.interface
    sockets.new_socket("Head", in_out="INPUT", socket_type="NodeSocketObject")
    for name, kind in _OUTPUTS:
        sockets.new_socket(name, in_out="OUTPUT", socket_type=f"NodeSocket{kind}")
    head = graph.output("NodeGroupInput", result="Head")
    geometry = graph.output("GeometryNodeObjectInfo", {"Object": head}, "Geometry", transform_space="RELATIVE")
    for (name, kind), value in zip(_FRAME, _face_frame(graph), strict=True):  # once a face, then one look-up a splat
        geometry = graph.stored(geometry, name, kind, value)
    face = graph.attribute(splats.BIND_FACE, "INT")
    rotation, centre, size = (
        graph.output(
            "GeometryNodeSampleIndex",
            {"Geometry": geometry, "Value": graph.attribute(name, kind), "Index": face},
            data_type=kind,
            domain="FACE",
        )
        for name, kind in _FRAME
    )
    local = graph.scaled(graph.attribute(splats.BIND_MEAN, "FLOAT_VECTOR"), size)
    results = {
        "Mean": graph.vector("ADD", graph.rotated(local, rotation), centre),
        "Rotation": graph.turned(rotation, graph.attribute(splats.BIND_ROTATION, "QUATERNION")),
        "Scale": graph.scaled(graph.attribute(splats.BIND_SCALE, "FLOAT_VECTOR"), size),
        "Turn": graph.turned(rotation, graph.inverted(graph.attribute(splats.REST_ROTATION, "QUATERNION"))),
    }
    graph.node("NodeGroupOutput", results)


def _face_frame(graph: Graph) -> tuple[Socket, Socket, Socket]:
    """Rotation, centre and size of each triangle of the head, as `rig.triangle_frames` has them."""
    position = graph.output("GeometryNodeInputPosition")
    corners = []
    for corner in range(3):
        loop = graph.output("GeometryNodeCornersOfFace", {"Sort Index": corner}, "Corner Index")
        vertex = graph.output("GeometryNodeVertexOfCorner", {"Corner Index": loop})
        inputs = {"Index": vertex, "Value": position}
        corners.append(graph.output("GeometryNodeFieldAtIndex", inputs, domain="POINT", data_type="FLOAT_VECTOR"))
    edge = graph.vector("SUBTRACT", corners[1], corners[0])
    normal = graph.vector("CROSS_PRODUCT", edge, graph.vector("SUBTRACT", corners[2], corners[0]))
    length = graph.vector("LENGTH", edge)
    height = graph.number("DIVIDE", graph.vector("LENGTH", normal), graph.number("MAXIMUM", length, _SMALLEST))
    axes = {"Primary Axis": graph.vector("NORMALIZE", edge), "Secondary Axis": graph.vector("NORMALIZE", normal)}
    turned = graph.output("FunctionNodeAxesToRotation", axes, primary_axis="X", secondary_axis="Y")
    choice = {"Switch": graph.number("GREATER_THAN", height, _SMALLEST), "False": _HEAD_AXES, "True": turned}
    rotation = graph.output("GeometryNodeSwitch", choice, input_type="ROTATION")
    total = graph.vector("ADD", graph.vector("ADD", corners[0], corners[1]), corners[2])
    size = graph.number("MULTIPLY", graph.number("ADD", length, height), 0.5)
    return rotation, graph.scaled(total, 1 / 3), size
