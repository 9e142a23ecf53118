"""Nested and redundant Where, and selections that are written as masked sums."""

from __future__ import annotations

from ...pipeline.exactness import Exactness
from ...rewriting.constraints import require
from ...rewriting.match import Condition
from ...rewriting.pattern import Call, Var, op, values
from ...rewriting.rule import rewrite

condition, x, y, z = values("condition x y z")
inner = op.Where(condition, x, y).shared().named("inner")


def _same_dims(whole: Call, part: Var) -> Condition:
    return require(
        "a branch that is not taken and broadcasts nothing",
        lambda m: m.shapes.same_type_and_shape(m[whole].value, m[part].value),
        lambda m: f"{m.shapes.show(m[part].value)} in {m.shapes.show(m[whole].value)}",
    )


rewrite(
    "eliminate-where-same-branches",
    "Both branches are the same value.",
    op.Where(condition, x, x),
    x,
    exactness=Exactness.ROUNDING,
    source="ONNX Where; ONNX Runtime's adds up two selections, so that -0.0 comes out as 0.0",
)

rewrite(
    "eliminate-nested-where-true",
    "Where the condition holds, it holds in the inner Where, too.",
    op.Where(condition, inner, z),
    op.Where(condition, x, z),
    when=[_same_dims(inner, x)],
    source="ONNX Where",
)

rewrite(
    "eliminate-nested-where-false",
    "Where the condition does not hold, it does not hold in the inner Where either.",
    op.Where(condition, z, inner),
    op.Where(condition, z, y),
    when=[_same_dims(inner, y)],
    source="ONNX Where",
)

rewrite(
    "swap-negated-where",
    "Swap the branches instead of negating the condition.",
    op.Where(op.Not(condition).shared(), x, y),
    op.Where(condition, y, x),
    exactness=Exactness.ROUNDING,
    source="ONNX Where; ONNX Runtime's makes 0.0 of -0.0 in the first branch and keeps it in the second",
)

rewrite(
    "masked-sum-to-where",
    "Select between two values instead of adding what a mask and its negation leave of them.",
    op.Add(
        op.Mul(op.Cast(condition).any_attributes().shared().named("taken"), x).any_order().shared().named("new"),
        op.Mul(op.Cast(op.Not(condition).shared()).any_attributes().shared().named("kept"), y)
        .any_order()
        .shared()
        .named("old"),
    )
    .any_order()
    .opset(since=9),
    op.Where(condition, x, y),
    exactness=Exactness.SPECIAL_VALUES,
    source="tf2onnx SelectV2; Where-9; of a mask of 0 and 1, one product is zero unless its factor is infinity or NaN",
)
