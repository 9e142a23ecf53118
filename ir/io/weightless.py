"""A model without its weights: what tools get to see that serialize all that they are given."""

from __future__ import annotations

import onnx
import onnx.helper
import onnx_ir as oir

from ..schema import schema_of
from .encoded_attributes import is_encoded

_SMALL = 1024  # bytes: the axes, shapes and scales that tools read; weights are larger, or not their business


class Skeleton:
    """A model without its weights, as a proto in which nodes and values have numbers for names.

    Numbers are unique over all scopes, so that a name says which node or value it is; new ones look otherwise. Large
    weights are inputs; an overridable initializer is an input only, since its content may be overridden. Attributes of
    unknown operators are left out, and those of nodes with attributes that are kept encoded.
    """

    def __init__(self, model: oir.Model) -> None:
        self.nodes: dict[str, oir.Node] = {}
        self.values: dict[str, oir.Value] = {}
        self.written: dict[str, onnx.NodeProto] = {}
        self.proto = onnx.ModelProto(ir_version=model.ir_version)
        for domain, version in model.opset_imports.items():
            self.proto.opset_import.add(domain="" if domain == "ai.onnx" else domain, version=version)
        self._names: dict[oir.Value, str] = {}
        self._weights: list[onnx.ValueInfoProto] = []
        self._pending: list[tuple[oir.Graph, onnx.GraphProto]] = [(model.graph, self.proto.graph)]
        while self._pending:
            self._graph(*self._pending.pop())
        self.proto.graph.input.extend(self._weights)

    def _number(self, value: oir.Value) -> str:
        name = self._names[value] = f"value:{len(self.values)}"
        self.values[name] = value
        return name

    def _graph(self, graph: oir.Graph, proto: onnx.GraphProto) -> None:
        proto.name = graph.name or "graph"
        for value in graph.inputs:
            self._number(value)
            proto.input.append(self._declaration(value))
        for value in graph.initializers.values():
            if not value.is_graph_input():
                self._number(value)
                self._initializer(value, proto)
        for node in graph:
            for value in node.outputs:
                if value.name:
                    self._number(value)
            tensor = _large_constant(node)
            if tensor is None:
                self._node(node, proto)
            else:
                self._weight(node.outputs[0], tensor)
        for value in graph.outputs:
            proto.output.append(self._declaration(value))

    def _node(self, node: oir.Node, graph: onnx.GraphProto) -> None:
        name = f"node:{len(self.nodes)}"
        self.nodes[name] = node
        proto = graph.node.add(op_type=node.op_type, domain=node.domain, overload=node.overload, name=name)
        self.written[name] = proto
        proto.input.extend("" if value is None else self._names[value] for value in node.inputs)
        proto.output.extend(self._names.get(value, "") for value in node.outputs)
        for value in node.outputs:
            if value in self._names and value.type is not None and not value.is_graph_output():
                graph.value_info.append(self._declaration(value))
        if schema_of(node) is None or is_encoded(node):
            return  # no tool could say anything about its attributes
        for attribute in node.attributes.values():
            if attribute.type == oir.AttributeType.GRAPH:
                body = proto.attribute.add(name=attribute.name, type=onnx.AttributeProto.GRAPH)
                self._pending.append((attribute.as_graph(), body.g))
            else:
                proto.attribute.append(_serialized(attribute))

    def _initializer(self, value: oir.Value, graph: onnx.GraphProto) -> None:
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes > _SMALL:
            self._weight(value, tensor)
        else:
            proto = _tensor(tensor)
            proto.name = self._names[value]
            graph.initializer.append(proto)

    def _weight(self, value: oir.Value, tensor: oir.TensorProtocol) -> None:
        self._weights.append(
            onnx.helper.make_tensor_value_info(self._names[value], int(tensor.dtype), tensor.shape.numpy())
        )

    def _declaration(self, value: oir.Value) -> onnx.ValueInfoProto:
        proto = onnx.ValueInfoProto(name=self._names[value])
        if value.type is not None:
            oir.serde.serialize_type_into(proto.type, value.type)
            if value.shape is not None:
                oir.serde.serialize_shape_into(proto.type, value.shape)
        return proto


def _large_constant(node: oir.Node) -> oir.TensorProtocol | None:
    """The tensor of a Constant node that holds a weight, and so is none of a tool's business."""
    attribute = node.attributes.get("value")
    if node.op_type != "Constant" or node.domain or attribute is None or node.outputs[0].is_graph_output():
        return None
    tensor: oir.TensorProtocol = attribute.value  # `as_tensor` asks a runtime protocol, which takes a tenth of a ms
    return tensor if tensor.nbytes > _SMALL else None


def _tensor(tensor: oir.TensorProtocol) -> onnx.TensorProto:
    """The tensor with its content: onnx's tools take external data for an empty tensor."""
    if isinstance(tensor, oir.ExternalTensor):
        proto = onnx.TensorProto(data_type=int(tensor.dtype), dims=tensor.shape.numpy(), raw_data=tensor.tobytes())
    else:
        proto = oir.serde.serialize_tensor(tensor)
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    return proto


def _serialized(attribute: oir.Attr) -> onnx.AttributeProto:
    if attribute.type == oir.AttributeType.TENSOR:
        tensor = _tensor(attribute.value)
        return onnx.AttributeProto(name=attribute.name, type=onnx.AttributeProto.TENSOR, t=tensor)
    proto = oir.serde.serialize_attribute(attribute)
    proto.ClearField("doc_string")
    return proto
