"""A model out of some nodes of another, which stay where they are; and the files that a model consists of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir as oir

from .diagnostics import Diagnostic, ModelError
from .io.external_data import content_bytes, in_memory, substituted
from .io.load import complete_proto, serialized
from .io.proto_graphs import graphs_within
from .values import constant_tensor

# Old enough for every ONNX Runtime that we support, new enough for every type that its CPU kernels take.
IR_VERSION = 10
MOST_BYTES = (2 << 30) - (64 << 20)  # of weights in one file: protobuf ends at 2 GiB, and nodes need some

ValueType = tuple[oir.DataType, Sequence[int]]


def extract(  # noqa: PLR0913  # the parts of a model
    nodes: Iterable[oir.Node],
    inputs: Sequence[oir.Value],
    outputs: Sequence[oir.Value],
    opset_imports: Mapping[str, int],
    types: Mapping[oir.Value, ValueType],
    constants: Iterable[oir.Value] = (),
    functions: Iterable[oir.Function] = (),
) -> bytes:
    """A serialized model that computes `outputs` from `inputs` and `constants` by `nodes` (in an order that can run).

    `types` has the element type and shape of every input, and may have those of outputs. What bodies in the nodes
    capture must be an input, a constant or a result of the nodes too. Raises ValueError when a value has no name,
    ModelError when the model is larger than protobuf allows.
    """
    graph = onnx.GraphProto(name="region")
    for constant in constants:
        content = constant_tensor(constant)
        if content is None:
            raise ValueError(f"{constant.name} is no constant")
        graph.initializer.append(_embedded(content, constant.name or ""))
    graph.node.extend(oir.serde.serialize_node(node) for node in nodes)
    graph.input.extend(value_info(value.name, types[value]) for value in inputs)
    graph.output.extend(value_info(value.name, types.get(value)) for value in outputs)
    model = onnx.ModelProto(ir_version=IR_VERSION, graph=graph)
    for domain, version in opset_imports.items():
        model.opset_import.add(domain=domain, version=version)
    model.functions.extend(oir.serde.serialize_function(function) for function in functions)
    return serialized(model)


def _embedded(content: oir.TensorProtocol, name: str) -> onnx.TensorProto:
    """A tensor that carries its own content, wherever that came from."""
    tensor = oir.serde.serialize_tensor(content)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        tensor = onnx.TensorProto(data_type=int(content.dtype), raw_data=content.tobytes())
        tensor.dims.extend(content.shape.numpy())
    tensor.name = name
    return tensor


def embedded(model: oir.Model) -> onnx.ModelProto:
    """The model as a proto with all weights in it. Raises ModelError when it is larger than protobuf allows."""
    if content_bytes(model) > MOST_BYTES:
        raise ModelError(Diagnostic("file-too-large", "the model is larger than protobuf allows"))
    with substituted(model, in_memory):  # ONNX Runtime opens no absolute places
        return complete_proto(model)


def tapped(model: oir.Model, values: Iterable[oir.Value]) -> bytes:
    """A serialized model that gives `values` of the main graph besides its own outputs, with all weights in it.

    Raises ModelError when it is larger than protobuf allows.
    """
    proto = embedded(model)
    given = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in values if value.name not in given)
    return serialized(proto)


def value_info(name: str | None, known: ValueType | None) -> onnx.ValueInfoProto:
    """The declaration of a tensor; without a type where that is not known. Raises ValueError for one without a name."""
    if not name:
        raise ValueError("a value at the border of the region has no name")
    if known is None:
        return onnx.ValueInfoProto(name=name)
    dtype, shape = known
    return onnx.helper.make_tensor_value_info(name, int(dtype), list(shape))


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that the model at `path` consists of: itself and its external data, each once, if they exist."""
    model = onnx.load_model(path, load_external_data=False)
    names = {
        entry.value
        for tensor in _tensors(model)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    data = [path.parent / name for name in sorted(names)]
    return (path, *(file for file in data if file.is_file()))


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for graph in graphs_within(model.graph, *model.functions):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
