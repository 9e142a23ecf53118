"""Where, And, Or and comparisons that say the same with fewer operators."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.constraints import require
from ...rewriting.pattern import op, values
from ...rewriting.rule import Builder, Match, rule

condition, other, x, y, z = values("condition other x y z")


@rule(
    op.Where(condition, x, x),
    exactness=Exactness.ROUNDING,
    source="ONNX Where; ONNX Runtime's adds up two selections, so that -0.0 comes out as 0.0",
    group="simplify",
)
def eliminate_where_same_branches(m: Match, op: Builder) -> ir.Value:
    """Both branches are the same value.

    before:  Where(condition, x, x) -> y
    after:   x
    """
    return m.x.value


@rule(
    op.Where(condition, op.Where(condition, x, y).shared().named("inner"), z),
    requires=[
        require(
            "a branch that is not taken and stretches nothing",
            lambda m: m.shapes.same_type_and_shape(m.inner.value, m.x.value),
            lambda m: f"{m.shapes.show(m.x.value)} in {m.shapes.show(m.inner.value)}",
        )
    ],
    source="ONNX Where",
)
def eliminate_nested_where_true(m: Match, op: Builder) -> ir.Value:
    """Where the condition holds, it holds.

    before:  Where(condition, Where(condition, a, b), c) -> y
    after:   Where(condition, a, c) -> y
    """
    return op.Where(m.condition, m.x, m.z)


@rule(
    op.Where(condition, z, op.Where(condition, x, y).shared().named("inner")),
    requires=[
        require(
            "a branch that is not taken and stretches nothing",
            lambda m: m.shapes.same_type_and_shape(m.inner.value, m.y.value),
            lambda m: f"{m.shapes.show(m.y.value)} in {m.shapes.show(m.inner.value)}",
        )
    ],
    source="ONNX Where",
)
def eliminate_nested_where_false(m: Match, op: Builder) -> ir.Value:
    """Where the condition does not hold, it does not hold.

    before:  Where(condition, a, Where(condition, b, c)) -> y
    after:   Where(condition, a, c) -> y
    """
    return op.Where(m.condition, m.z, m.y)


@rule(
    op.And(x, x) | op.Or(x, x) | op.BitwiseAnd(x, x) | op.BitwiseOr(x, x),
    source="ONNX And, Or: idempotent. Max and Min are not among them: they may make 0.0 of -0.0",
    keeps_type=True,
)
def eliminate_idempotent_binary(m: Match, op: Builder) -> ir.Value:
    """Both operands are the same value.

    before:  And(x, x) -> y        the same for Or, BitwiseAnd, BitwiseOr
    after:   x
    """
    return m.x.value


@rule(
    op.And(x, op.Or(x, other).any_order().shared()).any_order()
    | op.Or(x, op.And(x, other).any_order().shared()).any_order(),
    source="absorption: x ∧ (x ∨ y) = x",
)
def boolean_absorption(m: Match, op: Builder) -> ir.Value:
    """One condition decides.

    before:  And(x, Or(x, y)) -> z        the same for Or of And
    after:   x
    """
    return m.x.value


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
        require("opset 12 or later, which has all four", lambda m: (m.root.version or 0) >= 12),
    ],
    source="ONNX Less, Greater, LessOrEqual-12, GreaterOrEqual-12",
)
def invert_negated_comparison(m: Match, op: Builder) -> ir.Value:
    """Compare the other way round instead of turning the result around.

    before:  Less(a, b) -> Not -> y        the same for Greater, LessOrEqual, GreaterOrEqual
    after:   GreaterOrEqual(a, b) -> y
    """
    return op.node(_INVERSE[m.test.node.op_type], [m.x, m.y])[0]
