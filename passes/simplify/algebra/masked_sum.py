"""Selection by a mask that is written as a sum of products."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.pattern import op, values
from ...rewriting.rule import Builder, Match, rule

mask, x, y = values("mask x y")


@rule(
    op.Add(
        op.Mul(op.Cast(mask).any_attributes().shared().named("taken"), x).any_order().shared().named("new"),
        op.Mul(op.Cast(op.Not(mask).shared()).any_attributes().shared().named("kept"), y)
        .any_order()
        .shared()
        .named("old"),
    )
    .any_order()
    .opset(since=9),
    exactness=Exactness.SPECIAL_VALUES,
    source="tf2onnx SelectV2; Where-9; of a mask of 0 and 1, one product is zero unless its factor is infinity or NaN",
    group="simplify",
)
def masked_sum_to_where(m: Match, op: Builder) -> ir.Value:
    """Select between two values instead of adding what is left of them.

    before:  Add(Mul(Cast(mask), x), Mul(Cast(Not(mask)), y)) -> z
    after:   Where(mask, x, y) -> z
    """
    return op.Where(m.mask, m.x, m.y)
