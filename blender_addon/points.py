# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaussians as points, in geometry nodes: opaque dots for quick work in the viewport, and Blender's own splats."""

import bpy

from . import native_names, splats
from .graph import Graph, enabled
from .material import dot_material

_FAINTEST = 0.4  # opacity of the faintest Gaussian that has a dot: dots are opaque
_RADIUS = 2.0  # of a dot, in the middle one of its Gaussian's standard deviations: closed skin, and still an eye

Socket = bpy.types.NodeSocket


def dots(graph: Graph, geometry: Socket, mean: Socket, scale: Socket) -> Socket:
    """Opaque spheres in the Gaussians' colours; the same from everywhere, and never sorted."""
    x, y, z = graph.parts(scale)
    wide, narrow = graph.number("MAXIMUM", x, y), graph.number("MINIMUM", x, y)
    middle = graph.number("MAXIMUM", narrow, graph.number("MINIMUM", wide, z))
    inputs = {
        "Mesh": geometry,
        "Selection": graph.number("GREATER_THAN", graph.attribute(splats.OPACITY, "FLOAT"), _FAINTEST),
        "Position": mean,
        "Radius": graph.number("MULTIPLY", middle, _RADIUS),
    }
    points = graph.output("GeometryNodeMeshToPoints", inputs, mode="FACES")
    return graph.output("GeometryNodeSetMaterial", {"Geometry": points, "Material": dot_material()})


def native_points(graph: Graph, geometry: Socket, mean: Socket, rotation: Socket, scale: Socket) -> Socket:
    """A point cloud whose attributes are those of Blender 5.3's Gaussian splats, declared as such where Blender knows them.

    Elsewhere it still holds every Gaussian as it is now, which is how poses leave Blender.
    """
    raw = graph.vector(
        "DIVIDE", graph.vector("SUBTRACT", graph.attribute(splats.COLOR, "FLOAT_VECTOR"), (0.5, 0.5, 0.5)), [splats.SH_C0] * 3
    )
    red, green, blue = graph.parts(raw)
    base = {"Red": red, "Green": green, "Blue": blue, "Alpha": graph.attribute(splats.OPACITY, "FLOAT")}
    for name, kind, value in (
        (native_names.BASE, "FLOAT_COLOR", graph.output("FunctionNodeCombineColor", base)),
        (native_names.ROTATION, "QUATERNION", rotation),
        (native_names.SCALE, "FLOAT_VECTOR", scale),
    ):
        geometry = graph.stored(geometry, name, kind, value)
    points = graph.output("GeometryNodeMeshToPoints", {"Mesh": geometry, "Position": mean, "Radius": 0.0}, mode="FACES")
    if not hasattr(bpy.types, native_names.NODE):
        return points
    node = graph.node(native_names.NODE, {0: points})
    enabled(node.inputs, native_names.NODE_TYPE_INPUT).default_value = native_names.NODE_TYPE_VALUE
    return node.outputs[0]
