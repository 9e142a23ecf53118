"""What every property of the catalogue comes down to: optimize, run both in ONNX Runtime, compare."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from optimize_graph import ir
from optimize_graph.passes import Exactness
from optimize_graph.runtime import EXACT, Datum, Outputs, Session, SessionOptions, Tolerance, compare, open_session
from optimize_graph.runtime.comparison import leaves
from optimize_graph.runtime.tolerance import computes_in_half

PLAIN = SessionOptions(optimize=False, prepacking=False)


class Disagreement(AssertionError):
    """Two models give different numbers for the same inputs."""


class Reference:
    """A model as it is, in ONNX Runtime with nothing switched on. Raises ModelError where that refuses it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.proto = model
        self.session: Session = open_session(model.SerializeToString(), PLAIN)

    def run(self, feeds: dict[str, Datum]) -> Outputs:
        return self.session.run(feeds)


def same_interface(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    defaults = {tensor.name for tensor in before.graph.initializer}
    # Before IR version 4 every initializer had to be an input, whether or not a caller was meant to give it.
    inputs = [value for value in before.graph.input if before.ir_version >= 4 or value.name not in defaults]
    assert inputs == list(after.graph.input)
    assert list(before.graph.output) == list(after.graph.output)
    assert {value.name for value in inputs} & defaults == {
        value.name for value in inputs if value.name in {tensor.name for tensor in after.graph.initializer}
    }


def agree(want: Outputs, got: Outputs, *, bitwise: bool, rtol: float = 1e-3, atol: float = 1e-5) -> None:
    """Raise Disagreement when two runs do not agree: bit for bit, or within the tolerance of the backend cases."""
    verdict = compare(want, got, EXACT if bitwise else {p: _allowed(d, rtol, atol) for p, d in leaves(want).items()})
    if not verdict:
        raise Disagreement(verdict.problem)


def _allowed(datum: Datum, rtol: float, atol: float) -> Tolerance:
    dtype = np.asarray(datum).dtype
    if dtype.itemsize <= 2 and (dtype.kind == "f" or "float" in dtype.name):
        return Tolerance(max(rtol, 2e-2), max(atol, 2e-3))
    return Tolerance(rtol, atol)


def is_bitwise(exactness: Exactness, model: ir.Model) -> bool:
    """Whether the result must be the same bit for bit. ONNX Runtime runs float16 in float32 or not, depending on what
    stands around it."""
    return exactness is Exactness.EXACT and not computes_in_half(model)


def count(model: onnx.ModelProto) -> int:
    """The nodes in all scopes, constants apart."""
    return sum(_nodes(model.graph.node)) + sum(sum(_nodes(each.node)) for each in model.functions)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterable[int]:
    for node in nodes:
        yield int(node.op_type != "Constant")
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)
