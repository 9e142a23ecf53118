"""A bridge to onnx-graphsurgeon and back, so that a function on a `gs.Graph` can be a pass.

That form has no overridable inputs, metadata, doc strings, denotations, declared shapes with names, overloads. So the
model that went in is kept beside it: what the round trip alone would have changed is taken from there, and only what
the function changed is taken from the surgeon's graph. What then cannot be put back is an error, never lost silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import onnx
import onnx_ir as oir

from ..diagnostics import Diagnostic, Location, ModelError
from ..io.decode_proto import fail
from ..traversal import graphs
from .edited_proto import from_edited_proto, self_contained_proto


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

    source = _proto_for_surgeon(like)  # the surgeon's importer may rename tensors in it
    with _silent():
        baseline = onnx_graphsurgeon.export_onnx(onnx_graphsurgeon.import_onnx(source), do_type_check=False)
        try:
            result = onnx_graphsurgeon.export_onnx(graph, do_type_check=False)
        except Exception as error:  # whatever a half-built graph makes the exporter raise
            finding = Diagnostic("surgeon-export-failed", f"the surgeon's graph cannot be exported: {error}")
            raise ModelError(finding) from error
    return from_edited_proto(result, like, baseline)


def _proto_for_surgeon(model: oir.Model) -> onnx.ModelProto:
    for graph in graphs(model):
        values = (*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs))
        optional = next((value for value in values if isinstance(value.type, oir.OptionalType)), None)
        if optional is not None:
            where = Location(graph=graph.name or "", value=optional.name or "")
            fail("surgeon-cannot-hold", "the surgeon's form has no optional types", where)
    if any(function.overload for function in model.functions.values()):
        fail("surgeon-cannot-hold", "the surgeon's form has no overloads of functions")
    return self_contained_proto(model)


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
