"""Infer the results of one operator by the standard: types by its schema, types and dims by its inference.

Both speak of one node with given inputs. Nothing that a file declares about results is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnx.checker
import onnx.shape_inference
import onnx_ir as oir

from ..io.encoded_attributes import is_encoded
from ..schema import schema, schema_of
from ..traversal import subgraphs_of
from ..values import Array

Size = int | str | None
"""A dim that is known, known by name (equal names are equal sizes), or unknown."""


@dataclass(frozen=True)
class ElementType:
    """Where the element type of a result comes from: it is fixed, or that of any of these inputs; neither: unknown."""

    fixed: oir.DataType | None = None
    inputs: tuple[int, ...] = ()


@cache
def _result_types(op_type: str, version: int, domain: str) -> tuple[ElementType, ...]:
    known = schema(op_type, version, domain)
    if known is None:
        return ()
    allowed = {each.type_param_str: each.allowed_type_strs for each in known.type_constraints}
    heterogeneous = {formal.type_str for formal in known.inputs if not formal.is_homogeneous}

    def of(type_str: str) -> ElementType:
        choices = allowed.get(type_str, [type_str])
        if len(choices) == 1:
            return ElementType(_BY_NAME.get(choices[0]))
        if type_str in heterogeneous:
            return ElementType()
        return ElementType(None, tuple(i for i, formal in enumerate(known.inputs) if formal.type_str == type_str))

    return tuple(of(formal.type_str) for formal in known.outputs)


_BY_NAME = {f"tensor({each.name.lower()})": each for each in oir.DataType}


def result_type(node: oir.Node, index: int) -> ElementType:
    """Where the element type of output `index` comes from, by the schema (the last formal output may be variadic)."""
    if node.version is None:
        return ElementType()
    types = _result_types(node.op_type, node.version, node.domain)
    return types[min(index, len(types) - 1)] if types else ElementType()


@dataclass(frozen=True)
class TensorFacts:
    """The element type and the dims of a tensor; dims are None when not even the rank is known."""

    dtype: oir.DataType
    dims: tuple[Size, ...] | None


def infer_results(
    node: oir.Node, inputs: Sequence[TensorFacts | None], contents: Mapping[int, Array]
) -> list[TensorFacts | None]:
    """Run onnx's own inference: facts about each output of `node` from facts about its inputs (None: absent).

    `contents` has the values of those inputs that are known. Empty when nothing can be said.
    """
    known = schema_of(node)
    if known is None or any(attribute.is_ref() for attribute in node.attributes.values()) or any(subgraphs_of(node)):
        return []
    if is_encoded(node):
        return []
    names = ["" if each is None else f"i{index}" for index, each in enumerate(inputs)]
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=names)
    proto.output.extend(f"o{index}" for index in range(len(node.outputs)))
    proto.attribute.extend(oir.serde.serialize_attribute(attribute) for attribute in node.attributes.values())
    types = {name: _type_proto(each) for name, each in zip(names, inputs, strict=True) if each is not None}
    data = {f"i{index}": onnx.numpy_helper.from_array(np.asarray(content)) for index, content in contents.items()}
    imports = [onnx.helper.make_opsetid(node.domain, node.version or 1)]
    try:
        found = onnx.shape_inference.infer_node_outputs(known, proto, types, data, opset_imports=imports)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError):
        return []  # the node breaks the rules of its operator, or its inference wants more than there is
    return [_tensor_facts(found.get(f"o{index}")) for index in range(len(node.outputs))]


def _type_proto(facts: TensorFacts) -> onnx.TypeProto:
    proto: onnx.TypeProto = onnx.helper.make_tensor_type_proto(int(facts.dtype), facts.dims)
    return proto


def _tensor_facts(proto: onnx.TypeProto | None) -> TensorFacts | None:
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.elem_type:
        return None
    tensor, dims = proto.tensor_type, None
    if tensor.HasField("shape"):
        dims = tuple(
            each.dim_value if each.HasField("dim_value") else each.dim_param or None for each in tensor.shape.dim
        )
    return TensorFacts(oir.DataType(tensor.elem_type), dims)
