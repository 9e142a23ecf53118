"""The bodies that the standard gives to operators that are functions: what they mean, written in other operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import onnx
import onnx.defs
import onnx_ir as oir

from ..inline import resolve_references
from ..schema import schema

_BY_NAME = {f"tensor({each.name.lower()})": each for each in oir.DataType}

InputType = tuple[oir.DataType, int | None]
"""An element type and a rank, if that is known."""


@dataclass(frozen=True)
class Formal:
    """A formal input: the element types it may have, and whether a call may leave it out."""

    name: str
    types: frozenset[oir.DataType]
    is_optional: bool


@dataclass(frozen=True)
class Signature:
    """The operands and attributes that a call of a standard operator takes. `numbers`: its scalar attributes."""

    inputs: tuple[Formal, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    numbers: Mapping[str, type[int] | type[float]]


@cache
def function_signature(op_type: str, opset: int) -> Signature | None:
    """The signature of an operator that the standard defines by a body at this opset; None for others."""
    known = schema(op_type, opset)
    if known is None or _body_version(op_type, opset) is None:
        return None
    kinds = {onnx.defs.OpSchema.AttrType.INT: int, onnx.defs.OpSchema.AttrType.FLOAT: float}
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    return Signature(
        tuple(
            Formal(each.name, frozenset(filter(None, map(_BY_NAME.get, each.types))), each.option == optional)
            for each in known.inputs
        ),
        tuple(each.name for each in known.outputs),
        tuple(sorted(known.attributes)),
        {name: kinds[each.type] for name, each in sorted(known.attributes.items()) if each.type in kinds},
    )


def function_body(
    op_type: str,
    opset: int,
    attributes: Mapping[str, int | float | str],
    inputs: Sequence[InputType | None],
) -> oir.Graph | None:
    """The body of a call of `op_type` with these attributes and inputs (None: absent), all outputs being wanted.

    None when the standard has no body for such a call. An absent input is a formal that no node reads.
    """
    return _function_body(op_type, opset, tuple(sorted(attributes.items())), tuple(inputs))


@cache
def body_is_current(op_type: str, opset: int) -> bool:
    """Whether the operators in a function's body still mean at `opset` what they meant when the standard wrote it.

    onnx takes no other body (`OpSchema::GetFunction` with validation), and so ONNX Runtime writes no other out; but it
    asks no such thing of bodies that depend on the call.
    """
    known, version = schema(op_type, opset), _body_version(op_type, opset)
    if known is None or version is None:
        return False
    functions, proto = _functions_of(known), onnx.FunctionProto()
    if functions.has_context_dependent_function:
        return True
    proto.ParseFromString(functions.get_function_with_opset_version(version))
    return all(_since(node, version) == _since(node, opset) for node in proto.node)


def _since(node: onnx.NodeProto, opset: int) -> int | None:
    known = schema(node.op_type, opset, node.domain)
    return None if known is None else known.since_version


def _body_version(op_type: str, opset: int) -> int | None:
    known = schema(op_type, opset)
    if known is None:
        return None
    functions = _functions_of(known)
    versions: list[int] = [*functions.function_opset_versions, *functions.context_dependent_function_opset_versions]
    return max((version for version in versions if version <= opset), default=None)


def _functions_of(known: onnx.defs.OpSchema) -> Any:
    """The schema, whose attributes about functions the type stubs of onnx do not know."""
    return known


@lru_cache(maxsize=1 << 12)
def _function_body(
    op_type: str,
    opset: int,
    attributes: tuple[tuple[str, int | float | str], ...],
    inputs: tuple[InputType | None, ...],
) -> oir.Graph | None:
    known, version = schema(op_type, opset), _body_version(op_type, opset)
    if known is None or version is None:
        return None
    call = onnx.NodeProto(
        op_type=op_type,
        input=[formal.name if given else "" for formal, given in zip(known.inputs, inputs, strict=True)],
        output=[formal.name for formal in known.outputs],
        attribute=[onnx.helper.make_attribute(name, value) for name, value in attributes],
    )
    proto = _written_out(known, version, call, inputs)
    if not proto.node:  # some inputs exclude some outputs: Attention's nonpad_kv_seqlen those for a cache
        del call.output[1:]
        proto = _written_out(known, version, call, inputs)
        del proto.output[1:]
    if not proto.node:
        return None
    graph = oir.serde.deserialize_function(proto).graph
    types = {formal.name: given for formal, given in zip(known.inputs, inputs, strict=True)}
    for formal in graph.inputs:
        if (given := types.get(formal.name or "")) is not None:
            formal.type = oir.TensorType(given[0])
    parameters = {**_defaults(known), **{each.name: oir.serde.deserialize_attribute(each) for each in call.attribute}}
    for node in graph.all_nodes():
        resolve_references(node, parameters)
        node.version = opset
    return graph


def _written_out(
    known: onnx.defs.OpSchema, version: int, call: onnx.NodeProto, inputs: Sequence[InputType | None]
) -> onnx.FunctionProto:
    """The body as onnx builds it for `call`; without nodes where it builds none."""
    proto, functions = onnx.FunctionProto(), _functions_of(known)
    if functions.has_context_dependent_function:
        types = [_type_proto(each).SerializeToString() for each in inputs]
        written = functions.get_context_dependent_function_with_opset_version(version, call.SerializeToString(), types)
    else:
        written = functions.get_function_with_opset_version(version)
    proto.ParseFromString(written)
    return proto


def _defaults(known: onnx.defs.OpSchema) -> dict[str, oir.Attr]:
    return {
        name: oir.serde.deserialize_attribute(attribute.default_value)
        for name, attribute in known.attributes.items()
        if attribute.default_value.type != onnx.AttributeProto.UNDEFINED
    }


def _type_proto(given: InputType | None) -> onnx.TypeProto:
    if given is None:
        return onnx.TypeProto()
    dtype, rank = given
    proto: onnx.TypeProto = onnx.helper.make_tensor_type_proto(int(dtype), None if rank is None else [None] * rank)
    return proto
