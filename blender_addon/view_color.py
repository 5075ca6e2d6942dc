# SPDX-License-Identifier: GPL-3.0-or-later
"""View-dependent colour in geometry nodes: real spherical harmonics up to degree 3, once a Gaussian, along the ray to its mean.

The basis, its order and its signs are those of 3D Gaussian splatting: orders -l..l within a degree, with the Condon-Shortley phase.
"""

from math import pi, sqrt

import bpy

from . import native_names, splats
from .graph import Graph

Socket = bpy.types.NodeSocket

_C1 = sqrt(3 / (4 * pi))
_C2 = (sqrt(15 / pi) / 2, sqrt(5 / pi) / 4, sqrt(15 / pi) / 4)
_C3 = (sqrt(35 / (2 * pi)) / 4, sqrt(105 / pi) / 2, sqrt(21 / (2 * pi)) / 4, sqrt(7 / pi) / 4, sqrt(105 / pi) / 4)


def add_harmonics(graph: Graph, geometry: Socket, direction: Socket, sh_degree: int, linear: Socket) -> Socket:
    """The geometry with the colours that are seen along `direction`, from the camera to the mean, unit, in the splats' axes.

    Coefficients are removed: sorting would move them as well. Where `linear` holds, colours become light; else they stay display-referred.
    """
    color = graph.attribute(splats.COLOR, "FLOAT_VECTOR")
    names = [native_names.sh_attribute(index) for index in range((sh_degree + 1) ** 2 - 1)]
    basis = _basis(graph, *graph.parts(direction), sh_degree) if sh_degree else []
    for name, value in zip(names, basis, strict=True):
        color = graph.vector("MULTIPLY_ADD", graph.attribute(name, "FLOAT_VECTOR"), value, color)
    seen = graph.vector("MAXIMUM", color, (0, 0, 0))
    geometry = graph.stored(geometry, splats.COLOR, "FLOAT_VECTOR", graph.switch("VECTOR", linear, seen, _light(graph, seen)))
    for name in names:
        geometry = graph.without(geometry, name)
    return geometry


def _light(graph: Graph, display: Socket) -> Socket:
    """Linear light of display-referred sRGB (IEC 61966-2-1), channel by channel."""
    channels = []
    for value in graph.parts(display):
        curve = graph.number("POWER", graph.number("DIVIDE", graph.number("ADD", value, 0.055), 1.055), 2.4)
        straight = graph.number("DIVIDE", value, 12.92)
        channels.append(graph.switch("FLOAT", graph.number("GREATER_THAN", value, 0.04045), straight, curve))
    return graph.output("ShaderNodeCombineXYZ", dict(enumerate(channels)))


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
