"""What other people's code made of a model, taken for its successor: restored where it may be, refused otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as oir

from ..diagnostics import Location
from ..fingerprint import digest
from ..io.decode_proto import fail
from ..io.load import not_representable
from ..schema import stamp_versions
from ..traversal import graphs, nodes
from ..values import INTERFACE_TYPE, is_overridable
from ..verifier import verify

_HINT = "names, order and types of inputs and outputs stay as they are"


def reconcile(result: oir.Model, like: oir.Model) -> oir.Model:
    """`result`, which an edit made of a copy of `like`, with all that describes the model as `like` has it.

    Restored: what is declared of inputs and outputs, name, doc string and metadata of the graph, and the place of
    unchanged weights on disk. Raises ModelError when the interface changed, a function that is called is gone, or the
    result is not well formed.
    """
    if (found := verify(result)) and all(each.code == "chain-broken" for each in found):
        result = result.clone()  # nodes that were taken out still count as users
    graph, old = result.graph, like.graph
    _same_interface("inputs", graph.inputs, old.inputs, old.name)
    _same_interface("outputs", graph.outputs, old.outputs, old.name)
    before, after = ([value.name for value in each.inputs if is_overridable(value)] for each in (old, graph))
    if before != after:
        _interface_changed(f"the overridable inputs are {after}, not {before}", old.name)
    lost = like.functions.keys() - result.functions.keys()
    gone = next((node for node in nodes(result) if node.op_identifier() in lost), None)
    if gone is not None:
        message = f"the function {gone.domain}::{gone.op_type} is gone, and it is called"
        fail("function-lost", message, Location(graph=old.name or "", node=gone.name or ""))
    graph.name, graph.doc_string = old.name, old.doc_string
    graph.metadata_props.clear()
    graph.metadata_props.update(old.metadata_props)
    for node in nodes(result):
        for value in node.outputs:
            value.const_value = None  # some note there what they computed
    stamp_versions(result)
    if problems := [*not_representable(result), *verify(result)]:
        fail("edit-malformed", f"the result is not well formed: {problems[0]}")
    _restore_external(result, like)
    return result


def _same_interface(what: str, values: Sequence[oir.Value], known: Sequence[oir.Value], graph: str | None) -> None:
    names, old_names = [value.name for value in values], [value.name for value in known]
    if names != old_names:
        _interface_changed(f"the {what} are {names}, not {old_names}", graph)
    for value, old in zip(values, known, strict=True):
        if None not in (value.type, old.type) and value.type != old.type:
            _interface_changed(f"{value.name!r} is {value.type}, not {old.type}", graph)
        value.type, value.shape, value.doc_string = old.type, old.shape, old.doc_string
        value.metadata_props.clear()
        value.metadata_props.update(old.metadata_props)
        if INTERFACE_TYPE in old.meta:
            value.meta[INTERFACE_TYPE] = old.meta[INTERFACE_TYPE]


def _interface_changed(message: str, graph: str | None) -> None:
    fail("interface-changed", message, Location(graph=graph or ""), _HINT)


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
