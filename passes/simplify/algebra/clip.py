"""Bounds on bounds: Clip, Relu, Min and Max with constants that follow each other are one Clip."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import FLOATS, floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, Pattern, Var, any_call, op, values
from ...rewriting.rule import rule

x, y, low, high = values("x y low high")

_INTEGERS = frozenset(
    {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT32, ir.DataType.UINT32}
    | {ir.DataType.INT64, ir.DataType.UINT64}
)
"""Integers that ONNX Runtime's Clip, Min and Max know."""

Bound = float | int
Bounds = tuple[Bound | None, Bound | None]

_INNER = OneOf(tuple(any_call(kind).named("inner") for kind in ("Clip", "Relu", "Min", "Max")))


def _scalar(value: ir.Value | None) -> Bound | None:
    """The number in a constant of one element; None for NaN, which bounds nothing and everything."""
    number = ir.scalar(value)
    return None if number is None or isinstance(number, bool) or number != number else number


def _read(node: ir.Node) -> tuple[ir.Value, Bounds] | None:
    """What a node bounds, and by which numbers; None where they are not known."""
    if node.op_type == "Relu" and node.inputs[0] is not None:
        return node.inputs[0], (0, None)
    if node.op_type == "Clip" and node.inputs[0] is not None:
        given = [*node.inputs[1:], None, None][:2]
        bounds = (_scalar(given[0]), _scalar(given[1]))
        is_known = all((one is None) == (other is None) for one, other in zip(given, bounds, strict=True))
        return (node.inputs[0], bounds) if is_known else None
    if node.op_type not in ("Min", "Max") or len(node.inputs) < 2 or None in node.inputs:
        return None
    known = [_scalar(value) for value in node.inputs]
    data = [value for value, bound in zip(node.inputs, known, strict=True) if bound is None]
    found = [bound for bound in known if bound is not None]
    if len(data) != 1 or data[0] is None:
        return None
    return data[0], ((max(found), None) if node.op_type == "Max" else (None, min(found)))


def _merged(m: Match) -> tuple[ir.Value, Bounds] | None:
    """The inner bounds clamped by the outer ones: of two ranges that do not meet, the outer one decides."""
    outer, inner = _read(m.root), _read(m.inner.node)
    if outer is None or inner is None or outer[0] is not m.inner.value:
        return None
    if m.root.op_type == m.inner.node.op_type == "Relu":
        return None  # eliminate-repeated-relu
    if any(one is not None and other is not None and one > other for one, other in (outer[1], inner[1])):
        return None  # a range that is empty
    (lowest, highest), (inner_low, inner_high) = outer[1], inner[1]

    def clamped(bound: Bound) -> Bound:
        bound = bound if lowest is None else max(bound, lowest)
        return bound if highest is None else min(bound, highest)

    return inner[0], (
        lowest if inner_low is None else clamped(inner_low),
        highest if inner_high is None else clamped(inner_high),
    )


def _has_constants_to_merge(m: Match) -> bool:
    return sum(_scalar(value) is not None for value in m.root.inputs) >= 2 and _read(m.root) is not None


def _has_clip(m: Match) -> bool:
    dtype = m.inner.dtype
    return dtype in FLOATS or (dtype in _INTEGERS and (m.root.version or 0) >= 12)


def _keeps_rank(m: Match) -> bool:
    """Whether constants of dims [1, …] do not raise the rank of what they bound."""
    merged = _merged(m)
    return merged is not None and m.shapes.same_dims(m.shapes.dims(merged[0]), m.shapes.dims(m.root.outputs[0]))


@rule(
    op.Clip(_INNER, low.optional(), high.optional()).opset(since=11)
    | op.Relu(_INNER).opset(since=11)
    | op.Max(_INNER, low).any_order().opset(since=11)
    | op.Min(_INNER, high).any_order().opset(since=11),
    requires=[
        require("floating-point, or integers since opset 12", _has_clip, lambda m: str(m.inner.dtype)),
        require("bounds that are constant scalars, in order", lambda m: _merged(m) is not None),
        require("bounds that do not raise the rank", _keeps_rank, lambda m: m.shapes.show(m.root.outputs[0])),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Clip: Clip(Clip(x, a, b), c, d) = Clip(x, clamp(a, c, d), clamp(b, c, d)); zeros may differ in sign",
)
def merge_clips(m: Match, op: Builder) -> ir.Value:
    """Bound once, by the bounds that both leave.

    before:  x -> Clip(a, b) -> Clip(c, d) -> y        any of Clip, Relu, Min, Max
    after:   x -> Clip(clamp(a, c, d), clamp(b, c, d)) -> y
    """
    merged = _merged(m)
    assert merged is not None
    data, (lowest, highest) = merged
    made = [None if each is None else op.constant(np.asarray(each), like=m.inner) for each in (lowest, highest)]
    if "Clip" in (m.root.op_type, m.inner.node.op_type) or None not in made:
        return op.Clip(data, *made)
    # ONNX Runtime's Clip without an upper bound makes the largest float of infinity, Max does not.
    return op.Max(data, made[0]) if highest is None else op.Min(data, made[1])


@rule(
    any_call("Max").named("extremum") | any_call("Min").named("extremum"),
    requires=[require("two constants or more of one element beside one other operand", _has_constants_to_merge)],
    source="ONNX Max, Min",
)
def merge_minmax_constants(m: Match, op: Builder) -> ir.Value:
    """Take the extremum of the constants ahead of time.

    before:  y = Max(x, %a, %b)
    after:   y = Max(x, %max(a, b))
    """
    read = _read(m.root)
    assert read is not None
    data, bounds = read
    bound = next(each for each in bounds if each is not None)
    rank = max(content.ndim for value in m.root.inputs if (content := ir.constant(value)) is not None)
    merged = op.constant(np.full((1,) * rank, bound), like=m.extremum)
    return op.node(m.root.op_type, [data, merged])[0]


@rule(
    op.Max(x, 0).any_order(),
    requires=[
        floating("x"),
        require(
            "a zero that does not raise the rank",
            lambda m: m.shapes.same_dims(m.x.dims, m.shapes.dims(m.root.outputs[0])),
            lambda m: m.shapes.show(m.root.outputs[0]),
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Relu; ONNX Runtime fuses it into the Conv before it (conv_activation_fusion.cc), and Max not",
)
def max_zero_to_relu(m: Match, op: Builder) -> ir.Value:
    """The larger of a number and zero is Relu.

    before:  y = Max(x, 0.0)
    after:   y = Relu(x)
    """
    return op.Relu(m.x)


def _choice(larger: Var, smaller: Var) -> Pattern:
    """`larger` where x is above y, else `smaller`, by any of the comparisons."""
    return (
        op.Where(op.Greater(x, y), larger, smaller)
        | op.Where(op.GreaterOrEqual(x, y), larger, smaller)
        | op.Where(op.Less(x, y), smaller, larger)
        | op.Where(op.LessOrEqual(x, y), smaller, larger)
    )


_NUMBERS = require("a number type", lambda m: m.x.dtype in FLOATS | _INTEGERS, lambda m: str(m.x.dtype))


@rule(
    _choice(x, y),
    requires=[_NUMBERS],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX Max, Where: they differ where an operand is NaN, and in the sign of zero",
)
def where_greater_to_max(m: Match, op: Builder) -> ir.Value:
    """The larger of two values that a comparison chooses is Max.

    before:  y = Where(Greater(x, b), x, b)        or by GreaterOrEqual, Less, LessOrEqual
    after:   y = Max(x, b)
    """
    return op.Max(m.x, m.y)


@rule(
    _choice(y, x),
    requires=[_NUMBERS],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX Min, Where: they differ where an operand is NaN, and in the sign of zero",
)
def where_less_to_min(m: Match, op: Builder) -> ir.Value:
    """The smaller of two values that a comparison chooses is Min.

    before:  y = Where(Less(x, b), x, b)        or by LessOrEqual, Greater, GreaterOrEqual
    after:   y = Min(x, b)
    """
    return op.Min(m.x, m.y)
