# SPDX-License-Identifier: GPL-3.0-or-later
"""The splats' material: emission of the colour as it is stored, alpha a Gaussian of the quad's `corner` coordinate.

Colours are display-referred and splats blend in display space, so the scene must be viewed through the `Raw` view transform, which
`scene.py` sets.
"""

import bpy

from . import compat, splats
from .graph import Graph

NAME = "MVP4D Splats v1"

_VECTOR, _FACTOR = 1, 2  # outputs of the Attribute node; the name of the latter changed in Blender 5
_MAX_ALPHA = 0.99  # as in 3D Gaussian splatting


def splat_material() -> bpy.types.Material:
    """The one material of all avatars."""
    existing = bpy.data.materials.get(NAME)
    if existing is not None:
        return existing
    material = bpy.data.materials.new(NAME)
    _build(Graph(compat.use_node_tree(material)))
    material.surface_render_method = "BLENDED"
    material.use_backface_culling = False
    material.use_transparent_shadow = True
    return material


def _build(graph: Graph) -> None:
    corner = _attribute(graph, splats.CORNER, _VECTOR)
    squared = graph.vector("DOT_PRODUCT", corner, corner)
    gaussian = graph.number("EXPONENT", graph.number("MULTIPLY", squared, -0.5))
    alpha = graph.number("MULTIPLY", _attribute(graph, splats.OPACITY, _FACTOR), gaussian)
    drawn = graph.number("MULTIPLY", graph.number("MINIMUM", alpha, _MAX_ALPHA), graph.number("GREATER_THAN", alpha, splats.MIN_ALPHA))
    emission = graph.output("ShaderNodeEmission", {"Color": _attribute(graph, splats.COLOR, _VECTOR), "Strength": 1.0})
    transparent = graph.output("ShaderNodeBsdfTransparent", {"Color": (1, 1, 1, 1)})
    mixed = graph.output("ShaderNodeMixShader", {0: drawn, 1: transparent, 2: emission})
    graph.node("ShaderNodeOutputMaterial", {"Surface": mixed})
    graph.arrange()


def _attribute(graph: Graph, name: str, result: int) -> bpy.types.NodeSocket:
    return graph.output("ShaderNodeAttribute", result=result, attribute_name=name, attribute_type="GEOMETRY")
