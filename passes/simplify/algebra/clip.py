"""Clip, Relu, Min and Max: merge those that follow each other, and recognize them in selections."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import FLOATS, floating, let, require
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, Pattern, Var, any_call, op, values
from ...rewriting.rule import rewrite, rule

x, y, low, high = values("x y low high")

_INTEGERS = frozenset(
    {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32, ir.DataType.UINT32}
    | {ir.DataType.INT64, ir.DataType.UINT64}
)
"""Integers that ONNX Runtime's Clip, Min and Max have kernels for."""

Bound = float | int
Bounds = tuple[Bound | None, Bound | None]

_INNER = OneOf(tuple(any_call(kind).named("inner") for kind in ("Clip", "Relu", "Min", "Max")))


def _scalar(value: ir.Value | None) -> Bound | None:
    """The number in a constant of one element; None for NaN."""
    number = ir.scalar(value)
    return None if number is None or isinstance(number, bool) or number != number else number


def _bounds_of(node: ir.Node) -> tuple[ir.Value, Bounds] | None:
    """The value that a node bounds, and its bounds; None where a bound is not a constant scalar."""
    if node.op_type == "Relu" and node.inputs[0] is not None:
        return node.inputs[0], (0, None)
    if node.op_type == "Clip" and node.inputs[0] is not None:
        operands = [*node.inputs[1:], None, None][:2]
        bounds = (_scalar(operands[0]), _scalar(operands[1]))
        is_known = all((one is None) == (other is None) for one, other in zip(operands, bounds, strict=True))
        return (node.inputs[0], bounds) if is_known else None
    if node.op_type not in ("Min", "Max") or len(node.inputs) < 2 or None in node.inputs:
        return None
    numbers = [_scalar(value) for value in node.inputs]
    data = [value for value, number in zip(node.inputs, numbers, strict=True) if number is None]
    constants = [number for number in numbers if number is not None]
    if len(data) != 1 or data[0] is None:
        return None
    return data[0], ((max(constants), None) if node.op_type == "Max" else (None, min(constants)))


def _merge(m: Match) -> tuple[ir.Value, Bounds] | str:
    """The inner bounds clamped by the outer ones: of two disjoint ranges, the outer one decides."""
    outer, inner = _bounds_of(m.root), _bounds_of(m.inner.node)
    if outer is None or inner is None or outer[0] is not m.inner.value:
        return "a bound is computed, or an operand of Min or Max is missing"
    if m.root.op_type == m.inner.node.op_type == "Relu":
        return "two Relus, which eliminate-repeated-relu merges"
    if any(one is not None and other is not None and one > other for one, other in (outer[1], inner[1])):
        return "a lower bound above the upper one"
    (lowest, highest), (inner_low, inner_high) = outer[1], inner[1]

    def clamped(bound: Bound) -> Bound:
        bound = bound if lowest is None else max(bound, lowest)
        return bound if highest is None else min(bound, highest)

    return inner[0], (
        lowest if inner_low is None else clamped(inner_low),
        highest if inner_high is None else clamped(inner_high),
    )


_merged = let("bounds that are constant scalars, in order", _merge)


def _has_clip(m: Match) -> bool:
    dtype = m.inner.dtype
    return dtype in FLOATS or (dtype in _INTEGERS and (m.root.version or 0) >= 12)


@rule(
    op.Clip(_INNER, low.optional(), high.optional()).opset(since=11)
    | op.Relu(_INNER).opset(since=11)
    | op.Max(_INNER, low).any_order().opset(since=11)
    | op.Min(_INNER, high).any_order().opset(since=11),
    requires=[
        require("floating-point, or integers since opset 12", _has_clip, lambda m: str(m.inner.dtype)),
        _merged,
        require(
            "bounds that do not raise the rank",
            lambda m: m.shapes.same_dims(m.shapes.dims(m[_merged][0]), m.shapes.dims(m.root.outputs[0])),
            lambda m: f"{m.shapes.show(m[_merged][0])} to {m.shapes.show(m.root.outputs[0])}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Clip: Clip(Clip(x, a, b), c, d) = Clip(x, clamp(a, c, d), clamp(b, c, d)); zeros may differ in sign",
)
def merge_clips(m: Match, op: Builder) -> ir.Value:
    """Merge two bounding operators into one with the intersection of their ranges.

    before:  y = Clip(Clip(x, a, b), c, d)        any of Clip, Relu, Min, Max
    after:   y = Clip(x, clamp(a, c, d), clamp(b, c, d))
    """
    data, (lowest, highest) = m[_merged]
    if "Clip" in (m.root.op_type, m.inner.node.op_type) or None not in (lowest, highest):
        return op.Clip(data, lowest, highest)
    # Of infinity, ONNX Runtime's Clip without an upper bound gives the largest float; Max gives infinity.
    return op.Max(data, lowest) if highest is None else op.Min(data, highest)


def _extremum(m: Match) -> tuple[ir.Value, Bound] | str:
    """The one computed operand of a Max or Min of several constants, and the extremum of these."""
    count = sum(_scalar(value) is not None for value in m.root.inputs)
    found = _bounds_of(m.root)
    if count < 2 or found is None:
        return f"{count} constants of one element among {len(m.root.inputs)} operands"
    return found[0], next(each for each in found[1] if each is not None)


_constants = let("two constants or more of one element beside one other operand", _extremum)


@rule(
    any_call("Max").named("extremum") | any_call("Min").named("extremum"),
    requires=[_constants],
    source="ONNX Max, Min",
)
def merge_minmax_constants(m: Match, op: Builder) -> ir.Value:
    """Compute the extremum of the constant operands at compile time.

    before:  y = Max(x, %a, %b)
    after:   y = Max(x, %max(a, b))
    """
    data, bound = m[_constants]
    rank = max(content.ndim for value in m.root.inputs if (content := ir.constant(value)) is not None)
    return op.node(m.root.op_type, [data, np.full((1,) * rank, bound).tolist()])[0]


rewrite(
    "max-zero-to-relu",
    "Max with zero is Relu.",
    op.Max(x, 0).any_order(),
    op.Relu(x),
    when=[
        floating("x"),
        require(
            "a zero that does not raise the rank",
            lambda m: m.shapes.same_dims(m.x.dims, m.shapes.dims(m.root.outputs[0])),
            lambda m: f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Relu; ONNX Runtime fuses it into the Conv before it (conv_activation_fusion.cc), and Max not",
)


def _select(larger: Var, smaller: Var) -> Pattern:
    """`larger` where x is above y, else `smaller`, by any of the comparisons."""
    return (
        op.Where(op.Greater(x, y), larger, smaller)
        | op.Where(op.GreaterOrEqual(x, y), larger, smaller)
        | op.Where(op.Less(x, y), smaller, larger)
        | op.Where(op.LessOrEqual(x, y), smaller, larger)
    )


_NUMBERS = require("a number type", lambda m: m.x.dtype in FLOATS | _INTEGERS, lambda m: str(m.x.dtype))

rewrite(
    "where-greater-to-max",
    "Selecting the larger of two values by a comparison is Max.",
    _select(x, y),
    op.Max(x, y),
    when=[_NUMBERS],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX Max, Where: they differ where an operand is NaN, and in the sign of zero",
)

rewrite(
    "where-less-to-min",
    "Selecting the smaller of two values by a comparison is Min.",
    _select(y, x),
    op.Min(x, y),
    when=[_NUMBERS],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX Min, Where: they differ where an operand is NaN, and in the sign of zero",
)
