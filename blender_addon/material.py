# SPDX-License-Identifier: GPL-3.0-or-later
"""The materials: emission of the colour as it is stored.

On quads alpha is a Gaussian of their `corner` coordinate; dots are opaque. Which space colours are in is decided before, in `nodes.py`.
"""

from collections.abc import Callable

import bpy

from . import compat, splats
from .graph import Graph

QUADS, DOTS = "MVP4D Splats v2", "MVP4D Dots v2"

_VECTOR, _FACTOR = 1, 2  # outputs of the Attribute node; the name of the latter changed in Blender 5
_MAX_ALPHA = 0.99  # as in 3D Gaussian splatting


def splat_material() -> bpy.types.Material:
    """The one material of all avatars' quads."""
    return _material(QUADS, "BLENDED", _build_quads)


def dot_material() -> bpy.types.Material:
    """The one material of all avatars' dots."""
    return _material(DOTS, "DITHERED", _build_dots)


def _material(name: str, method: str, build: Callable[[Graph], None]) -> bpy.types.Material:
    existing = compat.made_before(bpy.data.materials, name)
    if existing is not None:
        return existing
    material = compat.mark(bpy.data.materials.new(name), name)
    graph = Graph(compat.use_node_tree(material))
    build(graph)
    graph.arrange()
    material.surface_render_method = method
    material.use_backface_culling = False
    material.use_transparent_shadow = True
    compat.light_nothing(material)
    return material


def _build_quads(graph: Graph) -> None:
    corner = _attribute(graph, splats.CORNER, _VECTOR)
    squared = graph.vector("DOT_PRODUCT", corner, corner)
    gaussian = graph.number("EXPONENT", graph.number("MULTIPLY", squared, -0.5))
    alpha = graph.number("MULTIPLY", _attribute(graph, splats.OPACITY, _FACTOR), gaussian)
    drawn = graph.number("MULTIPLY", graph.number("MINIMUM", alpha, _MAX_ALPHA), graph.number("GREATER_THAN", alpha, splats.MIN_ALPHA))
    transparent = graph.output("ShaderNodeBsdfTransparent", {"Color": (1, 1, 1, 1)})
    graph.node("ShaderNodeOutputMaterial", {"Surface": graph.output("ShaderNodeMixShader", {0: drawn, 1: transparent, 2: _glow(graph)})})


def _build_dots(graph: Graph) -> None:
    graph.node("ShaderNodeOutputMaterial", {"Surface": _glow(graph)})


def _glow(graph: Graph) -> bpy.types.NodeSocket:
    return graph.output("ShaderNodeEmission", {"Color": _attribute(graph, splats.COLOR, _VECTOR), "Strength": 1.0})


def _attribute(graph: Graph, name: str, result: int) -> bpy.types.NodeSocket:
    return graph.output("ShaderNodeAttribute", result=result, attribute_name=name, attribute_type="GEOMETRY")
