"""A constant shift goes back over data movement into the bias, or the other constant shift, that came before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .linear_ops import Vector, carries
from .per_axis_constant import VIEWS, PerAxisConstant, before, read

x, c = values("x c")

_MOST_MOVES = 8
_MOVEMENT = ("Transpose", *VIEWS)
_WITH_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "LayerNormalization": 2, "InstanceNormalization": 2}
"""Where the operators that add a bias take it; BatchNormalization is not among them: it is folded before."""


@dataclass(frozen=True)
class Plan:
    """The movement to go back over, the last operator first; who takes the shift, in which input, and its content."""

    moves: Sequence[ir.Node]
    taker: ir.Node
    index: int
    content: ir.Array


def _shift(m: Match) -> PerAxisConstant | None:
    found = read(m.c.array, m.shapes, m.x.value)
    return PerAxisConstant(-found.numbers, found.axis) if found is not None and m.has("Sub") else found


def _plan(m: Match) -> Plan | str:
    """How the shift can be taken; in words why it cannot."""
    by, value, moves = _shift(m), m.x.value, list[ir.Node]()
    while by is not None and len(moves) < _MOST_MOVES:
        node = value.producer()
        if node is None or not ir.is_private(value) or node.graph is not m.root.graph or node.domain != "":
            return f"{value.name!r} is no operator's alone"
        if any(map(ir.is_read, node.outputs[1:])):
            return f"another output of {node.name!r} is read"
        if node.op_type not in _MOVEMENT:
            return _taken(m, node, by, moves)
        by, moves, value = before(node, by, m.shapes), [*moves, node], node.inputs[0] or value
    return "no operator with a bias was found nearby"


def _taken(m: Match, node: ir.Node, by: PerAxisConstant, moves: Sequence[ir.Node]) -> Plan | str:
    rank = m.shapes.rank(node.outputs[0])
    if node.op_type in ("Add", "Sub"):
        return _into_addition(m, node, by, moves)
    index = _WITH_BIAS.get(node.op_type)
    channel = 1 - (rank or 0) if "Conv" in node.op_type or "Instance" in node.op_type else -1
    if index is None or rank is None or by.axis not in (None, channel):
        return f"{node.op_type} has no such bias"
    if node.op_type == "Gemm" and ir.attribute(node, "beta") != 1.0:
        return "the Gemm scales its bias"
    size = (m.shapes.dims(node.outputs[0]) or (None,))[channel]
    given = node.inputs[index] if index < len(node.inputs) else None
    old = ir.constant(given) if given is not None else np.zeros(1)
    if not isinstance(size, int) or old is None or old.ndim != 1:
        return "the bias is computed, or of unknown size"
    like = m.c.array.dtype
    return _made(moves, node, index, np.broadcast_to(old.astype(np.float64) + by.numbers, (size,)), like)


def _into_addition(m: Match, node: ir.Node, by: PerAxisConstant, moves: Sequence[ir.Node]) -> Plan | str:
    """Add(x, c1) with c2 added later: the dims of the sum must be those of x, or of the constant, as before."""
    index = next((at for at in (1, 0) if ir.is_constant(node.inputs[at])), None)
    old = ir.constant(node.inputs[index]) if index is not None else None
    if index is None or old is None or old.dtype.kind not in "fV":
        return f"{node.op_type} adds no constant"
    sign = -1.0 if node.op_type == "Sub" and index == 1 else 1.0
    total = old.astype(np.float64) + sign * by.spread()
    if total.size > max(old.size, by.numbers.size):
        return "the two constants together are larger"
    return _made(moves, node, index, total, old.dtype)


def _made(
    moves: Sequence[ir.Node], taker: ir.Node, index: int, exact: Vector, dtype: np.dtype[np.generic]
) -> Plan | str:
    with np.errstate(over="ignore"):
        content = exact.astype(dtype)
    return Plan(moves, taker, index, content) if carries(content, exact) else "the sum does not fit the type"


@rule(
    op.Add(x, c).any_order() | op.Sub(x, c),
    requires=[
        constant("c"),
        floating("x"),
        finite("c"),
        require("c one number, or numbers along one axis of x", lambda m: _shift(m) is not None),
        require("a constant bias before", lambda m: isinstance(_plan(m), Plan), lambda m: str(_plan(m))),
    ],
    exactness=Exactness.ROUNDING,
    source="(x + a) + b = x + (a + b)",
    benefit=-1,
)
def propagate_shift(m: Match, op: Builder) -> ir.Value:
    """Add to the bias that was added before instead of to the value.

    before:  x -> Conv(w, b) -> Transpose -> Add(c) -> y
    after:   x -> Conv(w, b + c) -> Transpose -> y
    """
    plan = _plan(m)
    assert isinstance(plan, Plan)
    inputs = [*plan.taker.inputs, *(None,) * (plan.index + 1 - len(plan.taker.inputs))]
    inputs[plan.index] = op.constant(plan.content)
    value = op.node(plan.taker.op_type, inputs, attributes=dict(plan.taker.attributes))[0]
    for move in reversed(plan.moves):
        value = op.node(move.op_type, [value, *move.inputs[1:]], attributes=dict(move.attributes))[0]
    return value
