# SPDX-License-Identifier: Apache-2.0
"""Rebuilds mvp4d_core/tracking/assets/face_networks.safetensors from the TFLite files inside MediaPipe's wheel.

    python tools/convert_mediapipe.py mediapipe-0.10.21-....whl -o mvp4d_core/tracking/assets/face_networks.safetensors

The wheel, or the folder of an installed mediapipe, is only read: mediapipe is not imported. Four networks come out: two face detectors, the
face mesh with attention, and the person matte. Weights keep the sixteen bits they have there; sparse ones become dense. The graphs become
lists of steps in the file's metadata, in the words of mvp4d_core/tracking/face_networks.py.

TFLite files are flatbuffers; the field numbers below are those of TensorFlow's schema.fbs. Options of MediaPipe's own operators are
flexbuffers.
"""

import argparse
import hashlib
import json
import struct
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mvp4d_core.io import safetensors_numpy
from mvp4d_core.tracking.face_networks import SCHEMA

FOLDER = "mediapipe/modules"
SOURCES = {
    "short_range": "face_detection/face_detection_short_range.tflite",
    "full_range": "face_detection/face_detection_full_range_sparse.tflite",
    "mesh": "face_landmark/face_landmark_with_attention.tflite",
    "matte": "selfie_segmentation/selfie_segmentation.tflite",
}
ATTRIBUTION = (
    "Converted from MediaPipe 0.10.21, Copyright The MediaPipe Authors, licensed under the Apache License, Version 2.0 "
    "(https://github.com/google-ai-edge/mediapipe). Changes: weights made dense and reordered, graphs written as JSON."
)
Step = dict[str, Any]
Padded = dict[int, tuple[int, list[int]]]  # padded values that only a convolution reads: what was padded, and [left, right, top, bottom]
TYPES = {0: "<f4", 1: "<f2", 2: "<i4"}
ACTIVATIONS = {0: "", 1: "relu", 3: "relu6"}
SIMPLE = {0: "add", 14: "sigmoid", 18: "multiply", 19: "relu", 54: "prelu", 117: "hard_swish"}
ADD, AVERAGE_POOL, CONCATENATE, CONVOLVE, DEPTHWISE, DEPTH_TO_SPACE, DEQUANTIZE = 0, 1, 2, 3, 4, 5, 6
MAX_POOL, MULTIPLY, RESHAPE, RESIZE, CUSTOM, PAD, STRIDED_SLICE, DENSIFY = 17, 18, 22, 23, 32, 34, 45, 124


class Table:
    """A flatbuffer's table: fields by their number in the schema."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._fields = place - struct.unpack_from("<i", data, place)[0]
        self._count = (struct.unpack_from("<H", data, self._fields)[0] - 4) // 2

    @classmethod
    def root(cls, data: bytes) -> "Table":
        return cls(data, struct.unpack_from("<I", data)[0])

    def _at(self, field: int) -> int:
        offset = struct.unpack_from("<H", self._data, self._fields + 4 + 2 * field)[0] if field < self._count else 0
        return self._place + offset if offset else 0

    def _target(self, field: int) -> int:
        at = self._at(field)
        return at + struct.unpack_from("<I", self._data, at)[0] if at else 0

    def number(self, field: int, kind: str = "i", default: int = 0) -> int:
        at = self._at(field)
        return struct.unpack_from("<" + kind, self._data, at)[0] if at else default

    def numbers(self, field: int, kind: str) -> list[int]:
        at = self._target(field)
        return list(struct.unpack_from(f"<{struct.unpack_from('<I', self._data, at)[0]}{kind}", self._data, at + 4)) if at else []

    def text(self, field: int) -> str:
        return bytes(self.numbers(field, "B")).decode()

    def table(self, field: int) -> "Table | None":
        at = self._target(field)
        return Table(self._data, at) if at else None

    def tables(self, field: int) -> list["Table"]:
        at = self._target(field)
        places = [at + 4 + 4 * i for i in range(struct.unpack_from("<I", self._data, at)[0])] if at else []
        return [Table(self._data, place + struct.unpack_from("<I", self._data, place)[0]) for place in places]


def read_flexbuffer(data: bytes) -> dict[str, Any]:
    """A flexbuffer whose root is a map of whole numbers, fractions and vectors of whole numbers."""

    def number(kind: str, place: int, width: int) -> Any:
        return struct.unpack_from("<" + {"i": "bhiq", "u": "BHIQ", "f": " efd"}[kind][(width).bit_length() - 1], data, place)[0]

    def value(place: int, width: int, packed: int) -> Any:
        kind, inner = packed >> 2, 1 << (packed & 3)
        if kind in (1, 2, 3):
            return number("iuf"[kind - 1], place, width)
        start = place - number("u", place, width)
        if kind == 11:
            return [number("i", start + inner * i, inner) for i in range(number("u", start - inner, inner))]
        if kind != 9:
            raise ValueError(f"a flexbuffer of kind {kind}, which the converter does not know")
        count = number("u", start - inner, inner)
        key_width = number("u", start - 2 * inner, inner)
        keys = start - 3 * inner - number("u", start - 3 * inner, inner)
        names = [_key(data, keys + key_width * i - number("u", keys + key_width * i, key_width)) for i in range(count)]
        return {name: value(start + inner * i, inner, data[start + inner * count + i]) for i, name in enumerate(names)}

    return value(len(data) - 2 - data[-1], data[-1], data[-2])


def _key(data: bytes, start: int) -> str:
    return data[start : data.index(0, start)].decode()


def densify(values: np.ndarray, shape: list[int], sparsity: Table) -> np.ndarray:
    """The dense array of a sparse tensor (TFLite's SparsityParameters; blocks are dimensions that come after the tensor's own)."""
    order, blocks, dimensions = sparsity.numbers(0, "i"), sparsity.numbers(1, "i"), sparsity.tables(2)
    sizes = [1] * len(shape)
    for own, level in zip(blocks, range(len(shape), len(order)), strict=True):
        sizes[own] = dimensions[order.index(level)].number(1)
    dense = np.zeros(shape, values.dtype)
    taken = iter(values)

    def vector(dimension: Table, kind: int, field: int) -> list[int]:
        table = dimension.table(field)
        return table.numbers(0, {1: "i", 2: "H", 3: "B"}[dimension.number(kind, "b")]) if table else []

    def walk(level: int, position: int, index: dict[int, int]) -> None:
        if level == len(order):
            place = [index[d] * sizes[d] for d in range(len(shape))]
            for block, own in enumerate(blocks):
                place[own] += index[len(shape) + block]
            dense[tuple(place)] = next(taken)
            return
        dimension = dimensions[level]
        if dimension.number(0, "b") == 0:
            size = dimension.number(1)
            for i in range(size):
                walk(level + 1, position * size + i, {**index, order[level]: i})
            return
        segments, indices = vector(dimension, 2, 3), vector(dimension, 4, 5)
        for at in range(segments[position], segments[position + 1]):
            walk(level + 1, at, {**index, order[level]: indices[at]})

    walk(0, 0, {})
    return dense


@dataclass(frozen=True)
class Operator:
    code: int
    custom: str
    inputs: list[int]
    outputs: list[int]
    options: Table | None
    extra: bytes


class Graph:
    """One TFLite file: `shapes` of its values, `constants` by value, `operators` in order."""

    def __init__(self, data: bytes) -> None:
        model = Table.root(data)
        codes = [(max(code.number(0, "b"), code.number(3)), code.text(1)) for code in model.tables(1)]
        buffers = model.tables(4)
        (graph,) = model.tables(2)
        tensors = graph.tables(0)
        self.shapes = [tensor.numbers(0, "i") for tensor in tensors]
        self.inputs, self.outputs = graph.numbers(1, "i"), graph.numbers(2, "i")
        self.constants: dict[int, np.ndarray] = {}
        for index, tensor in enumerate(tensors):
            raw = bytes(buffers[tensor.number(2, "I")].numbers(0, "B"))
            if raw:
                values = np.frombuffer(raw, TYPES[tensor.number(1, "b")])
                sparsity = tensor.table(6)
                dense = densify(values, self.shapes[index], sparsity) if sparsity else values.reshape(self.shapes[index])
                self.constants[index] = dense
        self.operators = []
        for operator in graph.tables(3):
            code, custom = codes[operator.number(0, "I")]
            inputs, outputs = operator.numbers(1, "i"), operator.numbers(2, "i")
            if code in (DEQUANTIZE, DENSIFY):
                self.constants[outputs[0]] = self.constants[inputs[0]]
            else:
                extra = bytes(operator.numbers(5, "B"))
                self.operators.append(Operator(code, custom, inputs, outputs, operator.table(4), extra))


def spatial_padding(graph: Graph, options: Table, value: int, kernel: tuple[int, int], stride: tuple[int, int]) -> list[int]:
    """[left, right, top, bottom] that "same" padding means for this picture; the odd pixel goes to the right and the bottom."""
    if options.number(0, "b") == 1:
        return [0, 0, 0, 0]
    height, width = graph.shapes[value][1:3]
    across = max((-(-width // stride[1]) - 1) * stride[1] + kernel[1] - width, 0)
    down = max((-(-height // stride[0]) - 1) * stride[0] + kernel[0] - height, 0)
    return [across // 2, across - across // 2, down // 2, down - down // 2]


def convert(graph: Graph) -> tuple[list[Step], dict[int, np.ndarray], dict[int, int]]:
    """Steps, weights by value, and which values are others under a second name."""
    uses = Counter(value for operator in graph.operators for value in operator.inputs)
    padded: Padded = {}
    alias: dict[int, int] = {}
    steps: list[Step] = []
    weights: dict[int, np.ndarray] = {}
    for operator in graph.operators:
        value = operator.inputs[0]
        if operator.code == PAD:
            pads = graph.constants[operator.inputs[1]].tolist()
            spatial = [*pads[2], *pads[1]]
            if uses[operator.outputs[0]] == 1 and not any(pads[0] + pads[3]):
                padded[operator.outputs[0]] = (value, spatial)
                continue
        if operator.code == STRIDED_SLICE:
            if graph.shapes[value] != graph.shapes[operator.outputs[0]]:
                raise ValueError("a slice that leaves something out")
            alias[operator.outputs[0]] = value
            continue
        step, used = convert_operator(graph, operator, padded)
        weights |= used
        steps.append({**step, "in": [alias.get(i, i) for i in step["in"]], "out": operator.outputs[0]})
    return steps, weights, alias


def convert_operator(graph: Graph, operator: Operator, padded: Padded) -> tuple[Step, dict[int, np.ndarray]]:
    """One step without its output, and the weights it uses."""
    options, value, code = operator.options, operator.inputs[0], operator.code
    if code in (CONVOLVE, DEPTHWISE):
        return convert_convolution(graph, operator, padded)
    if value in padded:
        raise ValueError("padding before something that is no convolution")
    if code in SIMPLE:
        step: Step = {"op": SIMPLE[code], "in": operator.inputs}
        act = ACTIVATIONS[options.number(0, "b")] if options and code in (ADD, MULTIPLY) else ""
        constants = {i: channels_first(graph.constants[i]) for i in operator.inputs if i in graph.constants}
        return step | ({"act": act} if act else {}), constants
    if code in (AVERAGE_POOL, MAX_POOL) and options:
        kernel, stride = (options.number(4), options.number(3)), (options.number(2), options.number(1))
        if any(spatial_padding(graph, options, value, kernel, stride)):
            raise ValueError("pooling with padding")
        return {"op": "max_pool" if code == MAX_POOL else "average_pool", "in": [value], "kernel": kernel, "stride": stride}, {}
    if code == CONCATENATE and options:
        return {"op": "concatenate", "in": operator.inputs, "axis": options.number(0)}, {}
    if code == DEPTH_TO_SPACE and options:
        return {"op": "depth_to_space", "in": [value], "block": options.number(0)}, {}
    if code == RESHAPE:
        return {"op": "reshape", "in": [value], "shape": graph.shapes[operator.outputs[0]][1:]}, {}
    if code == RESIZE and options:
        if options.number(2, "b") or not options.number(3, "b"):
            raise ValueError("resizing whose pixel centres are not half")
        return {"op": "resize", "in": [value], "size": graph.shapes[operator.outputs[0]][1:3]}, {}
    if code == PAD:
        pads = graph.constants[operator.inputs[1]].tolist()
        if any(pads[0] + pads[1] + pads[2]) or pads[3][0]:
            raise ValueError("padding of something else than the last channels")
        return {"op": "more_channels", "in": [value], "count": pads[3][1]}, {}
    if code == CUSTOM:
        return convert_custom(graph, operator)
    raise ValueError(f"operator {code}, which the converter does not know")


def channels_first(constant: np.ndarray) -> np.ndarray:
    """A factor, addend or slope of (1, 1, C) or (1, 1, 1, C) as (C,); others as they are."""
    return constant.reshape(-1) if constant.ndim >= 3 and constant.size == constant.shape[-1] else constant


def convert_convolution(graph: Graph, operator: Operator, padded: Padded) -> tuple[Step, dict[int, np.ndarray]]:
    """Kernels become (out, in, height, width), depthwise ones (channels, 1, height, width)."""
    value, kernel, bias = operator.inputs
    depthwise, options = operator.code == DEPTHWISE, operator.options
    if options is None:
        raise ValueError("a convolution without options")
    array = graph.constants[kernel]
    array = array.transpose(3, 0, 1, 2) if depthwise else array.transpose(0, 3, 1, 2)
    stride = (options.number(2), options.number(1))
    source, padding = padded.get(value, (value, [0, 0, 0, 0]))
    own = spatial_padding(graph, options, value, (array.shape[2], array.shape[3]), stride)
    step = {"op": "convolve", "in": [source, kernel, bias], "stride": stride, "padding": [a + b for a, b in zip(padding, own, strict=True)]}
    groups = graph.shapes[value][3] if depthwise else 1
    act = ACTIVATIONS[options.number(4 if depthwise else 3, "b")]
    after = 5 if depthwise else 4  # where the dilations stand
    if (depthwise and options.number(3) != 1) or {options.number(after, "i", 1), options.number(after + 1, "i", 1)} != {1}:
        raise ValueError("a convolution with dilation or several kernels a channel")
    return step | {"groups": groups} | ({"act": act} if act else {}), {kernel: array, bias: graph.constants[bias]}


def convert_custom(graph: Graph, operator: Operator) -> tuple[Step, dict[int, np.ndarray]]:
    """MediaPipe's own operators."""
    if operator.custom == "Convolution2DTransposeBias":
        _, kernel, bias = operator.inputs
        array = graph.constants[kernel].transpose(3, 0, 1, 2)
        _, *stride = struct.unpack("<3i", operator.extra)
        if tuple(array.shape[2:]) != tuple(stride):
            raise ValueError("a transposed convolution whose kernels overlap")
        return {"op": "convolve_transposed", "in": operator.inputs, "stride": stride}, {kernel: array, bias: graph.constants[bias]}
    if operator.custom == "TransformLandmarks" and graph.shapes[operator.inputs[0]][-1] == 2:
        return {"op": "place_points", "in": operator.inputs}, {}
    options = read_flexbuffer(operator.extra)
    if operator.custom == "Landmarks2TransformMatrix":
        step = {"op": "crop_matrix", "points": sorted(set(options["subset_idxs"])), "turn": options["target_rotation_radians"]}
        step |= {"from": options["left_rotation_idx"], "to": options["right_rotation_idx"]}
        step |= {"scale": [options["scale_x"], options["scale_y"]], "size": [options["output_width"], options["output_height"]]}
    elif operator.custom == "TransformTensorBilinear":
        step = {"op": "crop", "size": [options["output_width"], options["output_height"]]}
    else:
        raise ValueError(f"operator {operator.custom} {options}, which the converter does not know")
    return step | {"in": operator.inputs}, {}


def read_source(source: Path, path: str) -> bytes:
    """A file of the wheel, or of the folder that holds mediapipe's own folder."""
    if source.is_dir():
        return (source / FOLDER / path).read_bytes()
    with zipfile.ZipFile(source) as wheel:
        return wheel.read(f"{FOLDER}/{path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="mediapipe's wheel, or the site-packages that it is installed in")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    networks, tensors, digests = {}, {}, {}
    for name, path in SOURCES.items():
        data = read_source(arguments.source, path)
        digests[path] = hashlib.sha256(data).hexdigest()
        graph = Graph(data)
        steps, weights, alias = convert(graph)
        networks[name] = {
            "input": graph.inputs[0],
            "size": graph.shapes[graph.inputs[0]][1:3],
            "outputs": [alias.get(i, i) for i in graph.outputs],
            "steps": steps,
        }
        tensors |= {f"{name}.{value}": np.ascontiguousarray(array) for value, array in sorted(weights.items())}
    metadata = {
        "schema": SCHEMA,
        "networks": json.dumps(networks, separators=(",", ":")),
        "license": "Apache-2.0",
        "attribution": ATTRIBUTION,
        "sources_sha256": json.dumps(digests),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    safetensors_numpy.write(arguments.output, tensors, metadata)


if __name__ == "__main__":
    main()
