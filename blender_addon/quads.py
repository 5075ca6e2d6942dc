# SPDX-License-Identifier: GPL-3.0-or-later
"""Gaussians as quads that face the scene's camera: the EWA projection (Zwicker et al., "EWA splatting", 2002) in geometry nodes.

Each quad is parallel to the image: in camera axes, with M = R diag(s) and the mean at (x, y, z), the rows P = M_x - (x/z) M_z and
Q = M_y - (y/z) M_z give the covariance [[P.P, P.Q], [P.Q, Q.Q]] on the plane through the mean. It is widened by the 0.3 square pixels of 3D
Gaussian splatting, and its Cholesky factor spans the quad. Quads are sorted far to near, the order in which EEVEE blends the faces of an
object. Rays of Cycles meet them in that very order, because all of them are parallel to the image.
"""

import bpy

from . import splats
from .graph import Graph

_EPS2D = 0.3  # square pixels
_NEAREST = 1e-3  # metres

Socket = bpy.types.NodeSocket


class Camera:
    """The scene's camera, in the space of the object that has the modifier."""

    def __init__(self, graph: Graph) -> None:
        camera = graph.output("GeometryNodeInputActiveCamera")
        place = graph.node("GeometryNodeObjectInfo", {"Object": camera}, transform_space="RELATIVE")
        lens = graph.node("GeometryNodeCameraInfo", {"Camera": camera})
        matrix = graph.node("FunctionNodeSeparateMatrix", {"Matrix": lens.outputs["Projection Matrix"]}).outputs
        self.location = place.outputs["Location"]
        self.axes = [graph.rotated(axis, place.outputs["Rotation"]) for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]  # right, up, backward
        self.perspective = graph.number("SUBTRACT", 1, lens.outputs["Is Orthographic"])
        # the size of a pixel at depth 1, horizontally and vertically: the projection takes it to 2 / pixels
        self.pixel = [
            graph.number("DIVIDE", 2, graph.number("MULTIPLY", matrix[f"Column {k} Row {k}"], _render_size(graph, side)))
            for k, side in ((1, "x"), (2, "y"))
        ]

    def depth(self, graph: Graph, from_camera: Socket) -> Socket:
        """How far in front of the camera something lies along its axis, metres."""
        along = graph.vector("DOT_PRODUCT", from_camera, self.axes[2])
        return graph.number("MAXIMUM", graph.number("MULTIPLY", along, -1), _NEAREST)


def sorted_quads(graph: Graph, camera: Camera, geometry: Socket, mean: Socket, rotation: Socket, scale: Socket) -> Socket:
    """The splats' mesh with each quad where the camera sees its Gaussian, far ones first."""
    from_camera = graph.vector("SUBTRACT", mean, camera.location)
    depth = camera.depth(graph, from_camera)
    across, up = _quad_axes(graph, camera, from_camera, depth, rotation, scale)
    return sorted_by_depth(graph, _placed(graph, geometry, mean, across, up), depth)


def sorted_by_depth(graph: Graph, geometry: Socket, depth: Socket) -> Socket:
    """The faces, far ones first."""
    order = {"Geometry": geometry, "Sort Weight": graph.number("MULTIPLY", depth, -1)}
    return graph.output("GeometryNodeSortElements", order, domain="FACE")


def _quad_axes(graph: Graph, camera: Camera, from_camera: Socket, depth: Socket, rotation: Socket, scale: Socket) -> tuple[Socket, Socket]:
    """The two sides of one standard deviation of the quad, in the space of the splats."""
    inverse = graph.output("FunctionNodeInvertRotation", {"Rotation": rotation})
    rows = [graph.vector("MULTIPLY", graph.rotated(axis, inverse), scale) for axis in camera.axes]
    distance = graph.number("MULTIPLY_ADD", graph.number("SUBTRACT", depth, 1), camera.perspective, 1)
    projected, widened = [], []
    for axis, row, pixel in zip(camera.axes[:2], rows[:2], camera.pixel, strict=True):
        slope = graph.number("DIVIDE", graph.vector("DOT_PRODUCT", from_camera, axis), depth)
        shear = graph.scaled(rows[2], graph.number("MULTIPLY", slope, camera.perspective))
        projected.append(graph.vector("ADD", row, shear))  # the third axis points backward, hence the sign
        size = graph.number("MULTIPLY", pixel, distance)
        blur = graph.number("MULTIPLY", graph.number("MULTIPLY", size, size), _EPS2D)
        widened.append(graph.number("ADD", graph.vector("DOT_PRODUCT", projected[-1], projected[-1]), blur))
    # Cholesky: [[a, b], [b, c]] = L L^T with L = [[sqrt(a), 0], [b / sqrt(a), sqrt(c - b^2 / a)]]
    first = graph.number("SQRT", widened[0])
    second = graph.number("DIVIDE", graph.vector("DOT_PRODUCT", *projected), first)
    remaining = graph.number("SUBTRACT", widened[1], graph.number("MULTIPLY", second, second))
    third = graph.number("SQRT", graph.number("MAXIMUM", remaining, 0))
    right, up, _ = camera.axes
    return graph.vector("ADD", graph.scaled(right, first), graph.scaled(up, second)), graph.scaled(up, third)


def _placed(graph: Graph, geometry: Socket, mean: Socket, across: Socket, up: Socket) -> Socket:
    """The geometry with each corner where its quad wants it."""
    mean, across, up = (
        graph.output("GeometryNodeFieldOnDomain", {"Value": value}, domain="FACE", data_type="FLOAT_VECTOR") for value in (mean, across, up)
    )
    x, y, _ = graph.parts(graph.attribute(splats.CORNER, "FLOAT_VECTOR"))
    corner = graph.vector("ADD", graph.scaled(across, x), graph.scaled(up, y))
    return graph.output("GeometryNodeSetPosition", {"Geometry": geometry, "Position": graph.vector("ADD", mean, corner)})


def _render_size(graph: Graph, side: str) -> Socket:
    """Width (`x`) or height (`y`) of the picture in pixels, by a driver that needs no Python."""
    node = graph.node("ShaderNodeValue", label=f"Pixels {side}")
    driver = node.outputs[0].driver_add("default_value").driver
    for name, path in (("size", f"render.resolution_{side}"), ("percent", "render.resolution_percentage")):
        variable = driver.variables.new()
        variable.name, variable.type = name, "CONTEXT_PROP"
        variable.targets[0].context_property = "ACTIVE_SCENE"
        variable.targets[0].data_path = path
    driver.expression = "size * percent / 100"
    return node.outputs[0]
