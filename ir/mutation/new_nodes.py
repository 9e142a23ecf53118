"""Create nodes and constants that are in no graph yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx_ir as oir

from ..schema import AttributeValue
from ..traversal import subgraphs_of
from ..values import Array

PROVENANCE: Final = "optimize_graph.rule"
"""The node metadata key that names the rule a node came from."""


def new_node(  # noqa: PLR0913  # the parts of a node
    op_type: str,
    inputs: Sequence[oir.Value | None],
    attributes: Mapping[str, AttributeValue | oir.Attr | None] | None = None,
    *,
    domain: str = "",
    version: int | None,
    outputs: int = 1,
    provenance: str = "",
) -> oir.Node:
    """Create a node in no graph yet, for opset `version` of its domain, without the attributes that are None."""
    converted = [
        value if isinstance(value, oir.Attr) else oir.convenience.convert_attribute(name, value)
        for name, value in (attributes or {}).items()
        if value is not None
    ]
    inputs = list(inputs)
    while inputs and inputs[-1] is None:  # ONNX Runtime rejects trailing empty names on some operators
        inputs.pop()
    node = oir.Node(domain, op_type, inputs, converted, num_outputs=outputs, version=version)
    if provenance:
        node.metadata_props[PROVENANCE] = provenance
    return node


def new_view(
    op_type: str, source: oir.Value | None, axes: Sequence[int], *, version: int | None, provenance: str = ""
) -> oir.Node:
    """Create a Squeeze or Unsqueeze in no graph yet; its axes are an attribute below opset 13, else an input."""
    if (version or 0) < 13:
        return new_node(op_type, [source], {"axes": list(axes)}, version=version, provenance=provenance)
    pending_axes = pending_constant(np.array(axes, dtype=np.int64), name="axes")
    return new_node(op_type, [source, pending_axes], version=version, provenance=provenance)


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
