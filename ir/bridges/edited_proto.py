"""A model as a proto that other people's code edits, and back.

What such code leaves out or only reformats (metadata, doc strings, denotations, declarations) is taken from the model
that went in, what it changed from the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from typing import Any, TypeVar

import onnx
import onnx_ir as oir

from ..io.decode_proto import PROTOBUF_LIMIT, fail
from ..io.external_data import all_tensors, in_memory, substituted
from ..io.load import from_proto, to_proto
from ..io.proto_graphs import graphs_within
from .reconcile import reconcile

_Message = TypeVar("_Message")


def self_contained_proto(model: oir.Model) -> onnx.ModelProto:
    """The model as a new proto, external data read into it. Raises ModelError above 2 GiB."""
    if sum(tensor.nbytes for tensor in all_tensors(model)) > PROTOBUF_LIMIT:
        fail("edit-too-large", "the model has more weights than a proto can hold (2 GiB)")
    with substituted(model, in_memory):
        return to_proto(model)


def from_edited_proto(result: onnx.ModelProto, like: oir.Model, baseline: onnx.ModelProto | None = None) -> oir.Model:
    """The model that an edit made of `self_contained_proto(like)`; `like` stays as it is.

    `baseline`: what the way there and back alone makes of it. Raises ModelError as `reconcile` does.
    """
    if not isinstance(result, onnx.ModelProto):
        raise TypeError(f"expected a ModelProto or None, got {type(result).__name__}")
    source = self_contained_proto(like)
    baseline = baseline or source
    merged = onnx.ModelProto()
    merged.CopyFrom(source)
    merged.graph.CopyFrom(_merged(result.graph, baseline.graph, source.graph, is_main=True))
    del merged.functions[:]
    merged.functions.extend(_kept(result.functions, baseline.functions, source.functions, _function_name))
    _merge_imports(merged, result, baseline)
    return reconcile(from_proto(merged), like)


def _merged(
    result: onnx.GraphProto, baseline: onnx.GraphProto, source: onnx.GraphProto, *, is_main: bool
) -> onnx.GraphProto:
    """The graph `source` with what distinguishes `result` from `baseline`."""
    graph = onnx.GraphProto(name=source.name, doc_string=source.doc_string)
    graph.metadata_props.extend(source.metadata_props)
    graph.node.extend(_nodes(result.node, baseline.node, source.node))
    graph.initializer.extend(_initializers(result, baseline, source, graph))
    graph.input.extend(_inputs(result, source, is_main=is_main))
    graph.output.extend(_declared(result.output, source.output, is_main=is_main))
    graph.value_info.extend(_declarations(result, baseline, source, graph))
    graph.sparse_initializer.extend(result.sparse_initializer)  # which is refused
    graph.quantization_annotation.extend(result.quantization_annotation)
    return graph


def _initializers(
    result: onnx.GraphProto, baseline: onnx.GraphProto, source: onnx.GraphProto, merged: onnx.GraphProto
) -> Iterator[onnx.TensorProto]:
    """The initializers of `result`, those of `source` in the graph that owns them.

    The surgeon's form copies what bodies capture into the bodies, and drops it where only bodies read it.
    """
    plain, order = {each.name: each for each in baseline.initializer}, [tensor.name for tensor in source.initializer]
    found = {each.name: each for each in result.initializer if each.name in order or each != plain.get(each.name)}
    read = {name for graph in graphs_within(merged) for node in graph.node for name in node.input}
    made = {name for node in merged.node for name in node.output}
    for tensor in source.initializer:
        if tensor.name not in found and tensor.name in read - made:
            found[tensor.name] = tensor
    names = [*(name for name in order if name in found), *(name for name in found if name not in order)]
    yield from _kept([found[name] for name in names], baseline.initializer, source.initializer, _name)


def _inputs(result: onnx.GraphProto, source: onnx.GraphProto, *, is_main: bool) -> Iterator[onnx.ValueInfoProto]:
    """The inputs of `result`, and at their places the overridable ones, which some leave out."""
    overridable = {value.name for value in source.input} & {tensor.name for tensor in source.initializer}
    given = [value for value in result.input if value.name not in overridable]
    declared = list(_declared(given, source.input, is_main=is_main))
    for value in source.input:
        if value.name in overridable:
            yield value
        elif declared:
            yield declared.pop(0)
    yield from declared


def _declared(
    result: Iterable[onnx.ValueInfoProto], source: Iterable[onnx.ValueInfoProto], *, is_main: bool
) -> Iterator[onnx.ValueInfoProto]:
    """The inputs or outputs of `result` as `source` declares them, unless the element type is another."""
    known = {value.name: value for value in source}
    for value in result:
        old, dtype = known.get(value.name, value), value.type.tensor_type.elem_type
        yield value if is_main and dtype not in (0, old.type.tensor_type.elem_type) else old


def _declarations(
    result: onnx.GraphProto, baseline: onnx.GraphProto, source: onnx.GraphProto, merged: onnx.GraphProto
) -> Iterator[onnx.ValueInfoProto]:
    found = {value.name: value for value in (*result.value_info, *result.output)}
    plain = {value.name: value for value in (*baseline.value_info, *baseline.output)}
    written = {name for node in merged.node for name in node.output} | {each.name for each in merged.initializer}
    for value in source.value_info:
        if value.name in written and found.get(value.name) == plain.get(value.name):
            yield value
    for value in result.value_info:
        if value.name in written and value.HasField("type") and plain.get(value.name) != value:
            yield value


def _nodes(
    result: Sequence[onnx.NodeProto], baseline: Sequence[onnx.NodeProto], source: Sequence[onnx.NodeProto]
) -> Iterator[onnx.NodeProto]:
    """The nodes of `result`; those that the function left alone as the model had them."""
    same, origin = _by_output(baseline), _by_output(source)
    for node in result:
        key = next(iter(node.output), "")
        old, plain = origin.get(key), same.get(key)
        if old is None or plain is None:
            yield node
        elif plain == node:
            yield old
        else:
            yield _changed(node, plain, old)


def _changed(node: onnx.NodeProto, plain: onnx.NodeProto, old: onnx.NodeProto) -> onnx.NodeProto:
    for field in ("doc_string", "metadata_props", "device_configurations"):
        if not getattr(node, field) or getattr(node, field) == getattr(plain, field):
            node.ClearField(field)
            node.MergeFrom(onnx.NodeProto(**{field: getattr(old, field)}))
    before = {attribute.name: attribute for attribute in plain.attribute}
    origin = {attribute.name: attribute for attribute in old.attribute}
    for attribute in node.attribute:
        if attribute.name not in before or attribute.name not in origin:
            continue
        if attribute == before[attribute.name]:
            attribute.CopyFrom(origin[attribute.name])
        elif attribute.HasField("g") and before[attribute.name].HasField("g"):
            was, first = before[attribute.name].g, origin[attribute.name].g
            attribute.g.CopyFrom(_merged(attribute.g, was, first, is_main=False))
    return node


def _by_output(nodes: Sequence[onnx.NodeProto]) -> dict[str, onnx.NodeProto]:
    return {next(iter(node.output), ""): node for node in nodes}


def _name(message: Any) -> str:
    return str(message.name)


def _function_name(function: onnx.FunctionProto) -> str:
    return f"{function.domain}::{function.name}:{function.overload}"


def _kept(
    result: Sequence[_Message],
    baseline: Sequence[_Message],
    source: Sequence[_Message],
    key: Callable[[_Message], str],
) -> Iterator[_Message]:
    """The messages of `result`; from `source` those that are as the round trip alone leaves them."""
    same, origin = {key(each): each for each in baseline}, {key(each): each for each in source}
    for message in result:
        name = key(message)
        yield origin[name] if name in origin and same.get(name) == message else message


def _merge_imports(merged: onnx.ModelProto, result: onnx.ModelProto, baseline: onnx.ModelProto) -> None:
    before = {entry.domain: entry.version for entry in baseline.opset_import}
    entries: MutableSequence[onnx.OperatorSetIdProto] = merged.opset_import
    known = {entry.domain: entry for entry in entries}
    for entry in result.opset_import:
        if entry.domain not in known:
            merged.opset_import.add(domain=entry.domain, version=entry.version)
        elif before.get(entry.domain) != entry.version:
            known[entry.domain].version = entry.version
