# SPDX-License-Identifier: GPL-3.0-or-later
"""The geometry nodes that make the splats follow the head and face the camera, built in code.

`follow_tree` gives each Gaussian's mean, rotation and scale from the triangle it is bound to (`mvp4d_core.rig.binding`). `splat_tree` turns
each Gaussian into the quad of its EWA projection (Zwicker et al., "EWA splatting", 2002), parallel to the image: in camera axes, with
M = R diag(s) and the mean at (x, y, z), the rows P = M_x - (x/z) M_z and Q = M_y - (y/z) M_z give the covariance
[[P.P, P.Q], [P.Q, Q.Q]] on the plane through the mean. It is widened by the 0.3 square pixels of 3D Gaussian splatting, and its Cholesky
factor spans the quad. Quads are sorted far to near, the order in which EEVEE blends the faces of an object.
"""

from collections.abc import Callable
from math import pi

import bpy

from . import splats, view_color
from .graph import Graph

VERSION = 1  # raise it with every change of a tree: files keep the trees they were made with
FOLLOW = f"MVP4D Follow v{VERSION}"

_EPS2D = 0.3  # square pixels
_NEAREST = 1e-3  # metres
_SMALLEST = 1e-12  # metres: a triangle smaller than this has no direction
_HEAD_AXES = (pi / 2, 0, 0)  # Euler angles of BLENDER_FROM_HEAD, the frame of a triangle without direction
_FRAME = (("face_rotation", "QUATERNION"), ("face_centre", "FLOAT_VECTOR"), ("face_size", "FLOAT"))

Socket = bpy.types.NodeSocket


def splat_tree_name(sh_degree: int) -> str:
    return f"MVP4D Splats v{VERSION} SH{sh_degree}"


def splat_tree(sh_degree: int) -> bpy.types.NodeTree:
    """The modifier tree for avatars of one degree of spherical harmonics, shared by all of them. Its input `Head` is the rig's mesh."""
    return _tree(splat_tree_name(sh_degree), lambda graph: _build_splats(graph, sh_degree))


def follow_tree() -> bpy.types.NodeTree:
    """The group that gives the fields `Mean`, `Rotation` and `Scale` (metres, Blender's axes) on the faces of a splats' mesh."""
    return _tree(FOLLOW, _build_follow)


def _tree(name: str, build: Callable[[Graph], None]) -> bpy.types.NodeTree:
    existing = bpy.data.node_groups.get(name)
    if existing is not None and existing.bl_idname == "GeometryNodeTree":
        return existing
    graph = Graph(bpy.data.node_groups.new(name, "GeometryNodeTree"))
    build(graph)
    graph.arrange()
    return graph.tree


def _build_follow(graph: Graph) -> None:
    sockets = graph.tree.interface
    sockets.new_socket("Head", in_out="INPUT", socket_type="NodeSocketObject")
    for name, kind in (("Mean", "Vector"), ("Rotation", "Rotation"), ("Scale", "Vector")):
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
    turn = {"Rotation": rotation, "Rotate By": graph.attribute(splats.BIND_ROTATION, "QUATERNION")}
    results = {
        "Mean": graph.vector("ADD", graph.rotated(local, rotation), centre),
        "Rotation": graph.output("FunctionNodeRotateRotation", turn, rotation_space="LOCAL"),
        "Scale": graph.scaled(graph.attribute(splats.BIND_SCALE, "FLOAT_VECTOR"), size),
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


def _build_splats(graph: Graph, sh_degree: int) -> None:
    sockets = graph.tree.interface
    sockets.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    sockets.new_socket("Head", in_out="INPUT", socket_type="NodeSocketObject")
    sockets.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    entry = graph.node("NodeGroupInput").outputs
    follow = graph.node("GeometryNodeGroup", node_tree=follow_tree())
    graph.tree.links.new(entry["Head"], follow.inputs["Head"])
    captured = _captured(graph, entry["Geometry"], follow)
    geometry, mean, rotation, scale = captured
    camera = _Camera(graph)
    from_camera = graph.vector("SUBTRACT", mean, camera.location)
    depth = graph.number("MAXIMUM", graph.number("MULTIPLY", graph.vector("DOT_PRODUCT", from_camera, camera.axes[2]), -1), _NEAREST)
    if sh_degree:
        geometry = view_color.add_harmonics(graph, geometry, graph.vector("NORMALIZE", from_camera), sh_degree)
    across, up = _quad_axes(graph, camera, from_camera, depth, rotation, scale)
    geometry = _placed(graph, geometry, mean, across, up)
    order = {"Geometry": geometry, "Sort Weight": graph.number("MULTIPLY", depth, -1)}
    graph.node("NodeGroupOutput", {"Geometry": graph.output("GeometryNodeSortElements", order, domain="FACE")})


def _captured(graph: Graph, geometry: Socket, follow: bpy.types.Node) -> tuple[Socket, Socket, Socket, Socket]:
    """Evaluates mean, rotation and scale once for all that follows."""
    node = graph.node("GeometryNodeCaptureAttribute", domain="FACE")
    graph.tree.links.new(geometry, node.inputs["Geometry"])
    for name, kind in (("Mean", "VECTOR"), ("Rotation", "ROTATION"), ("Scale", "VECTOR")):
        node.capture_items.new(kind, name)
        graph.tree.links.new(follow.outputs[name], node.inputs[name])
    return node.outputs["Geometry"], node.outputs["Mean"], node.outputs["Rotation"], node.outputs["Scale"]


class _Camera:
    """The scene's camera, in the space of the splats."""

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


def _quad_axes(graph: Graph, camera: _Camera, from_camera: Socket, depth: Socket, rotation: Socket, scale: Socket) -> tuple[Socket, Socket]:
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
