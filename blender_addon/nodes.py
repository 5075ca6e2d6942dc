# SPDX-License-Identifier: GPL-3.0-or-later
"""The modifier trees of the splats, built in code: one interface, three ways to show Gaussians behind it.

A tree takes the splats' mesh (`splats.py`) and the head, puts each Gaussian where its triangle is (`follow.py`), lets the controls act, and
shows it as sorted quads (`quads.py`), as dots or as Blender's own splats (`points.py`): one choice for the viewport, one for renders. The
inputs are the modifier's, so they can be keyed, and they work in files opened without the add-on.
"""

from collections.abc import Callable
from typing import Any

import bpy

from . import compat, follow, native_names, points, splats, view_color
from .graph import Graph
from .quads import Camera, sorted_by_depth, sorted_quads

VERSION = 2  # raise it with every change of a tree: files keep the trees they were made with
FOLLOW = f"MVP4D Follow v{VERSION}"
COMPOSITE = f"MVP4D Composite v{VERSION}"

HEAD, VIEWPORT, RENDER = "Head", "Viewport", "Render"
DENSITY, OPACITY, SCALE, LINEAR, TURN = "Density", "Opacity", "Scale", "Scene Linear", "Turn Colours"
AVATARS = "Avatars"
QUADS, DOTS, NATIVE = MENU = ("Quads", "Dots", "Native")

_FEWEST = 0.01  # share of the Gaussians below which those that are left do not grow any further

Socket = bpy.types.NodeSocket


def native_is_known() -> bool:
    """Whether this Blender has Gaussian splats of its own (5.3)."""
    return hasattr(bpy.types, native_names.NODE)


def splat_tree_name(sh_degree: int) -> str:
    return f"MVP4D Splats v{VERSION} SH{sh_degree}" + (" native" if native_is_known() else "")


def is_splat_tree(tree: bpy.types.NodeTree) -> bool:
    """Whether `splat_tree` made it, and not an older add-on."""
    return compat.mark_of(tree).startswith(f"MVP4D Splats v{VERSION} ")


def splat_tree(sh_degree: int) -> bpy.types.NodeTree:
    """The modifier tree for avatars of one degree of spherical harmonics, shared by all of them.

    Its inputs are named by this module's constants: `HEAD` is the rig's mesh, `VIEWPORT` and `RENDER` one of `MENU`, `DENSITY` the share
    of the Gaussians that is kept (they grow to cover for the others), `OPACITY` and `SCALE` factors, `LINEAR` whether colours mix as light
    does instead of as trained, `TURN` whether view-dependent colours turn with each triangle.
    """
    return _tree(splat_tree_name(sh_degree), lambda graph: _build_splats(graph, sh_degree))


def composite_tree() -> bpy.types.NodeTree:
    """The modifier tree that draws the splats of all objects of the collection `AVATARS` as one, sorted together."""
    return _tree(COMPOSITE, _build_composite)


def follow_tree() -> bpy.types.NodeTree:
    """The group of `follow.py`."""
    return _tree(FOLLOW, follow.build_follow)


def _tree(name: str, build: Callable[[Graph], None]) -> bpy.types.NodeTree:
    existing = compat.made_before(bpy.data.node_groups, name)
    if existing is not None:
        return existing
    graph = Graph(compat.mark(bpy.data.node_groups.new(name, "GeometryNodeTree"), name))
    build(graph)
    graph.arrange()
    return graph.tree


def _build_splats(graph: Graph, sh_degree: int) -> None:
    _declare_inputs(graph)
    entry = graph.node("NodeGroupInput").outputs
    follower = graph.node("GeometryNodeGroup", node_tree=follow_tree())
    graph.tree.links.new(entry[HEAD], follower.inputs["Head"])
    kept = _thinned(graph, entry)
    geometry, mean, rotation, scale = _captured(graph, kept, follower, _growth(graph, entry))
    opacity = graph.number("MULTIPLY", graph.attribute(splats.OPACITY, "FLOAT"), entry[OPACITY])
    geometry = graph.stored(geometry, splats.OPACITY, "FLOAT", opacity)
    camera = Camera(graph)
    direction = graph.vector("NORMALIZE", graph.vector("SUBTRACT", mean, camera.location))
    if sh_degree:
        back = graph.rotated(direction, graph.inverted(follower.outputs["Turn"]))
        direction = graph.switch("VECTOR", entry[TURN], direction, back)
    colored = view_color.add_harmonics(graph, geometry, direction, sh_degree, entry[LINEAR])
    shown = {
        QUADS: sorted_quads(graph, camera, colored, mean, rotation, scale),
        DOTS: points.dots(graph, colored, mean, scale),
        NATIVE: points.native_points(graph, geometry, mean, rotation, scale),
    }
    graph.node("NodeGroupOutput", {"Geometry": _menu(graph, entry, shown)})
    first = NATIVE if native_is_known() else QUADS
    for item in graph.tree.interface.items_tree:
        if item.name in (VIEWPORT, RENDER):
            item.default_value = first  # only now is it known what there is to choose from


def _declare_inputs(graph: Graph) -> None:
    sockets = graph.tree.interface

    def new(name: str, kind: str, text: str, **settings: Any) -> None:
        socket = sockets.new_socket(name, in_out="INPUT", socket_type=f"NodeSocket{kind}", description=text)
        for key, value in settings.items():
            setattr(socket, key, value)

    factor = {"subtype": "FACTOR", "min_value": 0.0, "max_value": 1.0, "default_value": 1.0}
    new("Geometry", "Geometry", "The splats' mesh")
    new(HEAD, "Object", "The head that the splats ride on")
    new(VIEWPORT, "Menu", "How splats are shown while working. Quads face the scene's camera; dots look the same from everywhere")
    new(RENDER, "Menu", "How splats are rendered")
    new(DENSITY, "Float", "The share of the splats that is kept; those that stay grow to cover for the others", **factor)
    new(OPACITY, "Float", "Multiplies the opacity of each splat", **factor)
    new(SCALE, "Float", "Multiplies the size of each splat", min_value=0.0, max_value=10.0, default_value=1.0)
    new(LINEAR, "Bool", "Let splats mix as light does, for scenes with lit objects; else as they were trained, for the Raw view transform")
    new(TURN, "Bool", "Let the colours that depend on the view turn with the face, as if the light turned along")
    sockets.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")


def _thinned(graph: Graph, entry: Any) -> Socket:
    """The mesh with the share of its faces that is kept; which they are never changes."""
    chance = graph.output("FunctionNodeRandomValue", {"Min": 0.0, "Max": 1.0}, "Value", data_type="FLOAT")
    chosen = {"Geometry": entry["Geometry"], "Selection": graph.number("GREATER_THAN", chance, entry[DENSITY])}
    fewer = graph.output("GeometryNodeDeleteGeometry", chosen, domain="FACE")
    return graph.switch("GEOMETRY", graph.number("LESS_THAN", entry[DENSITY], 1.0), entry["Geometry"], fewer)


def _growth(graph: Graph, entry: Any) -> Socket:
    """What sizes are multiplied by, so that thinned splats cover the same surface."""
    kept = graph.number("MAXIMUM", entry[DENSITY], _FEWEST)
    return graph.number("DIVIDE", entry[SCALE], graph.number("SQRT", kept))


def _captured(graph: Graph, geometry: Socket, follower: bpy.types.Node, growth: Socket) -> tuple[Socket, Socket, Socket, Socket]:
    """Evaluates mean, rotation and scale once for all that comes after."""
    node = graph.node("GeometryNodeCaptureAttribute", domain="FACE")
    graph.tree.links.new(geometry, node.inputs["Geometry"])
    values = {
        "Mean": ("VECTOR", follower.outputs["Mean"]),
        "Rotation": ("ROTATION", follower.outputs["Rotation"]),
        "Scale": ("VECTOR", graph.scaled(follower.outputs["Scale"], growth)),
    }
    for name, (kind, value) in values.items():
        node.capture_items.new(kind, name)
        graph.tree.links.new(value, node.inputs[name])
    return node.outputs["Geometry"], node.outputs["Mean"], node.outputs["Rotation"], node.outputs["Scale"]


def _menu(graph: Graph, entry: Any, shown: dict[str, Socket]) -> Socket:
    """What the viewport's or the render's menu asks for."""
    chosen = graph.switch("MENU", graph.output("GeometryNodeIsViewport"), entry[RENDER], entry[VIEWPORT])
    node = graph.node("GeometryNodeMenuSwitch", data_type="GEOMETRY")
    for index, name in enumerate(shown):  # the two that are there get other names: their numbers then are 0 and 1
        if index < len(node.enum_items):
            node.enum_items[index].name = name
        else:
            node.enum_items.new(name)
    graph.tree.links.new(chosen, node.inputs["Menu"])
    for name, geometry in shown.items():
        graph.tree.links.new(geometry, node.inputs[name])
    return node.outputs[0]


def _build_composite(graph: Graph) -> None:
    sockets = graph.tree.interface
    sockets.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    sockets.new_socket(AVATARS, in_out="INPUT", socket_type="NodeSocketCollection", description="The splats that are drawn together")
    sockets.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    entry = graph.node("NodeGroupInput").outputs
    members = graph.output("GeometryNodeCollectionInfo", {"Collection": entry[AVATARS]}, transform_space="RELATIVE")
    together = graph.output("GeometryNodeRealizeInstances", {"Geometry": members})
    camera = Camera(graph)
    centre = graph.output("GeometryNodeInputPosition")  # of a face: that of its Gaussian
    depth = camera.depth(graph, graph.vector("SUBTRACT", centre, camera.location))
    graph.node("NodeGroupOutput", {"Geometry": sorted_by_depth(graph, together, depth)})
