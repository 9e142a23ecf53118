"""Unroll Loops with a small constant trip count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...pipeline.pass_ import Pass, PassContext, where
from ...registry import register


@register
@dataclass(frozen=True)
class UnrollLoops(Pass):
    """Unroll a Loop of known trip count that no condition ends early.

    At most `most_turns` iterations and `most_nodes` operators: operators on the counter then fold, and those that are
    the same in each iteration are computed once. A scan output becomes the Concat of the results of the iterations.

    before:  y, all = Loop(%two, , x) <body = (i, c, v) -> (c, w, w) { w = Mul(v, %half) }>
    after:   w1 = Mul(x, %half); y = Mul(w1, %half); all = Concat(Unsqueeze(w1, 0), Unsqueeze(y, 0))
    """

    name: ClassVar[str] = "unroll-loops"

    most_turns: int = 16
    most_nodes: int = 128

    def run(self, model: ir.Model, context: PassContext) -> None:
        functions = context.functions()
        for graph in ir.graphs(model):
            for node in graph:
                if node.op_type != "Loop" or node.domain != "" or node.op_identifier() in functions:
                    continue
                trip_count = self.trip_count(node, context.analyses.get(Shapes))
                if trip_count is None:
                    continue
                if context.log.try_rewrite(self.name, where(node), "Loop", f"{trip_count} turns"):
                    _unroll(node, trip_count, context)

    def trip_count(self, node: ir.Node, shapes: Shapes) -> int | None:
        """The number of iterations of a Loop that is to be unrolled; None for others."""
        trip_count = _trip_count(node, shapes)
        return trip_count if trip_count is not None and self._is_profitable(node, trip_count) else None

    def _is_profitable(self, node: ir.Node, trip_count: int) -> bool:
        body = node.attributes["body"].as_graph()
        size = len(body) + sum(1 for inner in body for _ in ir.nodes_within(inner))
        scans = len(node.outputs) - len(body.inputs) + 2
        return trip_count <= self.most_turns and trip_count * (size + scans) <= self.most_nodes


def _trip_count(node: ir.Node, shapes: Shapes) -> int | None:
    """The trip count; None where it is not known, or where the results cannot be computed without the Loop."""
    count, condition, *states = [*node.inputs, None, None][: max(2, len(node.inputs))]
    given = node.attributes["body"]
    if None in states or given.is_ref():
        return None
    # The type of an empty scan output is known to the body alone.
    none = 0 if len(node.outputs) == len(states) else None
    going = True if condition is None else ir.scalar(condition)
    if going is False:
        return none
    if count is None or going is not True:
        return None
    body = given.as_graph()
    carried = (value for value in (*states, *body.outputs[1:]) if value is not None)
    if not all(map(shapes.is_tensor, carried)):
        return None  # the type of an optional may differ between iterations
    if any(shapes.rank(value) is None for value in body.outputs[1 + len(states) :]):
        return None  # a state may change its rank: rows of several ranks cannot be concatenated
    elements = shapes.shape_value(count)
    trip_count = elements[0] if elements else ir.scalar(count)
    if not isinstance(trip_count, int) or not never_ends_early(body):
        return None
    if trip_count <= 0:
        return none
    # In ONNX Runtime, the counter and the condition have the rank that the body declares.
    unread = all(not value.uses() or value.shape is not None for value in body.inputs[:2])
    return trip_count if unread else None


def never_ends_early(body: ir.Graph) -> bool:
    """Whether the condition of the body is its input, or constant true."""
    value = ir.origin(body.outputs[0])
    return value is body.inputs[1] or ir.scalar(value) is True


def _unroll(node: ir.Node, trip_count: int, context: PassContext) -> None:
    rewriter, body = context.rewriter, node.attributes["body"].as_graph()
    states: list[ir.Value | None] = list(node.inputs[2:])
    scans: list[list[ir.Value | None]] = [[] for _ in range(len(node.outputs) - len(states))]
    going = _constant_like(body.inputs[1], True, np.dtype(np.bool_), node, context)
    for iteration in range(trip_count):
        counter = _constant_like(body.inputs[0], iteration, np.dtype(np.int64), node, context)
        name = f"{node.name or 'Loop'}/{iteration}"
        results = ir.instantiate(rewriter, body, [counter, going, *states], before=node, prefix=name)
        count = len(states)
        states = results[1 : 1 + count]
        for scan, value in zip(scans, results[1 + count :], strict=True):
            scan.append(value)
    rewriter.replace(node, [*states, *(_stack(parts, node, context) for parts in scans)])


def _constant_like(
    formal: ir.Value, content: int, dtype: np.dtype[np.generic], node: ir.Node, context: PassContext
) -> ir.Value | None:
    if not formal.uses() and not formal.is_graph_output():
        return None
    rank = 0 if formal.shape is None else len(formal.shape)
    return context.rewriter.constant(np.full((1,) * rank, content, dtype=dtype), near=node, name=formal.name or "turn")


def _stack(parts: list[ir.Value | None], node: ir.Node, context: PassContext) -> ir.Value:
    """The results of the iterations along a new first axis."""
    version = node.version or 0
    rows: list[ir.Value | None] = []
    for part in parts:
        row = ir.new_node("Unsqueeze", [part], {"axes": [0]}, version=version, provenance=UnrollLoops.name)
        rows.append(context.rewriter.insert(row, before=node).outputs[0])
    if len(rows) == 1 and rows[0] is not None:
        return rows[0]
    stacked = ir.new_node("Concat", rows, {"axis": 0}, version=version, provenance=UnrollLoops.name)
    return context.rewriter.insert(stacked, before=node).outputs[0]
