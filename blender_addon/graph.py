# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing node trees as formulas: each method adds one node and returns its output, which the next one takes."""

from typing import Any

import bpy

_COLUMN, _ROW = 190, -170  # spacing of the nodes on the canvas


class Graph:
    """Builds one node tree. Inputs are sockets of it or constants; `arrange` lays the nodes out for a person to read."""

    def __init__(self, tree: bpy.types.NodeTree) -> None:
        self.tree = tree

    def node(self, kind: str, inputs: dict[str | int, Any] | None = None, **settings: Any) -> bpy.types.Node:
        """Adds a node of type `kind`, applies `settings`, then links or sets `inputs` by name or place."""
        node = self.tree.nodes.new(kind)
        for name, value in settings.items():
            setattr(node, name, value)
        for name, value in (inputs or {}).items():
            socket = node.inputs[name] if isinstance(name, int) else enabled(node.inputs, name)
            if isinstance(value, bpy.types.NodeSocket):
                self.tree.links.new(value, socket)
            else:
                socket.default_value = value
        return node

    def output(self, kind: str, inputs: dict[str | int, Any] | None = None, result: str | int = 0, **settings: Any) -> bpy.types.NodeSocket:
        """As `node`, and gives its enabled output `result`, by name or place."""
        outputs = self.node(kind, inputs, **settings).outputs
        return enabled(outputs, result) if isinstance(result, str) else [socket for socket in outputs if socket.enabled][result]

    def number(self, operation: str, *operands: Any) -> bpy.types.NodeSocket:
        """A Math node."""
        return self.output("ShaderNodeMath", dict(enumerate(operands)), operation=operation)

    def vector(self, operation: str, *operands: Any) -> bpy.types.NodeSocket:
        """A Vector Math node; DOT_PRODUCT and LENGTH give numbers."""
        return self.output("ShaderNodeVectorMath", dict(enumerate(operands)), operation=operation)

    def scaled(self, vector: Any, factor: Any) -> bpy.types.NodeSocket:
        """vector x factor."""
        return self.output("ShaderNodeVectorMath", {0: vector, "Scale": factor}, operation="SCALE")

    def parts(self, vector: bpy.types.NodeSocket) -> tuple[bpy.types.NodeSocket, ...]:
        """x, y and z of a vector."""
        return tuple(self.node("ShaderNodeSeparateXYZ", {0: vector}).outputs)

    def rotated(self, vector: Any, rotation: bpy.types.NodeSocket) -> bpy.types.NodeSocket:
        return self.output("FunctionNodeRotateVector", {"Vector": vector, "Rotation": rotation})

    def turned(self, first: bpy.types.NodeSocket, then_in_its_axes: bpy.types.NodeSocket) -> bpy.types.NodeSocket:
        """The product first x then_in_its_axes of two rotations."""
        inputs = {"Rotation": first, "Rotate By": then_in_its_axes}
        return self.output("FunctionNodeRotateRotation", inputs, rotation_space="LOCAL")

    def inverted(self, rotation: bpy.types.NodeSocket) -> bpy.types.NodeSocket:
        return self.output("FunctionNodeInvertRotation", {"Rotation": rotation})

    def switch(self, kind: str, condition: bpy.types.NodeSocket, otherwise: Any, then: Any) -> bpy.types.NodeSocket:
        """`then` where `condition` holds. Only the one that is needed is evaluated when the condition is a single value."""
        return self.output("GeometryNodeSwitch", {"Switch": condition, "False": otherwise, "True": then}, input_type=kind)

    def attribute(self, name: str, kind: str) -> bpy.types.NodeSocket:
        """The named attribute as a field."""
        return self.output("GeometryNodeInputNamedAttribute", {"Name": name}, "Attribute", data_type=kind)

    def stored(
        self, geometry: bpy.types.NodeSocket, name: str, kind: str, value: bpy.types.NodeSocket, domain: str = "FACE"
    ) -> bpy.types.NodeSocket:
        """The geometry with `value` stored on its faces or points."""
        inputs = {"Geometry": geometry, "Name": name, "Value": value}
        return self.output("GeometryNodeStoreNamedAttribute", inputs, data_type=kind, domain=domain)

    def without(self, geometry: bpy.types.NodeSocket, name: str) -> bpy.types.NodeSocket:
        """The geometry without an attribute."""
        return self.output("GeometryNodeRemoveAttribute", {"Geometry": geometry, "Name": name})

    def arrange(self) -> None:
        """Puts each node right of all it depends on."""
        columns: dict[bpy.types.Node, int] = {}
        pending = list(self.tree.nodes)
        sources: dict[bpy.types.Node, list[bpy.types.Node]] = {node: [] for node in pending}
        for link in self.tree.links:
            sources[link.to_node].append(link.from_node)
        while pending:
            ready = [node for node in pending if all(source in columns for source in sources[node])]
            for node in ready:
                columns[node] = 1 + max((columns[source] for source in sources[node]), default=-1)
            pending = [node for node in pending if node not in columns]
        filled: dict[int, int] = {}
        for node, column in columns.items():
            row = filled.get(column, 0)
            filled[column] = row + 1
            node.location = (column * _COLUMN, row * _ROW)


def enabled(sockets: Any, name: str) -> bpy.types.NodeSocket:
    """The one socket of that name which the node's settings switch on."""
    return next(socket for socket in sockets if socket.enabled and socket.name == name)
