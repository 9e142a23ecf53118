"""Which IR version a model needs: what it uses that older readers do not know."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as oir

from ..traversal import graphs, nodes

_OLDEST = 8  # what every ONNX Runtime from 1.14 on reads; what came before is not looked for
# onnx.proto, "IR_VERSION n published on ..."
_TYPES = {
    oir.DataType.FLOAT8E4M3FN: 9,
    oir.DataType.FLOAT8E4M3FNUZ: 9,
    oir.DataType.FLOAT8E5M2: 9,
    oir.DataType.FLOAT8E5M2FNUZ: 9,
    oir.DataType.UINT4: 10,
    oir.DataType.INT4: 10,
    oir.DataType.FLOAT4E2M1: 11,
    oir.DataType.FLOAT8E8M0: 12,
    oir.DataType.UINT2: 13,
    oir.DataType.INT2: 13,
    oir.DataType.FLOAT6E2M3: 14,
    oir.DataType.FLOAT6E3M2: 14,
}
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")  # of Cast, RandomNormal, QuantizeLinear, …


def required_ir_version(model: oir.Model) -> tuple[int, str]:
    """The lowest IR version, from 8 on, that has all that the model uses; and what needs it ("" for nothing).

    Metadata of nodes and values does not count, though it came with IR version 10: older readers skip it (ONNX Runtime
    1.15 and 1.17 load such files, onnx.checker accepts them).
    """
    return max(((version, what) for what, version in _features(model)), default=(_OLDEST, ""))


def _features(model: oir.Model) -> Iterator[tuple[str, int]]:
    for dtype in _types(model):
        if dtype in _TYPES:
            yield f"type {dtype.name}", _TYPES[dtype]
    for function in model.functions.values():
        if any(attribute.value is not None for attribute in function.attributes.values()):
            yield "default values of function attributes", 9
        if function.overload:
            yield "overloaded functions", 10
    if model.device_configurations or any(node.device_configurations for node in nodes(model)):
        yield "device configurations", 11


def _types(model: oir.Model) -> Iterator[oir.DataType]:
    """Every element type that the model names, each perhaps many times."""
    for graph in graphs(model):
        for value in (*graph.inputs, *graph.initializers.values(), *(each for node in graph for each in node.outputs)):
            if value.const_value is not None:
                yield value.const_value.dtype
            if value.type is not None:
                yield value.type.dtype
        for node in graph:
            for attribute in node.attributes.values():
                if not attribute.is_ref():
                    yield from _attribute_types(node, attribute)


def _attribute_types(node: oir.Node, attribute: oir.Attr) -> Iterator[oir.DataType]:
    match attribute.type:
        case oir.AttributeType.TENSOR:
            yield attribute.as_tensor().dtype
        case oir.AttributeType.TENSORS:
            yield from (tensor.dtype for tensor in attribute.as_tensors())
        case oir.AttributeType.TYPE_PROTO:
            yield from _named_type(attribute.value)
        case oir.AttributeType.TYPE_PROTOS:
            for each in attribute.value:
                yield from _named_type(each)
        case oir.AttributeType.INT if attribute.name in _TYPE_ATTRIBUTES and not node.domain:
            number = attribute.as_int()
            if number in oir.DataType.__members__.values():
                yield oir.DataType(number)


def _named_type(named: oir.TypeAndShape) -> Iterator[oir.DataType]:
    if named.type is not None:
        yield named.type.dtype
