"""Boolean algebra: And, Or, Not and comparisons."""

from __future__ import annotations

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite, rule

other, x, y = values("other x y")

rewrite(
    "eliminate-idempotent-binary",
    "Both operands are the same value.",
    op.And(x, x) | op.Or(x, x) | op.BitwiseAnd(x, x) | op.BitwiseOr(x, x),
    x,
    source="ONNX And, Or: idempotent. Max and Min are not among them: they may make 0.0 of -0.0",
    keeps_type=True,
)

rewrite(
    "boolean-absorption",
    "Absorption: the inner operand is irrelevant.",
    op.And(x, op.Or(x, other).any_order().shared()).any_order()
    | op.Or(x, op.And(x, other).any_order().shared()).any_order(),
    x,
    source="absorption: x ∧ (x ∨ y) = x",
)

_INVERSE = {"Less": "GreaterOrEqual", "Greater": "LessOrEqual", "GreaterOrEqual": "Less", "LessOrEqual": "Greater"}


@rule(
    op.Not(
        op.Less(x, y).named("test")
        | op.Greater(x, y).named("test")
        | op.GreaterOrEqual(x, y).named("test")
        | op.LessOrEqual(x, y).named("test")
    ),
    requires=[
        require(
            "integers: a comparison with NaN is false, and so is its inverse",
            lambda m: (dtype := m.x.dtype) is not None and dtype.is_integer(),
            lambda m: str(m.x.dtype),
        ),
        require(
            "opset 12 or later, which has all four",
            lambda m: (m.root.version or 0) >= 12,
            lambda m: f"opset {m.root.version}",
        ),
    ],
    source="ONNX Less, Greater, LessOrEqual-12, GreaterOrEqual-12",
)
def invert_negated_comparison(m: Match, op: Builder) -> ir.Value:
    """Use the inverse comparison instead of negating the result.

    before:  y = Not(Less(x, y))        the same for Greater, LessOrEqual, GreaterOrEqual
    after:   y = GreaterOrEqual(x, y)
    """
    return op.node(_INVERSE[m.test.node.op_type], [m.x, m.y])[0]
