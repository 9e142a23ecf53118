"""Models that break a rule of the standard and that ONNX Runtime loads all the same: made to keep it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as oir

from ..diagnostics import Diagnostic, Location, Severity
from ..mutation.new_nodes import discard
from ..traversal import graphs
from ..values import is_read
from ..verifier import verify


def repair(model: oir.Model) -> tuple[list[Diagnostic], list[Diagnostic]]:
    """Repair `model` in place; what was repaired, as remarks, and what is still wrong, as errors.

    Nodes are sorted (stable) where one reads what a later one computes, nodes that nothing uses are dropped where the
    model is malformed otherwise, and a value_info that contradicts an initializer gives way to it. ONNX Runtime does
    all three when it loads a model (core/graph/graph.cc).
    """
    problems = verify(model)
    if not problems:
        return [], []
    remarks = []
    if any(problem.code == "order" for problem in problems) and _sort(model):
        remarks.append(_remark("nodes-sorted", "nodes were sorted: some read what later ones compute"))
    if mistyped := list(_retype(model)):
        names = ", ".join(mistyped[:3]) + (", …" if len(mistyped) > 3 else "")
        remarks.append(
            _remark("value-info-dropped", f"value_info that contradicts an initializer was dropped: {names}")
        )
    problems = verify(model)
    if problems and (dropped := _drop_unused(model)):
        message = f"{len(dropped)} nodes that nothing uses were dropped: {_some(dropped)}"
        remarks.append(_remark("unused-nodes-dropped", message))
        problems = verify(model)
    return remarks, problems


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _sort(model: oir.Model) -> bool:
    """Whether the nodes could be sorted: not where they form a cycle."""
    try:
        for graph in (model.graph, *(function.graph for function in model.functions.values())):
            graph.sort()
    except ValueError:
        return False
    return True


def _retype(model: oir.Model) -> Iterator[str]:
    """Give initializers the type of their content; the names of those that were declared with another."""
    for graph in graphs(model):
        for value in graph.initializers.values():
            content = value.const_value
            if content is None or value.is_graph_input() or not isinstance(value.type, oir.TensorType):
                continue
            if value.type.dtype != content.dtype:
                value.type, value.shape = oir.TensorType(content.dtype), oir.Shape(content.shape.numpy())
                yield value.name or ""


def _drop_unused(model: oir.Model) -> list[str]:
    """Remove nodes of the main graph that nothing uses, and what only they use; their names, or their operators'."""
    dropped = []
    for node in reversed(list(model.graph)):
        if any(is_read(value) for value in node.outputs):
            continue
        model.graph.remove(node)
        discard([node])
        dropped.append(node.name or node.op_type)
    return dropped[::-1]


def _remark(code: str, message: str) -> Diagnostic:
    return Diagnostic(code, message, Location(), severity=Severity.REMARK)
