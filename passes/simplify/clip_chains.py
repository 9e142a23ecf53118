"""Bounds on bounds: Clip, Relu, Min and Max with constants that follow each other are one Clip."""

from __future__ import annotations

import numpy as np

from ... import ir
from ..engine.conditions import floating, holds
from ..engine.exactness import Exactness
from ..engine.pattern import Either, any_call, op, values
from ..engine.rule import Builder, Match, rule

low, high = values("low high")

Bounds = tuple[float | None, float | None]

_INNER = Either(tuple(any_call(kind).named("inner") for kind in ("Clip", "Relu", "Min", "Max")))


def _scalar(value: ir.Value | None) -> float | None:
    """The number in a constant of no dims; None for NaN, which bounds nothing and everything."""
    content = ir.constant(value)
    return float(content) if content is not None and content.ndim == 0 and content == content else None


def _read(node: ir.Node) -> tuple[ir.Value, Bounds] | None:
    """What a node bounds, and by which numbers; None where they are not known."""
    if node.op_type == "Relu" and node.inputs[0] is not None:
        return node.inputs[0], (0.0, None)
    if node.op_type == "Clip" and node.inputs[0] is not None:
        given = [*node.inputs[1:], None, None][:2]
        bounds = (_scalar(given[0]), _scalar(given[1]))
        is_known = all((one is None) == (other is None) for one, other in zip(given, bounds, strict=True))
        return (node.inputs[0], bounds) if is_known else None
    if node.op_type not in ("Min", "Max") or len(node.inputs) != 2:
        return None
    for index in (1, 0):
        bound, data = _scalar(node.inputs[index]), node.inputs[1 - index]
        if bound is not None and data is not None:
            return data, ((bound, None) if node.op_type == "Max" else (None, bound))
    return None


def _merged(m: Match) -> tuple[ir.Value, Bounds] | None:
    """The inner bounds clamped by the outer ones: of two ranges that do not meet, the outer one decides."""
    outer, inner = _read(m.root), _read(m.inner.node)
    if outer is None or inner is None or outer[0] is not m.inner.value:
        return None
    if m.root.op_type == m.inner.node.op_type == "Relu":
        return None  # drop-relu-twice
    if any(one is not None and other is not None and one > other for one, other in (outer[1], inner[1])):
        return None  # a range that is empty
    (lowest, highest), (inner_low, inner_high) = outer[1], inner[1]

    def clamped(bound: float) -> float:
        bound = bound if lowest is None else max(bound, lowest)
        return bound if highest is None else min(bound, highest)

    return inner[0], (
        lowest if inner_low is None else clamped(inner_low),
        highest if inner_high is None else clamped(inner_high),
    )


@rule(
    op.Clip(_INNER, low.optional(), high.optional()).opset(since=11)
    | op.Relu(_INNER).opset(since=11)
    | op.Max(_INNER, low).any_order().opset(since=11)
    | op.Min(_INNER, high).any_order().opset(since=11),
    requires=[
        floating("inner"),
        holds("bounds that are constant scalars, in order", lambda m: _merged(m) is not None),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Clip: Clip(Clip(x, a, b), c, d) = Clip(x, clamp(a, c, d), clamp(b, c, d)); zeros may differ in sign",
    group="fuse",
)
def merge_bounds(m: Match, op: Builder) -> ir.Value:
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
