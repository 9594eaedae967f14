"""Writes an ONNX model as bytes: what our graphs need of `onnx.proto`, in the wire format of protobuf.

The package `onnx` would take 28 MB of disk and 7 MB of memory for the same bytes. Names and field numbers:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.generic]
Attribute: TypeAlias = int | float | str | Sequence[int]
Shape: TypeAlias = Sequence[int | str]
"""a name where the size is open"""

_OPSET, _IR_VERSION = 20, 10
_FLOAT = 1
_TYPES = {"float32": _FLOAT, "int8": 3, "int64": 7}
"""TensorProto.DataType"""
_EXTERNAL = 1
"""TensorProto.DataLocation"""
_ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_INTS = 1, 2, 3, 7
"""AttributeProto.AttributeType"""
_COPIED = 1024
"""bytes up to which an array is copied at once"""


@dataclass(frozen=True)
class Node:
    """One operator, with one output."""

    kind: str
    inputs: Sequence[str]
    output: str
    domain: str
    attributes: Mapping[str, Attribute]


def write(
    nodes: Iterable[Node],
    constants: Mapping[str, Array],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    *,
    external: Collection[str] = (),
    domains: Iterable[str] = (),
) -> bytes:
    """A ModelProto; inputs and outputs are float32.

    Of the constants in `external` only name, type and shape are in it. `domains` have operators beyond those
    of the standard. Raises KeyError for a constant of a type that is none of float32, int8, int64.
    """
    graph = _Message()
    for node in nodes:
        graph.message(1, _node(node))
    graph.text(2, "ast")
    for name, array in constants.items():
        graph.message(5, _tensor(name, array, name in external))
    for field, values in ((11, inputs), (12, outputs)):
        for name, shape in values.items():
            graph.message(field, _value(name, shape))
    model = _Message().integer(1, _IR_VERSION).text(2, "streamer").message(7, graph)
    model.message(8, _Message().text(1, "").integer(2, _OPSET))
    for domain in domains:
        model.message(8, _Message().text(1, domain).integer(2, 1))
    return model.joined()


class _Message:
    """A message being written. What is large is copied once, at the end."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []
        self._size = 0

    def integer(self, field: int, value: int) -> _Message:
        return self._add(_varint(field << 3) + _varint(value))

    def real(self, field: int, value: float) -> _Message:
        return self._add(_varint(field << 3 | 5) + struct.pack("<f", value))

    def text(self, field: int, value: str) -> _Message:
        return self.content(field, value.encode())

    def content(self, field: int, value: bytes | memoryview) -> _Message:
        return self._add(_varint(field << 3 | 2) + _varint(len(value)))._add(value)

    def message(self, field: int, other: _Message) -> _Message:
        self._add(_varint(field << 3 | 2) + _varint(other._size))
        self._parts += other._parts
        self._size += other._size
        return self

    def joined(self) -> bytes:
        return b"".join(self._parts)

    def _add(self, part: bytes | memoryview) -> _Message:
        self._parts.append(part)
        self._size += len(part)
        return self


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative number is its complement of two
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _node(node: Node) -> _Message:
    message = _Message()
    for name in node.inputs:
        message.text(1, name)
    message.text(2, node.output).text(3, node.output).text(4, node.kind)
    for name, value in sorted(node.attributes.items()):
        message.message(5, _attribute(name, value))
    return message.text(7, node.domain)


def _attribute(name: str, value: Attribute) -> _Message:
    message = _Message().text(1, name)
    if isinstance(value, float):
        return message.real(2, value).integer(20, _ATTRIBUTE_FLOAT)
    if isinstance(value, int):
        return message.integer(3, value).integer(20, _ATTRIBUTE_INT)
    if isinstance(value, str):
        return message.text(4, value).integer(20, _ATTRIBUTE_STRING)
    for number in value:
        message.integer(8, number)
    return message.integer(20, _ATTRIBUTE_INTS)


def _tensor(name: str, array: Array, is_external: bool) -> _Message:
    message = _Message()
    for size in array.shape:
        message.integer(1, size)
    message.integer(2, _TYPES[array.dtype.name]).text(8, name)
    if is_external:
        place = _Message().text(1, "location").text(2, "given to the session")
        return message.message(13, place).integer(14, _EXTERNAL)
    is_small = array.nbytes <= _COPIED
    return message.content(9, array.tobytes() if is_small else array.data.cast("B"))


def _value(name: str, shape: Shape) -> _Message:
    dimensions = _Message()
    for size in shape:
        one = _Message()
        dimensions.message(1, one.text(2, size) if isinstance(size, str) else one.integer(1, size))
    tensor = _Message().integer(1, _FLOAT).message(2, dimensions)
    return _Message().text(1, name).message(2, _Message().message(1, tensor))
