"""Propagate a constant shift up through data movement into the bias, or constant addend, before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, floating, let
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .linear_ops import Vector, round_weight
from .per_axis_constant import PerAxisConstant, before, read

x, c = values("x c")

_MOST_MOVES = 8
_MOVEMENT = ("Transpose", *ir.VIEWS)
_WITH_BIAS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "LayerNormalization": 2, "InstanceNormalization": 2}
"""The input that is the bias, by operator; BatchNormalization is not among them: it is folded before."""


@dataclass(frozen=True)
class Plan:
    """The data movement, last operator first; the operator with the bias, the input that is it, and its new content."""

    moves: Sequence[ir.Node]
    adder: ir.Node
    index: int
    content: ir.Array


def _read_shift(m: Match) -> PerAxisConstant | str:
    shift = read(m.c.array, m.shapes, m.x.value)
    if shift is None:
        return f"{list(m.c.array.shape)} on {m.shapes.show(m.x.value)}"
    return PerAxisConstant(-shift.numbers, shift.axis) if m.has("Sub") else shift


_shift = let("c one number, or numbers along one axis of x", _read_shift)


def _find_bias(m: Match) -> Plan | str:
    """The operator above whose bias takes the shift; why there is none."""
    by: PerAxisConstant | None = m[_shift]
    value, moves = m.x.value, list[ir.Node]()
    while by is not None and len(moves) < _MOST_MOVES:
        node = value.producer()
        if node is None or not ir.is_private(value) or node.graph is not m.root.graph or node.domain != "":
            return f"{value.name!r} is an input or has other users"
        if any(map(ir.is_read, node.outputs[1:])):
            return f"another output of {node.name!r} has users"
        if node.op_type not in _MOVEMENT:
            return _into_bias(m, node, by, moves)
        by, moves, value = before(node, by, m.shapes), [*moves, node], node.inputs[0] or value
    return "no operator with a bias was found nearby"


def _into_bias(m: Match, node: ir.Node, by: PerAxisConstant, moves: Sequence[ir.Node]) -> Plan | str:
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
    bias = node.inputs[index] if index < len(node.inputs) else None
    old = ir.constant(bias) if bias is not None else np.zeros(1)
    if not isinstance(size, int) or old is None or old.ndim != 1:
        return "the bias is computed, or of unknown size"
    total = np.broadcast_to(old.astype(np.float64) + by.numbers, (size,))
    return _rounded(moves, node, index, total, m.c.array.dtype)


def _into_addition(m: Match, node: ir.Node, by: PerAxisConstant, moves: Sequence[ir.Node]) -> Plan | str:
    """Add c2 to the constant of Add(x, c1), which must not become larger than both."""
    index = next((at for at in (1, 0) if ir.is_constant(node.inputs[at])), None)
    old = ir.constant(node.inputs[index]) if index is not None else None
    if index is None or old is None or old.dtype.kind not in "fV":
        return f"{node.op_type} adds no constant"
    sign = -1.0 if node.op_type == "Sub" and index == 1 else 1.0
    total = old.astype(np.float64) + sign * by.spread()
    if total.size > max(old.size, by.numbers.size):
        return "the two constants together are larger"
    return _rounded(moves, node, index, total, old.dtype)


def _rounded(
    moves: Sequence[ir.Node], adder: ir.Node, index: int, exact: Vector, dtype: np.dtype[np.generic]
) -> Plan | str:
    content = round_weight(exact, dtype)
    return f"{dtype} cannot hold the sum" if content is None else Plan(moves, adder, index, content)


_plan = let("a constant bias before", _find_bias)


@rule(
    op.Add(x, c).any_order() | op.Sub(x, c),
    requires=[constant("c"), floating("x"), finite("c"), _shift, _plan],
    exactness=Exactness.ROUNDING,
    source="(x + a) + b = x + (a + b)",
    benefit=-1,
)
def propagate_shift(m: Match, op: Builder) -> ir.Value:
    """Add a constant to the bias before data movement instead of to the result.

    before:  y = Add(Transpose(Conv(x, w, %b)), %c)
    after:   y = Transpose(Conv(x, w, %(b + c)))
    """
    plan = m[_plan]
    inputs: list[ir.Value | ir.Content | None] = [
        *plan.adder.inputs,
        *(None,) * (plan.index + 1 - len(plan.adder.inputs)),
    ]
    inputs[plan.index] = plan.content
    value = op.node(plan.adder.op_type, inputs, attributes=dict(plan.adder.attributes))[0]
    for move in reversed(plan.moves):
        value = op.node(move.op_type, [value, *move.inputs[1:]], attributes=dict(move.attributes))[0]
    return value
