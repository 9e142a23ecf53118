"""Digests: of one tensor's content, and of a whole model's structure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Final

import onnx_ir as oir

from .io.encoded_attributes import EncodedAttr
from .traversal import graphs

CHUNK: Final = 4 << 20
"""Bytes that are read at once from a file: what is mapped would count as resident memory."""

_MEMO = "optimize_graph.digest"


class _Sink:
    """Hashes what is written to it, as `tofile` of a tensor does."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b(digest_size=32)

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return len(data)


def digest(tensor: oir.TensorProtocol) -> bytes:
    """32 bytes that are equal for tensors of equal element type, dims and content, bit for bit; remembered.

    External data is read in pieces and neither mapped nor kept.
    """
    known: bytes | None = tensor.meta.get(_MEMO)
    if known is not None:
        return known
    sink = _Sink()
    sink.write(f"{tensor.dtype.name}{list(tensor.shape.numpy())}".encode())
    if tensor.dtype == oir.DataType.STRING:
        for text in tensor.string_data() if isinstance(tensor, oir.StringTensor) else tensor.numpy().flat:
            raw = text if isinstance(text, bytes) else str(text).encode()
            sink.write(len(raw).to_bytes(8, "little") + raw)
    elif isinstance(tensor, oir.ExternalTensor):
        _read(tensor, sink)
    else:
        sink.write(tensor.tobytes())
    tensor.meta[_MEMO] = result = sink.hash.digest()
    return result


def _read(tensor: oir.ExternalTensor, sink: _Sink) -> None:
    with open(tensor.path, "rb") as file:  # noqa: PTH123 - onnx-ir gives a str, and this is hot
        file.seek(tensor.offset or 0)
        left = tensor.nbytes
        while left > 0:
            piece = file.read(min(CHUNK, left))
            if not piece:
                raise OSError(f"{tensor.path} became shorter while it was read")
            sink.write(piece)
            left -= len(piece)


def fingerprint(model: oir.Model) -> str:
    """64 hex digits that are equal for models of equal structure, whatever inner values and nodes are called.

    Covered: operators, versions, attributes, connectivity, constants by content, the interface (names, types, declared
    dims) and functions. Not covered: metadata, doc strings, value_info of inner values, names.
    """
    numbers: dict[oir.Value, int] = {}

    def number(value: oir.Value | None) -> int:
        return -1 if value is None else numbers.setdefault(value, len(numbers))

    hasher = hashlib.blake2b(digest_size=32)

    def say(*parts: object) -> None:
        hasher.update(repr(parts).encode())

    index = {id(graph): place for place, graph in enumerate(graphs(model))}
    say(model.ir_version, sorted(model.opset_imports.items()))
    for function in model.functions.values():
        attributes = sorted((name, _attribute(each, index)) for name, each in function.attributes.items())
        say("function", function.identifier(), index[id(function.graph)], attributes)
        say(sorted(function.opset_imports.items()))
    for graph in graphs(model):
        main = graph is model.graph
        say("graph", [(value.name if main else "", number(value), _declared(value)) for value in graph.inputs])
        constants = sorted(_initializers(graph, number))
        say("initializers", constants)
        for node in graph:
            attributes = sorted((name, _attribute(each, index)) for name, each in node.attributes.items())
            say(*node.op_identifier(), node.version, [number(v) for v in node.inputs], attributes)
            say([number(v) if v.name else -1 for v in node.outputs])
        say("outputs", [(value.name if main else "", number(value), _declared(value)) for value in graph.outputs])
    return hasher.hexdigest()


def _initializers(graph: oir.Graph, number: Callable[[oir.Value | None], int]) -> Iterable[tuple[bytes, bool, int]]:
    """The initializers in an order independent of their names and indices: by content, then first user."""
    places = {node: place for place, node in enumerate(graph)}
    found = []
    for value in graph.initializers.values():
        content = digest(value.const_value) if value.const_value is not None else b""
        first = min(((places.get(user, -1), slot) for user, slot in value.uses()), default=(-1, -1))
        found.append((content, first, value))
    found.sort(key=lambda each: each[:2])
    return [(content, value.is_graph_input(), number(value)) for content, _, value in found]


def _declared(value: oir.Value) -> str:
    return f"{value.type!r} {value.shape}"


def _attribute(attribute: oir.Attr, index: dict[int, int]) -> str:
    """The content of an attribute; graphs by their number, since they are said in their own turn."""
    if attribute.is_ref():
        return f"@{attribute.ref_attr_name}"
    if isinstance(attribute, EncodedAttr):
        return f"{attribute.type.name} {attribute.digest().hex()}"
    match attribute.type:
        case oir.AttributeType.TENSOR:
            return digest(attribute.as_tensor()).hex()
        case oir.AttributeType.TENSORS:
            return " ".join(digest(tensor).hex() for tensor in attribute.as_tensors())
        case oir.AttributeType.GRAPH:
            return f"graph {index[id(attribute.as_graph())]}"
        case oir.AttributeType.GRAPHS:
            return f"graphs {[index[id(graph)] for graph in attribute.as_graphs()]}"
        case _:
            value = attribute.value
            return f"{attribute.type.name} {list(value) if isinstance(value, (tuple, list)) else value!r}"
