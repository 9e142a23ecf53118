"""Create nodes and constants that are in no graph yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final, TypeAlias, cast

import numpy as np
import onnx_ir as oir

from ..schema import AttributeValue, schema
from ..traversal import subgraphs_of
from ..values import Array

PROVENANCE: Final = "optimize_graph.rule"
"""The node metadata key that names the rule a node came from."""


Content: TypeAlias = Array | Sequence[int] | Sequence[float] | float
"""The content of a constant operand."""


def new_node(  # noqa: PLR0913  # the parts of a node
    op_type: str,
    inputs: Sequence[oir.Value | Content | None],
    attributes: Mapping[str, AttributeValue | oir.Attr | oir.Value | None] | None = None,
    *,
    domain: str = "",
    version: int | None,
    outputs: int = 1,
    provenance: str = "",
    constant_name: str = "",
    dtype_of: Callable[[oir.Value], oir.DataType | None] = lambda value: value.dtype,
) -> oir.Node:
    """Create a node in no graph yet, for opset `version` of its domain, without the attributes that are None.

    What is an input at that version, of what is given as an attribute, becomes one (`axes`, `split`, `pads`, …), and a
    constant that is an attribute there, one. An array as an operand becomes a constant; so do numbers and lists, in the
    type of the schema, or of the operands that must have the same. Constants are called `constant_name`, or as the
    schema calls the input. Raises LookupError where the type of a number is not known.
    """
    formals, names = _parameters(op_type, version or 0, domain)
    operands, converted = list(inputs), []
    for name, value in (attributes or {}).items():
        if isinstance(value, oir.Attr):
            converted.append(value)
        elif value is not None and name in formals and name not in names:
            index = list(formals).index(name)
            operands += [None] * (index + 1 - len(operands))
            operands[index] = cast("oir.Value | Content", value)
        elif value is not None:
            if isinstance(value, oir.Value):
                value = cast("oir.TensorProtocol", value.const_value).numpy().tolist()
            converted.append(oir.convenience.convert_attribute(name, value))
    while operands and operands[-1] is None:  # ONNX Runtime rejects trailing empty names on some operators
        operands.pop()
    slots = [*formals.items()]
    slots += (slots[-1:] or [("constant", "")]) * (len(operands) - len(slots))  # a variadic input

    def value_of(operand: oir.Value | Content | None, name: str, kind: str) -> oir.Value | None:
        if operand is None or isinstance(operand, oir.Value):
            return operand
        array = np.asarray(operand)
        if not isinstance(operand, np.ndarray):
            others = (each for each, (_, other) in zip(operands, slots, strict=False) if other == kind)
            dtypes = (dtype_of(each) for each in others if isinstance(each, oir.Value))
            dtype = _TYPES.get(kind) or next((each for each in dtypes if each is not None), None)
            if dtype is None and array.dtype != np.int64:
                raise LookupError(f"the type of input {name!r} of {op_type} is not known")
            array = array if dtype is None else array.astype(dtype.numpy())
        return pending_constant(array, name=constant_name or name)

    values = [value_of(each, *slot) for each, slot in zip(operands, slots, strict=False)]
    node = oir.Node(domain, op_type, values, converted, num_outputs=outputs, version=version)
    if provenance:
        node.metadata_props[PROVENANCE] = provenance
    return node


def similar_node(
    node: oir.Node,
    inputs: Sequence[oir.Value | Content | None],
    attributes: Mapping[str, AttributeValue | oir.Attr | oir.Value | None] | None = None,
    *,
    provenance: str,
) -> oir.Node:
    """Create a node like `node` of other inputs, and with other values of some attributes; in no graph yet."""
    return new_node(
        node.op_type,
        inputs,
        {**node.attributes, **(attributes or {})},
        domain=node.domain,
        version=node.version,
        outputs=len(node.outputs),
        provenance=provenance,
    )


@cache
def _parameters(op_type: str, version: int, domain: str) -> tuple[Mapping[str, str], frozenset[str]]:
    """The types of the inputs that a schema has, by name, and its attributes."""
    known = schema(op_type, version, domain)
    if known is None:
        return {}, frozenset()
    return {formal.name: formal.type_str for formal in known.inputs}, frozenset(known.attributes)


_TYPES: Final = {"tensor(int64)": oir.DataType.INT64, "tensor(float)": oir.DataType.FLOAT}


def pending_constant(content: Array | oir.TensorProtocol, *, name: str = "constant") -> oir.Value:
    """Create a constant in no graph yet; the `Rewriter` places it when a node that uses it is inserted."""
    if isinstance(content, np.ndarray):
        content = np.ascontiguousarray(content).reshape(content.shape)
        tensor: oir.TensorProtocol = _string_tensor(content) if content.dtype.kind in "OU" else oir.tensor(content)
    else:
        tensor = content
    return oir.Value(
        name=name, const_value=tensor, type=oir.TensorType(tensor.dtype), shape=oir.Shape(tensor.shape.numpy())
    )


def _string_tensor(content: Array) -> oir.StringTensor:
    texts = [text if isinstance(text, bytes) else str(text).encode() for text in content.flat]
    return oir.StringTensor(texts, shape=oir.Shape(content.shape))


def discard(nodes: Sequence[oir.Node]) -> None:
    """Detach nodes that are in no graph from their operands, so that they are no longer users of them."""
    for node in nodes:
        for body in subgraphs_of(node):
            for inner in list(body.all_nodes()):
                detach(inner)
        detach(node)


def detach(node: oir.Node) -> None:
    """Drop the operands of a node, so that it is no longer a user of them."""
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)
