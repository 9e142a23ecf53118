"""Comparing as the standard's backend cases do, and counting nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from optimize_graph.runtime import EXACT, Datum, Outputs, Tolerance
from optimize_graph.runtime import compare as compare_outputs
from optimize_graph.runtime.arrays import leaves
from optimize_graph.testing.differential import Disagreement


def agree_as_backend_cases(want: Outputs, got: Outputs, *, bitwise: bool) -> None:
    """Raise Disagreement when two runs do not agree: bit for bit, or within the tolerance of the backend cases."""
    tolerance = EXACT if bitwise else {path: _allowed(datum) for path, datum in leaves(want).items()}
    verdict = compare_outputs(want, got, tolerance)
    if not verdict:
        raise Disagreement(verdict.problem)


def _allowed(datum: Datum) -> Tolerance:
    dtype = np.asarray(datum).dtype
    is_half = dtype.itemsize <= 2 and (dtype.kind == "f" or "float" in dtype.name)
    return Tolerance(2e-2, 2e-3) if is_half else Tolerance(1e-3, 1e-5)


def count(model: onnx.ModelProto) -> int:
    """The nodes in all scopes, constants apart."""
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    return sum(node.op_type != "Constant" for body in bodies for node in nodes_of(body))


def nodes_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from nodes_of(graph.node)
