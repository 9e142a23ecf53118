"""The walk over a `ModelProto` that was just read: what is malformed, and what onnx-ir's form cannot carry.

A file is untrusted input. Everything that later code relies on is checked here, before onnx-ir sees it: a tensor
whose content is missing would otherwise become an array of zeros of any size that its dims claim.
Iterative: depth is bounded by protobuf, not by Python's stack.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as oir
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from ..diagnostics import Location
from .decode_proto import fail
from .external_data import ExternalFolder

_TYPE_OF_FIELD = {
    "f": onnx.AttributeProto.FLOAT,
    "i": onnx.AttributeProto.INT,
    "s": onnx.AttributeProto.STRING,
    "t": onnx.AttributeProto.TENSOR,
    "g": onnx.AttributeProto.GRAPH,
    "tp": onnx.AttributeProto.TYPE_PROTO,
    "floats": onnx.AttributeProto.FLOATS,
    "ints": onnx.AttributeProto.INTS,
    "strings": onnx.AttributeProto.STRINGS,
    "tensors": onnx.AttributeProto.TENSORS,
    "graphs": onnx.AttributeProto.GRAPHS,
    "type_protos": onnx.AttributeProto.TYPE_PROTOS,
}
_LARGEST = 2**63 - 1
_DENSE_BYTES = 256 << 20
"""Up to this size sparse tensors are held in memory as dense ones; the file is passed on as it is."""


@dataclass
class Intake:
    """The result of the walk: `losses` lists what would be lost, `data_files` the external data as the file names it.

    `interface_types`: the types of the model's inputs and outputs that onnx-ir cannot hold (maps), by name.
    """

    folder: ExternalFolder
    losses: dict[str, None] = field(default_factory=dict)  # an ordered set
    data_files: dict[str, None] = field(default_factory=dict)
    interface_types: dict[str, onnx.TypeProto] = field(default_factory=dict)

    def examine(self, proto: onnx.ModelProto) -> None:
        """Check and normalise `proto` in place. Raises ModelError for what is malformed.

        What onnx-ir would raise on (sparse attributes, map types in bodies) is taken out and listed under `losses`.
        """
        self._unknown(proto)
        self._text(proto.producer_name, proto.producer_version, proto.domain, proto.doc_string)
        self._text(*(entry.domain for owner in (proto, *proto.functions) for entry in owner.opset_import))
        if proto.training_info:
            self._lost("training_info")
        if proto.configuration and proto.ir_version < 11:
            self._lost("device configurations below IR version 11")
        self._keys_once("model metadata", proto.metadata_props)
        self._once("function", (f"{each.domain}::{each.name}:{each.overload}" for each in proto.functions))
        for value in (*proto.graph.input, *proto.graph.output):
            self._interface_type(value)
        for value in proto.graph.value_info:
            if _leaf(value.type) in _FOREIGN:
                value.ClearField("type")  # the operators that give and take maps say as much
        pending = [proto.graph]
        for function in proto.functions:
            self._function(function)
            pending += self._nodes(function.node, f"{function.domain}::{function.name}", proto.ir_version)
        while pending:
            graph = pending.pop()
            self._graph(graph)
            pending += self._nodes(graph.node, graph.name, proto.ir_version)

    def _lost(self, what: str) -> None:
        self.losses[what] = None

    def _unknown(self, message: Message) -> None:
        if len(UnknownFieldSet(message)):
            self._lost(f"fields of {type(message).__name__} that the installed onnx does not know")

    def _text(self, *strings: str | bytes) -> None:
        """Protobuf gives bytes for a string that is not UTF-8."""
        if bytes in map(type, strings):
            fail("model-malformed", "a name or text is not UTF-8", self._where())

    def _once(self, what: str, names: Iterable[str], graph: str = "") -> None:
        twice = next((name for name, count in Counter(names).items() if count > 1), None)
        if twice is not None:
            fail("duplicate-name", f"two {what}s have the name {twice!r}", self._where(graph))

    def _keys_once(self, what: str, entries: Sequence[onnx.StringStringEntryProto]) -> None:
        keys = [entry.key for entry in entries]
        self._text(*keys, *(entry.value for entry in entries))
        if len(set(keys)) < len(keys):
            self._lost(f"{what} with one key twice")

    def _where(self, graph: str = "", node: str = "", value: str = "") -> Location:
        return Location(self.folder.file, graph, node, value)

    # --- graphs and functions ---------------------------------------------------------------------------------------

    def _graph(self, graph: onnx.GraphProto) -> None:
        self._unknown(graph)
        self._text(graph.name, graph.doc_string)
        if graph.sparse_initializer:
            self._lost("sparse initializers")
            dense = [self._dense(sparse, graph.name) for sparse in graph.sparse_initializer]
            graph.initializer.extend(tensor for tensor in dense if tensor is not None)
        if graph.quantization_annotation:
            self._lost("quantization annotations")
        self._keys_once("graph metadata", graph.metadata_props)
        initializers = [tensor.name for tensor in graph.initializer]
        if "" in initializers:
            fail("name-missing", "an initializer has no name", self._where(graph.name))
        self._once("input", (value.name for value in graph.input), graph=graph.name)
        self._once("initializer", initializers, graph=graph.name)
        missing = dict.fromkeys(value.name for value in graph.output)
        for name in (*initializers, *(value.name for value in graph.input)):
            missing.pop(name, None)
        for node in reversed(graph.node):  # outputs are computed near the end
            if not missing:
                break
            for name in node.output:
                missing.pop(name, None)
        for name in missing:
            self._lost(f"graph output {name!r}, which its graph does not define")
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._value(value)
        for tensor in graph.initializer:
            self._tensor(tensor, graph.name)

    def _function(self, function: onnx.FunctionProto) -> None:
        self._unknown(function)
        self._text(function.name, function.domain, function.overload, function.doc_string)
        self._text(*function.input, *function.output, *function.attribute)
        name = f"{function.domain}::{function.name}"
        self._keys_once("function metadata", function.metadata_props)
        self._once("function input", function.input, graph=name)
        self._once("function attribute", (*function.attribute, *(each.name for each in function.attribute_proto)))
        for value in function.value_info:
            self._value(value)
        for attribute in function.attribute_proto:
            self._attribute(attribute, name)

    def _nodes(self, nodes: Iterable[onnx.NodeProto], graph: str, ir_version: int) -> Iterator[onnx.GraphProto]:
        """Check the nodes of one graph; the graphs in their attributes."""
        for node in nodes:
            self._unknown(node)
            self._text(node.name, node.op_type, node.domain, node.overload, node.doc_string, *node.input, *node.output)
            if not node.op_type:
                fail("operator-missing", "a node names no operator", self._where(graph, node.name))
            if node.device_configurations and ir_version < 11:
                self._lost("device configurations below IR version 11")
            self._keys_once("node metadata", node.metadata_props)
            if not node.attribute:
                continue
            if len({attribute.name for attribute in node.attribute}) < len(node.attribute):
                fail("duplicate-name", "two attributes of a node have one name", self._where(graph, node.name))
            for index in reversed(range(len(node.attribute))):
                if node.op_type == "Constant" and node.attribute[index].HasField("sparse_tensor"):
                    self._dense_constant(node.attribute[index], graph)
                if self._attribute(node.attribute[index], graph):
                    yield from node.attribute[index].graphs
                    if node.attribute[index].HasField("g"):
                        yield node.attribute[index].g
                else:
                    del node.attribute[index]

    def _attribute(self, attribute: onnx.AttributeProto, graph: str) -> bool:
        """Check one attribute; whether onnx-ir can hold it."""
        self._unknown(attribute)
        self._text(attribute.name, attribute.ref_attr_name, attribute.doc_string)
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            self._lost("sparse tensors in attributes")
            return False
        if attribute.type == onnx.AttributeProto.UNDEFINED and not attribute.ref_attr_name:
            given = [kind for descriptor, _ in attribute.ListFields() if (kind := _TYPE_OF_FIELD.get(descriptor.name))]
            if len(given) != 1:
                self._lost(f"attribute {attribute.name!r}, which has no type")
                return False
            attribute.type = given[0]  # files of IR version 1 leave it out
        match attribute.type:
            case onnx.AttributeProto.TENSOR if not attribute.ref_attr_name:
                self._tensor(attribute.t, graph)
            case onnx.AttributeProto.TENSORS:
                for tensor in attribute.tensors:
                    self._tensor(tensor, graph)
            case onnx.AttributeProto.STRINGS if not all(_is_text(text) for text in attribute.strings):
                self._lost(f"strings of attribute {attribute.name!r} that are not UTF-8")
                return False
            case onnx.AttributeProto.TYPE_PROTO | onnx.AttributeProto.TYPE_PROTOS:
                types = [attribute.tp] if attribute.HasField("tp") else list(attribute.type_protos)
                return all(self._type(each) for each in types)
        return True

    def _dense_constant(self, attribute: onnx.AttributeProto, graph: str) -> None:
        """Spell `sparse_value` of a Constant as `value`: in memory the model computes the same."""
        dense = self._dense(attribute.sparse_tensor, graph)
        if dense is not None:
            self._lost("sparse tensors in attributes")
            attribute.Clear()
            attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
            attribute.t.CopyFrom(dense)

    def _dense(self, sparse: onnx.SparseTensorProto, graph: str) -> onnx.TensorProto | None:
        """The dense tensor that a sparse one stands for; None where it is malformed or too large to be written out."""
        dims, values, indices = tuple(sparse.dims), sparse.values, sparse.indices
        where = self._where(graph, value=values.name)
        if any(size < 0 for size in dims):
            fail("tensor-malformed", f"the dims {list(dims)} are negative", where)
        self._tensor(values, graph)
        self._tensor(indices, graph)
        if onnx.TensorProto.EXTERNAL in (values.data_location, indices.data_location):
            return None
        found = onnx.numpy_helper.to_array(values)
        if math.prod(dims) * found.itemsize > _DENSE_BYTES or found.dtype.kind in "OUS":
            return None
        places = onnx.numpy_helper.to_array(indices)
        content = np.zeros(dims, found.dtype)
        try:
            if places.ndim == 2:
                content[tuple(places.T)] = found
            else:
                content.reshape(-1)[places] = found
        except (IndexError, ValueError) as error:
            fail("tensor-malformed", f"a sparse tensor does not fit its dims {list(dims)}: {error}", where)
        return onnx.numpy_helper.from_array(content, values.name)

    # --- values and types -------------------------------------------------------------------------------------------

    def _value(self, value: onnx.ValueInfoProto) -> None:
        self._unknown(value)
        self._text(value.name, value.doc_string)
        if value.metadata_props:
            self._keys_once("value metadata", value.metadata_props)
        if value.HasField("type") and not self._type(value.type, value.name):
            value.ClearField("type")

    def _interface_type(self, value: onnx.ValueInfoProto) -> None:
        """Lay the type of an input or output of the model aside, where onnx-ir has none like it."""
        if _leaf(value.type) in _FOREIGN:
            kept = self.interface_types[value.name] = onnx.TypeProto()
            kept.CopyFrom(value.type)
            value.ClearField("type")

    def _type(self, proto: onnx.TypeProto, name: str = "") -> bool:
        """Whether onnx-ir can hold this type."""
        while True:
            self._unknown(proto)
            self._text(proto.denotation)
            match proto.WhichOneof("value"):
                case "tensor_type" | "sparse_tensor_type" as kind:
                    tensor = getattr(proto, kind)
                    self._unknown(tensor)
                    for dim in tensor.shape.dim:
                        self._text(dim.dim_param, dim.denotation)
                    if tensor.elem_type not in onnx.TensorProto.DataType.values():
                        fail("type-unknown", f"element type {tensor.elem_type} is unknown", self._where(value=name))
                    if tensor.HasField("elem_type"):
                        return True
                    if tensor.HasField("shape") or proto.denotation:
                        self._lost("a shape without an element type")
                    return False
                case "sequence_type" | "optional_type" as kind:
                    proto = getattr(proto, kind).elem_type
                case None:
                    if proto.denotation:
                        self._lost("a denotation without a type")
                    return False
                case kind:
                    self._lost(f"{kind.removesuffix('_type')} types")
                    return False

    # --- tensors ----------------------------------------------------------------------------------------------------

    def _tensor(self, tensor: onnx.TensorProto, graph: str) -> None:
        self._unknown(tensor)
        self._text(tensor.name, tensor.doc_string)
        self._keys_once("tensor metadata", tensor.metadata_props)
        where = self._where(graph, value=tensor.name)
        if tensor.HasField("segment"):
            fail("tensor-malformed", "a tensor in segments is not supported", where)
        if tensor.data_type not in _CONTENT:
            fail("type-unknown", f"element type {tensor.data_type} is unknown", where)
        kind = oir.DataType(tensor.data_type)
        if any(size < 0 for size in tensor.dims):
            fail("tensor-malformed", f"the dims {list(tensor.dims)} are negative", where)
        elements = math.prod(tensor.dims)
        bits = 64 if kind == oir.DataType.STRING else kind.bitwidth
        nbytes = (elements * bits + 7) // 8
        if math.prod(max(size, 1) for size in tensor.dims) * bits // 8 > _LARGEST:
            fail("tensor-malformed", f"the dims {list(tensor.dims)[:8]} are larger than any memory", where)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            if kind == oir.DataType.STRING:
                fail("tensor-malformed", "strings cannot be external data", where)
            self.data_files[self.folder.resolve(tensor, nbytes)] = None
            return
        content, per_element = _CONTENT[tensor.data_type]
        if tensor.HasField("raw_data") and kind != oir.DataType.STRING:
            found, expected, unit = len(tensor.raw_data), nbytes, "bytes"
        else:
            found, expected, unit = len(getattr(tensor, content)), math.ceil(elements * per_element), "elements"
        if found != expected:
            message = f"a tensor of dims {list(tensor.dims)[:8]} needs {expected} {unit} and has {found}"
            fail("tensor-malformed", message, where)


def _content() -> dict[int, tuple[str, float]]:
    """By element type: the field that holds the elements when raw_data does not, and its entries for one element."""
    table: dict[int, tuple[str, float]] = {}
    for kind in oir.DataType:
        if kind == oir.DataType.UNDEFINED:
            continue
        if kind == oir.DataType.STRING:
            table[kind.value] = "string_data", 1
        elif kind in (oir.DataType.FLOAT, oir.DataType.COMPLEX64):
            table[kind.value] = "float_data", kind.bitwidth // 32
        elif kind in (oir.DataType.DOUBLE, oir.DataType.COMPLEX128):
            table[kind.value] = "double_data", kind.bitwidth // 64
        elif kind == oir.DataType.INT64:
            table[kind.value] = "int64_data", 1
        elif kind in (oir.DataType.UINT32, oir.DataType.UINT64):
            table[kind.value] = "uint64_data", 1
        else:
            table[kind.value] = "int32_data", kind.bitwidth / 8 if kind.bitwidth in (2, 4) else 1
    return table


_CONTENT = _content()


_FOREIGN = ("map_type", "opaque_type")


def _leaf(proto: onnx.TypeProto) -> str | None:
    """The kind of type that sequences and optionals of a type hold."""
    kind: str | None = proto.WhichOneof("value")
    while kind in ("sequence_type", "optional_type"):
        proto = getattr(proto, kind).elem_type
        kind = proto.WhichOneof("value")
    return kind


def _is_text(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
