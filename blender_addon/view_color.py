# SPDX-License-Identifier: GPL-3.0-or-later
"""View-dependent colour in geometry nodes: real spherical harmonics up to degree 3, once a Gaussian, along the ray to its mean.

The basis, its order and its signs are those of 3D Gaussian splatting: orders -l..l within a degree, with the Condon-Shortley phase.
"""

from math import pi, sqrt

import bpy

from . import splats
from .graph import Graph

Socket = bpy.types.NodeSocket

_C1 = sqrt(3 / (4 * pi))
_C2 = (sqrt(15 / pi) / 2, sqrt(5 / pi) / 4, sqrt(15 / pi) / 4)
_C3 = (sqrt(35 / (2 * pi)) / 4, sqrt(105 / pi) / 2, sqrt(21 / (2 * pi)) / 4, sqrt(7 / pi) / 4, sqrt(105 / pi) / 4)


def add_harmonics(graph: Graph, geometry: Socket, direction: Socket, sh_degree: int) -> Socket:
    """The geometry with what the higher harmonics add to its colour.

    `direction` looks from the camera to the mean, unit, in Blender's axes. The coefficients are removed: sorting would move them as well.
    """
    across, forward, up = graph.parts(direction)
    head = (across, up, graph.number("MULTIPLY", forward, -1))  # the harmonics live in head axes
    color = graph.attribute(splats.COLOR, "FLOAT_VECTOR")
    basis = _basis(graph, *head, sh_degree)
    for index, value in enumerate(basis):
        color = graph.vector("MULTIPLY_ADD", graph.attribute(splats.sh_attribute(index), "FLOAT_VECTOR"), value, color)
    geometry = graph.stored(geometry, splats.COLOR, "FLOAT_VECTOR", graph.vector("MAXIMUM", color, (0, 0, 0)))
    for index in range(len(basis)):
        geometry = graph.output("GeometryNodeRemoveAttribute", {"Geometry": geometry, "Name": splats.sh_attribute(index)})
    return geometry


def _basis(graph: Graph, x: Socket, y: Socket, z: Socket, sh_degree: int) -> list[Socket]:
    def product(*factors: Socket | float) -> Socket:
        result, *others = factors
        for factor in others:
            result = graph.number("MULTIPLY", result, factor)
        return result

    def weighted(squares: tuple[float, float, float]) -> Socket:
        return graph.vector("DOT_PRODUCT", graph.vector("MULTIPLY", position, position), squares)

    values = [product(y, -_C1), product(z, _C1), product(x, -_C1)]
    if sh_degree == 1:
        return values
    position = graph.output("ShaderNodeCombineXYZ", {0: x, 1: y, 2: z})
    xy, yz, xz = product(x, y), product(y, z), product(x, z)
    values += [
        product(xy, _C2[0]),
        product(yz, -_C2[0]),
        product(weighted((-1, -1, 2)), _C2[1]),
        product(xz, -_C2[0]),
        product(weighted((1, -1, 0)), _C2[2]),
    ]
    if sh_degree == 2:
        return values
    return values + [
        product(y, weighted((3, -1, 0)), -_C3[0]),
        product(xy, z, _C3[1]),
        product(y, weighted((-1, -1, 4)), -_C3[2]),
        product(z, weighted((-3, -3, 2)), _C3[3]),
        product(x, weighted((-1, -1, 4)), -_C3[2]),
        product(z, weighted((1, -1, 0)), _C3[4]),
        product(x, weighted((1, -3, 0)), -_C3[0]),
    ]
