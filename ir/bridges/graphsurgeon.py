"""A bridge to onnx-graphsurgeon and back, so that a function on a `gs.Graph` can be a pass.

That form has no overridable inputs, metadata, doc strings, denotations, declared shapes with names, overloads. So the
model that went in is kept beside it: what the round trip alone would have changed is taken from there, and only what
the function changed is taken from the surgeon's graph. What then cannot be put back is an error, never lost silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableSequence, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import onnx
import onnx_ir as oir

from ..diagnostics import Diagnostic, Location, ModelError
from ..fingerprint import digest
from ..io.decode_proto import PROTOBUF_LIMIT, fail
from ..io.external_data import all_tensors, in_memory, substituted
from ..io.load import from_proto, not_representable, to_proto
from ..traversal import graphs
from ..verifier import verify

_Message = TypeVar("_Message")


def to_surgeon(model: oir.Model) -> Any:
    """The model as a new `gs.Graph`, external data read into it. Raises ModelError for what that form has not."""
    import onnx_graphsurgeon

    with _silent():
        return onnx_graphsurgeon.import_onnx(_proto_for_surgeon(model))


def from_surgeon(graph: Any, like: oir.Model) -> oir.Model:
    """The model that a function made of `to_surgeon(like)`; `like` stays as it is.

    Raises ModelError when the interface changed or the result is not well formed.
    """
    import onnx_graphsurgeon

    source = _proto_for_surgeon(like)
    with _silent():
        baseline = onnx_graphsurgeon.export_onnx(onnx_graphsurgeon.import_onnx(source), do_type_check=False)
        try:
            result = onnx_graphsurgeon.export_onnx(graph, do_type_check=False)
        except Exception as error:  # whatever a half-built graph makes the exporter raise
            finding = Diagnostic("surgeon-export-failed", f"the surgeon's graph cannot be exported: {error}")
            raise ModelError(finding) from error
    source = _proto_for_surgeon(like)  # the surgeon's importer may rename tensors in place
    merged = onnx.ModelProto()
    merged.CopyFrom(source)
    merged.graph.CopyFrom(_merged(result.graph, baseline.graph, source.graph, is_main=True))
    del merged.functions[:]
    merged.functions.extend(_kept(result.functions, baseline.functions, source.functions, _function_name))
    _merge_imports(merged, result, baseline)
    model = from_proto(merged)
    if problems := [*not_representable(model), *verify(model)]:
        fail("surgeon-malformed", f"the surgeon's graph is not well formed: {problems[0]}")
    _restore_external(model, like)
    return model


def _proto_for_surgeon(model: oir.Model) -> onnx.ModelProto:
    if sum(tensor.nbytes for tensor in all_tensors(model)) > PROTOBUF_LIMIT:
        fail("surgeon-too-large", "the model has more weights than the surgeon's form can be given (2 GiB)")
    for graph in graphs(model):
        values = (*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs))
        optional = next((value for value in values if isinstance(value.type, oir.OptionalType)), None)
        if optional is not None:
            where = Location(graph=graph.name or "", value=optional.name or "")
            fail("surgeon-cannot-hold", "the surgeon's form has no optional types", where)
    if any(function.overload for function in model.functions.values()):
        fail("surgeon-cannot-hold", "the surgeon's form has no overloads of functions")
    with substituted(model, in_memory):
        return to_proto(model)


@contextmanager
def _silent() -> Iterator[None]:
    """Its logger prints to standard output."""
    from onnx_graphsurgeon.logger import G_LOGGER

    severity = G_LOGGER.severity
    G_LOGGER.severity = G_LOGGER.CRITICAL + 1
    try:
        yield
    finally:
        G_LOGGER.severity = severity


# --- merging: the change is taken from `result`, everything else from `source` ----------------------------------------


def _merged(
    result: onnx.GraphProto, baseline: onnx.GraphProto, source: onnx.GraphProto, *, is_main: bool
) -> onnx.GraphProto:
    """The graph `source` with what distinguishes `result` from `baseline`."""
    graph = onnx.GraphProto(name=source.name, doc_string=source.doc_string)
    graph.metadata_props.extend(source.metadata_props)
    order = {tensor.name: index for index, tensor in enumerate(source.initializer)}
    stored = sorted(result.initializer, key=lambda tensor: order.get(tensor.name, len(order)))
    graph.initializer.extend(_kept(stored, baseline.initializer, source.initializer, _name))
    graph.node.extend(_nodes(result.node, baseline.node, source.node))
    overridable = [value for value in source.input if value.name in {tensor.name for tensor in source.initializer}]
    names = {tensor.name for tensor in graph.initializer}
    for value in overridable if is_main else ():
        if value.name not in names:
            _interface_changed(f"the overridable input {value.name!r} is gone", graph.name)
    given = [value.name for value in source.input if value not in overridable]
    _same_interface("inputs", [value.name for value in result.input], given, graph.name, is_main)
    _same_interface(
        "outputs", [value.name for value in result.output], [value.name for value in source.output], graph.name, is_main
    )
    graph.input.extend(_declared(result.input, source.input, is_main, overridable))
    graph.output.extend(_declared(result.output, source.output, is_main, []))
    found = {value.name: value for value in (*result.value_info, *result.output)}
    plain = {value.name: value for value in (*baseline.value_info, *baseline.output)}
    written = {name for node in graph.node for name in node.output} | names
    for value in source.value_info:
        if value.name in written and found.get(value.name) == plain.get(value.name):
            graph.value_info.add().CopyFrom(value)
    return graph


def _declared(
    result: Sequence[onnx.ValueInfoProto],
    source: Sequence[onnx.ValueInfoProto],
    is_main: bool,
    overridable: Sequence[onnx.ValueInfoProto],
) -> Iterator[onnx.ValueInfoProto]:
    if is_main:
        yield from source
        return
    known = {value.name: value for value in source}
    for value in result:
        yield known.get(value.name, value)
    yield from overridable


def _same_interface(what: str, result: list[str], source: list[str], graph: str, is_main: bool) -> None:
    if is_main and result != source:
        _interface_changed(f"the {what} are {result}, not {source}", graph)


def _interface_changed(message: str, graph: str) -> None:
    fail("interface-changed", message, Location(graph=graph), "names and order of inputs and outputs stay as they are")


def _nodes(
    result: Sequence[onnx.NodeProto], baseline: Sequence[onnx.NodeProto], source: Sequence[onnx.NodeProto]
) -> Iterator[onnx.NodeProto]:
    """The nodes of `result`; those that the function left alone as the model had them."""
    same, origin = _by_output(baseline), _by_output(source)
    for node in result:
        key = next(iter(node.output), "")
        old, plain = origin.get(key), same.get(key)
        if old is None or plain is None or old.op_type != node.op_type:
            yield node
        elif plain == node:
            yield old
        else:
            yield _changed(node, plain, old)


def _changed(node: onnx.NodeProto, plain: onnx.NodeProto, old: onnx.NodeProto) -> onnx.NodeProto:
    node.doc_string, node.overload = old.doc_string, old.overload
    del node.metadata_props[:]
    node.metadata_props.extend(old.metadata_props)
    node.device_configurations.extend(old.device_configurations)
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
    return f"{function.domain}::{function.name}"


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


def _restore_external(model: oir.Model, like: oir.Model) -> None:
    """Let unchanged weights lie on disk again, and keep what was noticed at load."""
    known = {
        value.name: value.const_value
        for graph in graphs(like)
        for value in graph.initializers.values()
        if isinstance(value.const_value, oir.ExternalTensor)
    }
    for graph in graphs(model):
        for value in graph.initializers.values():
            old = known.get(value.name)
            if old is not None and value.const_value is not None and digest(old) == digest(value.const_value):
                value.const_value = old
    model.graph.meta.update(like.graph.meta)
